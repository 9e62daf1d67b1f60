//! What all Headscales have listed, together.
//!
//! Does: keeps a roster for each, and off all of them the nodes that were deleted through a
//! bridge, also while a list from before that is on its way; remembers for a second who was
//! refused.
//! Does not: ask anybody.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use derp::key::NodePublic;
use tokio::sync::watch;

use super::limits::{DENIED_TIME, FORGOTTEN_TIME, MAX_DENIED, MAX_FORGOTTEN};
use super::roster::{Roster, Standing, Taken};
use crate::headscale::Node;

/// The lists of all Headscales.
#[derive(Debug)]
pub struct Rosters {
    inside: Mutex<Inside>,
    /// Changes whenever a look has ended.
    looked: watch::Sender<u64>,
    max_age: Duration,
}

#[derive(Debug, Default)]
struct Inside {
    seats: Vec<Seat>,
    /// When each was deleted.
    forgotten: BTreeMap<NodePublic, Duration>,
    /// When each was refused.
    denied: BTreeMap<NodePublic, Duration>,
}

/// One Headscale.
#[derive(Debug)]
struct Seat {
    roster: Roster,
    /// When the last list was asked for that came.
    listed_at: Option<Duration>,
    /// When the last look began that has ended, and whether a list came of it.
    last_look: Option<(Duration, bool)>,
}

/// What all lists say of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// One has it.
    Known,
    /// None has it, and each is believed and from after the moment that was asked about.
    Unknown,
    /// It was unknown a moment ago.
    Denied,
    /// Somebody has to look first.
    Look,
    /// Somebody has looked, and not all can say.
    Nobody,
}

/// What is known of one Headscale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) nodes: usize,
    pub(super) doubted: usize,
    pub(super) listed_at: Option<Duration>,
}

impl Rosters {
    /// Empty lists of `count` Headscales.
    #[must_use]
    pub fn new(count: usize, refuse_expired: bool, max_age: Duration) -> Self {
        let seat =
            || Seat { roster: Roster::new(refuse_expired), listed_at: None, last_look: None };
        let seats = (0..count).map(|_| seat()).collect();
        Self {
            inside: Mutex::new(Inside { seats, ..Inside::default() }),
            looked: watch::Sender::new(0),
            max_age,
        }
    }

    /// Takes a node off all lists, until one that is asked for after `now` has it.
    pub fn forget(&self, key: &NodePublic, now: Duration) {
        let mut inside = self.inside();
        for seat in &mut inside.seats {
            seat.roster.forget(key);
        }
        if inside.forgotten.len() >= MAX_FORGOTTEN {
            inside.forgotten.retain(|_, at| now.saturating_sub(*at) < FORGOTTEN_TIME);
        }
        // Beyond that a list from before may have one of them for some seconds more.
        if inside.forgotten.len() < MAX_FORGOTTEN {
            inside.forgotten.insert(*key, now);
        }
    }

    /// Whether each Headscale has given a list that is believed, so that a node that none has is
    /// unknown.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.inside().seats.iter().all(|seat| seat.roster.is_complete())
    }

    /// Tells when a look has ended.
    #[must_use]
    pub fn looked(&self) -> watch::Receiver<u64> {
        self.looked.subscribe()
    }

    /// What the lists say of a node whose relay asked at moment `asked`.
    pub(super) fn word(
        &self,
        key: &NodePublic,
        asked: Duration,
        now: Duration,
        date: SystemTime,
    ) -> Word {
        let inside = self.inside();
        let is_recent =
            |seat: &Seat| seat.listed_at.is_some_and(|at| now.saturating_sub(at) <= self.max_age);
        let (mut waits, mut nobody) = (false, inside.seats.is_empty());
        for seat in &inside.seats {
            match seat.roster.standing(key, date) {
                Standing::Listed if is_recent(seat) => return Word::Known,
                Standing::Listed | Standing::Doubted => nobody = true,
                Standing::Unlisted => {}
            }
            match seat.last_look {
                Some((began, came)) if began >= asked => {
                    nobody |= !came || !seat.roster.is_complete();
                }
                Some(_) | None => waits = true,
            }
        }
        let was_denied =
            inside.denied.get(key).is_some_and(|at| asked.saturating_sub(*at) < DENIED_TIME);
        match (was_denied, waits, nobody) {
            (true, _, _) => Word::Denied,
            (false, true, _) => Word::Look,
            (false, false, true) => Word::Nobody,
            (false, false, false) => Word::Unknown,
        }
    }

    /// Remembers that a node was refused.
    pub(super) fn deny(&self, key: &NodePublic, now: Duration) {
        let mut inside = self.inside();
        if inside.denied.len() >= MAX_DENIED {
            inside.denied.retain(|_, at| now.saturating_sub(*at) < DENIED_TIME);
        }
        // A stranger with ten thousand keys makes us forget that we refused them, and no more.
        if inside.denied.len() >= MAX_DENIED {
            inside.denied.clear();
        }
        inside.denied.insert(*key, now);
    }

    /// Takes what came of a look at Headscale `place` that began at `began`: which nodes none
    /// knows any more, and how much of that is doubted.
    pub(super) fn take(
        &self,
        place: usize,
        nodes: Option<&[Node]>,
        began: Duration,
        date: SystemTime,
    ) -> Taken {
        let mut taken = Taken::default();
        {
            let mut inside = self.inside();
            let Inside { seats, forgotten, denied } = &mut *inside;
            let Some(seat) = seats.get_mut(place) else { return taken };
            seat.last_look = Some((began, nodes.is_some()));
            if let Some(nodes) = nodes {
                let mut listed: BTreeMap<_, _> =
                    nodes.iter().filter_map(|node| Some((node.node_key?, node.expiry))).collect();
                listed.retain(|key, _| forgotten.get(key).is_none_or(|at| *at < began));
                for key in listed.keys() {
                    denied.remove(key);
                }
                seat.listed_at = Some(began);
                taken = seat.roster.take(listed, began, date);
            }
            taken.gone.retain(|key| {
                seats.iter().all(|seat| seat.roster.standing(key, date) == Standing::Unlisted)
            });
        }
        self.looked.send_modify(|count| *count = count.wrapping_add(1));
        taken
    }

    /// What is known of each Headscale.
    pub(super) fn states(&self) -> Vec<State> {
        let state = |seat: &Seat| State {
            nodes: seat.roster.len(),
            doubted: seat.roster.doubted(),
            listed_at: seat.listed_at,
        };
        self.inside().seats.iter().map(state).collect()
    }

    /// What is in the mutex. Nothing here is left half changed by a panic.
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::limits::DOUBT_TIME;
    use super::*;
    use crate::headscale::NodeId;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_node_is_unknown_only_after_a_look_at_all() {
        let rosters = Rosters::new(2, false, HOUR);
        assert_eq!(word(&rosters, 1, SECOND * 5), Word::Look);
        rosters.take(0, Some(&[node(1)]), SECOND * 4, UNIX_EPOCH);
        assert_eq!(word(&rosters, 1, SECOND * 5), Word::Known, "one is enough for a yes");
        assert_eq!(word(&rosters, 2, SECOND * 5), Word::Look, "the look began before");
        rosters.take(0, Some(&[node(1)]), SECOND * 5, UNIX_EPOCH);
        assert_eq!(word(&rosters, 2, SECOND * 5), Word::Look);
        rosters.take(1, None, SECOND * 6, UNIX_EPOCH);
        assert_eq!(word(&rosters, 2, SECOND * 5), Word::Nobody);
        assert!(!rosters.is_complete());
        rosters.take(1, Some(&[node(3)]), SECOND * 6, UNIX_EPOCH);
        assert_eq!(word(&rosters, 2, SECOND * 5), Word::Unknown);
        assert!(rosters.is_complete());
        rosters.deny(&key(2), SECOND * 6);
        assert_eq!(word(&rosters, 2, SECOND * 6), Word::Denied);
        assert_eq!(word(&rosters, 2, SECOND * 8), Word::Look);
        // It registers, and some look finds it.
        rosters.take(0, Some(&[node(1), node(2)]), SECOND * 6, UNIX_EPOCH);
        assert_eq!(word(&rosters, 2, SECOND * 6), Word::Known);
        assert_eq!(word(&rosters, 2, HOUR * 2), Word::Look, "the lists are too old");
    }

    /// A bridge that starts before a Headscale whose database is away has no relay cut anybody off.
    #[test]
    fn a_first_list_without_nodes_makes_nobody_unknown_for_a_minute() {
        let rosters = Rosters::new(1, false, HOUR);
        rosters.take(0, Some(&[]), SECOND * 5, UNIX_EPOCH);
        assert_eq!(word(&rosters, 1, SECOND * 5), Word::Nobody);
        assert!(!rosters.is_complete());
        rosters.take(0, Some(&[node(1)]), SECOND * 6, UNIX_EPOCH);
        assert_eq!(word(&rosters, 2, SECOND * 6), Word::Unknown);
        assert!(rosters.is_complete());
    }

    #[test]
    fn a_tailnet_without_nodes_is_believed_after_a_minute() {
        let rosters = Rosters::new(1, false, HOUR);
        rosters.take(0, Some(&[]), SECOND * 5, UNIX_EPOCH);
        let end = SECOND * 5 + DOUBT_TIME;
        rosters.take(0, Some(&[]), end, UNIX_EPOCH);
        assert_eq!(word(&rosters, 1, end), Word::Unknown);
        assert!(rosters.is_complete());
    }

    /// A list that was asked for before a node was deleted does not bring it back.
    #[test]
    fn who_is_forgotten_stays_so_until_a_later_list() {
        let rosters = Rosters::new(1, false, HOUR);
        rosters.take(0, Some(&[node(1)]), SECOND, UNIX_EPOCH);
        rosters.forget(&key(1), SECOND * 3);
        assert_eq!(word(&rosters, 1, SECOND * 3), Word::Look);
        let taken = rosters.take(0, Some(&[node(1)]), SECOND * 2, UNIX_EPOCH);
        assert_eq!(taken, Taken::default());
        assert_ne!(word(&rosters, 1, SECOND * 3), Word::Known);
        rosters.take(0, Some(&[node(1)]), SECOND * 4, UNIX_EPOCH);
        assert_eq!(word(&rosters, 1, SECOND * 3), Word::Known);
    }

    #[test]
    fn a_node_that_another_headscale_has_is_not_gone() {
        let rosters = Rosters::new(2, false, HOUR);
        rosters.take(0, Some(&[node(1), node(2)]), SECOND, UNIX_EPOCH);
        rosters.take(1, Some(&[node(1)]), SECOND, UNIX_EPOCH);
        rosters.take(0, Some(&[node(2)]), SECOND, UNIX_EPOCH);
        assert_eq!(word(&rosters, 1, Duration::ZERO), Word::Known);
        assert_eq!(rosters.take(1, Some(&[]), SECOND, UNIX_EPOCH).gone, [key(1)]);
    }

    #[test]
    fn what_strangers_make_us_remember_is_bounded() {
        let rosters = Rosters::new(1, false, HOUR);
        for number in 0..=MAX_DENIED {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            let key = NodePublic::from_bytes(bytes);
            rosters.deny(&key, SECOND);
            rosters.forget(&key, SECOND);
        }
        let inside = rosters.inside();
        assert!(inside.denied.len() <= MAX_DENIED && inside.forgotten.len() <= MAX_FORGOTTEN);
    }

    fn word(rosters: &Rosters, number: u8, asked: Duration) -> Word {
        rosters.word(&key(number), asked, asked, UNIX_EPOCH)
    }

    fn node(number: u8) -> Node {
        Node {
            id: NodeId(number.to_string()),
            name: String::new(),
            given_name: String::new(),
            machine_key: String::new(),
            node_key: Some(key(number)),
            addresses: Vec::new(),
            user: None,
            key: None,
            online: true,
            last_seen: None,
            expiry: None,
            tags: Vec::new(),
        }
    }

    fn key(number: u8) -> NodePublic {
        NodePublic::from_bytes([number; 32])
    }
}
