//! Whether a list is believed that lacks many of those that were there.
//!
//! Does: doubts a list that lacks most at once, and a first one that is empty, until later lists
//! have said the same for a minute; keeps those that are in doubt, and says which are gone.
//! Does not: doubt that one is gone, or a list in which new ones appear; know what is listed, or
//! read a clock.
//!
//! ```text
//! list lacks    at most half, or one      more than half, two at least
//!               gone at once              doubted: not gone; after DOUBT_TIME: gone
//! list is empty, and none was believed yet
//!               doubted, whatever it lacks; after DOUBT_TIME: believed
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use super::limits::{DOUBT_TIME, DOUBTED_LOSS};

/// What is doubted of the lists of one Headscale.
#[derive(Debug)]
pub(crate) struct Doubt<K> {
    held: Option<Held<K>>,
    has_believed: bool,
}

#[derive(Debug)]
struct Held<K> {
    /// When the first list came that is doubted.
    since: Duration,
    missing: BTreeSet<K>,
}

/// What became of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weighed<K> {
    /// Who was there, and is not any more.
    pub(crate) gone: BTreeSet<K>,
    /// How many it lacks, if it is doubted; none of them is gone.
    pub(crate) doubted: Option<usize>,
    /// Whether the doubt has just begun.
    pub(crate) begins: bool,
}

impl<K: Ord> Doubt<K> {
    /// No list has come yet.
    pub(crate) const fn new() -> Self {
        Self { held: None, has_believed: false }
    }

    /// Whether a list was ever believed. Before that nobody can be said to be missing.
    pub(crate) const fn has_believed(&self) -> bool {
        self.has_believed
    }

    /// Whether this one is neither there nor gone.
    pub(crate) fn holds(&self, key: &K) -> bool {
        self.held.as_ref().is_some_and(|held| held.missing.contains(key))
    }

    /// How many are neither there nor gone.
    pub(crate) fn len(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.missing.len())
    }

    /// This one is gone, whatever lists say.
    pub(crate) fn forget(&mut self, key: &K) {
        if let Some(held) = &mut self.held {
            held.missing.remove(key);
        }
    }

    /// Weighs the list `listed` that was asked for at moment `now`. Those who were there are
    /// `before` and those that are in doubt.
    pub(crate) fn weigh(
        &mut self,
        mut before: BTreeSet<K>,
        listed: &BTreeSet<K>,
        now: Duration,
    ) -> Weighed<K>
    where
        K: Clone,
    {
        let held = self.held.take();
        let known = held.as_ref().map(|held| held.missing.clone()).unwrap_or_default();
        before.extend(known.iter().cloned());
        let count = before.len();
        let missing: BTreeSet<K> = before.difference(listed).cloned().collect();
        // A doubt that grows begins anew: what it gained was there a moment ago.
        let since = held.map(|held| held.since).filter(|_| missing.is_subset(&known));
        let is_sudden = missing.len() >= DOUBTED_LOSS && missing.len() > count / 2;
        let is_doubtful = is_sudden || !self.has_believed && listed.is_empty();
        let lasts = since.is_some_and(|since| now.saturating_sub(since) >= DOUBT_TIME);
        if is_doubtful && !lasts {
            let doubted = Some(missing.len());
            self.held = Some(Held { since: since.unwrap_or(now), missing });
            return Weighed { gone: BTreeSet::new(), doubted, begins: since.is_none() };
        }
        self.has_believed = true;
        Weighed { gone: missing, doubted: None, begins: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A new Headscale has no nodes, and so has one whose database is another one.
    #[test]
    fn an_empty_list_is_not_believed_at_first() {
        let mut doubt = Doubt::new();
        let first = doubt.weigh(set(0..0), &set(0..0), SECOND);
        assert_eq!(first, Weighed { gone: set(0..0), doubted: Some(0), begins: true });
        let again = doubt.weigh(set(0..0), &set(0..0), DOUBT_TIME);
        assert_eq!(again, Weighed { gone: set(0..0), doubted: Some(0), begins: false });
        assert!(!doubt.has_believed());
        let lasts = doubt.weigh(set(0..0), &set(0..0), SECOND + DOUBT_TIME);
        assert_eq!((lasts.doubted, doubt.has_believed()), (None, true));
        // The only one is gone at once, now that it is known what there is.
        assert_eq!(doubt.weigh(set(0..1), &set(0..0), SECOND * 99).gone, set(0..1));
    }

    /// Somebody knows from before who was there.
    #[test]
    fn a_first_list_that_is_empty_lets_nobody_go() {
        let mut doubt = Doubt::new();
        assert_eq!(doubt.weigh(set(0..1), &set(0..0), SECOND).doubted, Some(1));
        assert!(doubt.holds(&0));
        let back = doubt.weigh(set(0..0), &set(0..1), SECOND * 2);
        assert_eq!((back.gone, doubt.len(), doubt.has_believed()), (set(0..0), 0, true));
    }

    #[test]
    fn a_first_list_with_nodes_is_believed() {
        let mut doubt = Doubt::new();
        assert_eq!(doubt.weigh(set(0..0), &set(0..1), SECOND).doubted, None);
        assert!(doubt.has_believed());
    }

    #[test]
    fn a_doubt_that_grows_begins_anew() {
        let mut doubt = Doubt::new();
        doubt.weigh(set(0..0), &set(0..10), SECOND);
        assert!(doubt.weigh(set(0..10), &set(6..10), SECOND).begins);
        let grown = doubt.weigh(set(6..10), &set(8..10), SECOND + DOUBT_TIME);
        assert_eq!((grown.doubted, grown.begins), (Some(8), true));
        let end = SECOND + DOUBT_TIME * 2;
        assert_eq!(doubt.weigh(set(8..10), &set(8..10), end).gone, set(0..8));
    }

    fn set(numbers: std::ops::Range<u8>) -> BTreeSet<u8> {
        numbers.collect()
    }
}
