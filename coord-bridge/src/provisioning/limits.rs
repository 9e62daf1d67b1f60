//! How often machines may register: GCRA, by address, by token, and over all.
//!
//! A bucket is one moment: when it would be empty again. It takes a request unless that moment is
//! more than the burst ahead, and then moves it one interval on. So a burst passes at once, and
//! what comes after is let in one by one.
//!
//! Does: says how long to wait. Does not: read a clock, or keep anything over a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Most buckets of a kind; beyond that the emptiest goes. About 100 bytes each.
pub const MAX_BUCKETS: usize = 4_096;

/// A token may be used this many times as often as one address: a batch of machines is behind a
/// few addresses, a stolen token behind many.
pub const TOKEN_FACTOR: u32 = 4;

/// All together may register this many times as often as one address: what Headscale can bear.
pub const GLOBAL_FACTOR: u32 = 16;

/// Requests that pass at once, and how fast room comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests that pass at once, at least one.
    pub burst: u32,
    /// Time in which as many as that come back.
    pub window: Duration,
}

/// The limits on registrations.
#[derive(Debug)]
pub struct Limits {
    by_address: Buckets<IpAddr>,
    by_token: Buckets<String>,
    over_all: Buckets<()>,
}

/// Buckets of one kind, at most [`MAX_BUCKETS`].
#[derive(Debug)]
pub struct Buckets<K> {
    interval: Duration,
    tolerance: Duration,
    empty_at: BTreeMap<K, Duration>,
    by_moment: BTreeSet<(Duration, K)>,
}

impl Limits {
    /// Limits where one address has `rate`.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self {
            by_address: Buckets::new(rate),
            by_token: Buckets::new(rate.times(TOKEN_FACTOR)),
            over_all: Buckets::new(rate.times(GLOBAL_FACTOR)),
        }
    }

    /// Takes a request at `now`, or says how long to wait; then nothing is used up.
    ///
    /// # Errors
    ///
    /// The time until all of them have room.
    pub fn admit(&mut self, address: IpAddr, token: &str, now: Duration) -> Result<(), Duration> {
        let (address, token) = (network(address), token.to_owned());
        let wait = [
            self.by_address.wait(&address, now),
            self.by_token.wait(&token, now),
            self.over_all.wait(&(), now),
        ];
        let wait = wait.into_iter().max().unwrap_or_default();
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.by_address.take(address, now);
        self.by_token.take(token, now);
        self.over_all.take((), now);
        Ok(())
    }
}

impl<K: Ord + Clone> Buckets<K> {
    /// Buckets with `rate` each.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let burst = rate.burst.max(1);
        let interval = rate.window / burst;
        Self {
            interval,
            tolerance: interval * (burst - 1),
            empty_at: BTreeMap::new(),
            by_moment: BTreeSet::new(),
        }
    }

    /// Time until the bucket of `key` takes a request; zero if it does now.
    #[must_use]
    pub fn wait(&self, key: &K, now: Duration) -> Duration {
        let empty_at = self.empty_at.get(key).copied().unwrap_or_default();
        empty_at.saturating_sub(self.tolerance).saturating_sub(now)
    }

    /// Takes a request.
    pub fn take(&mut self, key: K, now: Duration) {
        let before = self.empty_at.get(&key).copied();
        if let Some(moment) = before {
            self.by_moment.remove(&(moment, key.clone()));
        } else if self.empty_at.len() >= MAX_BUCKETS
            && let Some((_, emptiest)) = self.by_moment.pop_first()
        {
            self.empty_at.remove(&emptiest);
        }
        let moment = before.unwrap_or_default().max(now) + self.interval;
        self.by_moment.insert((moment, key.clone()));
        self.empty_at.insert(key, moment);
    }

    /// Buckets that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.empty_at.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.empty_at.is_empty()
    }
}

impl Rate {
    const fn times(self, factor: u32) -> Self {
        Self { burst: self.burst.saturating_mul(factor), window: self.window }
    }
}

/// What shares a bucket with an address: of IPv6 a /64, which one host has to itself.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}
