//! One question at a time about each key.
//!
//! Does: lets whoever wants to know the same wait for the same answer, and goes on for those who
//! wait when the first one gives up.
//! Does not: keep answers; those are in the ledger before a question is over here. Has no bound of
//! its own: each question has a login behind it, and those are bounded by `door::limits`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use derp::key::NodePublic;
use tokio::sync::watch;

use super::lock;
use super::verifiers::Verdict;

/// Whoever waits; the answer comes once. Two questions about one key differ in their channel.
type Answer = watch::Receiver<Option<Verdict>>;

/// The questions that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<NodePublic, Answer>>>);

impl Flights {
    /// Waits for the answer about `key`; `question` is only asked if nobody has asked it yet.
    /// `joined` is called if somebody has.
    pub(super) async fn ask(
        &self,
        key: NodePublic,
        question: impl Future<Output = Verdict> + Send + 'static,
        joined: impl FnOnce(),
    ) -> Verdict {
        let mut answer = self.join(key, question, joined);
        match answer.wait_for(Option::is_some).await {
            Ok(verdict) => verdict.clone().unwrap_or(Verdict::Unavailable),
            // Whoever asked has ended without an answer.
            Err(_) => Verdict::Unavailable,
        }
    }

    fn join(
        &self,
        key: NodePublic,
        question: impl Future<Output = Verdict> + Send + 'static,
        joined: impl FnOnce(),
    ) -> Answer {
        let mut under_way = self.under_way();
        if let Some(answer) = under_way.get(&key) {
            joined();
            return answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        under_way.insert(key, answer.clone());
        let landing = Landing { flights: self.clone(), key, answer: answer.clone() };
        tokio::spawn(async move {
            let verdict = question.await;
            drop(landing);
            sender.send_replace(Some(verdict));
        });
        answer
    }

    /// Lets nobody join the question about `key` any more: its answer is not to be trusted.
    pub(super) fn abandon(&self, key: &NodePublic) {
        self.under_way().remove(key);
    }

    /// The same for every question that is under way.
    pub(super) fn abandon_all(&self) {
        self.under_way().clear();
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<NodePublic, Answer>> {
        lock(&self.0)
    }
}

/// Takes a question off the list, however it ends.
struct Landing {
    flights: Flights,
    key: NodePublic,
    answer: Answer,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way();
        if under_way.get(&self.key).is_some_and(|answer| answer.same_channel(&self.answer)) {
            under_way.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// DERP-8.5: a hundred who ask about one key are one question, also when the first of them
    /// leaves; and nothing stays behind.
    #[tokio::test]
    async fn many_who_ask_the_same_are_one_question() {
        let flights = Flights::default();
        let (asked, joined) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Semaphore::new(0));
        let ask = |number: u8| {
            let (flights, asked, joined) =
                (flights.clone(), Arc::clone(&asked), Arc::clone(&joined));
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                let question = async move {
                    asked.fetch_add(1, Ordering::Relaxed);
                    gate.acquire().await.unwrap().forget();
                    Verdict::Deny
                };
                let joined = || {
                    joined.fetch_add(1, Ordering::Relaxed);
                };
                flights.ask(NodePublic::from_bytes([number; 32]), question, joined).await
            })
        };
        let first = ask(1);
        while asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..99).map(|_| ask(1)).collect();
        let another = ask(2);
        while joined.load(Ordering::Relaxed) < 99 || asked.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        first.abort();
        gate.add_permits(2);
        for waiting in others.into_iter().chain([another]) {
            assert_eq!(waiting.await.unwrap(), Verdict::Deny);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert!(flights.under_way().is_empty());
    }

    /// DERP-8.8: who asks after a revocation gets no answer from before it, and the end of the old
    /// question does not end the new one.
    #[tokio::test]
    async fn an_abandoned_question_is_not_joined() {
        let flights = Flights::default();
        let key = NodePublic::from_bytes([1; 32]);
        let (first_gate, second_gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let question = |gate: &Arc<Semaphore>, verdict| {
            let gate = Arc::clone(gate);
            async move {
                gate.acquire().await.unwrap().forget();
                verdict
            }
        };
        let old = flights.join(key, question(&first_gate, Verdict::Allow("x".into())), || ());
        flights.abandon(&key);
        let new = flights.join(key, question(&second_gate, Verdict::Deny), || panic!("joined"));
        assert!(!new.same_channel(&old));

        first_gate.add_permits(1);
        old.clone().wait_for(Option::is_some).await.unwrap();
        let unasked = async { panic!("asked again") };
        let third = flights.join(key, unasked, || ());
        assert!(third.same_channel(&new));
        second_gate.add_permits(1);
        assert_eq!(*new.clone().wait_for(Option::is_some).await.unwrap(), Some(Verdict::Deny));
        assert!(flights.under_way().is_empty());
    }

    /// A question that dies is one without an answer, and can be asked again.
    #[tokio::test]
    async fn a_question_that_dies_is_unanswered() {
        let flights = Flights::default();
        let key = NodePublic::from_bytes([1; 32]);
        let dies = flights.ask(key, async { panic!("on purpose") }, || ()).await;
        assert_eq!(dies, Verdict::Unavailable);
        assert_eq!(flights.ask(key, async { Verdict::Deny }, || ()).await, Verdict::Deny);
    }
}
