//! What became of packets: how many, how late, in which order.
//!
//! Does: counts for each phase of a run and keeps latencies in a histogram; knows for every
//! flow which numbers have come. Does not: read a clock, or know connections.

use hdrhistogram::Histogram;

/// Longest latency that a histogram tells from longer ones, in nanoseconds: a minute.
const MAX_LATENCY: u64 = 60_000_000_000;

/// Digits of a latency that count.
const DIGITS: u8 = 3;

/// Latencies in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // From a microsecond on: nothing here is faster.
        let histogram = Histogram::new_with_bounds(1_000, MAX_LATENCY, DIGITS);
        Self(histogram.unwrap_or_else(|_| unreachable!("the bounds above are good")))
    }
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        // Equal bounds, so it cannot fail.
        self.0.add(&other.0).unwrap_or_default();
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `percent` of all do not exceed, in microseconds; `None` without any.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        (self.count() > 0).then(|| self.0.value_at_percentile(percent) as f64 / 1_000.0)
    }

    /// The longest, in microseconds.
    #[must_use]
    pub fn longest(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.0.max() as f64 / 1_000.0)
    }
}

/// What became of the packets of some flows that were due in one phase.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Due by the pace, of senders that have one.
    pub due: u64,
    /// Given to the socket.
    pub sent: u64,
    /// Bytes of payload in those.
    pub sent_bytes: u64,
    /// Arrived, each counted once.
    pub received: u64,
    /// Bytes of payload in those.
    pub received_bytes: u64,
    /// Arrived after one with a higher number.
    pub reordered: u64,
    /// Arrived again.
    pub repeated: u64,
    /// From when it was due until it arrived.
    pub latency: Latencies,
    /// From when it was due until the generator sent it, of senders that the socket did not
    /// hold up: how far the generator itself can be trusted.
    pub late: Latencies,
    /// Bytes of payload that arrived while the phase lasted, whenever they were due.
    pub arrived_bytes: u64,
}

impl Tally {
    /// Adds everything in `other`.
    pub fn merge(&mut self, other: &Self) {
        self.due += other.due;
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.reordered += other.reordered;
        self.repeated += other.repeated;
        self.latency.merge(&other.latency);
        self.late.merge(&other.late);
        self.arrived_bytes += other.arrived_bytes;
    }

    /// Packets sent that did not arrive.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// Which packets of a flow have come.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// A bit for each number.
    seen: Vec<u64>,
    /// One more than the highest number.
    next: u64,
}

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// After all that have come.
    InOrder,
    /// After one with a higher number.
    Late,
    /// Not for the first time.
    Again,
}

impl Arrivals {
    /// Takes note of packet `number`, which must be one that was sent.
    pub fn add(&mut self, number: u64) -> Arrival {
        let (word, bit) = (number / 64, 1_u64 << (number % 64));
        let word = usize::try_from(word).unwrap_or(usize::MAX);
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        let Some(seen) = self.seen.get_mut(word) else { return Arrival::Again };
        if *seen & bit != 0 {
            return Arrival::Again;
        }
        *seen |= bit;
        if number < self.next {
            return Arrival::Late;
        }
        self.next = number + 1;
        Arrival::InOrder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_told_from_loss_and_repetition() {
        let mut arrivals = Arrivals::default();
        let seen: Vec<Arrival> =
            [0, 1, 5, 3, 3, 200, 5, 2].map(|number| arrivals.add(number)).into();
        assert_eq!(
            seen,
            [
                Arrival::InOrder,
                Arrival::InOrder,
                Arrival::InOrder,
                Arrival::Late,
                Arrival::Again,
                Arrival::InOrder,
                Arrival::Again,
                Arrival::Late,
            ]
        );
    }

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(50.0), None);
        for micros in 1..=10_000 {
            latencies.add(micros * 1_000);
        }
        for (percent, wanted) in [(50.0, 5_000.0), (99.0, 9_900.0), (99.9, 9_990.0)] {
            let found = latencies.percentile(percent).unwrap();
            assert!((found / wanted - 1.0).abs() < 0.002, "p{percent} is {found}");
        }
        assert!(latencies.longest().unwrap() >= 10_000.0);
    }

    #[test]
    fn merged_tallies_are_sums() {
        let mut one = Tally { sent: 3, received: 2, reordered: 1, ..Tally::default() };
        one.latency.add(5_000);
        let mut sum = Tally { sent: 4, received: 4, repeated: 2, ..Tally::default() };
        sum.latency.add(50_000);
        sum.merge(&one);
        assert_eq!((sum.sent, sum.received, sum.lost()), (7, 6, 1));
        assert_eq!((sum.reordered, sum.repeated, sum.latency.count()), (1, 2, 2));
    }

    /// A stall longer than the histogram is counted at its end, not left out.
    #[test]
    fn the_longest_stall_is_not_lost() {
        let mut latencies = Latencies::default();
        latencies.add(u64::MAX);
        assert_eq!(latencies.count(), 1);
        assert!(latencies.longest().unwrap() >= 60_000_000.0);
    }
}
