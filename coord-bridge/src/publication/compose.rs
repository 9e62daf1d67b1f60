//! One map out of regions of ours and of other people's.
//!
//! Does: puts nodes into their regions, lets ours win over theirs, and leaves out what would make
//! the map faulty. Equal input gives an equal map, whatever order relays have registered in.
//! Does not: fetch, probe, or decide which nodes of ours are in; that is `health`.

use std::collections::{BTreeMap, BTreeSet};

use derp::map::{DerpMap, MapError, Region};

use crate::relays::LiveNode;

/// A map of somebody else's, and what is taken of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream<'a> {
    /// The map, without faults.
    pub map: &'a DerpMap,
    /// What is taken.
    pub choice: &'a Choice,
}

/// Which regions of somebody else's map are taken, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Only these regions; all if there is none here.
    pub keep: BTreeSet<u64>,
    /// Not these regions, also where `keep` names them.
    pub drop: BTreeSet<u64>,
    /// Clients never make one of these regions their home, and still dial it for a peer whose
    /// home it is: `NoMeasureNoHome`.
    pub prefer_own: bool,
}

/// A map, and what was left out of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Composition {
    /// The map.
    pub map: DerpMap,
    /// For each upstream, ids of regions that are ours, or an earlier upstream's, already.
    pub overridden: Vec<Vec<u64>>,
    /// For each upstream, how many regions are of it.
    pub taken: Vec<usize>,
}

/// The map of `members`, in their order, with what `upstreams` add.
///
/// `named` are regions as they are configured: where one has the region of a member, its names
/// count and not the member's. Without members the map has no region of ours.
#[must_use]
pub fn compose(named: &[Region], members: &[LiveNode], upstreams: &[Upstream<'_>]) -> Composition {
    let mut regions = own_regions(named, members);
    let mut names: BTreeSet<String> = BTreeSet::new();
    for region in regions.values_mut() {
        region.nodes.retain(|node| names.insert(node.name.clone()));
    }
    regions.retain(|_, region| !region.nodes.is_empty());
    let has_home = regions.values().any(is_home);
    // Also while none of its nodes is in: whose region an id is must not change with that.
    let is_ours = |id: u64| named.iter().any(|region| region.id == id);
    let (mut overridden, mut taken) = (Vec::new(), Vec::new());
    for upstream in upstreams {
        let (mut lost, mut count) = (Vec::new(), 0);
        for (&id, region) in &upstream.map.regions {
            if !upstream.choice.takes(id) {
                continue;
            }
            if regions.contains_key(&id) || is_ours(id) {
                lost.push(id);
                continue;
            }
            let mut region = region.clone();
            region.nodes.retain(|node| !names.contains(&node.name));
            if region.nodes.is_empty() {
                lost.push(id);
                continue;
            }
            names.extend(region.nodes.iter().map(|node| node.name.clone()));
            // Without a home of ours, clients would have none at all.
            region.no_measure_no_home |= upstream.choice.prefer_own && has_home;
            regions.insert(id, region);
            count += 1;
        }
        overridden.push(lost);
        taken.push(count);
    }
    Composition { map: DerpMap { regions, ..DerpMap::default() }, overridden, taken }
}

/// `map` without what is faulty in it, and without what Headscale drops anyway.
#[must_use]
pub fn sound(map: DerpMap) -> DerpMap {
    let mut map = DerpMap { regions: map.regions, ..DerpMap::default() };
    // A node that is taken away may leave a region without any: two turns are enough.
    for _ in 0..2 {
        let faults = map.faults();
        let mut nodes = BTreeSet::new();
        for fault in &faults {
            if let MapError::Node { region, node, .. } = fault {
                nodes.insert((*region, *node));
            }
        }
        for (&id, region) in &mut map.regions {
            let mut place = 0..;
            region.nodes.retain(|_| place.next().is_some_and(|at| !nodes.contains(&(id, at))));
        }
        for fault in faults {
            match fault {
                MapError::RegionId { region }
                | MapError::RegionMismatch { region, .. }
                | MapError::NoNodes { region } => {
                    map.regions.remove(&region);
                }
                MapError::Coordinates { region } => {
                    if let Some(region) = map.regions.get_mut(&region) {
                        (region.latitude, region.longitude) = (0.0, 0.0);
                    }
                }
                MapError::Node { .. } | MapError::Empty | MapError::Score { .. } => {}
            }
        }
    }
    map
}

/// Whether clients make a region their home that has a relay in it.
pub(super) fn is_home(region: &Region) -> bool {
    !region.no_measure_no_home && region.nodes.iter().any(|node| !node.stun_only)
}

impl Choice {
    fn takes(&self, id: u64) -> bool {
        (self.keep.is_empty() || self.keep.contains(&id)) && !self.drop.contains(&id)
    }
}

fn own_regions(named: &[Region], members: &[LiveNode]) -> BTreeMap<u64, Region> {
    let mut regions: BTreeMap<u64, Region> = BTreeMap::new();
    for member in members {
        let region = regions.entry(member.region_id).or_insert_with(|| {
            match named.iter().find(|region| region.id == member.region_id) {
                Some(region) => Region { nodes: Vec::new(), ..region.clone() },
                None => Region {
                    id: member.region_id,
                    code: member.region_code.clone(),
                    name: member.region_name.clone(),
                    ..Region::default()
                },
            }
        });
        region.nodes.push(member.node.clone());
    }
    regions
}
