//! Which nodes of ours are in the map: what probes and heartbeats have shown.
//!
//! Does: holds what is known of every node, and decides by rounds, in which all nodes were tried
//! at about the same time. Does not: probe, wait, read a clock, or know other people's regions.
//!
//! ```text
//!             first good probe                      OUT_AFTER bad ones, or gone;
//! live: Out -------------------> In   configured: In   and only beside a witness
//!                                 ^---- IN_AFTER good ones ----- Out <-----'
//! ```
//!
//! A witness is another node of ours that was good in the same round, relays, may be a home, and
//! stays in. When everything fails at once it is more likely the bridge that has lost its
//! network, so without a witness nobody leaves: the map is never empty, and never shrinks to the
//! node that happened to be tried last. See docs/decisions/0050.

mod entry;

use std::time::{Duration, Instant};

use derp::map::{DerpMap, Node, Region};

use super::accord::Verdicts;
use crate::config::OWN_REGION_IDS;
use crate::relays::LiveNode;

pub use self::entry::{Entry, Probed};

/// Bad probes in a row after which a node is taken out, if there is a witness: one packet lost,
/// or one restart of a relay, is not worth a redial of all clients.
pub const OUT_AFTER: u32 = 3;

/// Good probes in a row after which a node that was taken out is in again.
pub const IN_AFTER: u32 = 2;

/// Part of the time between two rounds, in hundredths, within which another probe of a node that
/// says the same counts for nothing. Rounds that come in their time are at least 90 apart.
const PACE_PERCENT: u32 = 80;

/// Time for which a live node that left is remembered, so that one which comes and goes has to
/// pass [`IN_AFTER`] and not only its first probe.
pub const REMEMBERED_TIME: Duration = Duration::from_secs(3_600);

/// Most live nodes that are looked at. Ours: a fleet has some tens.
pub const MAX_LIVE_NODES: usize = 256;

/// Most live nodes that are remembered after they left.
const MAX_REMEMBERED: usize = MAX_LIVE_NODES;

/// What is known of all nodes of ours.
#[derive(Clone, Debug, Default)]
pub struct Book {
    entries: Vec<Entry>,
    /// Regions as configured, whose settings say whether clients make them a home.
    named: Vec<Region>,
    /// Time between two rounds of probes, where nodes are probed at all.
    probe_interval: Option<Duration>,
    /// Live nodes that are not taken.
    refused: Vec<Move>,
    /// What another bridge has found, where that is followed.
    followed: Verdicts,
}

/// What has happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It came in.
    In,
    /// It went out.
    Out,
    /// It would have to go, and stays, since no other is known to work.
    Kept,
    /// It is not taken: a relay that may not be what it says that it is.
    Refused,
}

/// A node to which something has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Name of the node.
    pub node: String,
    /// Id of its region.
    pub region: u64,
    /// What has happened to it.
    pub turn: Turn,
    /// Why, in words.
    pub why: String,
}

impl Book {
    /// Takes over what is configured and what is live now. Nodes that stay keep what is known of
    /// them; configured ones come in as they stand.
    ///
    /// `regions` are as configured, also those without nodes, for live ones.
    pub fn set(
        &mut self,
        regions: &[Region],
        live: &[LiveNode],
        probe_interval: Option<Duration>,
        now: Instant,
    ) -> Vec<Move> {
        let before = std::mem::take(&mut self.entries);
        self.probe_interval = probe_interval;
        let probing = probe_interval.is_some();
        self.named = regions.iter().map(|r| Region { nodes: Vec::new(), ..r.clone() }).collect();
        let known = |member: &LiveNode| before.iter().find(|it| is_same(&it.member, member));
        for region in regions {
            for node in &region.nodes {
                let member = LiveNode {
                    region_id: region.id,
                    region_code: region.code.clone(),
                    region_name: region.name.clone(),
                    node: node.clone(),
                };
                let entry = match known(&member).filter(|it| it.configured) {
                    Some(entry) => Entry { member, live: false, ..entry.clone() },
                    None => Entry { configured: true, is_in: true, ..Entry::new(member, now) },
                };
                self.entries.push(entry);
            }
        }
        let mut live: Vec<&LiveNode> = live.iter().collect();
        live.sort_by(|one, other| key(one).cmp(&key(other)));
        let mut refused = Vec::new();
        for (place, member) in live.into_iter().enumerate() {
            if let Some(entry) = self.entries.iter_mut().find(|it| it.is_relay_of(member)) {
                entry.live = true;
            } else if let Some(why) = self.objection(regions, member, place) {
                let (node, region) = (member.node.name.clone(), member.region_id);
                refused.push(Move { node, region, turn: Turn::Refused, why: why.to_owned() });
            } else {
                let mut entry = known(member)
                    .map_or_else(|| Entry::new(member.clone(), now), |entry| entry.clone());
                (entry.live, entry.configured) = (true, false);
                entry.member = member.clone();
                if !probing && !entry.is_in {
                    entry.come_in(now);
                }
                self.entries.push(entry);
            }
        }
        self.keep_departed(&before, now);
        if !probing {
            // Heartbeats are all there is: whoever is heard of is believed.
            for entry in &mut self.entries {
                entry.is_witness = entry.configured || entry.live;
                entry.is_in |= entry.is_witness;
                if entry.is_witness {
                    // What probes said before counts no more.
                    (entry.bad, entry.needed) = (0, 1);
                }
            }
            self.take_out(now);
        }
        self.never_empty(now);
        let mut moves = moves(&before, &self.entries);
        moves.extend(refused.iter().filter(|it| !self.refused.contains(it)).cloned());
        self.refused = refused;
        moves
    }

    /// Nodes that the next round has to try.
    #[must_use]
    pub fn to_probe(&self) -> Vec<Node> {
        let tried = self.entries.iter().filter(|it| self.probe_interval.is_some() && !it.is_gone());
        tried.map(|it| it.member.node.clone()).collect()
    }

    /// Takes what a round has shown, at the pace of rounds. What is about a node that is not here any more is dropped.
    pub fn judge(&mut self, round: &[(Node, Probed)], now: Instant) -> Vec<Move> {
        let before = self.entries.clone();
        let pace = self.probe_interval.unwrap_or_default() * PACE_PERCENT / 100;
        for entry in &mut self.entries {
            let found = round.iter().find(|(node, _)| *node == entry.member.node);
            entry.is_witness = found.is_some_and(|(_, probed)| probed.is_ok());
            let Some((_, probed)) = found else { continue };
            entry.take(probed, pace, now);
            if !entry.is_in && entry.is_enough() {
                entry.come_in(now);
            }
        }
        self.take_out(now);
        moves(&before, &self.entries)
    }

    /// The nodes that are in, in the order that they are published in.
    #[must_use]
    pub fn members(&self) -> Vec<LiveNode> {
        let placed = self.entries.iter().zip(self.placed());
        placed.filter(|(_, is_in)| *is_in).map(|(it, _)| it.member.clone()).collect()
    }

    /// For each of [`Book::entries`], whether it is in: as another bridge has found, where that is
    /// followed and leaves a node that may be a home; otherwise as this one has.
    #[must_use]
    pub fn placed(&self) -> Vec<bool> {
        let led = |it: &Entry| self.followed.get(&name(&it.member)).copied().unwrap_or(it.is_in);
        let placed: Vec<bool> = self.entries.iter().map(led).collect();
        let mut within = self.entries.iter().zip(&placed).filter(|(_, is_in)| **is_in);
        if within.any(|(it, _)| may_be_home(&self.named, &it.member)) {
            placed
        } else {
            self.entries.iter().map(|it| it.is_in).collect()
        }
    }

    /// Which nodes are in by what this bridge has found. Nodes are named by all that clients see.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        self.entries.iter().map(|it| (name(&it.member), it.is_in)).collect()
    }

    /// Whether it follows exactly this.
    pub(super) fn follows(&self, verdicts: &Verdicts) -> bool {
        self.followed == *verdicts
    }

    /// Follows this from now on; nothing, where it is empty.
    pub(super) fn follow(&mut self, verdicts: Verdicts) {
        self.followed = verdicts;
    }

    /// All nodes that are known, in the same order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Why a live node is not taken, if it is not. A token for relays is no leave to replace one of
    /// Tailscale's regions, or a node of ours.
    fn objection(
        &self,
        regions: &[Region],
        member: &LiveNode,
        place: usize,
    ) -> Option<&'static str> {
        let is_ours = OWN_REGION_IDS.contains(&member.region_id)
            || regions.iter().any(|region| region.id == member.region_id);
        if !is_ours {
            Some("its region is neither configured nor from 900 to 999")
        } else if self.entries.iter().any(|it| it.member.node.name == member.node.name) {
            Some("another node has its name")
        } else if !is_sound(member) {
            Some("its fields make no node that clients could use")
        } else if place >= MAX_LIVE_NODES {
            Some("there are too many")
        } else {
            None
        }
    }

    /// Nodes that are neither configured nor live any more: those that are in stay until there
    /// is a witness, those that are out are remembered for a while.
    fn keep_departed(&mut self, before: &[Entry], now: Instant) {
        let mut remembered = 0;
        for entry in before {
            let is_back = self.entries.iter().any(|it| is_same(&it.member, &entry.member));
            // What the configuration drops is dropped at once: somebody has decided it.
            if is_back || entry.configured {
                continue;
            }
            let is_fresh = now.saturating_duration_since(entry.since) < REMEMBERED_TIME;
            if entry.is_in || is_fresh && remembered < MAX_REMEMBERED {
                remembered += usize::from(!entry.is_in);
                self.entries.push(Entry { live: false, is_witness: false, ..entry.clone() });
            }
        }
        // In the order of the map: configured ones first, then by region and name.
        let configured = self.entries.iter().filter(|it| it.configured).count();
        if let Some(others) = self.entries.get_mut(configured..) {
            others.sort_by(|one, other| key(&one.member).cmp(&key(&other.member)));
        }
    }

    /// Takes out whoever has to go, if somebody stays who was seen to work.
    fn take_out(&mut self, now: Instant) {
        let named = &self.named;
        let has_witness = self.entries.iter().any(|it| {
            it.is_in
                && it.is_witness
                && (it.configured || it.live)
                && may_be_home(named, &it.member)
        });
        if !has_witness {
            return;
        }
        for entry in self.entries.iter_mut().filter(|it| it.is_in) {
            if entry.is_gone() || entry.bad >= OUT_AFTER {
                entry.go_out(IN_AFTER, now);
            }
        }
    }

    /// A changed configuration may have taken away the last node that was in: then those that it
    /// names are in again, as they stand.
    fn never_empty(&mut self, now: Instant) {
        if self.entries.iter().any(|it| it.is_in && may_be_home(&self.named, &it.member)) {
            return;
        }
        for entry in self.entries.iter_mut().filter(|it| it.configured && !it.is_in) {
            entry.come_in(now);
            entry.bad = 0;
        }
    }
}

fn moves(before: &[Entry], after: &[Entry]) -> Vec<Move> {
    let moved = |entry: &Entry, turn| Move {
        node: entry.member.node.name.clone(),
        region: entry.member.region_id,
        turn,
        why: entry.why(),
    };
    let changed = after.iter().filter_map(|it| {
        let old = before.iter().find(|old| is_same(&old.member, &it.member));
        let was_in = old.is_some_and(|old| old.is_in);
        let was_kept = old.is_some_and(Entry::is_kept);
        match (was_in, it.is_in) {
            (false, true) => Some(moved(it, Turn::In)),
            (true, false) => Some(moved(it, Turn::Out)),
            (true, true) if it.is_kept() && !was_kept => Some(moved(it, Turn::Kept)),
            (true, true) | (false, false) => None,
        }
    });
    let dropped = before
        .iter()
        .filter(|old| old.is_in && !after.iter().any(|it| is_same(&it.member, &old.member)))
        .map(|old| Move { why: "it is configured no more".to_owned(), ..moved(old, Turn::Out) });
    changed.chain(dropped).collect()
}

/// Whether it is the same node in all that clients see.
fn is_same(one: &LiveNode, other: &LiveNode) -> bool {
    one.region_id == other.region_id && one.node == other.node
}

const fn port(number: i32) -> i32 {
    if number == 0 { 443 } else { number }
}

fn key(member: &LiveNode) -> (u64, &str, &str, &str) {
    let node = &member.node;
    (member.region_id, &node.name, &node.host_name, &node.cert_name)
}

/// A node by all that clients see of it.
fn name(member: &LiveNode) -> String {
    alone(member).to_json()
}

fn may_be_home(named: &[Region], member: &LiveNode) -> bool {
    let named = named.iter().find(|region| region.id == member.region_id);
    !member.node.stun_only && named.is_none_or(|region| !region.no_measure_no_home)
}

/// Whether a live node alone would be a map without faults.
fn is_sound(member: &LiveNode) -> bool {
    alone(member).validate().is_ok()
}

/// A map of nothing but this node.
fn alone(member: &LiveNode) -> DerpMap {
    let region =
        Region { id: member.region_id, nodes: vec![member.node.clone()], ..Region::default() };
    DerpMap { regions: [(region.id, region)].into(), ..DerpMap::default() }
}
