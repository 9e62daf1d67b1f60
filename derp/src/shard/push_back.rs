//! Slowing a sender down instead of losing its packets.
//!
//! Does: stops reading from a sender for a moment while its destination's queue is nearly full,
//! if that costs nobody else anything: the destination takes what is too much within 20 ms, and
//! the sender has sent to nobody else for 100 ms. TCP then slows the sender down.
//! Does not: wait. When the time is up, or the condition is not met, the queue drops its oldest.
//!
//! ```text
//! shard of the sender            shard of the destination
//!   [ read ]                       queue >= 3/4, and drains fast
//!      ^   <------- PushBack ---------+
//!      |                              queue <= 1/2, or 20 ms later
//!      +   <------- Resume -----------+
//! ```
//!
//! The ring to another shard is such a queue too: half full it holds back those whose only
//! destination is there, until it is less, or for 20 ms. Its other end is a thread that waits for
//! its core, so that nobody tells when there is room: the shard looks every millisecond.

use std::mem;
use std::time::Duration;

use super::{Conn, Message, Shard};
use crate::id::{ConnId, ShardId};
use crate::limits::{Limits, PUSH_BACK_TIME, RING_BYTES, SOLE_DESTINATION_TIME};
use crate::time::Time;

/// Senders held back for one destination at a time. More than these together are no flow that
/// slowing down would save: each gets a share of the queue.
const MAX_HELD: usize = 64;

/// What a sender may send in one turn at least, while it is not held back: one packet and more.
const MIN_READ: usize = 8 * 1024;

/// Between two looks at a ring that holds somebody back.
const RING_LOOK: Duration = Duration::from_millis(1);

/// What a destination knows of those it slows down.
#[derive(Debug, Default)]
pub(super) struct PushBack {
    held: Vec<ConnId>,
    /// Until when, at the latest.
    until: Time,
    /// It did not help in time: no more of it until the queue has been empty.
    given_up: bool,
}

/// What the ring to another shard knows of those it slows down; each at most once.
#[derive(Debug, Default)]
pub(super) struct RingHold {
    held: Vec<ConnId>,
    /// When to look again.
    look: Time,
    /// Until when, at the latest.
    until: Time,
    /// It did not help in time: no more of it until the ring has been empty.
    given_up: bool,
}

/// What a sender's connection knows of where it sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    /// The one destination since `since`.
    pub(super) sole: Option<ConnId>,
    since: Time,
    /// Not read from until this destination releases it.
    held_for: Option<ConnId>,
    /// Not read from until the ring to its destination does.
    held_by_ring: bool,
}

impl Aim {
    pub(super) const fn new() -> Self {
        Self { sole: None, since: Time::ZERO, held_for: None, held_by_ring: false }
    }

    /// Notes that a packet goes to `to`.
    pub(super) fn note(&mut self, to: Option<ConnId>, now: Time) {
        // Before the first destination there was no flow that could be hurt.
        if to.is_none() || self.sole.is_some_and(|sole| Some(sole) != to) {
            self.since = now;
        }
        self.sole = to;
    }

    fn is_only_at(&self, to: ConnId, now: Time) -> bool {
        self.sole == Some(to)
            && (self.since == Time::ZERO || now.since(self.since) >= SOLE_DESTINATION_TIME)
    }

    pub(super) const fn is_held(&self) -> bool {
        self.held_for.is_some() || self.held_by_ring
    }
}

/// Charged bytes of a queue from which its senders are held back.
const fn high(limits: &Limits) -> usize {
    limits.queue_bytes / 4 * 3
}

/// Charged bytes of a queue at which they are let go.
const fn low(limits: &Limits) -> usize {
    limits.queue_bytes / 2
}

impl Shard {
    /// Bytes that may be read from a connection now: 0 while it is held back, and never more
    /// than a quarter of what its destination has room for before it would be.
    #[must_use]
    pub fn read_allowance(&self, name: ConnId) -> usize {
        let Some(conn) = self.slots.get(name) else { return usize::MAX };
        if conn.aim.is_held() {
            return 0;
        }
        let Some(to) = conn.aim.sole else { return usize::MAX };
        let room = if to.shard == self.setup.id {
            let Some(to) = self.slots.get(to) else { return usize::MAX };
            high(&self.setup.limits).saturating_sub(to.held_charge())
        } else {
            let Some(batch) = self.batches.get(to.shard.index()) else { return usize::MAX };
            batch.room_left().saturating_sub(RING_BYTES / 2)
        };
        (room / 4).max(MIN_READ)
    }

    /// The next connection that may be read from again.
    pub fn poll_resumed(&mut self) -> Option<ConnId> {
        self.resumed.pop()
    }

    /// When [`Shard::on_push_back_timeout`] wants to be called, if at all.
    #[must_use]
    pub fn push_back_timeout(&self) -> Option<Time> {
        let queues = self.held_until.front().map(|(until, _)| *until);
        let rings = self.batches.iter().map(|batch| &batch.held);
        let rings = rings.filter(|ring| !ring.held.is_empty()).map(|ring| ring.look);
        rings.chain(queues).min()
    }

    /// Lets go of the senders that have been held back long enough.
    pub fn on_push_back_timeout(&mut self, now: Time) {
        for place in 0..self.batches.len() {
            let Some(batch) = self.batches.get_mut(place) else { continue };
            let ring = &mut batch.held;
            if ring.held.is_empty() {
                continue;
            }
            ring.look = now + RING_LOOK;
            if ring.until <= now {
                ring.given_up = true;
                self.release_ring(place);
            }
        }
        while let Some((until, to)) = self.held_until.front().copied() {
            if until > now {
                return;
            }
            self.held_until.pop_front();
            if let Some(conn) = self.slots.get_mut(to)
                && let Some(push_back) = conn.push_back.as_mut()
                && push_back.until == until
                && !push_back.held.is_empty()
            {
                push_back.given_up = true;
                self.release(to);
            }
        }
    }

    /// Holds `sender` back, if the queue of `to` is filling up and it helps.
    pub(super) fn consider_push_back(&mut self, to: ConnId, sender: ConnId, now: Time) {
        let limits = self.setup.limits;
        let Some(conn) = self.slots.get_mut(to) else { return };
        let charged = conn.held_charge();
        let will_leave =
            conn.queue.as_ref().map_or(0, |queue| queue.will_leave(PUSH_BACK_TIME, now));
        if charged.saturating_sub(low(&limits)) > will_leave {
            return;
        }
        let push_back = conn.push_back.get_or_insert_default();
        if push_back.given_up
            || push_back.held.len() >= MAX_HELD
            || push_back.held.contains(&sender)
        {
            return;
        }
        if push_back.held.is_empty() {
            push_back.until = now + PUSH_BACK_TIME;
            self.held_until.push_back((push_back.until, to));
        }
        push_back.held.push(sender);
        if sender.shard == self.setup.id {
            self.hold(sender, to, now);
        } else {
            self.post(sender.shard, Message::PushBack { sender, to });
        }
    }

    /// Stops reading from a sender, if it has sent to nobody else.
    pub(super) fn hold(&mut self, sender: ConnId, to: ConnId, now: Time) {
        let Some(conn) = self.slots.get_mut(sender) else { return };
        if conn.aim.is_only_at(to, now) {
            conn.aim.held_for = Some(to);
            self.counters.push_backs += 1;
        }
    }

    /// Lets senders go once the queue of `to` is short enough.
    pub(super) fn reconsider_push_back(&mut self, to: ConnId) {
        let limits = self.setup.limits;
        let Some(conn) = self.slots.get_mut(to) else { return };
        if conn.push_back.is_none() {
            return;
        }
        let charged = conn.held_charge();
        if charged <= low(&limits) {
            self.release(to);
        }
        if charged == 0
            && let Some(conn) = self.slots.get_mut(to)
        {
            conn.push_back = None;
        }
    }

    /// Lets go of all senders that are held back for `to`.
    pub(super) fn release(&mut self, to: ConnId) {
        let Some(push_back) = self.slots.get_mut(to).and_then(|conn| conn.push_back.as_mut())
        else {
            return;
        };
        let held = mem::take(&mut push_back.held);
        self.release_each(held, to);
    }

    /// Lets go of the senders held back for a connection that has ended.
    pub(super) fn release_all_of(&mut self, push_back: PushBack, to: ConnId) {
        self.release_each(push_back.held, to);
    }

    fn release_each(&mut self, held: Vec<ConnId>, to: ConnId) {
        for sender in held {
            if sender.shard == self.setup.id {
                self.resume(sender, to);
            } else {
                self.post(sender.shard, Message::Resume { sender, to });
            }
        }
    }

    /// Lets a sender go, if it is held back for `to`.
    pub(super) fn resume(&mut self, sender: ConnId, to: ConnId) {
        let Some(conn) = self.slots.get_mut(sender) else { return };
        if conn.aim.held_for == Some(to) {
            conn.aim.held_for = None;
            if !conn.aim.is_held() {
                self.resumed.push(sender);
            }
        }
    }

    /// Holds `sender` back, if the ring to the shard of `to` is filling up and it sends to nobody
    /// else.
    pub(super) fn consider_ring(&mut self, to: ConnId, sender: ConnId, now: Time) {
        let Some(batch) = self.batches.get_mut(to.shard.index()) else { return };
        if batch.held.given_up || batch.room_left() >= RING_BYTES / 2 {
            return;
        }
        let Some(conn) = self.slots.get_mut(sender) else { return };
        if conn.aim.held_by_ring || !conn.aim.is_only_at(to, now) {
            return;
        }
        conn.aim.held_by_ring = true;
        self.counters.push_backs += 1;
        if batch.held.held.is_empty() {
            batch.held.until = now + PUSH_BACK_TIME;
            batch.held.look = now + RING_LOOK;
        }
        batch.held.held.push(sender);
    }

    /// Lets senders go once the ring to `to` has room.
    pub(super) fn reconsider_ring(&mut self, to: ShardId) {
        let Some(batch) = self.batches.get_mut(to.index()) else { return };
        let room = batch.room_left();
        if room == RING_BYTES {
            batch.held.given_up = false;
        }
        if room >= RING_BYTES / 2 {
            self.release_ring(to.index());
        }
    }

    fn release_ring(&mut self, place: usize) {
        let Some(batch) = self.batches.get_mut(place) else { return };
        for sender in batch.held.held.drain(..) {
            let Some(conn) = self.slots.get_mut(sender) else { continue };
            conn.aim.held_by_ring = false;
            if !conn.aim.is_held() {
                self.resumed.push(sender);
            }
        }
    }
}

impl Conn {
    /// Whether the senders are to be held back, as far as its queue has a say.
    pub(super) fn is_nearly_full(&self, limits: &Limits) -> bool {
        self.held_charge() >= high(limits)
    }
}
