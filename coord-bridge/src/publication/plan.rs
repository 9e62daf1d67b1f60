//! What an operator wants to be published.
//!
//! Does: holds it, checked. Does not: read settings; that is `config`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use derp::map::{DerpMap, Region};

use super::embedded::EmbeddedSettings;
use super::upstream::UpstreamSettings;

/// What is to be published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Regions as configured, with their nodes. Without faults, and without the others empty.
    pub map: DerpMap,
    /// Regions for which only names are configured: they appear with their first live relay.
    pub named: Vec<Region>,
    /// Time between two rounds of probes; without it none is probed, and heartbeats are believed.
    pub probe_interval: Option<Duration>,
    /// Other people's maps, the first one winning.
    pub upstreams: Vec<UpstreamSettings>,
    /// Where Headscale's embedded relay is looked for.
    pub embedded: EmbeddedSettings,
    /// Folder for copies of other people's maps; without it none are kept.
    pub state_dir: Option<PathBuf>,
}

impl Plan {
    /// Ids of the regions that are configured, with and without nodes: what
    /// [`embedded::look`](super::embedded::look) has to be asked about before anything runs.
    #[must_use]
    pub fn own_ids(&self) -> BTreeSet<u64> {
        self.regions().iter().map(|region| region.id).collect()
    }

    /// Regions as configured, with and without nodes.
    pub(super) fn regions(&self) -> Vec<Region> {
        self.map.regions.values().chain(&self.named).cloned().collect()
    }
}
