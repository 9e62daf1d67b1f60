//! All verifiers of a relay, asked together.
//!
//! Does: asks each of them, takes the first yes, and no for an answer only if all say no; bounds
//! time and number of questions, counts what came of them, and says once when one fails.
//! Does not: remember answers (`ledger`), or ask about one key once (`flights`).

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use derp::key::NodePublic;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::counters::{Counters, Reply};
use super::verifier::{Answer, Fault, SetupError, Verifier};
use crate::config::VerifyUrl;
use crate::door::limits::DEFAULT_ACCESS_TIME;
use crate::rare_log::RareLog;

/// Time for an answer, waiting for its turn and connecting included. Source: DERP-8.4.
const ANSWER_TIME: Duration = DEFAULT_ACCESS_TIME;

/// Most questions of logins that one verifier has at a time. Ours: with answers of 10 ms that is
/// 6,400 logins a second, and a slow verifier is not buried.
pub(super) const MAX_QUESTIONS: usize = 64;

/// Questions in a row that a verifier may leave unanswered before re-checks do without it.
const MAX_IN_VAIN: u32 = 3;

/// What all verifiers together say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The one of this tailnet says yes.
    Allow(Arc<str>),
    /// All say no.
    Deny,
    /// None says yes, and not all answer.
    Unavailable,
}

#[derive(Debug)]
pub(super) struct Verifiers {
    list: Vec<Arc<Seat>>,
}

/// One verifier and what is known of it.
#[derive(Debug)]
struct Seat {
    tailnet: Arc<str>,
    verifier: Verifier,
    turns: Semaphore,
    counters: Arc<Counters>,
    /// Whether the log says that it does not answer.
    announced: AtomicBool,
    log: RareLog,
}

/// How often each verifier has left re-checks unanswered in a row.
#[derive(Debug)]
pub(super) struct InVain(Vec<AtomicU32>);

impl Verifiers {
    pub(super) fn new(
        urls: &[VerifyUrl],
        ca_file: Option<&Path>,
    ) -> Result<(Self, Arc<Counters>), SetupError> {
        let names: Vec<Arc<str>> = urls.iter().map(|url| url.tailnet().into()).collect();
        let counters = Arc::new(Counters::new(names.iter().cloned()));
        let mut list = Vec::new();
        for (url, tailnet) in urls.iter().zip(names) {
            list.push(Arc::new(Seat {
                tailnet,
                verifier: Verifier::new(&url.url, ca_file)?,
                turns: Semaphore::new(MAX_QUESTIONS),
                counters: Arc::clone(&counters),
                announced: AtomicBool::new(false),
                log: RareLog::default(),
            }));
        }
        Ok((Self { list }, counters))
    }

    /// Nobody has been asked in vain yet.
    pub(super) fn in_vain(&self) -> Arc<InVain> {
        Arc::new(InVain(self.list.iter().map(|_| AtomicU32::new(0)).collect()))
    }

    /// Asks all about a node. A re-check comes with `in_vain`: it waits for no login's turn, and
    /// passes over who does not answer.
    ///
    /// Questions that no longer matter go to their end all the same: a verifier whose connections
    /// were cut under the answer would need a new one for each login.
    pub(super) async fn ask(
        &self,
        key: NodePublic,
        source: Option<IpAddr>,
        in_vain: Option<&Arc<InVain>>,
    ) -> Verdict {
        let mut answers = JoinSet::new();
        let mut unanswered = false;
        for (place, seat) in self.list.iter().enumerate() {
            if in_vain.is_some_and(|in_vain| in_vain.is_spent(place)) {
                unanswered = true;
                continue;
            }
            let (seat, in_vain) = (Arc::clone(seat), in_vain.cloned());
            answers.spawn(async move {
                let answer = seat.ask(&key, source, in_vain.is_none()).await;
                if let Some(in_vain) = in_vain {
                    in_vain.note(place, answer);
                }
                (answer, seat)
            });
        }
        while let Some(answer) = answers.join_next().await {
            match answer {
                Ok((Answer::Allow, seat)) => {
                    answers.detach_all();
                    return Verdict::Allow(Arc::clone(&seat.tailnet));
                }
                Ok((Answer::Deny, _)) => {}
                Ok((Answer::Unavailable(_), _)) | Err(_) => unanswered = true,
            }
        }
        if unanswered { Verdict::Unavailable } else { Verdict::Deny }
    }
}

impl Seat {
    async fn ask(&self, key: &NodePublic, source: Option<IpAddr>, in_turn: bool) -> Answer {
        let begun = Instant::now();
        let turn = if in_turn {
            match timeout(ANSWER_TIME, self.turns.acquire()).await {
                Ok(turn) => turn.ok(),
                Err(_) => return self.note(Answer::Unavailable(Fault::Busy)),
            }
        } else {
            None
        };
        let asked = Instant::now();
        let left = ANSWER_TIME.saturating_sub(asked - begun);
        let answer = timeout(left, self.verifier.ask(key, source)).await;
        drop(turn);
        self.counters.answer_times.add(asked.elapsed());
        self.note(answer.unwrap_or(Answer::Unavailable(Fault::Timeout)))
    }

    /// Counts an answer, and says when answers begin to fail and when they come again.
    fn note(&self, answer: Answer) -> Answer {
        let tailnet = &*self.tailnet;
        match answer {
            // That is about us, not about the verifier.
            Answer::Unavailable(Fault::Busy) => {}
            Answer::Unavailable(fault) => {
                if !self.announced.load(Ordering::Relaxed) && self.log.is_due() {
                    self.announced.store(true, Ordering::Relaxed);
                    tracing::warn!(tailnet, %fault, "a verifier does not answer");
                }
            }
            Answer::Allow | Answer::Deny => {
                if self.announced.swap(false, Ordering::Relaxed) {
                    tracing::info!(tailnet, "the verifier answers again");
                }
            }
        }
        self.counters.note_reply(
            tailnet,
            match answer {
                Answer::Allow => Reply::Allowed,
                Answer::Deny => Reply::Denied,
                Answer::Unavailable(fault) => fault.into(),
            },
        );
        answer
    }
}

impl InVain {
    /// Gives each verifier that is passed over one more try.
    pub(super) fn relent(&self) {
        for count in &self.0 {
            count.fetch_min(MAX_IN_VAIN - 1, Ordering::Relaxed);
        }
    }

    fn is_spent(&self, place: usize) -> bool {
        self.0.get(place).is_none_or(|count| count.load(Ordering::Relaxed) >= MAX_IN_VAIN)
    }

    fn note(&self, place: usize, answer: Answer) {
        let Some(count) = self.0.get(place) else { return };
        match answer {
            Answer::Allow | Answer::Deny => count.store(0, Ordering::Relaxed),
            Answer::Unavailable(_) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DERP-8.7: a verifier that is down costs re-checks three questions, and then one a turn.
    #[test]
    fn who_does_not_answer_is_passed_over_but_tried_again() {
        let fault = Answer::Unavailable(Fault::Timeout);
        let in_vain = InVain(vec![AtomicU32::new(0), AtomicU32::new(0)]);
        for _ in 0..3 {
            assert!(!in_vain.is_spent(0));
            in_vain.note(0, fault);
        }
        assert!(in_vain.is_spent(0) && !in_vain.is_spent(1));
        in_vain.relent();
        assert!(!in_vain.is_spent(0));
        in_vain.note(0, fault);
        assert!(in_vain.is_spent(0));
        in_vain.relent();
        in_vain.note(0, Answer::Deny);
        in_vain.note(0, fault);
        assert!(!in_vain.is_spent(0));
    }
}
