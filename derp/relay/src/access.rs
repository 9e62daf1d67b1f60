//! Who may use the relay.
//!
//! Does: answers yes or no for a client whose key is proved, asks again while it is connected, cuts
//! it off when the answer changes, and counts and logs all that.
//! Does not: know sockets or DERP, or let anybody in because something failed, unless the
//! operator has said so, or the node was let in not long before.
//!
//! ```text
//! door::login --decide--> list -> ledger -> question under way -> verifiers, all together
//!             <--admit--+                                              |
//! shard <--hand-over----+--entered: revoked meanwhile? cut off         |
//!   ^                                                                  |
//!   +--close-- re_check, every interval, or when the bridge asks for it +
//!   +--close-- revoke, from outside
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `verification` | access by the word of verifiers |
//! | `ledger`, `revocations`, `sweep`, `throttle` | what is decided, without clock, socket or file |
//! | `verifiers`, `verifier`, `flights` | questions |
//! | `allow_list`, `known_file` | files |
//! | `re_check`, `log`, `counters`, `connections`, `moment` | the rest |
//!
//! Spec: docs/protocol/derp.md, section 8. For operators: docs/access.md.

mod allow_list;
mod connections;
mod counters;
mod flights;
mod known_file;
mod ledger;
mod log;
mod moment;
mod re_check;
mod revocations;
mod sweep;
mod throttle;
mod verification;
mod verifier;
mod verifiers;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use derp::key::NodePublic;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::config::AccessConfig;

use allow_list::AllowList;
pub use allow_list::ListError;
pub(crate) use connections::Connections;
pub use counters::{ANSWER_BOUNDS, AnswerTimes, Counters, CutOff, Outcome, Reply, Saved, Tailnet};
use log::Log;
use moment::Clock;
use revocations::{Revocations, Ticket};
use verification::Verification;
pub use verifier::{MAX_ANSWER_LEN, SetupError};

/// How often somebody looks whether there is something to tell or to make up for.
const TICK: Duration = Duration::from_secs(10);

/// The answer for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The client may enter; [`Access::entered`] has to be told once it has.
    Admit(Admission),
    /// The client may not enter; the reason is a word for a metric label and the log.
    Refuse(&'static str),
}

/// The leave to enter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The tailnet whose verifier knows the node, if it is that.
    pub tailnet: Option<Arc<str>>,
    /// From before the decision.
    ticket: Ticket,
}

/// Why there is nobody to ask.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The allow-list.
    #[error(transparent)]
    List(#[from] ListError),
    /// The verifier.
    #[error(transparent)]
    Verifier(#[from] SetupError),
}

/// Where the answer comes from.
pub struct Access {
    rule: Rule,
    counters: Arc<Counters>,
    revocations: Arc<Mutex<Revocations>>,
    connections: OnceLock<Arc<dyn Connections>>,
    /// Somebody wants all connected nodes to be asked about.
    check_wanted: Notify,
    clock: Clock,
    log: Log,
}

#[derive(Debug)]
enum Rule {
    Nobody,
    Everybody,
    Listed(AllowList),
    Verified(Arc<Verification>),
}

impl Access {
    /// Reads what `config` names. Asks nobody yet: a verifier may come up later than the relay.
    ///
    /// # Errors
    ///
    /// [`AccessError`], naming the file or URL.
    pub fn new(config: AccessConfig) -> Result<Self, AccessError> {
        let clock = Clock::start();
        let revocations = Arc::<Mutex<Revocations>>::default();
        let rule = match config {
            AccessConfig::Nobody => Rule::Nobody,
            AccessConfig::Open => Rule::Everybody,
            AccessConfig::AllowList { file } => Rule::Listed(AllowList::load(file)?),
            AccessConfig::Verify(config) => {
                let verification = Verification::new(config, clock, Arc::clone(&revocations))?;
                Rule::Verified(Arc::new(verification))
            }
        };
        let counters = match &rule {
            Rule::Verified(verification) => Arc::clone(verification.counters()),
            Rule::Nobody | Rule::Everybody | Rule::Listed(_) => Arc::default(),
        };
        Ok(Self {
            rule,
            counters,
            revocations,
            connections: OnceLock::new(),
            check_wanted: Notify::new(),
            clock,
            log: Log::new(clock),
        })
    }

    /// Sets whether log lines show the addresses of clients. They do unless told otherwise.
    #[must_use]
    pub fn log_addresses(mut self, show: bool) -> Self {
        self.log.show_addresses(show);
        self
    }

    /// What came of all questions.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Whether everybody may enter while nobody can say who may.
    #[must_use]
    pub fn fails_open(&self) -> bool {
        matches!(&self.rule, Rule::Verified(verification) if verification.fails_open())
    }

    /// Reads the allow-list again, if there is one. The old one stays where that fails. Who is no
    /// longer on it is cut off at once, or where verifiers are asked too, by the next re-check.
    ///
    /// # Errors
    ///
    /// [`ListError`], naming file and line.
    pub fn reload(&self) -> Result<(), ListError> {
        match &self.rule {
            Rule::Listed(list) => {
                list.reload()?;
                self.cut_off_unlisted(list);
                Ok(())
            }
            Rule::Verified(verification) => verification.list().map_or(Ok(()), AllowList::reload),
            Rule::Nobody | Rule::Everybody => Ok(()),
        }
    }

    /// Says whether the node `key`, connected from `source`, may enter. On a tokio runtime only.
    pub async fn decide(&self, key: &NodePublic, source: IpAddr) -> Decision {
        // Before anybody is asked: an answer from before a revocation is then known as such.
        let ticket = lock(&self.revocations).ticket();
        let (outcome, tailnet) = match &self.rule {
            Rule::Nobody => (Outcome::Denied, None),
            Rule::Everybody => (Outcome::Allowed, None),
            Rule::Listed(list) if list.contains(key) => (Outcome::Allowed, None),
            Rule::Listed(_) => (Outcome::Denied, None),
            Rule::Verified(verification) => verification.decide(key, source).await,
        };
        self.counters.decisions.add_one(outcome);
        let (reason, why) = match outcome {
            Outcome::Allowed | Outcome::LastKnownGood | Outcome::FailedOpen => {
                return Decision::Admit(Admission { tailnet, ticket });
            }
            Outcome::Denied => ("denied", self.why_denied()),
            Outcome::Unavailable => {
                ("unavailable", "no verifier answers, and its node was not let in lately")
            }
        };
        self.log.refused(key, source, why);
        Decision::Refuse(reason)
    }

    /// To be told when a client that was admitted has been handed over: if its key was revoked
    /// since it was decided about, it is cut off.
    pub fn entered(&self, key: &NodePublic, admission: &Admission) {
        if lock(&self.revocations).since(admission.ticket, key) {
            self.close(key);
        }
    }

    /// Ends the access of a node: cuts all its connections, also those whose login is under way,
    /// and remembers no answer about it. Does not keep it out: when it comes again, the verifiers
    /// are asked, and if none answers it is refused. Never blocks; from any thread.
    pub fn revoke(&self, key: &NodePublic) {
        if let Rule::Verified(verification) = &self.rule {
            // First, so that who takes a ticket after the next step joins no old question.
            verification.forget(key);
        }
        lock(&self.revocations).add(key);
        if let Rule::Verified(verification) = &self.rule {
            verification.revoke(key);
        }
        self.cut(key, CutOff::Revoked);
    }

    /// Makes the next login of a node ask, whatever was answered lately. While no verifier answers
    /// it enters as before. Its connections stay. Never blocks; from any thread.
    pub fn forget(&self, key: &NodePublic) {
        if let Rule::Verified(verification) = &self.rule {
            verification.forget(key);
        }
    }

    /// Asks about all connected nodes again, soon and at the pace of re-checks, and makes every
    /// login ask, whatever was answered lately. While no verifier answers nobody is cut off for
    /// that. Never blocks; from any thread.
    pub fn check_all(&self) {
        if let Rule::Verified(verification) = &self.rule {
            verification.forget_all();
            self.check_wanted.notify_one();
        }
    }

    /// Begins to watch over `connections`: re-checks, the file of known nodes, sums in the log.
    /// Runs on the current tokio runtime, until that ends; the first call counts.
    pub(crate) fn oversee(self: &Arc<Self>, connections: impl Connections) {
        let connections: Arc<dyn Connections> = Arc::new(connections);
        if self.connections.set(Arc::clone(&connections)).is_err() {
            return;
        }
        if let Rule::Verified(verification) = &self.rule {
            tokio::spawn(Arc::clone(verification).keep_file());
            tokio::spawn(re_check::run(
                Arc::clone(self),
                Arc::clone(verification),
                Arc::clone(&connections),
            ));
            tokio::spawn(re_check::run_when_asked(
                Arc::clone(self),
                Arc::clone(verification),
                connections,
            ));
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                sleep(TICK).await;
                this.log.tick();
                // Who logged in by the old list just when a new one was read.
                if let Rule::Listed(list) = &this.rule {
                    this.cut_off_unlisted(list);
                }
            }
        });
    }

    /// Writes and tells what is still to be written and told. To be called at the end; blocks.
    pub(crate) fn end(&self) {
        self.log.end();
        if let Rule::Verified(verification) = &self.rule {
            verification.save();
        }
    }

    /// Takes the outcome of a re-check.
    fn re_checked(&self, key: &NodePublic, outcome: Outcome) {
        self.counters.re_checks.add_one(outcome);
        let cause = match outcome {
            Outcome::Allowed | Outcome::LastKnownGood | Outcome::FailedOpen => return,
            Outcome::Denied => CutOff::Denied,
            Outcome::Unavailable => CutOff::GraceOver,
        };
        lock(&self.revocations).add(key);
        self.cut(key, cause);
    }

    fn cut_off_unlisted(&self, list: &AllowList) {
        let Some(connections) = self.connections.get() else { return };
        for part in 0..connections.parts() {
            let keys = connections.keys(part).into_iter().filter(|key| !list.contains(key));
            for key in keys {
                self.cut(&key, CutOff::Unlisted);
            }
        }
    }

    fn cut(&self, key: &NodePublic, cause: CutOff) {
        self.close(key);
        self.counters.cut_offs.add_one(cause);
        self.log.cut_off(key, cause);
    }

    fn close(&self, key: &NodePublic) {
        // Nobody is connected before somebody watches over it.
        if let Some(connections) = self.connections.get() {
            connections.close(&[*key]);
        }
    }

    const fn why_denied(&self) -> &'static str {
        match self.rule {
            Rule::Nobody => "nobody may enter this relay",
            Rule::Listed(_) => "its node is not on the allow-list",
            Rule::Everybody | Rule::Verified(_) => "the verifiers do not know its node",
        }
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("counters", &self.counters).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
