//! What access decisions came to, in numbers. The metrics read them.
//!
//! Does: counts, one relaxed atomic per number. Does not: name metrics; the words here are the
//! values of their labels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::verifier::Fault;
use crate::counter::{Counter, CounterBy, label};

label! {
    /// What came of asking.
    Outcome {
        /// Everybody may enter, or the list or a verifier says this one may.
        Allowed = "allowed",
        /// The list or the verifiers say that this one may not.
        Denied = "denied",
        /// No verifier can be reached or makes sense, and this one was let in not long ago.
        LastKnownGood = "last_known_good",
        /// The same, and this one was not: refused.
        Unavailable = "unavailable",
        /// The same, and the operator lets everybody in then.
        FailedOpen = "failed_open",
    }
}

label! {
    /// What saved a question.
    Saved {
        /// A yes of the last seconds.
        Allowed = "allowed",
        /// A no of the last second.
        Denied = "denied",
        /// The same question was under way.
        UnderWay = "under_way",
    }
}

label! {
    /// Why connections were cut off.
    CutOff {
        /// A re-check found that the node may no longer enter.
        Denied = "denied",
        /// Nobody could be asked for longer than the grace time.
        GraceOver = "grace_over",
        /// Somebody said so: the bridge, or the program around the relay.
        Revoked = "revoked",
        /// The node is no longer on the allow-list.
        Unlisted = "unlisted",
    }
}

label! {
    /// What a verifier made of one question.
    Reply {
        /// Yes.
        Allowed = "allowed",
        /// No.
        Denied = "denied",
        /// So many questions are under way that this one was not asked in time.
        Busy = "busy",
        /// There is no connection, or it broke.
        Unreachable = "unreachable",
        /// No answer in time.
        Timeout = "timeout",
        /// A status other than 200.
        Status = "status",
        /// An answer that is none: not the wanted JSON, or without end.
        Malformed = "malformed",
    }
}

impl From<Fault> for Reply {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Busy => Self::Busy,
            Fault::Unreachable => Self::Unreachable,
            Fault::Timeout => Self::Timeout,
            Fault::Status(_) => Self::Status,
            Fault::Malformed => Self::Malformed,
        }
    }
}

/// Upper bounds of the classes of answer times, in microseconds; longer ones have a class of
/// their own.
pub const ANSWER_BOUNDS: [u64; 11] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000];

/// How long answers took.
#[derive(Debug, Default)]
pub struct AnswerTimes {
    classes: [AtomicU64; ANSWER_BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl AnswerTimes {
    pub(super) fn add(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let class = ANSWER_BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.classes.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many answers are in each class, and what all took together, in microseconds.
    #[must_use]
    pub fn get(&self) -> ([u64; ANSWER_BOUNDS.len() + 1], u64) {
        let count = |class: &AtomicU64| class.load(Ordering::Relaxed);
        (self.classes.each_ref().map(count), count(&self.micros))
    }
}

/// What the verifiers of one tailnet made of all questions.
#[derive(Debug)]
pub struct Tailnet {
    /// Its name, as the operator has given it.
    pub name: Arc<str>,
    /// What came of questions.
    pub replies: CounterBy<Reply>,
}

/// Every number about access.
#[derive(Debug, Default)]
pub struct Counters {
    /// Decisions at logins.
    pub decisions: CounterBy<Outcome>,
    /// Questions that were saved.
    pub saved: CounterBy<Saved>,
    /// Decisions about nodes that are connected.
    pub re_checks: CounterBy<Outcome>,
    /// Keys whose connections were cut off.
    pub cut_offs: CounterBy<CutOff>,
    /// Questions, by tailnet; one entry each.
    pub tailnets: Vec<Tailnet>,
    /// How long verifiers took to answer, faults included.
    pub answer_times: AnswerTimes,
    /// Times that the known nodes could not be written to their file.
    pub write_errors: Counter,
    known: AtomicU64,
}

impl Counters {
    /// For verifiers of these tailnets, in this order.
    pub(super) fn new(names: impl Iterator<Item = Arc<str>>) -> Self {
        let mut tailnets: Vec<Tailnet> = Vec::new();
        for name in names {
            if tailnets.iter().all(|tailnet| tailnet.name != name) {
                tailnets.push(Tailnet { name, replies: CounterBy::default() });
            }
        }
        Self { tailnets, ..Self::default() }
    }

    /// Nodes that would enter if no verifier answered.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.known.load(Ordering::Relaxed)
    }

    pub(super) fn set_known(&self, count: usize) {
        self.known.store(count as u64, Ordering::Relaxed);
    }

    pub(super) fn note_reply(&self, tailnet: &str, reply: Reply) {
        if let Some(tailnet) = self.tailnets.iter().find(|known| *known.name == *tailnet) {
            tailnet.replies.add_one(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tailnets_of_one_name_are_counted_together() {
        let names = ["home", "work", "home"].map(Arc::<str>::from);
        let counters = Counters::new(names.into_iter());
        counters.note_reply("home", Reply::Allowed);
        counters.note_reply("home", Fault::Status(502).into());
        counters.note_reply("elsewhere", Reply::Allowed);
        let totals =
            counters.tailnets.iter().map(|tailnet| (&*tailnet.name, tailnet.replies.total()));
        assert_eq!(totals.collect::<Vec<_>>(), [("home", 2), ("work", 0)]);
    }

    #[test]
    fn a_time_falls_into_the_class_of_its_upper_bound() {
        let times = AnswerTimes::default();
        for micros in [0, 1_000, 1_001, 2_500_000, 2_500_001] {
            times.add(Duration::from_micros(micros));
        }
        let (classes, micros) = times.get();
        assert_eq!(classes, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(micros, 5_002_002);
    }
}
