//! Counters: what became of every datagram.
//!
//! Does: count in plain integers in the thread that works, and show them to others. Each thread
//! writes only its own tally and only stores, so no two cores ever fight for a cache line; a
//! reader adds the threads up and may be one batch behind.
//!
//! ```text
//! datagrams read = success + not_stun + write_error + paused
//! ipv4 + ipv6    = success + write_error
//! ```

use std::iter::Sum;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};

/// What became of the datagrams that were read, since the start.
///
/// The first four are the dispositions of `stun_requests` under the reference server's names,
/// the last two those of `stun_addrfamily`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Answered; under the generic rule this includes refusals.
    pub success: u64,
    /// Not answered: garbage, or a request that the rule ignores.
    pub not_stun: u64,
    /// Failed reads; these are calls, not datagrams.
    pub read_error: u64,
    /// Answers that the kernel did not take.
    pub write_error: u64,
    /// Thrown away unread while the server was paused.
    pub paused: u64,
    /// Requests from IPv4 that called for an answer.
    pub ipv4: u64,
    /// Requests from IPv6 that called for an answer.
    pub ipv6: u64,
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            success: self.success + other.success,
            not_stun: self.not_stun + other.not_stun,
            read_error: self.read_error + other.read_error,
            write_error: self.write_error + other.write_error,
            paused: self.paused + other.paused,
            ipv4: self.ipv4 + other.ipv4,
            ipv6: self.ipv6 + other.ipv6,
        }
    }
}

impl Sum for Counters {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::add)
    }
}

/// One thread's counters as others see them. On cache lines of its own, with the neighbour that
/// processors fetch along.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Tally {
    success: AtomicU64,
    not_stun: AtomicU64,
    read_error: AtomicU64,
    write_error: AtomicU64,
    paused: AtomicU64,
    ipv4: AtomicU64,
    ipv6: AtomicU64,
}

impl Tally {
    /// Shows `counters` to the readers. Only one thread may ever call this on one tally.
    pub(crate) fn publish(&self, counters: &Counters) {
        self.success.store(counters.success, Ordering::Relaxed);
        self.not_stun.store(counters.not_stun, Ordering::Relaxed);
        self.read_error.store(counters.read_error, Ordering::Relaxed);
        self.write_error.store(counters.write_error, Ordering::Relaxed);
        self.paused.store(counters.paused, Ordering::Relaxed);
        self.ipv4.store(counters.ipv4, Ordering::Relaxed);
        self.ipv6.store(counters.ipv6, Ordering::Relaxed);
    }

    /// What was last published. The fields may be of two neighbouring batches.
    pub(crate) fn read(&self) -> Counters {
        Counters {
            success: self.success.load(Ordering::Relaxed),
            not_stun: self.not_stun.load(Ordering::Relaxed),
            read_error: self.read_error.load(Ordering::Relaxed),
            write_error: self.write_error.load(Ordering::Relaxed),
            paused: self.paused.load(Ordering::Relaxed),
            ipv4: self.ipv4.load(Ordering::Relaxed),
            ipv6: self.ipv6.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STUN-5.7: no counter is lost between the thread that counts, the tally and the sum.
    #[test]
    fn every_counter_is_published_and_summed() {
        let counters = Counters {
            success: 1,
            not_stun: 2,
            read_error: 3,
            write_error: 4,
            paused: 5,
            ipv4: 6,
            ipv6: 7,
        };
        let tally = Tally::default();

        tally.publish(&counters);

        assert_eq!(tally.read(), counters);
        let sum = [counters, counters].into_iter().sum::<Counters>();
        assert_eq!(
            sum,
            Counters {
                success: 2,
                not_stun: 4,
                read_error: 6,
                write_error: 8,
                paused: 10,
                ipv4: 12,
                ipv6: 14,
            }
        );
    }
}
