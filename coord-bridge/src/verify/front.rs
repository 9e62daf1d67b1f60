//! One answer about one node, and the wait for it.
//!
//! Does: answers at once for who is listed; lets everybody who asks about others wait for one look
//! together; tells an outage from a no.
//! Does not: look by itself.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use derp::key::NodePublic;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::limits::ANSWER_TIME;
use super::look::Look;
use super::rosters::Word;
use super::{Counters, Rosters, Source};
use crate::provisioning::clock::Clock;
use crate::relays::Journal;

/// What the front says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may enter.
    Allow,
    /// It may not.
    Deny,
    /// Nobody can say.
    Unavailable,
}

/// The verify front.
pub struct Front {
    sources: Vec<Source>,
    rosters: Arc<Rosters>,
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
    wanted: Vec<Arc<Notify>>,
    failures: Vec<Arc<Mutex<Option<String>>>>,
}

/// The front as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Questions answered with yes.
    pub allowed: u64,
    /// With no.
    pub denied: u64,
    /// That nobody could answer.
    pub unavailable: u64,
    /// That were none.
    pub refused: u64,
    /// Nodes that were found to be gone.
    pub gone: u64,
    /// Each Headscale.
    pub headscales: Vec<HeadscaleSnapshot>,
}

/// One Headscale as the front knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadscaleSnapshot {
    /// Its name.
    pub name: String,
    /// Nodes that may enter.
    pub nodes: usize,
    /// Nodes that it lacks all at once, which is not believed yet.
    pub doubted: usize,
    /// Age of its last list; none if it never gave one.
    pub list_age: Option<Duration>,
    /// What the last look failed by, in words that strangers may read.
    pub failure: Option<String>,
}

impl Front {
    /// A front before these Headscales, which are asked nothing yet. `rosters` has as many seats,
    /// and is the one that `journal` forgets nodes in.
    #[must_use]
    pub fn new(
        sources: Vec<Source>,
        rosters: Arc<Rosters>,
        journal: Arc<Journal>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            wanted: sources.iter().map(|_| Arc::default()).collect(),
            failures: sources.iter().map(|_| Arc::default()).collect(),
            counters: Arc::default(),
            sources,
            rosters,
            journal,
            clock,
        })
    }

    /// Begins to look, on the current runtime, until that ends.
    pub fn watch(&self) {
        for (place, source) in self.sources.iter().enumerate() {
            let (Some(wanted), Some(failure)) = (self.wanted.get(place), self.failures.get(place))
            else {
                continue;
            };
            let look = Look {
                source: source.clone(),
                place,
                rosters: Arc::clone(&self.rosters),
                journal: Arc::clone(&self.journal),
                counters: Arc::clone(&self.counters),
                clock: Arc::clone(&self.clock),
                wanted: Arc::clone(wanted),
                failure: Arc::clone(failure),
            };
            tokio::spawn(look.run());
        }
    }

    /// Says whether a node may use a relay.
    pub async fn decide(&self, key: &NodePublic) -> Verdict {
        let verdict = self.judge(key).await;
        self.counters.answers.add_one(verdict);
        verdict
    }

    async fn judge(&self, key: &NodePublic) -> Verdict {
        let asked = self.clock.elapsed();
        let mut looked = self.rosters.looked();
        let mut wants = true;
        let found = async {
            loop {
                looked.mark_unchanged();
                let word = self.rosters.word(key, asked, self.clock.elapsed(), self.clock.now());
                if word != Word::Look {
                    return word;
                }
                if std::mem::take(&mut wants) {
                    self.wanted.iter().for_each(|wanted| wanted.notify_one());
                }
                if looked.changed().await.is_err() {
                    return Word::Nobody;
                }
            }
        };
        match timeout(ANSWER_TIME, found).await {
            Ok(Word::Known) => Verdict::Allow,
            Ok(Word::Denied) => Verdict::Deny,
            Ok(Word::Unknown) => {
                self.rosters.deny(key, self.clock.elapsed());
                Verdict::Deny
            }
            Ok(Word::Nobody | Word::Look) | Err(_) => Verdict::Unavailable,
        }
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What keeps it from answering for everybody; empty if nothing does. Strangers may read it.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        if self.sources.is_empty() {
            return vec!["there is no Headscale to ask".to_owned()];
        }
        let told = self.snapshot().headscales.into_iter();
        told.filter_map(|headscale| match (headscale.failure, headscale.list_age) {
            (Some(failure), _) => Some(format!("{}: {failure}", headscale.name)),
            (None, None) => Some(format!("{}: not asked yet", headscale.name)),
            (None, Some(_)) => None,
        })
        .collect()
    }

    /// The front as it stands. Cheap, from any thread.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = self.clock.elapsed();
        let states = self.rosters.states();
        let headscales = self.sources.iter().zip(states).zip(&self.failures);
        let answers = &self.counters.answers;
        Snapshot {
            allowed: answers.get(Verdict::Allow),
            denied: answers.get(Verdict::Deny),
            unavailable: answers.get(Verdict::Unavailable),
            refused: self.counters.refusals.total(),
            gone: self.counters.gone.get(),
            headscales: headscales
                .map(|((source, state), failure)| HeadscaleSnapshot {
                    name: source.name.clone(),
                    nodes: state.nodes,
                    doubted: state.doubted,
                    list_age: state.listed_at.map(|at| now.saturating_sub(at)),
                    failure: failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                })
                .collect(),
        }
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("sources", &self.sources).finish_non_exhaustive()
    }
}
