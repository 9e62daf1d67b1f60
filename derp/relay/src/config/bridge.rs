//! The bridge that a relay is to tell of itself, as the operator has set it.
//!
//! Does: reads `bridge_url` and the keys that belong to it, fills in what is absent, and holds what
//! the relay will say against what a map may say.
//! Does not: open a file, or know on which ports the relay will listen.

use std::path::PathBuf;

use derp::map::{DerpMap, MapError, Node, NodeFault, Region};
use hyper::Uri;

use super::Keys;
use crate::settings::SecretFile;

/// Id of the region unless told otherwise.
pub const DEFAULT_BRIDGE_REGION_ID: u64 = 999;

/// Code of the region unless told otherwise.
pub const DEFAULT_BRIDGE_REGION_CODE: &str = "own";

/// Name of the region unless told otherwise.
pub const DEFAULT_BRIDGE_REGION_NAME: &str = "Own relay";

/// A bridge, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    /// Where it is: scheme, host, and maybe a path that goes before all others.
    pub url: Uri,
    /// Where the token lies.
    pub token_file: SecretFile,
    /// Certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Name by which clients reach the relay.
    pub hostname: String,
    /// Id of its region.
    pub region_id: u64,
    /// Short name of its region.
    pub region_code: String,
    /// Name of its region for people.
    pub region_name: String,
    /// Name of the relay, unique in the map.
    pub node_name: String,
    /// IPv4 address, `none`, or nothing for what DNS says.
    pub ipv4: String,
    /// IPv6 address, `none`, or nothing for what DNS says.
    pub ipv6: String,
    /// Port of DERP as clients see it; where it listens if that is not said.
    pub derp_port: Option<u16>,
    /// Port of STUN as clients see it, -1 for none; where it listens if that is not said.
    pub stun_port: Option<i32>,
}

/// Reads what `keys` say of a bridge. What is wrong is added to `faults`.
pub(super) fn read(keys: &Keys, faults: &mut Vec<String>) -> Option<BridgeConfig> {
    let Some(text) = &keys.bridge_url else {
        refuse_the_rest(keys, faults);
        return None;
    };
    let url = base(text);
    if let Err(words) = url {
        faults.push(format!("bridge_url: {words}"));
    }
    if keys.bridge_token_file.is_none() {
        faults.push(
            "bridge_token_file: missing beside bridge_url; give a copy of the bridge's \
             `relay-token`"
                .to_owned(),
        );
    }
    if keys.hostname.is_none() {
        faults
            .push("hostname: missing beside bridge_url; give the name that clients use".to_owned());
    }
    let region_id = keys.bridge_region_id.unwrap_or(DEFAULT_BRIDGE_REGION_ID);
    let text = |key: &Option<String>, default: &str| key.clone().unwrap_or(default.to_owned());
    let hostname = keys.hostname.clone()?;
    let config = BridgeConfig {
        url: url.ok()?,
        token_file: keys.bridge_token_file.clone()?,
        ca_file: keys.ca_file.clone(),
        region_id,
        region_code: text(&keys.bridge_region_code, DEFAULT_BRIDGE_REGION_CODE),
        region_name: text(&keys.bridge_region_name, DEFAULT_BRIDGE_REGION_NAME),
        node_name: text(&keys.bridge_node_name, &format!("{region_id}-{hostname}")),
        ipv4: text(&keys.bridge_ipv4, ""),
        ipv6: text(&keys.bridge_ipv6, ""),
        derp_port: keys.bridge_derp_port,
        stun_port: keys.bridge_stun_port,
        hostname,
    };
    judge(&config, faults);
    Some(config)
}

fn refuse_the_rest(keys: &Keys, faults: &mut Vec<String>) {
    for (key, given) in [
        ("bridge_token_file", keys.bridge_token_file.is_some()),
        ("bridge_region_id", keys.bridge_region_id.is_some()),
        ("bridge_region_code", keys.bridge_region_code.is_some()),
        ("bridge_region_name", keys.bridge_region_name.is_some()),
        ("bridge_node_name", keys.bridge_node_name.is_some()),
        ("bridge_ipv4", keys.bridge_ipv4.is_some()),
        ("bridge_ipv6", keys.bridge_ipv6.is_some()),
        ("bridge_derp_port", keys.bridge_derp_port.is_some()),
        ("bridge_stun_port", keys.bridge_stun_port.is_some()),
    ] {
        if given {
            faults.push(format!("{key}: of no use without bridge_url; give that too"));
        }
    }
}

/// Reads the URL of a bridge. The text itself is not shown: it may hold a password.
fn base(text: &str) -> Result<Uri, &'static str> {
    let wrong =
        "no http:// or https:// URL with a host; write one such as https://bridge.example.org";
    let url: Uri = text.parse().map_err(|_| wrong)?;
    let authority = url.authority().ok_or(wrong)?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
        return Err(wrong);
    }
    if authority.as_str().contains('@') {
        return Err("a user name or password is in it; the token comes from bridge_token_file");
    }
    if url.query().is_some() || text.contains('#') {
        return Err("a query or fragment is in it; leave it out");
    }
    Ok(url)
}

/// Finds here what the bridge would refuse.
fn judge(config: &BridgeConfig, faults: &mut Vec<String>) {
    let node = Node {
        name: config.node_name.clone(),
        region_id: config.region_id,
        host_name: config.hostname.clone(),
        ipv4: config.ipv4.clone(),
        ipv6: config.ipv6.clone(),
        stun_port: config.stun_port.unwrap_or_default(),
        ..Node::default()
    };
    let region = Region { id: config.region_id, nodes: vec![node], ..Region::default() };
    let map = DerpMap { regions: [(config.region_id, region)].into(), ..DerpMap::default() };
    for fault in map.faults() {
        let key = match fault {
            MapError::RegionId { .. } => "bridge_region_id",
            MapError::Node { fault, .. } => match fault {
                NodeFault::NoHostName | NodeFault::HostName => "hostname",
                NodeFault::Ipv4 => "bridge_ipv4",
                NodeFault::Ipv6 => "bridge_ipv6",
                NodeFault::NoAddress => "bridge_ipv4, bridge_ipv6",
                NodeFault::StunPort { .. } => "bridge_stun_port",
                NodeFault::NoName
                | NodeFault::DuplicateName
                | NodeFault::RegionMismatch { .. }
                | NodeFault::CertName
                | NodeFault::DerpPort { .. }
                | NodeFault::StunTestIp => "bridge_node_name",
            },
            MapError::Empty
            | MapError::RegionMismatch { .. }
            | MapError::NoNodes { .. }
            | MapError::Coordinates { .. }
            | MapError::Score { .. } => "bridge_region_id",
        };
        faults.push(format!("{key}: {fault}"));
    }
    if config.region_code.trim().is_empty() {
        faults.push("bridge_region_code: empty; write a short word such as `own`".to_owned());
    }
    if config.region_name.trim().is_empty() {
        faults.push("bridge_region_name: empty; write a name for people".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            hostname: Some("derp.example.org".to_owned()),
            bridge_url: Some("https://bridge.example.org/below".to_owned()),
            bridge_token_file: Some(SecretFile::Path("token".into())),
            ..Keys::default()
        }
    }

    fn judged(keys: &Keys) -> (Option<BridgeConfig>, Vec<String>) {
        let mut faults = Vec::new();
        let config = read(keys, &mut faults);
        (config, faults)
    }

    #[test]
    fn a_bridge_needs_a_url_a_token_and_a_name() {
        assert_eq!(judged(&Keys::default()), (None, Vec::new()));
        let (config, faults) = judged(&keys());
        assert_eq!(faults, Vec::<String>::new());
        let config = config.unwrap();
        assert_eq!(config.node_name, "999-derp.example.org");
        assert_eq!((config.region_id, &*config.region_code), (999, "own"));

        for (keys, said) in [
            (Keys { hostname: None, ..keys() }, "hostname: missing beside bridge_url"),
            (Keys { bridge_token_file: None, ..keys() }, "bridge_token_file: missing"),
            (Keys { bridge_url: None, ..keys() }, "bridge_token_file: of no use without"),
            (Keys { bridge_ipv4: Some("x".to_owned()), ..keys() }, "bridge_ipv4: "),
            (Keys { bridge_ipv6: Some("1.2.3.4".to_owned()), ..keys() }, "bridge_ipv6: "),
            (Keys { bridge_region_id: Some(0), ..keys() }, "bridge_region_id: "),
            (Keys { bridge_stun_port: Some(-2), ..keys() }, "bridge_stun_port: "),
            (Keys { bridge_node_name: Some(String::new()), ..keys() }, "bridge_node_name: "),
            (Keys { bridge_region_code: Some(" ".to_owned()), ..keys() }, "bridge_region_code: "),
        ] {
            let (_, faults) = judged(&keys);
            assert!(faults.len() == 1 && faults[0].starts_with(said), "{said}: {faults:?}");
        }
    }

    #[test]
    fn a_wrong_url_is_refused_and_not_shown() {
        for url in
            ["", "bridge", "ftp://x", "http://u:geheim@x", "http://x?geheim", "http://x/#geheim"]
        {
            let (_, faults) = judged(&Keys { bridge_url: Some(url.to_owned()), ..keys() });
            assert!(faults[0].starts_with("bridge_url: "), "{url}: {faults:?}");
            assert!(!faults[0].contains("geheim"), "{faults:?}");
        }
    }
}
