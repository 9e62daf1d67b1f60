//! What a DERP map must be before a client sees it.
//!
//! Does: finds every fault that would make clients or Headscale drop a node, a region or the
//! map, silently in most cases. Does not: resolve names or try whether anybody listens.
//!
//! Spec: docs/protocol/derp.md, section 10.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{DerpMap, NO_ADDRESS, Node, PIN_PREFIX, Region};

/// Greatest region id: the greatest whole number that every JavaScript number can tell apart
/// from its neighbours, 2^53 - 1. Source: DERP-10.4.
pub const MAX_REGION_ID: u64 = (1 << 53) - 1;

/// Most bytes in a DNS name, most in one of its labels.
const MAX_DNS_NAME_LEN: usize = 253;
const MAX_DNS_LABEL_LEN: usize = 63;

/// Hex digits in a certificate pin: a SHA-256.
const PIN_DIGITS: usize = 64;

/// One fault of a map.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum MapError {
    /// No regions. Headscale would take all relays away from all clients.
    #[error("map without regions")]
    Empty,
    /// A region id outside 1..=[`MAX_REGION_ID`].
    #[error("region {region}: id outside 1..={MAX_REGION_ID}")]
    RegionId {
        /// Key of the region in the map.
        region: u64,
    },
    /// A region says another id than the one it is filed under.
    #[error("region {region}: says its id is {id}")]
    RegionMismatch {
        /// Key of the region in the map.
        region: u64,
        /// What it says.
        id: u64,
    },
    /// A region without nodes.
    #[error("region {region}: no nodes")]
    NoNodes {
        /// Key of the region in the map.
        region: u64,
    },
    /// Latitude outside -90..=90 or longitude outside -180..=180, in degrees.
    #[error("region {region}: no place on Earth")]
    Coordinates {
        /// Key of the region in the map.
        region: u64,
    },
    /// A score that is not above zero; clients pass over it.
    #[error("region {region}: score is not above zero")]
    Score {
        /// Region that is scored.
        region: u64,
    },
    /// A fault of one node.
    #[error("region {region}, node {node}: {fault}")]
    Node {
        /// Key of the region in the map.
        region: u64,
        /// Place of the node in its region, from 0.
        node: usize,
        /// What is wrong with it.
        fault: NodeFault,
    },
}

/// One fault of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeFault {
    /// No name.
    #[error("no name")]
    NoName,
    /// Another node of the map has the same name.
    #[error("name is taken by another node")]
    DuplicateName,
    /// It says another region than the one it is in.
    #[error("says its region is {id}")]
    RegionMismatch {
        /// What it says.
        id: u64,
    },
    /// No host name.
    #[error("no host name")]
    NoHostName,
    /// A host name that is neither a DNS name nor an address.
    #[error("host name is neither a DNS name nor an IP address")]
    HostName,
    /// A certificate name that is neither a name nor a pin of 64 lower-case hex digits.
    #[error("certificate name is neither a name nor `sha256-raw:` and 64 lower-case hex digits")]
    CertName,
    /// IPv4 that is neither an address nor `none`.
    #[error("IPv4 is neither an address nor `none`")]
    Ipv4,
    /// IPv6 that is neither an address nor `none`, or an IPv4 address in IPv6 clothes.
    #[error("IPv6 is neither an address nor `none`")]
    Ipv6,
    /// Both families are switched off.
    #[error("IPv4 and IPv6 are both `none`")]
    NoAddress,
    /// DERP port outside 0..=65535.
    #[error("DERP port {port} outside 0..=65535")]
    DerpPort {
        /// What it says.
        port: i32,
    },
    /// STUN port outside -1..=65535.
    #[error("STUN port {port} outside -1..=65535")]
    StunPort {
        /// What it says.
        port: i32,
    },
    /// Address for STUN tests that is no address.
    #[error("STUN test address is no address")]
    StunTestIp,
}

impl DerpMap {
    /// Whether the map may be published.
    ///
    /// # Errors
    ///
    /// The first of [`DerpMap::faults`].
    ///
    /// # Source
    ///
    /// DERP-10.4.
    pub fn validate(&self) -> Result<(), MapError> {
        self.faults().first().map_or(Ok(()), |fault| Err(*fault))
    }

    /// All faults of the map, in its order.
    #[must_use]
    pub fn faults(&self) -> Vec<MapError> {
        let mut faults = Vec::new();
        if self.regions.is_empty() {
            faults.push(MapError::Empty);
        }
        let mut names = BTreeSet::new();
        for (&key, region) in &self.regions {
            region_faults(key, region, &mut faults);
            for (place, node) in region.nodes.iter().enumerate() {
                let mut found =
                    |fault| faults.push(MapError::Node { region: key, node: place, fault });
                if !node.name.is_empty() && !names.insert(node.name.as_str()) {
                    found(NodeFault::DuplicateName);
                }
                if node.region_id != key {
                    found(NodeFault::RegionMismatch { id: node.region_id });
                }
                node_faults(node, found);
            }
        }
        let scores = self.home_params.iter().flat_map(|params| &params.region_score);
        faults.extend(
            scores
                .filter(|(_, score)| !(score.is_finite() && **score > 0.0))
                .map(|(&region, _)| MapError::Score { region }),
        );
        faults
    }
}

fn region_faults(key: u64, region: &Region, faults: &mut Vec<MapError>) {
    if !(1..=MAX_REGION_ID).contains(&key) {
        faults.push(MapError::RegionId { region: key });
    }
    if region.id != key {
        faults.push(MapError::RegionMismatch { region: key, id: region.id });
    }
    if region.nodes.is_empty() {
        faults.push(MapError::NoNodes { region: key });
    }
    let on_earth =
        (-90.0..=90.0).contains(&region.latitude) && (-180.0..=180.0).contains(&region.longitude);
    if !on_earth {
        faults.push(MapError::Coordinates { region: key });
    }
}

fn node_faults(node: &Node, mut found: impl FnMut(NodeFault)) {
    if node.name.is_empty() {
        found(NodeFault::NoName);
    }
    if node.host_name.is_empty() {
        found(NodeFault::NoHostName);
    } else if !is_host(&node.host_name) {
        found(NodeFault::HostName);
    }
    if !is_cert_name(&node.cert_name) {
        found(NodeFault::CertName);
    }
    if !is_address(&node.ipv4, |text| text.parse::<Ipv4Addr>().is_ok()) {
        found(NodeFault::Ipv4);
    }
    if !is_address(&node.ipv6, is_ipv6) {
        found(NodeFault::Ipv6);
    }
    if node.ipv4 == NO_ADDRESS && node.ipv6 == NO_ADDRESS {
        found(NodeFault::NoAddress);
    }
    if !(0..=0xffff).contains(&node.derp_port) {
        found(NodeFault::DerpPort { port: node.derp_port });
    }
    if !(-1..=0xffff).contains(&node.stun_port) {
        found(NodeFault::StunPort { port: node.stun_port });
    }
    let test_ip = &node.stun_test_ip;
    if !test_ip.is_empty() && test_ip.parse::<std::net::IpAddr>().is_err() {
        found(NodeFault::StunTestIp);
    }
}

/// Empty means DNS; clients take any word that is no address for "not this family".
fn is_address(text: &str, is_literal: impl Fn(&str) -> bool) -> bool {
    text.is_empty() || text == NO_ADDRESS || is_literal(text)
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok_and(|address| address.to_ipv4_mapped().is_none())
}

fn is_cert_name(text: &str) -> bool {
    match text.strip_prefix(PIN_PREFIX) {
        Some(pin) => {
            pin.len() == PIN_DIGITS && pin.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        }
        None => text.is_empty() || is_host(text),
    }
}

/// Whether `text` is an address or has the form of a DNS name. An underscore passes: it is in
/// use in names that never were host names.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_DNS_LABEL_LEN).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    is_ipv6(text) || text.len() <= MAX_DNS_NAME_LEN && text.split('.').all(is_label)
}
