//! A rate limit that costs eight bytes per connection.
//!
//! Does: lets `burst` events through at once and one more per `interval`, by keeping only the
//! instant at which the allowance would be whole again (the generic cell rate algorithm).
//! Does not: delay anything; the caller drops what is refused, and counts it.

use std::time::Duration;

use crate::time::Time;

/// How many events a limiter lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time in which one event is earned.
    pub interval: Duration,
    /// Events that may come at once after a rest; at least 1.
    pub burst: u32,
}

/// State of one limit; starts with its whole burst available.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limiter {
    whole_at: Time,
}

impl Limiter {
    /// Takes one event at `now`, or refuses it and changes nothing.
    #[must_use]
    pub fn take(&mut self, rate: Rate, now: Time) -> bool {
        let base = self.whole_at.max(now);
        if base.since(now) > rate.interval * rate.burst.saturating_sub(1) {
            return false;
        }
        self.whole_at = base + rate.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { interval: Duration::from_secs(1), burst: 3 };

    /// DERP-4.5: one a second, three at once.
    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let mut limiter = Limiter::default();
        let mut now = Time::from_micros(5);

        let at_once = (0..10).filter(|_| limiter.take(RATE, now)).count();
        now += Duration::from_millis(1_200);
        let later = (0..10).filter(|_| limiter.take(RATE, now)).count();
        now += Duration::from_secs(60);
        let rested = (0..10).filter(|_| limiter.take(RATE, now)).count();

        assert_eq!((at_once, later, rested), (3, 1, 3));
    }
}
