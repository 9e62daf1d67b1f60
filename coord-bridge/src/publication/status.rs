//! How publication is doing, for metrics, the admin page and `/ready`.
//!
//! Does: holds one picture of everything, made anew at each change, so that taking it costs a
//! pointer. Does not: hold anything that strangers should not read but addresses and names.

use std::time::{Duration, Instant, SystemTime};

use derp::map::Node;

use super::embedded::Collision;

/// A picture of publication.
#[derive(Clone, Debug)]
pub struct Status {
    /// When the map that is published was last found to be the right one, and in its file.
    pub confirmed: Instant,
    /// When it last became another one.
    pub changed: Instant,
    /// How often it became another one.
    pub changes: u64,
    /// Nodes of ours, in the order of the map; those that are out are here too.
    pub nodes: Vec<NodeStatus>,
    /// Other people's maps, in the order of the configuration.
    pub upstreams: Vec<UpstreamStatus>,
    /// What Headscale's embedded relay does to our regions.
    pub collision: Option<Collision>,
    /// Why the map cannot be written to its file, which stays as it was; a map that follows later
    /// is not published either.
    pub file_error: Option<String>,
}

/// How one node of ours is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// Id of its region.
    pub region: u64,
    /// The node, as it is published.
    pub node: Node,
    /// Whether the configuration names it.
    pub configured: bool,
    /// Whether it has registered itself and is heard of.
    pub live: bool,
    /// Whether it is in the map.
    pub is_in: bool,
    /// Whether it is in only because no other node is known to work.
    pub is_kept: bool,
    /// When it came in, went out, or was heard of first.
    pub since: Instant,
    /// The last probe: what was seen, or why it is not good; `None` before the first.
    pub last_probe: Option<Result<String, String>>,
}

/// How one map of somebody else's is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// Its URL or file.
    pub name: String,
    /// When the map in use was fetched; `None` where there is none, or it is from a file that
    /// came with the configuration.
    pub fetched: Option<SystemTime>,
    /// How many regions of it are published.
    pub regions: usize,
    /// Ids of its regions that are not, since they are ours or an earlier upstream's.
    pub overridden: Vec<u64>,
    /// Why the last fetch has failed; `None` after a good one.
    pub last_error: Option<String>,
    /// How many fetches have failed since the start.
    pub failures: u64,
}

impl Status {
    /// `coord_bridge_map_age_seconds`: time since the map was last found to be the right one.
    ///
    /// It is confirmed after every round of probes, fetch and look, so a great age says that
    /// publication hangs, or cannot write its file.
    #[must_use]
    pub fn map_age(&self) -> Duration {
        self.confirmed.elapsed()
    }
}

impl UpstreamStatus {
    /// Time since the map in use was fetched; zero where the clock went back.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let fetched = self.fetched?;
        Some(SystemTime::now().duration_since(fetched).unwrap_or_default())
    }
}
