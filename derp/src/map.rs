//! The DERP map: where relays are, as clients and Headscale are told.
//!
//! Does: holds a map, reads other people's, finds faults, and renders JSON and YAML. These two
//! renderers are the only ones in the project, so that a map looks the same wherever it is
//! published. Does not: fetch, merge or serve maps.
//!
//! ```text
//! JSON bytes --parse--> DerpMap --validate--> to_json   derp.urls of Headscale, clients
//!                                         +-> to_yaml   derp.paths of Headscale
//! ```
//!
//! A change of any field of a region makes every client drop and redial it, so equal maps render
//! to equal bytes. Spec: docs/protocol/derp.md, section 10.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

mod parse;
mod validate;
mod yaml;

pub use parse::{MAX_MAP_LEN, ParseMapError};
pub use validate::{MAX_REGION_ID, MapError, NodeFault};

/// What [`Node::ipv4`] or [`Node::ipv6`] says to switch the family off.
pub const NO_ADDRESS: &str = "none";

/// What [`Node::cert_name`] starts with if it is a pin: 64 lower-case hex digits follow, the
/// SHA-256 of the leaf certificate in DER.
pub const PIN_PREFIX: &str = "sha256-raw:";

/// What [`Node::stun_port`] says to switch STUN off.
pub const NO_STUN: i32 = -1;

/// All relays that a client may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DerpMap {
    /// How clients choose their home region; Headscale drops this.
    #[serde(rename = "HomeParams", skip_serializing_if = "no_params")]
    pub home_params: Option<HomeParams>,
    /// Regions by id.
    #[serde(rename = "Regions")]
    pub regions: BTreeMap<u64, Region>,
    /// Whether clients leave Tailscale's own regions out; Headscale drops this.
    #[serde(rename = "omitDefaultRegions", skip_serializing_if = "is_false")]
    pub omit_default_regions: bool,
}

/// How clients choose their home region.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HomeParams {
    /// Factor on the measured latency by region id: below 1 attracts, above 1 repels.
    #[serde(rename = "RegionScore", serialize_with = "write_scores")]
    pub region_score: BTreeMap<u64, f64>,
}

/// Relays between which packets pass, and which count as one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Region {
    /// Id, 1..=[`MAX_REGION_ID`]; 900 to 999 are for people who run their own.
    #[serde(rename = "RegionID")]
    pub id: u64,
    /// Short name.
    #[serde(rename = "RegionCode")]
    pub code: String,
    /// Name for people.
    #[serde(rename = "RegionName")]
    pub name: String,
    /// Degrees north; 0 for unknown.
    #[serde(rename = "Latitude", skip_serializing_if = "is_untold")]
    pub latitude: f64,
    /// Degrees east; 0 for unknown.
    #[serde(rename = "Longitude", skip_serializing_if = "is_untold")]
    pub longitude: f64,
    /// Out of use upstream, and kept because clients still look at it.
    #[serde(rename = "Avoid", skip_serializing_if = "is_false")]
    pub avoid: bool,
    /// Never measured and never a home, still dialled for a peer whose home it is.
    #[serde(rename = "NoMeasureNoHome", skip_serializing_if = "is_false")]
    pub no_measure_no_home: bool,
    /// Nodes, the preferred one first.
    #[serde(rename = "Nodes")]
    pub nodes: Vec<Node>,
}

/// One relay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Unique over all regions; usually the region id and a letter.
    #[serde(rename = "Name")]
    pub name: String,
    /// Id of the region it is in.
    #[serde(rename = "RegionID")]
    pub region_id: u64,
    /// DNS name or address: for SNI, the `Host` header and the certificate.
    #[serde(rename = "HostName")]
    pub host_name: String,
    /// Name that the certificate has instead, or a pin, see [`PIN_PREFIX`]; often empty.
    #[serde(rename = "CertName", skip_serializing_if = "String::is_empty")]
    pub cert_name: String,
    /// Address; empty for DNS, [`NO_ADDRESS`] for none.
    #[serde(rename = "IPv4", skip_serializing_if = "String::is_empty")]
    pub ipv4: String,
    /// Address; empty for DNS, [`NO_ADDRESS`] for none.
    #[serde(rename = "IPv6", skip_serializing_if = "String::is_empty")]
    pub ipv6: String,
    /// UDP port for STUN; 0 for 3478, [`NO_STUN`] for none.
    #[serde(rename = "STUNPort", skip_serializing_if = "is_zero")]
    pub stun_port: i32,
    /// Whether it does STUN and nothing else.
    #[serde(rename = "STUNOnly", skip_serializing_if = "is_false")]
    pub stun_only: bool,
    /// TCP port for DERP; 0 for 443.
    #[serde(rename = "DERPPort", skip_serializing_if = "is_zero")]
    pub derp_port: i32,
    /// Whether clients skip all checks of the certificate. For tests; a pin is as easy.
    #[serde(rename = "InsecureForTests", skip_serializing_if = "is_false")]
    pub insecure_for_tests: bool,
    /// Address for STUN in tests.
    #[serde(rename = "STUNTestIP", skip_serializing_if = "String::is_empty")]
    pub stun_test_ip: String,
    /// Whether port 80 answers `/generate_204`, for captive portal checks.
    #[serde(rename = "CanPort80", skip_serializing_if = "is_false")]
    pub can_port_80: bool,
}

impl DerpMap {
    /// The map as JSON with Tailscale's names: two spaces a level, regions by rising id, a line
    /// end at the end.
    ///
    /// Equal maps give equal bytes. Empty fields are left out; `null` never comes. Call
    /// [`DerpMap::validate`] first: a map without regions takes clients' relays away.
    ///
    /// # Source
    ///
    /// DERP-10.3, DERP-10.5.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Text, numbers and maps keyed by integers always serialize. If they did not, no text at
        // all is what makes Headscale keep the map it has.
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }
}

/// Whether a coordinate says something: not zero, and a number at all.
fn is_told(degrees: f64) -> bool {
    degrees.is_finite() && degrees != 0.0
}

fn is_untold(degrees: &f64) -> bool {
    !is_told(*degrees)
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl HomeParams {
    /// The scores that are numbers at all: JSON has no way to write the others but `null`.
    fn finite_scores(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        self.region_score.iter().map(|(&id, &score)| (id, score)).filter(|(_, s)| s.is_finite())
    }
}

fn no_params(params: &Option<HomeParams>) -> bool {
    params.as_ref().is_none_or(|params| params.finite_scores().next().is_none())
}

fn write_scores<S: Serializer>(scores: &BTreeMap<u64, f64>, out: S) -> Result<S::Ok, S::Error> {
    out.collect_map(scores.iter().filter(|(_, score)| score.is_finite()))
}
