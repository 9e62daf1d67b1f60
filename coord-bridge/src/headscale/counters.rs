//! What has become of the calls: numbers for metrics.

use derp_relay::counter::{Counter, CounterBy, Label};

use super::FailureKind;

/// What became of a call. The words are labels of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// It failed so.
    Failed(FailureKind),
}

/// Counters of one Headscale.
#[derive(Debug, Default)]
pub struct Counters {
    /// Calls, by what became of them.
    pub calls: CounterBy<Outcome>,
    /// Requests that calls took: more than calls where some were repeated.
    pub requests: Counter,
    /// Times that the release was found out.
    pub detections: Counter,
    /// Times that Headscale was left alone for failing too often.
    pub pauses: Counter,
}

impl Label for Outcome {
    const ALL: &'static [Self] = &[
        Self::Done,
        Self::Failed(FailureKind::Unreachable),
        Self::Failed(FailureKind::Paused),
        Self::Failed(FailureKind::Unauthorized),
        Self::Failed(FailureKind::Refused),
        Self::Failed(FailureKind::Faulty),
        Self::Failed(FailureKind::Unintelligible),
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed(FailureKind::Unreachable) => "unreachable",
            Self::Failed(FailureKind::Paused) => "paused",
            Self::Failed(FailureKind::Unauthorized) => "unauthorized",
            Self::Failed(FailureKind::Refused) => "refused",
            Self::Failed(FailureKind::Faulty) => "faulty",
            Self::Failed(FailureKind::Unintelligible) => "unintelligible",
        }
    }
}
