//! What is published, kept up to date while the bridge runs.
//!
//! ```text
//! configuration ---------+
//! live relays -> probing -> health -+
//! upstreams --> copy (disk) --------+-> compose -> map_file, published
//! Headscale --> embedded: collision -> /ready
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`accord`] | the same map at several bridges |
//! | [`compose`] | one map out of regions of ours and of others; pure |
//! | [`health`] | which nodes of ours are in; pure |
//! | [`Plan`] | what an operator wants to be published |
//! | `probing` | a node tried as its clients would |
//! | [`upstream`] | somebody else's map, fetched and read |
//! | [`copy`] | its last good form on disk |
//! | [`embedded`] | the collision with Headscale's embedded relay |
//! | `state` | all that is known, and the map that follows |
//! | [`status`] | how all of this is doing |
//!
//! Does: publishes before anything was probed or fetched, and again at each change. Whatever
//! fails, the map that is published stays.
//! Does not: serve it; that is `http`.

pub mod accord;
pub mod compose;
pub mod copy;
pub mod embedded;
pub mod health;
mod plan;
pub(crate) mod probing;
mod state;
pub mod status;
pub mod upstream;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use derp::key::{KEY_LEN, NodePrivate, NodePublic};
use derp::map::{DerpMap, Node};
use derp_relay::probe::Authorities;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::accord::Verdicts;
use self::health::{Move, Probed, Turn};
use self::probing::Prober;
use self::state::State;
use self::status::Status;
use self::upstream::{UpstreamError, UpstreamSettings};
use crate::map_file::{self, WriteError};
use crate::published::{Edition, Format, Published};
use crate::relays::LiveNode;

pub use self::plan::Plan;
pub use self::probing::{MAX_PROBES, PROBE_TIME};

/// Time between two rounds of probes unless told otherwise.
pub const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(15);

/// Shortest time between two rounds that relays bring about by coming and going: one that does
/// nothing else costs the others a login a second.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// Longest time until a fetch that failed is tried again.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(60);

/// By how much intervals vary, so that bridges do not come all at once: a part of this many.
const JITTER_PART: u32 = 5;

/// Relays that have registered and are heard of, as whoever registers them tells it.
pub type Live = watch::Receiver<Arc<Vec<LiveNode>>>;

/// What publishing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The map is another one than before.
    Replaced,
    /// It is the same map.
    Same,
}

/// Keeps what is published up to date.
#[derive(Debug)]
pub struct Publisher {
    published: Arc<Published>,
    map_file: Option<PathBuf>,
    live: Option<Live>,
    prober: Prober,
    state: Mutex<State>,
    status: ArcSwap<Status>,
    plans: watch::Sender<Arc<Plan>>,
}

impl Publisher {
    /// Publishes what `plan` says and what lies on the disk, in the file first. Probes and fetches
    /// nothing yet: that is [`Publisher::run`]. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError`] for the map's file.
    pub fn start(
        plan: Plan,
        live: Option<Live>,
        map_file: Option<PathBuf>,
        key: NodePrivate,
    ) -> Result<Arc<Self>, WriteError> {
        let plan = Arc::new(plan);
        let heard = live.as_ref().map(|live| Arc::clone(&live.borrow())).unwrap_or_default();
        let mut state = State::new(plan, &heard, Instant::now());
        let edition = Edition::new(state.compose());
        if let Some(path) = &map_file {
            map_file::write(path, &edition.rendering(Format::Yaml).bytes)?;
        }
        let status = ArcSwap::from_pointee(state.picture());
        let plans = watch::Sender::new(Arc::clone(&state.plan));
        let authorities = Authorities::of_system();
        let places = Arc::new(Semaphore::new(MAX_PROBES));
        Ok(Arc::new(Self {
            published: Arc::new(Published::new(edition)),
            map_file,
            live,
            prober: Prober { key, authorities, places },
            state: Mutex::new(state),
            status,
            plans,
        }))
    }

    /// What is published.
    #[must_use]
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// How it is doing. Costs a pointer; may be called anywhere.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.status.load_full()
    }

    /// The key that probes log in with: whoever answers for the tailnet may let it in, so that
    /// probes see a whole login.
    #[must_use]
    pub fn probe_key(&self) -> NodePublic {
        self.prober.key.public()
    }

    /// Publishes `plan` from now on, in the file first, which is written also where the map is the
    /// same and the file does not hold it. Nodes and upstreams that stay keep what is known of
    /// them. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the old plan then stays, and the old map everywhere.
    pub fn adopt(&self, plan: Plan) -> Result<Change, WriteError> {
        let plan = Arc::new(plan);
        let mut state = self.state();
        let (old_plan, old_book) = (Arc::clone(&state.plan), state.book.clone());
        let old_upstreams = state.upstreams.clone();
        let moves = state.adopt(Arc::clone(&plan), &self.heard(), Instant::now());
        match self.publish(&mut state, true) {
            Ok(change) => {
                log(&moves);
                self.published.accept_reload();
                self.plans.send_replace(plan);
                Ok(change)
            }
            Err(error) => {
                (state.plan, state.book, state.upstreams) = (old_plan, old_book, old_upstreams);
                self.status.store(Arc::new(state.picture()));
                self.published.refuse_reload();
                Err(error)
            }
        }
    }

    /// Which nodes are in, by what this bridge has found.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        self.state().book.verdicts()
    }

    /// Publishes from now on what another bridge has found of nodes that both know; with nothing
    /// found, what this one has.
    pub async fn follow(self: &Arc<Self>, verdicts: Verdicts) {
        if self.state().book.follows(&verdicts) {
            return;
        }
        self.change(move |state, _, _| {
            state.book.follow(verdicts);
            Vec::new()
        })
        .await;
    }

    /// Probes, fetches and looks, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let upstreams = Arc::clone(&self);
        let embedded = Arc::clone(&self);
        tokio::join!(self.watch_nodes(), upstreams.watch_upstreams(), embedded.watch_embedded());
    }

    async fn watch_nodes(self: Arc<Self>) {
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
                () = changed(&mut live, heard.as_deref()) => tokio::time::sleep(LEAST_PAUSE).await,
            }
        }
    }

    /// One round: everybody is tried, then all is decided.
    async fn round(self: &Arc<Self>) {
        self.change(State::hear).await;
        let nodes: Vec<Node> = self.state().book.to_probe();
        if nodes.is_empty() {
            return;
        }
        let round: Vec<(Node, Probed)> = self.prober.round(nodes).await;
        self.change(move |state, _, now| state.judge(&round, now)).await;
    }

    async fn watch_upstreams(self: Arc<Self>) {
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
            self.receive(settings.clone(), fetched).await;
            let pause = match failures {
                0 => settings.interval,
                // 1 s, 2 s, 4 s and so on.
                _ => {
                    let pause = Duration::from_secs(1 << failures.min(16) >> 1);
                    pause.min(MAX_RETRY_PAUSE).min(settings.interval)
                }
            };
            tokio::time::sleep(vary(pause)).await;
        }
    }

    async fn receive(
        self: &Arc<Self>,
        settings: UpstreamSettings,
        fetched: Result<DerpMap, UpstreamError>,
    ) {
        self.change(move |state, _, _| {
            state.receive(&settings, fetched);
            Vec::new()
        })
        .await;
    }

    async fn watch_embedded(self: Arc<Self>) {
        let mut plans = self.plans.subscribe();
        loop {
            let plan = Arc::clone(&plans.borrow_and_update());
            let ours = self.state().own_ids();
            let (collision, error) = embedded::look(&plan.embedded, &ours).await;
            let error = error.map(|error| error.to_string());
            self.change(move |state, _, _| {
                state.collide(collision, error);
                Vec::new()
            })
            .await;
            tokio::select! {
                () = tokio::time::sleep(vary(embedded::LOOK_INTERVAL)) => {}
                changed = plans.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Changes what is known, and publishes what follows, on a thread that may wait for the disk.
    async fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State, &[LiveNode], Instant) -> Vec<Move> + Send + 'static,
    ) {
        let publisher = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let mut state = publisher.state();
            let moves = change(&mut state, &publisher.heard(), Instant::now());
            log(&moves);
            let known = state.file_error.clone();
            // The next change tries again.
            if let Err(error) = publisher.publish(&mut state, false)
                && known != state.file_error
            {
                tracing::error!(%error, "the map stays as it was");
            }
        });
        if let Err(error) = work.await
            && error.is_panic()
        {
            tracing::error!(%error, "a change of the map ended by a fault of ours");
        }
    }

    /// Publishes what is known now. The same map is written only where `always` says so, or where
    /// an earlier write has failed.
    fn publish(&self, state: &mut State, always: bool) -> Result<Change, WriteError> {
        let published = self.published.edition();
        let map = state.compose();
        let is_same = map == *published.map();
        let done = if let Err(fault) = map.validate() {
            // Cannot be: every part was checked. Whatever it is, clients keep what they have.
            tracing::error!(%fault, "the map would be faulty; the old one stays");
            Ok(Change::Same)
        } else {
            let edition = if is_same { published } else { Arc::new(Edition::new(map)) };
            let must_write = always || !is_same || state.file_error.is_some();
            let file = self.map_file.as_ref().filter(|_| must_write);
            let yaml = &edition.rendering(Format::Yaml).bytes;
            match file.map_or(Ok(false), |path| map_file::write(path, yaml)) {
                Ok(_) => {
                    state.confirm(!is_same, Instant::now());
                    self.published.replace(edition);
                    Ok(if is_same { Change::Same } else { Change::Replaced })
                }
                Err(error) => {
                    state.file_error = Some(error.to_string());
                    Err(error)
                }
            }
        };
        self.published.set_findings(state.file_error.is_some(), state.collision.as_ref());
        self.status.store(Arc::new(state.picture()));
        done
    }

    fn heard(&self) -> Arc<Vec<LiveNode>> {
        self.live.as_ref().map(|live| Arc::clone(&live.borrow())).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fresh key for probes: what a relay has seen of an earlier process is nobody's business.
///
/// # Errors
///
/// The system has no randomness.
pub fn new_probe_key() -> std::io::Result<NodePrivate> {
    let mut bytes = [0; KEY_LEN];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(NodePrivate::from_random(bytes))
}

fn log(moves: &[Move]) {
    for it in moves {
        let (node, region, why) = (&it.node, it.region, &it.why);
        match it.turn {
            Turn::In => tracing::info!(node, region, why, "a node is in the map"),
            Turn::Out => tracing::warn!(node, region, why, "a node is out of the map"),
            Turn::Kept => tracing::warn!(
                node,
                region,
                why,
                "a node stays in the map only because no other is known to work"
            ),
            Turn::Refused => {
                tracing::warn!(node, region, why, "a relay that has registered is not taken");
            }
        }
    }
}

async fn next_round(interval: Option<Duration>) {
    match interval {
        Some(interval) => tokio::time::sleep(vary(interval)).await,
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
