//! What came of questions and looks, in numbers.

use derp_relay::counter::{Counter, CounterBy, Label};

use super::front::Verdict;

/// What is wrong with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its body is not the wanted JSON.
    Malformed,
    /// Its body is too long.
    TooLong,
    /// Its body did not come, or not in time.
    Broken,
}

/// Every number about the front.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answers.
    pub answers: CounterBy<Verdict>,
    /// Questions that were none.
    pub refusals: CounterBy<Refusal>,
    /// Looks that gave a list.
    pub looks: Counter,
    /// Looks that gave none.
    pub failed_looks: Counter,
    /// Nodes that were found to be gone.
    pub gone: Counter,
}

impl Label for Verdict {
    const ALL: &'static [Self] = &[Self::Allow, Self::Deny, Self::Unavailable];

    fn word(self) -> &'static str {
        match self {
            Self::Allow => "allowed",
            Self::Deny => "denied",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Label for Refusal {
    const ALL: &'static [Self] = &[Self::Malformed, Self::TooLong, Self::Broken];

    fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::Broken => "broken",
        }
    }
}
