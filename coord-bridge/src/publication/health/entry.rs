//! One node of ours, and what its probes have shown.
//!
//! Does: counts probes in a row, no faster than they are meant to come. Does not: know of other
//! nodes, without which nobody leaves; that is the [`Book`](super::Book)'s.

use std::time::{Duration, Instant};

use super::{OUT_AFTER, port};
use crate::relays::LiveNode;

/// What came of one probe: what was seen, or why it is not good.
pub type Probed = Result<String, String>;

/// What is known of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The node, with its region as whoever named it has it.
    pub member: LiveNode,
    /// Whether the configuration names it.
    pub configured: bool,
    /// Whether it has registered itself and is heard of.
    pub live: bool,
    /// Whether it is in the map.
    pub is_in: bool,
    /// When it came in, went out, or was heard of first.
    pub since: Instant,
    /// What the last probe has shown: what was seen, or why it is not good.
    pub last: Option<Result<String, String>>,
    pub(super) good: u32,
    pub(super) bad: u32,
    /// When a probe last counted.
    pub(super) counted: Option<Instant>,
    /// Good probes in a row that it needs to come in.
    pub(super) needed: u32,
    /// Whether the last round has found it good.
    pub(super) is_witness: bool,
}

impl Entry {
    pub(super) fn new(member: LiveNode, now: Instant) -> Self {
        Self {
            member,
            configured: false,
            live: false,
            is_in: false,
            since: now,
            last: None,
            good: 0,
            bad: 0,
            counted: None,
            needed: 1,
            is_witness: false,
        }
    }

    /// Takes what a probe has shown. One that comes within `pace` of the last that counted, and
    /// says the same, is no further one: rounds come early when relays come and go.
    pub(super) fn take(&mut self, probed: &Probed, pace: Duration, now: Instant) {
        self.last = Some(probed.clone());
        let is_early = self.counted.is_some_and(|it| now.saturating_duration_since(it) < pace);
        let (count, other) = match probed {
            Ok(_) => (&mut self.good, &mut self.bad),
            Err(_) => (&mut self.bad, &mut self.good),
        };
        *other = 0;
        if *count == 0 || !is_early {
            *count = count.saturating_add(1);
            self.counted = Some(now);
        }
    }

    /// Comes in, as it stands.
    pub(super) fn come_in(&mut self, now: Instant) {
        (self.is_in, self.since) = (true, now);
    }

    /// Goes out, and has to show more to come back.
    pub(super) fn go_out(&mut self, needed: u32, now: Instant) {
        (self.is_in, self.since) = (false, now);
        (self.needed, self.good) = (needed, 0);
    }

    /// Whether it has shown enough to come in.
    pub(super) const fn is_enough(&self) -> bool {
        self.good >= self.needed && !self.is_gone()
    }

    /// Whether nobody vouches for it any more.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        !self.configured && !self.live
    }

    /// Whether it would be out of the map if another node were known to work.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.is_in && (self.is_gone() || self.bad >= OUT_AFTER)
    }

    /// Whether `live` is the relay of this configured node, which registers itself as well.
    pub(super) fn is_relay_of(&self, live: &LiveNode) -> bool {
        let (one, other) = (&self.member.node, &live.node);
        self.configured
            && self.member.region_id == live.region_id
            && one.host_name == other.host_name
            && port(one.derp_port) == port(other.derp_port)
    }

    pub(super) fn why(&self) -> String {
        if self.is_gone() {
            return "its relay is not heard of any more".to_owned();
        }
        match &self.last {
            Some(Ok(seen)) => seen.clone(),
            Some(Err(why)) => why.clone(),
            None if self.configured => "it is configured".to_owned(),
            None => "its relay has registered".to_owned(),
        }
    }
}
