//! What a relay says of itself.
//!
//! Does: says whether that can be in a map, and takes nothing of it but where the relay is.
//! Does not: try whether the relay is there.

use derp::map::{DerpMap, Node, Region};

use super::LiveNode;
use super::limits::{MAX_NAME_LEN, MAX_RELAYS, MAX_TEXT_LEN};

/// Why a relay cannot register.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationFault {
    /// What it says of itself cannot be in a map.
    #[error("map: {0}")]
    Map(String),
    /// Another relay that is there has its name.
    #[error("another relay is called {0}; give each a bridge_node_name of its own")]
    NameTaken(String),
    /// There are too many.
    #[error("there are {MAX_RELAYS} relays, and no more are taken")]
    TooMany,
}

/// The node of a relay, if it may be in a map.
pub(super) fn judge(version: &str, map: DerpMap) -> Result<LiveNode, RegistrationFault> {
    let fault = |words: &str| RegistrationFault::Map(words.to_owned());
    if let Some(found) = map.faults().first() {
        return Err(fault(&found.to_string()));
    }
    let mut regions = map.regions.into_values();
    let (Some(region), None) = (regions.next(), regions.next()) else {
        return Err(fault("not one region"));
    };
    let Region { id, code, name, nodes, .. } = region;
    let mut nodes = nodes.into_iter();
    let (Some(node), None) = (nodes.next(), nodes.next()) else {
        return Err(fault("not one node"));
    };
    if node.insecure_for_tests || node.stun_only || !node.stun_test_ip.is_empty() {
        return Err(fault("InsecureForTests, STUNOnly and STUNTestIP are not for relays"));
    }
    for (what, text, max) in [
        ("Name", node.name.as_str(), MAX_NAME_LEN),
        ("RegionCode", &code, MAX_NAME_LEN),
        ("RegionName", &name, MAX_TEXT_LEN),
        ("version", version, MAX_TEXT_LEN),
    ] {
        if text.trim().is_empty() || text.len() > max || text.chars().any(char::is_control) {
            return Err(fault(&format!("{what} is empty, longer than {max} bytes, or no text")));
        }
    }
    Ok(LiveNode { region_id: id, region_code: code, region_name: name, node: plain(node) })
}

/// What a relay may say of itself, and nothing else.
fn plain(node: Node) -> Node {
    Node {
        name: node.name,
        region_id: node.region_id,
        host_name: node.host_name,
        cert_name: node.cert_name,
        ipv4: node.ipv4,
        ipv6: node.ipv6,
        derp_port: node.derp_port,
        stun_port: node.stun_port,
        can_port_80: node.can_port_80,
        ..Node::default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use derp::key::NodePublic;
    use derp_relay::bridge::wire::Registration;

    use super::*;

    #[test]
    fn what_no_map_may_have_is_refused() {
        let with = |change: fn(&mut Registration)| {
            let mut said = said(1, "a");
            change(&mut said);
            judge(&said.version, said.map).is_ok()
        };
        fn node(said: &mut Registration) -> &mut Node {
            &mut said.map.regions.get_mut(&999).unwrap().nodes[0]
        }
        assert!(with(|_| {}));
        assert!(!with(|said| said.map.regions.clear()));
        assert!(!with(|said| said.version = "x".repeat(200)));
        assert!(!with(|said| said.version = "1\n2".to_owned()));
        assert!(!with(|said| node(said).insecure_for_tests = true));
        assert!(!with(|said| node(said).stun_only = true));
        assert!(!with(|said| node(said).host_name = "two words".to_owned()));
        assert!(!with(|said| node(said).cert_name = "sha256-raw:00".to_owned()));
        assert!(!with(|said| node(said).name = "x".repeat(300)));
        assert!(!with(|said| {
            let other = Node { name: "b".to_owned(), ..node(said).clone() };
            said.map.regions.get_mut(&999).unwrap().nodes.push(other);
        }));
    }

    /// What the relay of this number and name may say.
    pub(in crate::relays) fn said(number: usize, name: &str) -> Registration {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let node = Node {
            name: name.to_owned(),
            region_id: 999,
            host_name: "derp.example.org".to_owned(),
            ..Node::default()
        };
        let region = Region {
            id: 999,
            code: "own".to_owned(),
            name: "Own relay".to_owned(),
            nodes: vec![node],
            ..Region::default()
        };
        Registration {
            version: "1".to_owned(),
            key: NodePublic::from_bytes(bytes),
            map: DerpMap { regions: [(999, region)].into(), ..DerpMap::default() },
        }
    }
}
