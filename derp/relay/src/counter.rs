//! Numbers that only grow, alone or one for each value of a label.
//!
//! Does: counts, one relaxed atomic per number, for what happens once per connection.
//! Does not: name metrics; the words here are the values of their labels. What happens once per
//! packet is counted in `derp::counters`, without atomics.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// What it stands at.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A label of a family of counters: all its values, and the word for each.
pub trait Label: Copy + Eq + fmt::Debug + 'static {
    /// Every value, once.
    const ALL: &'static [Self];

    /// The word for it in a metric label, in lower case.
    fn word(self) -> &'static str;
}

/// One counter for each value of a label.
pub struct CounterBy<L> {
    counts: Box<[Counter]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> CounterBy<L> {
    /// What the counter of `label` stands at.
    #[must_use]
    pub fn get(&self, label: L) -> u64 {
        self.of(label).map_or(0, Counter::get)
    }

    /// Every label with what its counter stands at.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> + '_ {
        L::ALL.iter().copied().zip(self.counts.iter().map(Counter::get))
    }

    /// The sum over all labels.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(Counter::get).sum()
    }

    /// Adds one to the counter of `label`.
    pub fn add_one(&self, label: L) {
        if let Some(counter) = self.of(label) {
            counter.add_one();
        }
    }

    fn of(&self, label: L) -> Option<&Counter> {
        self.counts.get(L::ALL.iter().position(|&known| known == label)?)
    }
}

impl<L: Label> Default for CounterBy<L> {
    fn default() -> Self {
        Self { counts: L::ALL.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> fmt::Debug for CounterBy<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(label, count)| (label.word(), count))).finish()
    }
}

/// Defines a [`Label`]: the words stand beside the variants, and none can be forgotten.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $crate::counter::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}
pub(crate) use label;
