//! What the relay says of itself to a bridge.
//!
//! Does: puts together what the operator has set and what the relay found when it started.
//! Does not: know whether clients reach it so; the bridge tries that itself.

use derp::key::NodePublic;
use derp::map::{DerpMap, NO_STUN, Node, PIN_PREFIX, Region};

use super::wire::Registration;
use crate::config::BridgeConfig;
use crate::relay::Addresses;

/// Port of plain HTTP that captive-portal checks go to.
const HTTP_PORT: u16 = 80;

/// Port of DERP where a map says none.
const DERP_PORT: u16 = 443;

/// Port of STUN where a map says none.
const STUN_PORT: u16 = 3_478;

/// What does not change while the relay runs.
#[derive(Clone, Debug)]
pub(crate) struct Announcement {
    key: NodePublic,
    region: Region,
    node: Node,
}

impl Announcement {
    /// What a relay says that listens at `addresses`. `has_tls` is false behind a proxy, whose
    /// ports nobody here knows.
    pub(crate) fn new(
        config: &BridgeConfig,
        key: NodePublic,
        addresses: &Addresses,
        has_tls: bool,
    ) -> Self {
        let bound = addresses.derp.first().map_or(DERP_PORT, |derp| derp.port());
        let derp_port = config.derp_port.unwrap_or(if has_tls { bound } else { DERP_PORT });
        let stun_port = config
            .stun_port
            .unwrap_or_else(|| addresses.stun.first().map_or(NO_STUN, |stun| stun.port().into()));
        let node = Node {
            name: config.node_name.clone(),
            region_id: config.region_id,
            host_name: config.hostname.clone(),
            ipv4: config.ipv4.clone(),
            ipv6: config.ipv6.clone(),
            derp_port: if derp_port == DERP_PORT { 0 } else { derp_port.into() },
            stun_port: if stun_port == i32::from(STUN_PORT) { 0 } else { stun_port },
            can_port_80: addresses.http.iter().any(|http| http.port() == HTTP_PORT),
            ..Node::default()
        };
        let region = Region {
            id: config.region_id,
            code: config.region_code.clone(),
            name: config.region_name.clone(),
            ..Region::default()
        };
        Self { key, region, node }
    }

    /// The same as a registration. `pin` is that of the certificate, where clients have to know
    /// it: one by an authority is known by its name, and has another pin after each renewal.
    pub(crate) fn registration(&self, pin: Option<String>) -> Registration {
        let cert_name = pin.filter(|pin| pin.starts_with(PIN_PREFIX)).unwrap_or_default();
        let node = Node { cert_name, ..self.node.clone() };
        let region = Region { nodes: vec![node], ..self.region.clone() };
        Registration {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            key: self.key,
            map: DerpMap { regions: [(region.id, region)].into(), ..DerpMap::default() },
        }
    }
}
