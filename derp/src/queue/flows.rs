//! The data lane: one lane per flow, served in turn.
//!
//! Does: keeps each source's packets in order, gives every flow the same share of what is
//! gathered (deficit round robin), and takes what has to be dropped from the longest.
//! Does not: tell sources of one flow apart; there are 64 flows, by a secret hash of the key.
//!
//! Source: RFC 8290, section 4, with bytes of the whole queue bounded by the caller.

use std::time::Duration;

use super::delay::Delay;
use super::lane::Lane;
use super::segments::Pool;
use super::{Gathering, Offer};
use crate::counters::{Counters, Drops, Tally};
use crate::drop_reason::{DropReason, PacketKind};
use crate::hash::FlowId;
use crate::limits::FLOW_TURN;
use crate::time::Time;

#[derive(Debug, Default)]
pub(super) struct Flows {
    /// Those with packets, in no order. At most [`crate::hash::FLOWS`].
    list: Vec<Flow>,
    /// Whose turn it is.
    turn: usize,
    charged: usize,
}

#[derive(Debug)]
struct Flow {
    id: FlowId,
    lane: Lane,
    delay: Delay,
    /// Bytes that it may still send in this turn.
    credit: usize,
}

impl Flows {
    pub(super) fn push(&mut self, offer: Offer<'_>, kind: PacketKind, pool: &mut Pool) {
        let place = self.place(offer.flow).unwrap_or_else(|| {
            let lane = pool.take_lane();
            self.list.push(Flow { id: offer.flow, lane, delay: Delay::default(), credit: 0 });
            self.list.len() - 1
        });
        self.change(place, pool, |lane, pool| lane.push(offer, kind, pool));
    }

    /// Appends frames, one flow after the other, as many as fit.
    pub(super) fn gather(
        &mut self,
        to: &mut Gathering<'_>,
        age: Duration,
        now: Time,
        pool: &mut Pool,
        counters: &mut Counters,
    ) {
        while !self.list.is_empty() {
            self.turn %= self.list.len();
            let place = self.turn;
            let Some(flow) = self.list.get_mut(place) else { return };
            self.charged -= flow.lane.charged();
            let ended = flow.gather(to, age, now, pool, counters);
            self.charged += flow.lane.charged();
            self.remove_if_empty(place, pool);
            match ended {
                Ended::Full => return,
                // The next flow has moved to this place.
                Ended::Empty => {}
                Ended::Turn => self.turn = place + 1,
            }
        }
    }

    /// Drops what has waited too long in one flow.
    pub(super) fn expire(
        &mut self,
        id: FlowId,
        age: Duration,
        now: Time,
        pool: &mut Pool,
        drops: &mut Drops,
    ) {
        let Some(place) = self.place(id) else { return };
        self.change(place, pool, |lane, pool| lane.expire(age, now, pool, drops));
    }

    /// Drops the oldest packet of the flow that has most bytes.
    pub(super) fn drop_longest(&mut self, reason: DropReason, pool: &mut Pool, drops: &mut Drops) {
        let longest = self.list.iter().enumerate().max_by_key(|(_, flow)| flow.lane.charged());
        let Some((place, _)) = longest else { return };
        self.change(place, pool, |lane, pool| lane.drop_front(reason, pool, drops));
    }

    /// Drops everything.
    pub(super) fn abandon(&mut self, reason: DropReason, pool: &mut Pool, drops: &mut Drops) {
        for place in (0..self.list.len()).rev() {
            self.change(place, pool, |lane, pool| lane.abandon(reason, pool, drops));
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What all packets are charged with together, in bytes.
    pub(super) const fn charged(&self) -> usize {
        self.charged
    }

    /// When the first packet of a flow was received.
    pub(super) fn oldest(&self, id: FlowId) -> Option<Time> {
        self.list.iter().find(|flow| flow.id == id)?.lane.oldest()
    }

    pub(super) fn waiting(&self) -> Tally {
        let mut sum = Tally::default();
        for flow in &self.list {
            sum.merge(flow.lane.waiting());
        }
        sum
    }

    fn place(&self, id: FlowId) -> Option<usize> {
        self.list.iter().position(|flow| flow.id == id)
    }

    /// Lets `what` change the packets of one flow, and forgets the flow if none is left.
    fn change(&mut self, place: usize, pool: &mut Pool, what: impl FnOnce(&mut Lane, &mut Pool)) {
        let Some(flow) = self.list.get_mut(place) else { return };
        self.charged -= flow.lane.charged();
        what(&mut flow.lane, pool);
        self.charged += flow.lane.charged();
        self.remove_if_empty(place, pool);
    }

    fn remove_if_empty(&mut self, place: usize, pool: &mut Pool) {
        if self.list.get(place).is_some_and(|flow| flow.lane.is_empty()) {
            pool.give_lane(self.list.swap_remove(place).lane);
        }
    }
}

/// Why a flow's turn has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// No more fits.
    Full,
    /// The flow has no packet left.
    Empty,
    /// Others are next.
    Turn,
}

impl Flow {
    fn gather(
        &mut self,
        to: &mut Gathering<'_>,
        age: Duration,
        now: Time,
        pool: &mut Pool,
        counters: &mut Counters,
    ) -> Ended {
        self.lane.expire(age, now, pool, &mut counters.dropped);
        if self.credit == 0 {
            self.credit = FLOW_TURN;
        }
        while let (Some(len), Some(since)) = (self.lane.next_len(), self.lane.oldest()) {
            if self.delay.drops(since, self.lane.is_single(), now) {
                self.lane.drop_front(DropReason::QueueDelay, pool, &mut counters.dropped);
                continue;
            }
            if !to.fits(len) {
                return Ended::Full;
            }
            self.lane.send_front(to.out, now, pool, counters);
            self.credit = self.credit.saturating_sub(len);
            if self.credit == 0 && !self.lane.is_empty() {
                return Ended::Turn;
            }
        }
        Ended::Empty
    }
}
