//! Requests that must not be done twice, though they may be sent twice.
//!
//! ```text
//! POST + Idempotency-Key: k -> new? do it, keep the answer : tell the kept answer again
//! ```
//!
//! Does: keeps the answers to requests that name a key, for as long as a pre-auth key is told
//! again. What is kept may hold a secret that was just made; it is in memory only.
//! Does not: remember over a restart, or for other bridges on the same store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;

use super::problem::Problem;
use super::route::Reply;

/// Most characters of a key.
pub(super) const MAX_KEY_CHARS: usize = 255;

/// Answers that are kept; beyond that nobody may name a key. Each is less than 1 KiB with its
/// request's few hundred bytes.
const MAX_KEPT: usize = 512;

/// Time that an answer is kept: longer than anybody repeats a request who waits for its answer.
const KEPT_TIME: Duration = Duration::from_secs(300);

/// Answers that are kept.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: Mutex<BTreeMap<String, Kept>>,
}

/// What was asked, and what came of it.
#[derive(Debug)]
struct Kept {
    since: Instant,
    operation: String,
    body: Bytes,
    /// `None` while it is being done.
    reply: Option<Reply>,
}

/// A request that is being done for the first time.
#[derive(Debug)]
pub(super) struct First {
    answers: Arc<Answers>,
    key: String,
}

/// What to do with a request.
#[derive(Debug)]
pub(super) enum Turn {
    /// Do it, and say what came of it.
    First(First),
    /// It was done.
    Again(Reply),
}

impl Answers {
    /// What to do with a request that names `key`. `operation` and `body` are what is asked.
    pub(super) fn turn(
        self: &Arc<Self>,
        key: &str,
        operation: String,
        body: &Bytes,
        now: Instant,
    ) -> Result<Turn, Problem> {
        let mut kept = self.held();
        kept.retain(|_, it| it.reply.is_none() || now < it.since + KEPT_TIME);
        if let Some(before) = kept.get(key) {
            if before.operation != operation || before.body != body {
                return Err(Problem::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "idempotency_key_reused",
                    "The Idempotency-Key was used for something else",
                    "name another key for another request",
                ));
            }
            return match &before.reply {
                Some(reply) => Ok(Turn::Again(reply.clone())),
                None => Err(Problem::conflict(
                    "under_way",
                    "the first request with this Idempotency-Key is still being done",
                )),
            };
        }
        if kept.len() >= MAX_KEPT {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_kept",
                "Too many answers are kept",
                format!("{MAX_KEPT} within {} s; come again later", KEPT_TIME.as_secs()),
            ));
        }
        let body = body.clone();
        kept.insert(key.to_owned(), Kept { since: now, operation, body, reply: None });
        Ok(Turn::First(First { answers: Arc::clone(self), key: key.to_owned() }))
    }

    /// What is in the mutex. Nothing here is left half changed by a panic.
    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl First {
    /// Keeps the answer.
    pub(super) fn done(self, reply: &Reply) {
        if let Some(kept) = self.answers.held().get_mut(&self.key) {
            kept.reply = Some(reply.clone());
        }
    }
}

impl Drop for First {
    /// What was not done may be asked for again.
    fn drop(&mut self) {
        let mut kept = self.answers.held();
        if kept.get(&self.key).is_some_and(|it| it.reply.is_none()) {
            kept.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(answers: &Arc<Answers>, body: &'static str, now: Instant) -> Result<Turn, Problem> {
        answers.turn("k", "create".to_owned(), &Bytes::from(body), now)
    }

    #[test]
    fn it_is_done_once_and_told_again_for_a_while() {
        let (answers, now) = (Arc::new(Answers::default()), Instant::now());
        let Turn::First(first) = turn(&answers, "a", now).unwrap() else { panic!("not the first") };
        assert_eq!(turn(&answers, "a", now).unwrap_err().code, "under_way");
        first.done(&Reply::json(StatusCode::CREATED, &7).unwrap());

        let again = turn(&answers, "a", now).unwrap();
        assert!(matches!(again, Turn::Again(reply) if reply.body == "7"));
        assert_eq!(turn(&answers, "b", now).unwrap_err().code, "idempotency_key_reused");
        assert!(matches!(turn(&answers, "b", now + KEPT_TIME), Ok(Turn::First(_))));
    }

    #[test]
    fn what_failed_may_be_asked_for_again() {
        let (answers, now) = (Arc::new(Answers::default()), Instant::now());
        drop(turn(&answers, "a", now).unwrap());
        assert!(matches!(turn(&answers, "b", now), Ok(Turn::First(_))));
    }

    #[test]
    fn not_more_than_so_many_are_kept() {
        let (answers, now) = (Arc::new(Answers::default()), Instant::now());
        let firsts: Vec<_> = (0..MAX_KEPT)
            .map(|n| answers.turn(&n.to_string(), String::new(), &Bytes::new(), now).unwrap())
            .collect();
        assert_eq!(turn(&answers, "a", now).unwrap_err().code, "too_many_kept");
        drop(firsts);
        assert!(turn(&answers, "a", now).is_ok());
    }
}
