//! What goes on while the bridge runs: nodes are probed, maps of others fetched, Headscale and
//! the disk looked at.
//!
//! Does: does each again and again at its own pace, and takes what came of it into the state.
//! Does not: write the map's file, or wait for whoever does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use derp::map::{DerpMap, Node};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::copy::{self, Copy};
use super::health::Probed;
use super::state::State;
use super::upstream::{UpstreamError, UpstreamSettings};
use super::writer::DISK_TIME;
use super::{Live, Publisher, embedded};
use crate::relays::LiveNode;

/// Shortest time between two rounds that relays bring about by coming and going: one that does
/// nothing else costs the others a login a second.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// Longest time until a fetch that failed is tried again.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(60);

/// Time between two looks at whether the disk is late: it is told about so much later.
const DISK_LOOK_TIME: Duration = Duration::from_secs(1);

/// By how much intervals vary, so that bridges do not come all at once: a part of this many.
const JITTER_PART: u32 = 5;

impl Publisher {
    pub(super) async fn watch_nodes(self: Arc<Self>) {
        let mut plans = self.plans.subscribe();
        let mut live = self.live.clone();
        loop {
            let plan = Arc::clone(&plans.borrow_and_update());
            let heard = live.as_mut().map(|live| Arc::clone(&live.borrow_and_update()));
            self.round().await;
            let mut pause = std::pin::pin!(next_round(plan.probe_interval));
            tokio::select! {
                () = pause.as_mut() => {}
                changed = plans.changed() => if changed.is_err() { return },
                () = changed(&mut live, heard.as_deref()) => sleep(LEAST_PAUSE).await,
            }
        }
    }

    /// One round: everybody is tried, then all is decided.
    async fn round(&self) {
        self.change(State::hear);
        let nodes: Vec<Node> = self.state().book.to_probe();
        if nodes.is_empty() {
            return;
        }
        let round: Vec<(Node, Probed)> = self.prober.round(nodes).await;
        self.change(|state, _, now| state.judge(&round, now));
    }

    pub(super) async fn watch_upstreams(self: Arc<Self>) {
        let mut plans = self.plans.subscribe();
        loop {
            let plan = Arc::clone(&plans.borrow_and_update());
            let mut tasks = JoinSet::new();
            for settings in &plan.upstreams {
                tasks.spawn(Arc::clone(&self).watch_upstream(settings.clone()));
            }
            // The tasks of the old plan end with their set.
            if plans.changed().await.is_err() {
                return;
            }
        }
    }

    async fn watch_upstream(self: Arc<Self>, settings: UpstreamSettings) {
        let mut failures = 0;
        loop {
            let fetched = settings.fetch().await;
            failures = if fetched.is_ok() { 0 } else { failures + 1 };
            self.receive(&settings, fetched).await;
            let pause = match failures {
                0 => settings.interval,
                // 1 s, 2 s, 4 s and so on.
                _ => {
                    let pause = Duration::from_secs(1 << failures.min(16) >> 1);
                    pause.min(MAX_RETRY_PAUSE).min(settings.interval)
                }
            };
            sleep(vary(pause)).await;
        }
    }

    async fn receive(&self, settings: &UpstreamSettings, fetched: Result<DerpMap, UpstreamError>) {
        let mut to_keep = None;
        self.change(|state, _, _| {
            to_keep = state.receive(settings, fetched);
            Vec::new()
        });
        // Published already: a disk that hangs must not keep the map from anybody.
        let Some((path, copy)) = to_keep else { return };
        let error = self.keep_copy(path, copy).await;
        self.change(|state, _, _| {
            state.keep(settings, error);
            Vec::new()
        });
    }

    /// Why the copy is not kept, in words. Waits for the disk a bounded time, and takes one thread
    /// at most, whatever hangs.
    async fn keep_copy(&self, path: PathBuf, copy: Copy) -> Option<String> {
        let late = || Some(format!("the disk has not taken {} in time", path.display()));
        let turn = Arc::clone(&self.copying).acquire_owned();
        let Ok(Ok(place)) = timeout(DISK_TIME, turn).await else { return late() };
        let to = path.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            copy::write(&to, &copy)
        });
        match timeout(DISK_TIME, work).await {
            Ok(Ok(written)) => written.err().map(|error| format!("{}: {error}", path.display())),
            Ok(Err(_)) => Some("keeping it ended by a fault of ours".to_owned()),
            Err(_) => late(),
        }
    }

    pub(super) async fn watch_embedded(self: Arc<Self>) {
        let mut plans = self.plans.subscribe();
        loop {
            let plan = Arc::clone(&plans.borrow_and_update());
            let ours = self.state().own_ids();
            let (collision, error) = embedded::look(&plan.embedded, &ours).await;
            let error = error.map(|error| error.to_string());
            self.change(|state, _, _| {
                state.collide(collision, error);
                Vec::new()
            });
            tokio::select! {
                () = sleep(vary(embedded::LOOK_INTERVAL)) => {}
                changed = plans.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Says so when the disk takes long. What it is asked for, `writer` waits for.
    pub(super) async fn watch_disk(self: Arc<Self>) {
        let mut was_late = false;
        loop {
            sleep(DISK_LOOK_TIME).await;
            let state = self.state();
            let now = Instant::now();
            let is_late = state.is_disk_late(now);
            if is_late != was_late {
                self.show(&state, now);
            }
            drop(state);
            if is_late && !was_late {
                tracing::error!("the disk does not take the map; the old one stays meanwhile");
            }
            was_late = is_late;
        }
    }
}

async fn next_round(interval: Option<Duration>) {
    match interval {
        Some(interval) => sleep(vary(interval)).await,
        None => std::future::pending().await,
    }
}

/// Waits until other relays are there than `heard`; for ever, if none ever can. Heartbeats that
/// say the same are nothing.
async fn changed(live: &mut Option<Live>, heard: Option<&Vec<LiveNode>>) {
    if let Some(live) = live {
        while live.changed().await.is_ok() {
            if Some(&**live.borrow_and_update()) != heard {
                return;
            }
        }
    }
    std::future::pending::<()>().await;
}

/// `pause`, a little more or less.
fn vary(pause: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without randomness nothing varies, and all else goes on.
    if getrandom::fill(&mut bytes).is_err() {
        return pause;
    }
    let share = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
    pause - pause / (2 * JITTER_PART) + (pause / JITTER_PART).mul_f64(share)
}
