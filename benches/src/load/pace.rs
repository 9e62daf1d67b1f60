//! When each packet of a flow is due, whatever became of the ones before it.
//!
//! Does: computes the due time of every packet from its number alone, so that a sender that was
//! held up still knows when it should have sent, and latency is counted from then. That is what
//! "no coordinated omission" means: a server that stalls is charged for the packets that were
//! due meanwhile.
//! Does not: wait, or read a clock.

use super::quantity::Rate;

/// Picoseconds in a nanosecond.
const PICOS: u128 = 1_000;

/// When packets are due, in nanoseconds since the start of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Packet `n` is due at `start` + `n` · `period`; in bursts, when the first of its burst is.
    Open {
        /// When packet 0 is due, in nanoseconds.
        start: u64,
        /// Between two packets on average, in picoseconds: at a million packets a second a
        /// nanosecond would be a part in a thousand.
        period: u64,
        /// Packets that are due together.
        burst: u64,
    },
    /// Every packet is due as soon as there is room for it.
    Unlimited {
        /// When packet 0 is due, in nanoseconds.
        start: u64,
    },
}

impl Pace {
    /// Packets of `size` bytes that make up `rate` together, the first at `start`.
    #[must_use]
    pub fn of_rate(rate: Rate, size: usize, start: u64) -> Self {
        match rate {
            Rate::BitsPerSecond(bits) => {
                let period = size as u128 * 8 * 1_000_000_000_000 / u128::from(bits.max(1));
                let period = u64::try_from(period).unwrap_or(u64::MAX).max(1);
                Self::Open { start, period, burst: 1 }
            }
            Rate::Unlimited => Self::Unlimited { start },
        }
    }

    /// A packet every `nanos` nanoseconds, the first at `start`.
    #[must_use]
    pub fn of_interval(nanos: u64, start: u64) -> Self {
        Self::Open { start, period: nanos.saturating_mul(1_000).max(1), burst: 1 }
    }

    /// The same packets, `burst` of them due together.
    #[must_use]
    pub fn in_bursts(self, burst: u64) -> Self {
        match self {
            Self::Open { start, period, .. } => Self::Open { start, period, burst: burst.max(1) },
            Self::Unlimited { .. } => self,
        }
    }

    /// The same pace, begun later by the part `index` / `of` of the time between two bursts.
    ///
    /// Flows that start together would send together; real clients do not.
    #[must_use]
    pub fn staggered(self, index: usize, of: usize) -> Self {
        match self {
            Self::Open { start, period, burst } => {
                let between = u128::from(period) * u128::from(burst);
                let shift = between * index as u128 / of.max(1) as u128 / PICOS;
                let start = start.saturating_add(u64::try_from(shift).unwrap_or(u64::MAX));
                Self::Open { start, period, burst }
            }
            Self::Unlimited { .. } => self,
        }
    }

    /// The same pace, begun later by `nanos` nanoseconds.
    #[must_use]
    pub fn shifted(self, nanos: u64) -> Self {
        match self {
            Self::Open { start, period, burst } => {
                Self::Open { start: start.saturating_add(nanos), period, burst }
            }
            Self::Unlimited { start } => Self::Unlimited { start: start.saturating_add(nanos) },
        }
    }

    /// When packet `number` is due; at once, for an unlimited sender that has started.
    #[must_use]
    pub fn due(&self, number: u64) -> u64 {
        match *self {
            Self::Open { start, period, burst } => {
                let first = number - number % burst;
                let after = u128::from(first) * u128::from(period) / PICOS;
                start.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
            }
            Self::Unlimited { start } => start,
        }
    }

    /// How many packets are due before `time`; `None` for an unlimited sender.
    #[must_use]
    pub fn due_before(&self, time: u64) -> Option<u64> {
        let Self::Open { start, period, burst } = *self else { return None };
        let Some(since) = time.checked_sub(start) else { return Some(0) };
        // The first burst whose due time is not before `time`.
        let between = u128::from(period) * u128::from(burst);
        let bursts = (u128::from(since) * PICOS).div_ceil(between);
        Some(u64::try_from(bursts).unwrap_or(u64::MAX).saturating_mul(burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT_400: Rate = Rate::BitsPerSecond(400_000_000);

    #[test]
    fn a_rate_is_kept_to_the_packet_over_an_hour() {
        let pace = Pace::of_rate(MBIT_400, 1_400, 7);

        assert_eq!(pace.due(0), 7);
        assert_eq!(pace.due(1), 7 + 28_000);
        let hour = 3_600 * 1_000_000_000;
        let sent = pace.due_before(7 + hour).unwrap();
        let bits = sent * 1_400 * 8;
        assert!(bits.abs_diff(400_000_000 * 3_600) < 1_400 * 8, "{bits}");
    }

    #[test]
    fn as_many_are_due_as_have_a_due_time_before() {
        let smooth = Pace::of_rate(Rate::BitsPerSecond(333_333_333), 1_400, 1_000);
        for (pace, time) in [smooth, smooth.in_bursts(8)].into_iter().flat_map(|pace| {
            [0, 999, 1_000, 1_001, 34_600, 34_601, 1_234_567_890].map(|time| (pace, time))
        }) {
            let count = pace.due_before(time).unwrap();
            assert!(pace.due(count) >= time, "{time}");
            assert!(count == 0 || pace.due(count - 1) < time, "{time}");
        }
    }

    #[test]
    fn a_burst_is_due_together_and_keeps_the_rate() {
        let pace = Pace::of_interval(1_000, 0).in_bursts(4);
        let due: Vec<u64> = (0..9).map(|number| pace.due(number)).collect();
        assert_eq!(due, [0, 0, 0, 0, 4_000, 4_000, 4_000, 4_000, 8_000]);
        assert_eq!(pace.staggered(1, 2).due(0), 2_000);
    }

    #[test]
    fn flows_share_a_period_evenly() {
        let pace = Pace::of_interval(1_000, 500);
        let starts: Vec<u64> = (0..4).map(|flow| pace.staggered(flow, 4).due(0)).collect();
        assert_eq!(starts, [500, 750, 1_000, 1_250]);
    }

    #[test]
    fn an_unlimited_sender_is_always_due() {
        let pace = Pace::of_rate(Rate::Unlimited, 1_400, 9).staggered(1, 2);
        assert_eq!((pace.due(0), pace.due(1_000_000)), (9, 9));
        assert_eq!(pace.due_before(100), None);
    }
}
