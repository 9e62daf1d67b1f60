//! What one Headscale has listed, without a clock, a socket or a thread.
//!
//! Does: tells the nodes that a new list lacks; what it lacks and is not believed to be gone is
//! neither known nor unknown, see `doubt`.
//! Does not: decide what is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use derp::key::NodePublic;

use super::doubt::Doubt;

/// Where a node stands with one Headscale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is listed and may enter.
    Listed,
    /// It was listed, and the list that lacks it is doubted.
    Doubted,
    /// It is not listed, or its key has expired where that counts.
    Unlisted,
}

/// What a new list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Nodes that may no longer enter.
    pub(super) gone: Vec<NodePublic>,
    /// Of how many nodes the loss is doubted; none if the list is believed.
    pub(super) doubted: Option<usize>,
    /// Whether that has just begun.
    pub(super) begins_to_doubt: bool,
}

/// The nodes of one Headscale.
#[derive(Debug)]
pub(super) struct Roster {
    refuse_expired: bool,
    /// Nodes that may enter, with the end of their own key.
    nodes: BTreeMap<NodePublic, Option<SystemTime>>,
    /// Nodes of those that the last list lacks, and that are not believed to be gone.
    doubt: Doubt<NodePublic>,
}

impl Roster {
    pub(super) const fn new(refuse_expired: bool) -> Self {
        Self { refuse_expired, nodes: BTreeMap::new(), doubt: Doubt::new() }
    }

    /// Where a node stands on this date.
    pub(super) fn standing(&self, key: &NodePublic, date: SystemTime) -> Standing {
        match self.nodes.get(key) {
            Some(expiry) if self.is_over(*expiry, date) => Standing::Unlisted,
            Some(_) => Standing::Listed,
            None if self.doubt.holds(key) => Standing::Doubted,
            None => Standing::Unlisted,
        }
    }

    /// How many nodes may enter.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How many are neither known nor unknown.
    pub(super) fn doubted(&self) -> usize {
        self.doubt.len()
    }

    /// Whether a list was believed, so that a node that is not there is unknown.
    pub(super) const fn is_complete(&self) -> bool {
        self.doubt.has_believed()
    }

    /// Takes a node off, until a list has it.
    pub(super) fn forget(&mut self, key: &NodePublic) {
        self.nodes.remove(key);
        self.doubt.forget(key);
    }

    /// Takes a whole list, at moment `now`.
    pub(super) fn take(
        &mut self,
        listed: BTreeMap<NodePublic, Option<SystemTime>>,
        now: Duration,
        date: SystemTime,
    ) -> Taken {
        let was_there = |key: &NodePublic| self.nodes.contains_key(key) || self.doubt.holds(key);
        let is_out = |(key, expiry): &(&NodePublic, &Option<SystemTime>)| {
            was_there(key) && self.is_over(**expiry, date)
        };
        let mut gone: Vec<NodePublic> = listed.iter().filter(is_out).map(|(key, _)| *key).collect();
        let keys: BTreeSet<NodePublic> = listed.keys().copied().collect();
        let before = std::mem::replace(&mut self.nodes, listed).into_keys().collect();
        let refuse_expired = self.refuse_expired;
        self.nodes.retain(|_, expiry| !is_over(refuse_expired, *expiry, date));
        let weighed = self.doubt.weigh(before, &keys, now);
        gone.extend(weighed.gone);
        Taken { gone, doubted: weighed.doubted, begins_to_doubt: weighed.begins }
    }

    fn is_over(&self, expiry: Option<SystemTime>, date: SystemTime) -> bool {
        is_over(self.refuse_expired, expiry, date)
    }
}

fn is_over(refuse_expired: bool, expiry: Option<SystemTime>, date: SystemTime) -> bool {
    refuse_expired && expiry.is_some_and(|expiry| expiry <= date)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::limits::DOUBT_TIME;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_node_that_a_list_lacks_is_gone() {
        let mut roster = Roster::new(false);
        assert_eq!(roster.take(list(0..5), SECOND, UNIX_EPOCH), Taken::default());
        let taken = roster.take(list(2..9), SECOND * 2, UNIX_EPOCH);
        assert_eq!(taken.gone, [key(0), key(1)]);
        assert_eq!(
            standings(&roster, [1, 2, 8]),
            [Standing::Unlisted, Standing::Listed, Standing::Listed]
        );
    }

    /// Somebody deletes the only node: that is no accident to be doubted.
    #[test]
    fn the_only_node_is_gone_at_once() {
        let mut roster = Roster::new(false);
        roster.take(list(0..1), SECOND, UNIX_EPOCH);
        assert_eq!(roster.take(list(0..0), SECOND, UNIX_EPOCH).gone, [key(0)]);
    }

    /// A Headscale whose database is empty for a moment cuts nobody off, and admits nobody by a
    /// list that may be wrong either.
    #[test]
    fn a_sudden_loss_is_doubted_for_a_minute() {
        let mut roster = Roster::new(false);
        roster.take(list(0..10), SECOND, UNIX_EPOCH);
        let taken = roster.take(list(0..0), SECOND * 2, UNIX_EPOCH);
        assert_eq!(taken, Taken { gone: Vec::new(), doubted: Some(10), begins_to_doubt: true });
        assert_eq!(standings(&roster, [0, 10]), [Standing::Doubted, Standing::Unlisted]);
        let taken = roster.take(list(0..0), SECOND + DOUBT_TIME, UNIX_EPOCH);
        assert_eq!(taken, Taken { gone: Vec::new(), doubted: Some(10), begins_to_doubt: false });

        // Some come back: who is still missing is fewer than half, and gone.
        let taken = roster.take(list(3..10), SECOND * 3, UNIX_EPOCH);
        assert_eq!((taken.gone.len(), taken.doubted), (3, None));
        assert_eq!(standings(&roster, [0, 3]), [Standing::Unlisted, Standing::Listed]);

        // All stay away.
        roster.take(list(0..0), SECOND * 4, UNIX_EPOCH);
        let taken = roster.take(list(0..0), SECOND * 4 + DOUBT_TIME, UNIX_EPOCH);
        assert_eq!((taken.gone.len(), roster.doubted()), (7, 0));
    }

    /// New nodes do not make up for lost ones.
    #[test]
    fn another_tailnet_in_its_place_is_doubted() {
        let mut roster = Roster::new(false);
        roster.take(list(0..4), SECOND, UNIX_EPOCH);
        assert_eq!(roster.take(list(10..90), SECOND, UNIX_EPOCH).doubted, Some(4));
    }

    #[test]
    fn who_is_deleted_through_the_bridge_is_gone_whatever_is_doubted() {
        let mut roster = Roster::new(false);
        roster.take(list(0..4), SECOND, UNIX_EPOCH);
        roster.forget(&key(0));
        assert_eq!(standings(&roster, [0]), [Standing::Unlisted]);
        roster.take(list(0..0), SECOND, UNIX_EPOCH);
        roster.forget(&key(1));
        assert_eq!(standings(&roster, [1, 2]), [Standing::Unlisted, Standing::Doubted]);
    }

    /// O5.3: expired nodes enter, as with Headscale, unless the operator wants otherwise.
    #[test]
    fn expiry_counts_where_it_is_to() {
        for refuse_expired in [false, true] {
            let mut roster = Roster::new(refuse_expired);
            let expiring = |expiry| BTreeMap::from([(key(0), expiry), (key(1), None)]);
            let (soon, later) = (UNIX_EPOCH + SECOND, UNIX_EPOCH + SECOND * 2);
            roster.take(expiring(Some(soon)), SECOND, UNIX_EPOCH);
            assert_eq!(roster.standing(&key(0), UNIX_EPOCH), Standing::Listed);
            // Between two lists.
            let wanted = if refuse_expired { Standing::Unlisted } else { Standing::Listed };
            assert_eq!(roster.standing(&key(0), later), wanted);
            let gone = roster.take(expiring(Some(soon)), SECOND * 2, later).gone;
            assert_eq!(gone.len(), usize::from(refuse_expired));
            // It logged in again.
            assert!(roster.take(expiring(None), SECOND * 3, later).gone.is_empty());
            assert_eq!(roster.standing(&key(0), later), Standing::Listed);
        }
    }

    fn standings<const N: usize>(roster: &Roster, numbers: [u8; N]) -> [Standing; N] {
        numbers.map(|number| roster.standing(&key(number), UNIX_EPOCH))
    }

    fn list(numbers: std::ops::Range<u8>) -> BTreeMap<NodePublic, Option<SystemTime>> {
        numbers.map(|number| (key(number), None)).collect()
    }

    fn key(number: u8) -> NodePublic {
        NodePublic::from_bytes([number; 32])
    }
}
