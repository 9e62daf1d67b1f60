//! When a machine asks again.
//!
//! Does: pauses that grow, no two machines alike, and never shorter than the provisioner asks for.
//! Does not: wait.

use std::time::Duration;

/// Longest that a provisioner may make us wait. One that asks for more is asked again then.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// How often and how long to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How often, at least once.
    pub tries: u32,
    /// Time for one try, from the connection to the last byte of the answer. The provisioner
    /// answers within 15 s.
    pub try_time: Duration,
    /// Longest pause after the first try.
    pub first_pause: Duration,
    /// Longest pause after any.
    pub longest_pause: Duration,
    /// Time for `tailscale up`, which would wait for ever for a login that is not taken.
    pub join_time: Duration,
}

impl Default for Schedule {
    /// 2, 4, 8, 16 s and then 30 s at most: two minutes of pauses, longer than a bridge or a
    /// proxy takes to restart.
    fn default() -> Self {
        Self {
            tries: 8,
            try_time: Duration::from_secs(15),
            first_pause: Duration::from_secs(2),
            longest_pause: Duration::from_secs(30),
            join_time: Duration::from_secs(120),
        }
    }
}

impl Schedule {
    /// The pause after try number `done`, counted from one. `retry_after` is what the provisioner
    /// asked for, `random` any number.
    pub(super) fn pause(&self, done: u32, retry_after: Option<&str>, random: u32) -> Duration {
        let factor = 2_u32.saturating_pow(done.saturating_sub(1));
        let longest = self.first_pause.saturating_mul(factor).min(self.longest_pause);
        let share = f64::from(random) / f64::from(u32::MAX);
        // A date is not read: our bridge and its proxies write seconds.
        let asked = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        match asked {
            // Later than asked for, each machine by its own bit: not all at the same moment.
            Some(asked) => asked.min(MAX_WAIT) + longest.mul_f64(share / 2.0),
            None => longest.mul_f64(0.5 + share / 2.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_differ() {
        let schedule = Schedule::default();
        let seconds = |done, random| schedule.pause(done, None, random).as_secs_f64();
        let all = |random| [1, 2, 3, 4, 5, 6, u32::MAX].map(|done| seconds(done, random));
        assert_eq!(all(u32::MAX), [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!(all(0), [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]);
    }

    #[test]
    fn the_provisioner_is_given_the_time_that_it_asks_for() {
        let schedule = Schedule::default();
        let pause = |text, random| schedule.pause(1, Some(text), random).as_secs_f64();
        assert_eq!((pause("6", 0), pause(" 6 ", u32::MAX)), (6.0, 7.0));
        assert_eq!(pause("0", 0), 0.0);
        assert_eq!(pause("18446744073709551615", 0), 300.0, "no longer than that");
        for odd in
            ["", "-1", "soon", "1e9", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT"]
        {
            assert_eq!(pause(odd, 0), 1.0, "{odd}");
        }
    }
}
