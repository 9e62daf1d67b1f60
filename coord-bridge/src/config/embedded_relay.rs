//! A relay in the bridge's own process, as it is written and as it is meant.
//!
//! Does: takes the keys of `derp-relay` as they are, fills in what the bridge knows better (whom
//! it asks, whom it follows, where its key is), and puts its node into the map.
//! Does not: know what those keys mean, or start anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use derp::map::{NO_STUN, Node};
use derp_relay::config::{self as relay, AccessMode, TlsMode};
use derp_relay::settings::{Listen, SecretFile};
use derp_relay::{Relay, config::Faults};

use super::{ConfigError, DEFAULT_STATE_DIR, Keys, NodeKeys, RegionKeys};
use crate::publication::Plan;

/// What every fault of these settings begins with.
const TABLE: &str = "embedded_relay";

/// Why some changes have to wait, and what to do.
const UNTIL_RESTART: &str = "the relay goes on as it was started; restart to move it";

/// Name of the relay's key in the bridge's folder.
const KEY_FILE: &str = "derp.key";

/// Port of DERP where a map says none.
const DERP_PORT: u16 = 443;

/// Port of STUN where a map says none.
const STUN_PORT: u16 = 3_478;

/// A relay in the bridge's own process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedRelay {
    keys: relay::Keys,
    /// It asks this bridge who may enter, and nobody else.
    asks_us: bool,
    /// Its node is not in the file: ports and pin are those that it gets.
    is_derived: bool,
    region: (u64, String, String),
    node_name: String,
    token_file: PathBuf,
}

impl EmbeddedRelay {
    /// The relay of `keys`, if there is one. Its node is added to the region of the file, unless
    /// that names it. What is wrong is added to `faults`.
    pub(super) fn new(
        keys: &mut Keys,
        has_headscale: bool,
        faults: &mut Vec<String>,
    ) -> Option<Self> {
        let mut relay = keys.embedded_relay.clone()?;
        let mut fault = |words: &str| faults.push(format!("{TABLE}.{words}"));
        for (key, given) in [
            ("bridge_url", relay.bridge_url.is_some()),
            ("bridge_token_file", relay.bridge_token_file.is_some()),
            ("bridge_node_name", relay.bridge_node_name.is_some()),
            ("bridge_region_id", relay.bridge_region_id.is_some()),
            ("bridge_region_code", relay.bridge_region_code.is_some()),
            ("bridge_region_name", relay.bridge_region_name.is_some()),
        ] {
            if given {
                fault(&format!("{key}: this bridge is its bridge, and [region] says the rest"));
            }
        }
        if relay.log_level.is_some() || relay.log_format.is_some() {
            fault("log_level, log_format: the process has one log; set them above all tables");
        }
        let Some(hostname) = relay.hostname.clone() else {
            fault("hostname: missing; give the name that clients use");
            return None;
        };
        let state_dir = keys.state_dir.as_deref().unwrap_or(Path::new(DEFAULT_STATE_DIR));
        let key_file = relay.key_file.take().unwrap_or_else(|| state_dir.join(KEY_FILE));
        relay.key_file = Some(key_file);
        let mode = relay.access.unwrap_or(AccessMode::Verify);
        let asks_us = mode == AccessMode::Verify && relay.verify_url.is_none();
        let front =
            Listen::addresses(keys.verify_listen.as_deref(), &[super::DEFAULT_VERIFY_LISTEN]);
        if asks_us && (front.is_empty() || !has_headscale) {
            fault(
                "access: nobody says who may enter; give headscale.url and a verify_listen, or \
                 embedded_relay.verify_url, or access = \"allow-list\" or \"open\"",
            );
        }
        let given = |region: &RegionKeys| {
            let is_it = |node: &NodeKeys| node.hostname.as_ref() == Some(&hostname);
            region.nodes.iter().position(is_it)
        };
        let several = keys.regions.iter();
        let found = std::iter::once(&keys.region).chain(several);
        let found = found.enumerate().find_map(|(at, region)| Some((at, given(region)?)));
        let (at, place) = match found {
            Some(found) => found,
            None if keys.region.nodes.is_empty() && keys.regions.is_empty() => {
                keys.region.nodes.push(node_keys(&relay, &hostname));
                (0, 0)
            }
            None => {
                fault(&format!(
                    "hostname: {hostname} is in no region's nodes; add it there, or remove them"
                ));
                return None;
            }
        };
        let region = if at == 0 { &keys.region } else { &keys.regions[at - 1] };
        let id = region.id.unwrap_or(super::DEFAULT_REGION_ID);
        let text =
            |text: &Option<String>, default: &str| text.clone().unwrap_or(default.to_owned());
        let named = region.nodes.get(place).and_then(|node| node.name.clone());
        let embedded = Self {
            asks_us,
            is_derived: found.is_none(),
            region: (
                id,
                text(&region.code, super::DEFAULT_REGION_CODE),
                text(&region.name, super::DEFAULT_REGION_NAME),
            ),
            node_name: named.unwrap_or_else(|| super::region::default_name(id, place)),
            token_file: keys
                .relay_token_file
                .clone()
                .unwrap_or_else(|| state_dir.join(super::verify::RELAY_TOKEN_FILE)),
            keys: relay,
        };
        if let Err(ConfigError::Faults(Faults(found))) = embedded.config(front.first().copied()) {
            faults.extend(found);
        }
        Some(embedded)
    }

    /// What the relay is to do, where relays ask this bridge at `front`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Faults`], each beginning with the table.
    pub fn config(&self, front: Option<SocketAddr>) -> Result<derp_relay::Config, ConfigError> {
        let mut keys = self.keys.clone();
        if let Some(front) = front {
            let url = format!("http://{}", reachable(front));
            if self.asks_us {
                keys.verify_url = Some(vec![format!("{url}/verify")]);
            }
            let (id, code, name) = self.region.clone();
            keys.bridge_url = Some(url);
            keys.bridge_token_file = Some(SecretFile::Path(self.token_file.clone()));
            keys.bridge_region_id = Some(id);
            keys.bridge_region_code = Some(code);
            keys.bridge_region_name = Some(name);
            keys.bridge_node_name = Some(self.node_name.clone());
        } else {
            // What only the map is told.
            (keys.bridge_ipv4, keys.bridge_ipv6) = (None, None);
            (keys.bridge_derp_port, keys.bridge_stun_port) = (None, None);
        }
        derp_relay::Config::new(keys).map_err(|error| match error {
            ConfigError::Faults(Faults(faults)) => {
                let faults = faults.into_iter().map(|fault| format!("{TABLE}.{fault}"));
                ConfigError::Faults(Faults(faults.collect()))
            }
            other @ (ConfigError::File(_) | ConfigError::Variable(_)) => other,
        })
    }

    /// Puts into `plan` what only a relay that runs knows of its node: ports that it was to choose,
    /// and the pin of a certificate that it has made. What the file says stays: `now` is what the
    /// file that `plan` is from says of this relay, which may have been written since it started.
    pub fn settle(&self, now: &Self, plan: &mut Plan, relay: &Relay) {
        // By host name: the default name of a node changes when another is put before it.
        let mut nodes = plan.map.regions.values_mut().flat_map(|region| &mut region.nodes);
        let is_it = |node: &&mut Node| Some(&node.host_name) == self.keys.hostname.as_ref();
        let Some(node) = nodes.find(is_it) else { return };
        if now.is_derived {
            self.settle_ports(now, node, relay);
        }
        if self.keys.tls == Some(TlsMode::SelfSigned) && node.cert_name.is_empty() {
            node.cert_name = relay.certificate_pin().unwrap_or_default();
        }
    }

    fn settle_ports(&self, now: &Self, node: &mut Node, relay: &Relay) {
        let addresses = relay.addresses();
        if let (None, Some(derp)) = (now.keys.bridge_derp_port, addresses.derp.first())
            && self.keys.tls != Some(TlsMode::Off)
        {
            node.derp_port = derp.port().into();
        }
        if let (None, Some(stun)) = (now.keys.bridge_stun_port, addresses.stun.first()) {
            node.stun_port = stun.port().into();
        }
    }

    /// What keeps the map of a file that says `now` of this relay from being published while it
    /// runs: it goes on saying who and where it is, so it would be in the map twice, or as one
    /// that it is not.
    #[must_use]
    pub fn objection(&self, now: &Self) -> Option<String> {
        if self.keys.hostname != now.keys.hostname {
            Some(format!("{TABLE}.hostname: has changed, and {UNTIL_RESTART}"))
        } else if self.region.0 != now.region.0 {
            let (old, new) = (self.region.0, now.region.0);
            Some(format!("region.id: {new} instead of {old} for {TABLE}, and {UNTIL_RESTART}"))
        } else {
            None
        }
    }

    /// Whether it lets in only whom this bridge knows.
    #[must_use]
    pub const fn asks_us(&self) -> bool {
        self.asks_us
    }
}

/// The node as far as settings tell. A port 0 is settled when the relay runs.
fn node_keys(relay: &relay::Keys, hostname: &str) -> NodeKeys {
    let first = |list: Option<&[Listen]>, default: u16| {
        let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), default);
        Listen::addresses(list, &[default]).first().map(SocketAddr::port)
    };
    let derp = match relay.tls {
        // Behind a proxy, whose port nobody here knows.
        Some(TlsMode::Off) => Some(DERP_PORT),
        Some(TlsMode::Files | TlsMode::SelfSigned) | None => {
            first(relay.listen_derp.as_deref(), DERP_PORT)
        }
    };
    let stun = first(relay.listen_stun.as_deref(), STUN_PORT).map_or(NO_STUN, i32::from);
    NodeKeys {
        hostname: Some(hostname.to_owned()),
        ipv4: relay.bridge_ipv4.clone(),
        ipv6: relay.bridge_ipv6.clone(),
        derp_port: relay.bridge_derp_port.or(derp).map(i32::from),
        stun_port: relay.bridge_stun_port.or(Some(stun)),
        ..NodeKeys::default()
    }
}

/// The address by which this host reaches a listener of its own.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const HEADSCALE: &str = "login_server = \"https://hs.example.org\"\n[headscale]\n\
                             socket = \"/run/headscale/headscale.sock\"\n";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(&format!("{HEADSCALE}{text}")).map_err(|error| error.to_string())
    }

    #[test]
    fn its_node_is_the_map_unless_the_region_names_it() {
        let relay = "[embedded_relay]\nhostname = \"derp.example.org\"\ntls = \"self-signed\"\n\
                     listen_derp = \"[::]:8443\"\nbridge_ipv4 = \"192.0.2.7\"\n";
        let config = parse(relay).unwrap();
        let node = &config.plan.map.regions[&999].nodes[0];
        assert_eq!((&*node.name, &*node.host_name), ("999a", "derp.example.org"));
        assert_eq!((&*node.ipv4, node.derp_port, node.stun_port), ("192.0.2.7", 8_443, 3_478));

        let config = parse(&format!(
            "{relay}[[region.nodes]]\nhostname = \"other.example.org\"\n[[region.nodes]]\n\
             hostname = \"derp.example.org\"\nderp_port = 443\n"
        ))
        .unwrap();
        let nodes = &config.plan.map.regions[&999].nodes;
        assert_eq!((nodes.len(), nodes[1].derp_port), (2, 443));
        let relay = config.embedded_relay.unwrap();
        let built = relay.config(Some("0.0.0.0:8093".parse().unwrap())).unwrap();
        let bridge = built.bridge.unwrap();
        assert_eq!(bridge.node_name, "999b");
        assert_eq!(bridge.url.to_string(), "http://127.0.0.1:8093/");
        assert_eq!(built.key_file, Path::new("/var/lib/coord-bridge/derp.key"));
    }

    #[test]
    fn what_cannot_be_names_the_key_in_its_table() {
        for (text, said) in [
            ("[embedded_relay]\ntls = \"off\"\n", "embedded_relay.hostname: missing"),
            ("[embedded_relay]\nhostname = \"x\"\n", "embedded_relay.tls_cert, tls_key: "),
            ("[embedded_relay]\nhostname = \"x\"\ntls_mode = \"off\"\n", "embedded_relay.tls"),
            (
                "[embedded_relay]\nhostname = \"x\"\ntls = \"off\"\nbridge_url = \"http://y\"\n",
                "embedded_relay.bridge_url: ",
            ),
            (
                "[embedded_relay]\nhostname = \"x\"\ntls = \"off\"\n[[region.nodes]]\n\
                 hostname = \"y\"\n",
                "embedded_relay.hostname: x is in no region's nodes",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
        let error = Config::parse("[embedded_relay]\nhostname = \"x\"\ntls = \"off\"\n");
        assert!(error.unwrap_err().to_string().contains("embedded_relay.access: nobody says"));
        let open = "[embedded_relay]\nhostname = \"x\"\ntls = \"off\"\naccess = \"open\"\n";
        Config::parse(open).unwrap();
    }
}
