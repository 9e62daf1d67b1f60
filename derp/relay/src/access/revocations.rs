//! Which keys were revoked lately, and in which order.
//!
//! Does: tells whether a key was revoked after something began, so that an answer that was asked
//! for before a node was removed admits nobody after it.
//! Does not: keep anybody out; who is revoked and comes again is asked about again.

use std::collections::VecDeque;

use derp::key::NodePublic;

/// Most revocations that are told apart, 32 bytes each. Ours: at the pace of re-checks those of 20
/// seconds, longer than a login takes; beyond that a login too many is cut off, and none too few.
pub(super) const MAX_RECENT: usize = 4_096;

/// When something began, in revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

#[derive(Debug, Default)]
pub(super) struct Revocations {
    /// How many there ever were: the last one has this number.
    count: u64,
    /// The last ones, newest at the back.
    recent: VecDeque<NodePublic>,
}

impl Revocations {
    /// A ticket for what begins now.
    pub(super) const fn ticket(&self) -> Ticket {
        Ticket(self.count)
    }

    pub(super) fn add(&mut self, key: &NodePublic) {
        self.count += 1;
        self.recent.push_back(*key);
        if self.recent.len() > MAX_RECENT {
            self.recent.pop_front();
        }
    }

    /// Whether `key` was revoked since the ticket was taken, as far as is known: if in doubt, yes.
    pub(super) fn since(&self, ticket: Ticket, key: &NodePublic) -> bool {
        let later = usize::try_from(self.count - ticket.0).unwrap_or(usize::MAX);
        later > self.recent.len() || self.recent.iter().rev().take(later).any(|known| known == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DERP-8.8: only what came after, only that key, and everybody where nobody can tell.
    #[test]
    fn a_ticket_tells_what_came_after_it() {
        let mut revocations = Revocations::default();
        revocations.add(&key(1));
        let ticket = revocations.ticket();
        assert!(!revocations.since(ticket, &key(1)));

        revocations.add(&key(2));
        assert!(revocations.since(ticket, &key(2)));
        assert!(!revocations.since(ticket, &key(1)));
        assert!(!revocations.since(revocations.ticket(), &key(2)));

        for _ in 1..MAX_RECENT {
            revocations.add(&key(3));
        }
        assert!(revocations.since(ticket, &key(2)) && !revocations.since(ticket, &key(1)));
        revocations.add(&key(3));
        assert!(revocations.since(ticket, &key(1)), "nobody can tell");
        assert_eq!(revocations.recent.len(), MAX_RECENT);
    }

    fn key(number: u8) -> NodePublic {
        NodePublic::from_bytes([number; 32])
    }
}
