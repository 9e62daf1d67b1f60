//! The map out of the settings of regions.
//!
//! Does: fills in names and ids, and says of each fault of the map which key of the file has it
//! and what to write there. Does not: judge the map itself; that is `DerpMap::faults`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use derp::map::{DerpMap, MAX_REGION_ID, MapError, Node, NodeFault, Region};

use super::{NodeKeys, RegionKeys};

/// Id of the region unless told otherwise.
pub const DEFAULT_REGION_ID: u64 = 999;

/// Code of the region unless told otherwise.
pub const DEFAULT_REGION_CODE: &str = "own";

/// Name of the region unless told otherwise.
pub const DEFAULT_REGION_NAME: &str = "Own relay";

/// Region ids that Tailscale leaves to people who run their own. Source: derp.md, DERP-10.4.
pub const OWN_REGION_IDS: RangeInclusive<u64> = 900..=999;

/// Most characters of a wrong value that are shown.
const MAX_SHOWN: usize = 80;

/// The map of these regions, and those of them that have no node. What is wrong with them is
/// added to `faults`.
///
/// `single` is the table `region`, `several` are the tables `regions`. Where there are such, and
/// nothing is said in `region`, that one is not there.
pub(super) fn map(
    single: RegionKeys,
    several: Vec<RegionKeys>,
    faults: &mut Vec<String>,
) -> (DerpMap, Vec<Region>) {
    let is_single_there = several.is_empty() || single != RegionKeys::default();
    let single = is_single_there.then(|| ("region".to_owned(), single));
    let several = several.into_iter().enumerate();
    let several = several.map(|(place, keys)| (format!("regions[{place}]"), keys));
    let (mut tables, mut named) = (BTreeMap::new(), Vec::new());
    let mut map = DerpMap::default();
    for (table, keys) in single.into_iter().chain(several) {
        let region = region(&table, keys, faults);
        if let Some(earlier) = tables.insert(region.id, table.clone()) {
            faults.push(format!(
                "{table}.id: {} is the id of {earlier} already; write another",
                region.id
            ));
        }
        if region.nodes.is_empty() {
            named.push(region);
        } else {
            map.regions.insert(region.id, region);
        }
    }
    faults.extend(map.faults().into_iter().map(|fault| explain(fault, &map, &tables)));
    (map, named)
}

fn region(table: &str, keys: RegionKeys, faults: &mut Vec<String>) -> Region {
    let id = keys.id.unwrap_or(DEFAULT_REGION_ID);
    let code = keys.code.unwrap_or_else(|| DEFAULT_REGION_CODE.to_owned());
    let name = keys.name.unwrap_or_else(|| DEFAULT_REGION_NAME.to_owned());
    if code.trim().is_empty() {
        faults.push(format!("{table}.code: empty; write a short word such as `own`"));
    }
    if name.trim().is_empty() {
        faults.push(format!("{table}.name: empty; write a name for people"));
    }
    match (keys.latitude, keys.longitude) {
        (Some(_), None) => faults.push(format!("{table}.longitude: missing; give both or none")),
        (None, Some(_)) => faults.push(format!("{table}.latitude: missing; give both or none")),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let nodes = keys.nodes.into_iter().enumerate();
    Region {
        id,
        code,
        name,
        latitude: keys.latitude.unwrap_or_default(),
        longitude: keys.longitude.unwrap_or_default(),
        avoid: keys.avoid.unwrap_or_default(),
        no_measure_no_home: keys.no_measure_no_home.unwrap_or_default(),
        nodes: nodes.map(|(place, keys)| node(keys, id, place)).collect(),
    }
}

fn node(keys: NodeKeys, region_id: u64, place: usize) -> Node {
    Node {
        name: keys.name.unwrap_or_else(|| default_name(region_id, place)),
        region_id,
        host_name: keys.hostname.unwrap_or_default(),
        cert_name: keys.cert_name.unwrap_or_default(),
        ipv4: keys.ipv4.unwrap_or_default(),
        ipv6: keys.ipv6.unwrap_or_default(),
        stun_port: keys.stun_port.unwrap_or_default(),
        stun_only: keys.stun_only.unwrap_or_default(),
        derp_port: keys.derp_port.unwrap_or_default(),
        insecure_for_tests: keys.insecure_for_tests.unwrap_or_default(),
        stun_test_ip: keys.stun_test_ip.unwrap_or_default(),
        can_port_80: keys.can_port_80.unwrap_or_default(),
    }
}

/// The name of a node that has none.
pub(super) fn default_name(region_id: u64, place: usize) -> String {
    format!("{region_id}{}", letters(place))
}

/// a to z, then aa, ab and so on.
fn letters(place: usize) -> String {
    let mut rest = place;
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'a' + u8::try_from(rest % 26).unwrap_or_default()));
        match (rest / 26).checked_sub(1) {
            Some(more) => rest = more,
            None => return letters.iter().rev().collect(),
        }
    }
}

fn explain(fault: MapError, map: &DerpMap, tables: &BTreeMap<u64, String>) -> String {
    let table = |region| tables.get(&region).map_or("region", String::as_str);
    match fault {
        MapError::Empty | MapError::NoNodes { .. } => {
            "region.nodes: missing; an empty map would be published, and Headscale would take \
             all relays from all clients: add [[region.nodes]] with a hostname to the file"
                .to_owned()
        }
        MapError::RegionId { region } => format!(
            "{}.id: {region} is out of bounds; from {} to {} for one's own, at most \
             {MAX_REGION_ID}",
            table(region),
            OWN_REGION_IDS.start(),
            OWN_REGION_IDS.end()
        ),
        MapError::Coordinates { region } => format!(
            "{0}.latitude, {0}.longitude: no place on Earth; from -90 to 90 and from -180 to 180 \
             degrees",
            table(region)
        ),
        // Neither can come from these settings.
        MapError::RegionMismatch { region, .. } | MapError::Score { region } => {
            format!("{}: {fault}", table(region))
        }
        MapError::Node { region, node: place, fault } => {
            let node = map.regions.get(&region).and_then(|region| region.nodes.get(place));
            explain_node(table(region), place, fault, node.unwrap_or(&Node::default()))
        }
    }
}

fn explain_node(table: &str, place: usize, fault: NodeFault, node: &Node) -> String {
    let (key, words) = match fault {
        NodeFault::NoName => ("name", "empty; write a name, or leave the key out".to_owned()),
        NodeFault::DuplicateName => {
            ("name", format!("{} is another node's already; write another", quoted(&node.name)))
        }
        // Cannot come from these settings.
        NodeFault::RegionMismatch { .. } => ("name", fault.to_string()),
        NodeFault::NoHostName => (
            "hostname",
            "missing; write the DNS name or address by which clients reach the relay".to_owned(),
        ),
        NodeFault::HostName => (
            "hostname",
            format!("{} is neither a DNS name nor an address; write one", quoted(&node.host_name)),
        ),
        NodeFault::CertName => (
            "cert_name",
            format!(
                "{} is neither a name nor a pin; write the certificate's name, or \
                 `sha256-raw:` and 64 lower-case hex digits",
                quoted(&node.cert_name)
            ),
        ),
        NodeFault::Ipv4 => (
            "ipv4",
            format!(
                "{} is no IPv4 address; write one such as 203.0.113.7, or none",
                quoted(&node.ipv4)
            ),
        ),
        NodeFault::Ipv6 => (
            "ipv6",
            format!(
                "{} is no IPv6 address; write one such as 2001:db8::7, or none",
                quoted(&node.ipv6)
            ),
        ),
        NodeFault::NoAddress => {
            ("ipv4, ipv6", "both `none`; no client could reach the node: write an address".into())
        }
        NodeFault::DerpPort { port } => {
            ("derp_port", format!("{port} is out of bounds; from 1 to 65535, or 0 for 443"))
        }
        NodeFault::StunPort { port } => (
            "stun_port",
            format!("{port} is out of bounds; from 1 to 65535, 0 for 3478, or -1 for no STUN"),
        ),
        NodeFault::StunTestIp => {
            ("stun_test_ip", format!("{} is no address; write one", quoted(&node.stun_test_ip)))
        }
    };
    format!("{table}.nodes[{place}].{key}: {words}")
}

/// A value as it is shown in a fault: on one line, and not all of a whole file.
fn quoted(value: &str) -> String {
    let mut shown: String = value.chars().take(MAX_SHOWN).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    format!("`{}`", shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_by_letters() {
        let named = [(0, "a"), (25, "z"), (26, "aa"), (27, "ab"), (701, "zz"), (702, "aaa")];
        for (place, name) in named {
            assert_eq!(letters(place), name);
        }
    }
}
