//! Who may use the relay.
//!
//! Does: answers yes or no for a client whose key is proved, and counts the answers.
//! Does not: know sockets or DERP, or let anybody in because something failed, unless the
//! operator has said so. Asked by `door::login`, once per connection.
//!
//! Spec: docs/protocol/derp.md, section 8.

mod allow_list;
mod verifier;

use std::net::IpAddr;
use std::sync::Arc;

use derp::key::NodePublic;

use crate::config::AccessConfig;
use crate::counter::{CounterBy, label};

use allow_list::AllowList;
pub use allow_list::ListError;
use verifier::{Answer, Verifier};
pub use verifier::{MAX_ANSWER_LEN, SetupError};

/// The answer for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The client may enter.
    Admit,
    /// The client may not enter; the reason is a word for a metric label and the log.
    Refuse(&'static str),
}

label! {
    /// What came of asking.
    Outcome {
        /// Everybody may enter, or the list or the verifier says this one may.
        Allowed = "allowed",
        /// The list or the verifier says that this one may not.
        Denied = "denied",
        /// The verifier cannot be reached or does not make sense: refused.
        Unavailable = "unavailable",
        /// The same, and the operator lets everybody in then.
        FailedOpen = "failed_open",
    }
}

/// What came of all questions.
pub type Counters = CounterBy<Outcome>;

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
#[derive(Debug)]
pub struct Access {
    rule: Rule,
    counters: Arc<Counters>,
}

#[derive(Debug)]
enum Rule {
    Nobody,
    Everybody,
    Listed(AllowList),
    Verified { verifier: Box<Verifier>, fail_open: bool },
}

impl Access {
    /// Reads what `config` names. Asks nobody yet: a verifier may come up later than the relay.
    ///
    /// # Errors
    ///
    /// [`AccessError`], naming the file or URL.
    pub fn new(config: AccessConfig) -> Result<Self, AccessError> {
        let rule = match config {
            AccessConfig::Nobody => Rule::Nobody,
            AccessConfig::Open => Rule::Everybody,
            AccessConfig::AllowList { file } => Rule::Listed(AllowList::load(file)?),
            AccessConfig::Verify { url, fail_open, ca_file } => {
                let verifier = Box::new(Verifier::new(&url, ca_file.as_deref())?);
                Rule::Verified { verifier, fail_open }
            }
        };
        Ok(Self { rule, counters: Arc::default() })
    }

    /// What came of all questions.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Whether everybody may enter while nobody can say who may.
    #[must_use]
    pub fn fails_open(&self) -> bool {
        matches!(self.rule, Rule::Verified { fail_open: true, .. })
    }

    /// Reads the allow-list again, if there is one. The old one stays where that fails.
    ///
    /// # Errors
    ///
    /// [`ListError`], naming file and line.
    pub fn reload(&self) -> Result<(), ListError> {
        match &self.rule {
            Rule::Listed(list) => list.reload(),
            Rule::Nobody | Rule::Everybody | Rule::Verified { .. } => Ok(()),
        }
    }

    /// Says whether the node `key`, connected from `source`, may enter.
    pub async fn decide(&self, key: &NodePublic, source: IpAddr) -> Decision {
        let outcome = match &self.rule {
            Rule::Nobody => Outcome::Denied,
            Rule::Everybody => Outcome::Allowed,
            Rule::Listed(list) if list.contains(key) => Outcome::Allowed,
            Rule::Listed(_) => Outcome::Denied,
            Rule::Verified { verifier, fail_open } => match verifier.ask(key, source).await {
                Answer::Allow => Outcome::Allowed,
                Answer::Deny => Outcome::Denied,
                Answer::Unavailable if *fail_open => Outcome::FailedOpen,
                Answer::Unavailable => Outcome::Unavailable,
            },
        };
        self.counters.add_one(outcome);
        match outcome {
            Outcome::Allowed | Outcome::FailedOpen => Decision::Admit,
            Outcome::Denied => Decision::Refuse("denied"),
            Outcome::Unavailable => Decision::Refuse("unavailable"),
        }
    }
}
