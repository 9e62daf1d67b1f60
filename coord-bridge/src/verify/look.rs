//! Asking one Headscale for its nodes, for ever.
//!
//! Does: looks every now and then, sooner when somebody wants to know or a loss is doubted, and
//! never more often than once a second; says which nodes are gone.
//! Does not: decide about a node, or take silence for an empty list.

use std::sync::Arc;

use derp::key::NodePublic;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::limits::{DOUBT_INTERVAL, LOOK_GAP, LOOK_TIME};
use super::roster::Taken;
use super::{Counters, Rosters, Source};
use crate::headscale::{Failure, FailureKind, Node};
use crate::provisioning::clock::Clock;
use crate::relays::Journal;

/// Looks at one Headscale.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) source: Source,
    /// Its place among the rosters.
    pub(super) place: usize,
    pub(super) rosters: Arc<Rosters>,
    pub(super) journal: Arc<Journal>,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Arc<dyn Clock>,
    /// Somebody wants to know now.
    pub(super) wanted: Arc<Notify>,
    /// What the last look failed by, for people.
    pub(super) failure: Arc<std::sync::Mutex<Option<String>>>,
}

impl Look {
    /// Looks for ever.
    pub(super) async fn run(self) {
        let mut fails = false;
        loop {
            let began = Instant::now();
            let taken = self.once(&mut fails).await;
            let pause = if taken.doubted.is_some() {
                self.source.interval.min(DOUBT_INTERVAL)
            } else {
                self.source.interval
            };
            // Either is a reason to look again.
            drop(timeout_at(began + pause, self.wanted.notified()).await);
            sleep_until(began + LOOK_GAP).await;
        }
    }

    async fn once(&self, fails: &mut bool) -> Taken {
        let began = self.clock.elapsed();
        let looked = self.nodes().await;
        let (nodes, failure) = match looked {
            Ok(nodes) => (Some(nodes), None),
            Err(failure) => (None, Some(failure)),
        };
        let taken = self.rosters.take(self.place, nodes.as_deref(), began, self.clock.now());
        self.note(nodes.as_deref(), failure, &taken, fails);
        self.tell(&taken.gone).await;
        taken
    }

    async fn nodes(&self) -> Result<Vec<Node>, Failure> {
        match timeout(LOOK_TIME, self.source.headscale.nodes()).await {
            Ok(looked) => looked,
            Err(_) => Err(Failure {
                kind: FailureKind::Unreachable,
                detail: format!("no list within {} s", LOOK_TIME.as_secs()),
            }),
        }
    }

    /// Counts a look, and logs it where something has changed.
    fn note(
        &self,
        nodes: Option<&[Node]>,
        failure: Option<Failure>,
        taken: &Taken,
        fails: &mut bool,
    ) {
        let headscale = &self.source.name;
        if let Some(nodes) = nodes {
            self.counters.looks.add_one();
            if std::mem::take(fails) {
                tracing::info!(headscale, nodes = nodes.len(), "Headscale lists its nodes again");
            }
        }
        if let Some(failure) = &failure {
            self.counters.failed_looks.add_one();
            if !std::mem::replace(fails, true) {
                tracing::warn!(
                    headscale,
                    %failure,
                    "the nodes of Headscale cannot be listed: new nodes cannot be admitted"
                );
            }
        }
        match taken.doubted.filter(|_| taken.begins_to_doubt) {
            // So is a new tailnet.
            Some(0) => tracing::info!(
                headscale,
                "Headscale lists no node: nobody is refused for that unless it stays so"
            ),
            Some(lost) => tracing::warn!(
                headscale,
                lost,
                listed = nodes.map_or(0, <[Node]>::len),
                "Headscale lacks most of its nodes at once: none is cut off unless it stays so"
            ),
            None => {}
        }
        let mut last = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *last = failure.map(|failure| failure.kind.to_string());
    }

    async fn tell(&self, gone: &[NodePublic]) {
        if gone.is_empty() {
            return;
        }
        let headscale = &self.source.name;
        tracing::info!(headscale, nodes = gone.len(), "nodes are gone; relays are told");
        for _ in gone {
            self.counters.gone.add_one();
        }
        self.journal.close(gone).await;
    }
}
