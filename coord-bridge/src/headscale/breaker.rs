//! Whether Headscale is left alone: a circuit breaker without a clock.
//!
//! ```text
//! Closed --max failures in a row--> Open --pause over, one call--> Probing
//!   ^                                ^                              |  |
//!   |                                +----------on_failure----------+  |
//!   +----------------------------on_success----------------------------+
//! ```
//!
//! Does: lets calls through or not, as `now` and the calls before say.
//! Does not: know what a failure is; `client` tells it.

use std::time::{Duration, Instant};

use derp_relay::counter::Label;

/// Lets calls through while they succeed.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    max_failures: u32,
    pause: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Calls go through.
    Closed { failures: u32 },
    /// None does before `until`.
    Open { until: Instant, why: String },
    /// One is under way, and decides.
    Probing { why: String },
}

/// Whether Headscale is left alone. The words are labels of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// It is asked.
    Closed,
    /// It has failed too often, and is left alone for a moment.
    Open,
    /// One call is under way, which decides.
    Probing,
}

impl Label for BreakerState {
    const ALL: &'static [Self] = &[Self::Closed, Self::Open, Self::Probing];

    fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
        }
    }
}

/// A call that is not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paused {
    /// How long calls are not let through yet; zero while one is under way that decides.
    pub(super) left: Duration,
    /// The failure that was one too many, or the last one since.
    pub(super) why: String,
}

impl Breaker {
    pub(super) const fn new(max_failures: u32, pause: Duration) -> Self {
        Self { state: State::Closed { failures: 0 }, max_failures, pause }
    }

    /// Where it stands.
    pub(super) const fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing { .. } => BreakerState::Probing,
        }
    }

    /// Lets a call through, which then has to be followed by one of the three below.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Paused> {
        match &mut self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until, why } if *until <= now => {
                let why = std::mem::take(why);
                self.state = State::Probing { why };
                Ok(())
            }
            State::Open { until, why } => {
                Err(Paused { left: until.duration_since(now), why: why.clone() })
            }
            State::Probing { why } => Err(Paused { left: Duration::ZERO, why: why.clone() }),
        }
    }

    /// A call was answered. Returns whether calls had not been let through.
    pub(super) fn on_success(&mut self) -> bool {
        let was_closed = matches!(self.state, State::Closed { .. });
        self.state = State::Closed { failures: 0 };
        !was_closed
    }

    /// A call failed. Returns whether that was the one too many.
    pub(super) fn on_failure(&mut self, why: &str, now: Instant) -> bool {
        let failures = match self.state {
            State::Closed { failures } => failures.saturating_add(1),
            State::Open { .. } => return false,
            State::Probing { .. } => self.max_failures,
        };
        if failures < self.max_failures {
            self.state = State::Closed { failures };
            return false;
        }
        let opens = matches!(self.state, State::Closed { .. });
        self.state = State::Open { until: now + self.pause, why: why.to_owned() };
        opens
    }

    /// Nobody waits for the call any longer. If it was to decide, the next one will.
    pub(super) fn on_abandoned(&mut self, now: Instant) {
        if let State::Probing { why } = &mut self.state {
            let why = std::mem::take(why);
            self.state = State::Open { until: now, why };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_in_between_starts_anew() {
        let (mut breaker, now) = (Breaker::new(3, PAUSE), Instant::now());
        assert!(!breaker.on_failure("1", now));
        assert!(!breaker.on_failure("2", now));
        assert!(!breaker.on_success());
        assert!(!breaker.on_failure("1", now));
        assert!(!breaker.on_failure("2", now));
        assert_eq!(breaker.admit(now), Ok(()));
        assert!(breaker.on_failure("3", now));

        let paused = breaker.admit(now + Duration::from_secs(1)).unwrap_err();

        assert_eq!(paused, Paused { left: Duration::from_secs(4), why: "3".to_owned() });
    }

    #[test]
    fn one_call_decides_after_the_pause() {
        let (mut breaker, now) = (Breaker::new(1, PAUSE), Instant::now());
        assert!(breaker.on_failure("1", now));

        assert_eq!(breaker.admit(now + PAUSE), Ok(()));
        let paused = breaker.admit(now + PAUSE).unwrap_err();
        assert_eq!(paused, Paused { left: Duration::ZERO, why: "1".to_owned() });
        assert!(!breaker.on_failure("2", now + PAUSE), "it has been told of already");
        assert_eq!(breaker.admit(now + PAUSE).unwrap_err().why, "2");

        assert_eq!(breaker.admit(now + PAUSE * 2), Ok(()));
        assert!(breaker.on_success());
        assert_eq!(breaker.admit(now + PAUSE * 2), Ok(()));
    }

    #[test]
    fn a_call_that_nobody_waits_for_leaves_the_decision_to_the_next() {
        let (mut breaker, now) = (Breaker::new(1, PAUSE), Instant::now());
        assert!(breaker.on_failure("1", now));
        assert_eq!(breaker.admit(now + PAUSE), Ok(()));

        breaker.on_abandoned(now + PAUSE);

        assert_eq!(breaker.admit(now + PAUSE), Ok(()));
        assert!(breaker.admit(now + PAUSE).is_err());
    }

    /// Calls that were let through before it opened may end after.
    #[test]
    fn late_failures_do_not_make_the_pause_longer() {
        let (mut breaker, now) = (Breaker::new(1, PAUSE), Instant::now());
        assert!(breaker.on_failure("1", now));
        assert!(!breaker.on_failure("late", now + Duration::from_secs(4)));
        assert_eq!(breaker.admit(now + PAUSE), Ok(()));
    }
}
