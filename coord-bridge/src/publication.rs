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
//! | [`compose`] | one map out of regions of ours and of others; pure |
//! | [`health`] | which nodes of ours are in; pure |
//! | `probing` | a node tried as its clients would |
//! | [`upstream`] | somebody else's map, fetched and read |
//! | [`copy`] | its last good form on disk |
//! | [`embedded`] | the collision with Headscale's embedded relay |
//! | [`status`] | how all of this is doing |
//!
//! Does: publishes before anything was probed or fetched, and again at each change. Whatever
//! fails, the map that is published stays.
//! Does not: serve it; that is `http`.

pub mod compose;
pub mod copy;
pub mod embedded;
pub mod health;
mod probing;
pub mod status;
pub mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use derp::key::{KEY_LEN, NodePrivate, NodePublic};
use derp::map::{DerpMap, Node, Region};
use derp_relay::probe::Authorities;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::compose::{Upstream, compose};
use self::copy::Copy;
use self::embedded::{Collision, EmbeddedSettings};
use self::health::{Book, Move, Probed};
use self::probing::Prober;
use self::status::{NodeStatus, Status, UpstreamStatus};
use self::upstream::{UpstreamError, UpstreamSettings};
use crate::map_file::{self, WriteError};
use crate::published::{Edition, Format, Published};
use crate::relays::LiveNode;

pub use self::probing::{MAX_PROBES, PROBE_TIME};

/// Time between two rounds of probes unless told otherwise.
pub const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(15);

/// Shortest time between two rounds that relays bring about by coming and going.
const LEAST_PAUSE: Duration = Duration::from_millis(200);

/// Longest time until a fetch that failed is tried again.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(60);

/// By how much intervals vary, so that bridges do not come all at once: a part of this many.
const JITTER_PART: u32 = 5;

/// Relays that have registered and are heard of, as whoever registers them tells it.
pub type Live = watch::Receiver<Arc<Vec<LiveNode>>>;

/// What is to be published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Regions as configured, with their nodes. Without faults, and without the others empty.
    pub map: DerpMap,
    /// Regions for which only names are configured: they appear with their first live relay.
    pub named: Vec<Region>,
    /// Time between two rounds of probes; without it none is probed, and heartbeats are believed.
    pub probe_interval: Option<Duration>,
    /// Other people's maps, the first one winning.
    pub upstreams: Vec<UpstreamSettings>,
    /// Where Headscale's embedded relay is looked for.
    pub embedded: EmbeddedSettings,
    /// Folder for copies of other people's maps; without it none are kept.
    pub state_dir: Option<PathBuf>,
}

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

#[derive(Debug)]
struct State {
    plan: Arc<Plan>,
    book: Book,
    /// By [`UpstreamSettings::name`].
    upstreams: BTreeMap<String, Known>,
    collision: Option<Collision>,
    config_file_error: Option<String>,
    file_error: Option<String>,
    confirmed: Instant,
    changed: Instant,
    changes: u64,
}

/// What is known of one upstream.
#[derive(Clone, Debug, Default)]
struct Known {
    map: Option<DerpMap>,
    fetched: Option<SystemTime>,
    last_error: Option<String>,
    failures: u64,
    overridden: Vec<u64>,
    taken: usize,
}

impl Plan {
    /// Regions as configured, with and without nodes.
    fn regions(&self) -> Vec<Region> {
        self.map.regions.values().chain(&self.named).cloned().collect()
    }
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
        let now = Instant::now();
        let mut state = State {
            plan: Arc::clone(&plan),
            book: Book::default(),
            upstreams: BTreeMap::new(),
            collision: None,
            config_file_error: None,
            file_error: None,
            confirmed: now,
            changed: now,
            changes: 0,
        };
        let heard = live.as_ref().map(|live| Arc::clone(&live.borrow())).unwrap_or_default();
        state.adopt(plan, &heard, now);
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

    /// Publishes `plan` from now on, in the file first. Nodes and upstreams that stay keep what is
    /// known of them. Blocks on the disk.
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
        match self.publish(&mut state) {
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
            if let Some(live) = &mut live {
                live.mark_unchanged();
            }
            self.round().await;
            let mut pause = std::pin::pin!(next_round(plan.probe_interval));
            tokio::select! {
                () = pause.as_mut() => {}
                changed = plans.changed() => if changed.is_err() { return },
                () = changed(&mut live) => tokio::time::sleep(LEAST_PAUSE).await,
            }
        }
    }

    /// One round: everybody is tried, then all is decided.
    async fn round(self: &Arc<Self>) {
        self.change(|state, heard, now| {
            let plan = Arc::clone(&state.plan);
            state.book.set(&plan.regions(), heard, plan.probe_interval.is_some(), now)
        })
        .await;
        let nodes: Vec<Node> = self.state().book.to_probe();
        if nodes.is_empty() {
            return;
        }
        let round: Vec<(Node, Probed)> = self.prober.round(nodes).await;
        self.change(move |state, _, now| state.book.judge(&round, now)).await;
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
            let ours = self.own_ids();
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

    fn own_ids(&self) -> BTreeSet<u64> {
        let state = self.state();
        let members = state.book.members();
        let configured = state.plan.map.regions.keys().copied();
        configured.chain(members.iter().map(|member| member.region_id)).collect()
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
            // It has said why, and the next change tries again.
            drop(publisher.publish(&mut state));
        });
        if let Err(error) = work.await
            && error.is_panic()
        {
            tracing::error!(%error, "a change of the map ended by a fault of ours");
        }
    }

    /// Publishes what is known now. The same map changes nothing, and writes the file only where
    /// that does not hold it any more.
    fn publish(&self, state: &mut State) -> Result<Change, WriteError> {
        let map = state.compose();
        let published = self.published.edition();
        let same = map == *published.map();
        let edition = if same { published } else { Arc::new(Edition::new(map)) };
        let sound = edition.map().validate();
        let written = match (&sound, &self.map_file) {
            (Ok(()), Some(path)) => {
                map_file::write(path, &edition.rendering(Format::Yaml).bytes).map(|_| ())
            }
            (Ok(()), None) | (Err(_), _) => Ok(()),
        };
        if let Err(fault) = sound {
            // Cannot be: every part was checked. Whatever it is, clients keep what they have.
            tracing::error!(%fault, "the map would be faulty; the old one stays");
        } else if let Err(error) = &written {
            let words = error.to_string();
            if state.file_error.as_ref() != Some(&words) {
                tracing::error!(%error, "the map stays as it was");
                state.file_error = Some(words);
            }
        } else {
            let now = Instant::now();
            (state.confirmed, state.file_error) = (now, None);
            if !same {
                (state.changed, state.changes) = (now, state.changes + 1);
                self.published.replace(edition);
            }
        }
        self.published.set_findings(state.file_error.is_some(), state.collision.as_ref());
        self.status.store(Arc::new(state.picture()));
        written.map(|()| if same { Change::Same } else { Change::Replaced })
    }

    fn heard(&self) -> Arc<Vec<LiveNode>> {
        self.live.as_ref().map(|live| Arc::clone(&live.borrow())).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes over a plan, with what lies on the disk for upstreams that are new in it.
    fn adopt(&mut self, plan: Arc<Plan>, heard: &[LiveNode], now: Instant) -> Vec<Move> {
        let probing = plan.probe_interval.is_some();
        let moves = self.book.set(&plan.regions(), heard, probing, now);
        let mut old = std::mem::take(&mut self.upstreams);
        for settings in &plan.upstreams {
            let name = settings.name();
            let known = old.remove(&name).unwrap_or_else(|| from_disk(&plan, settings));
            self.upstreams.insert(name, known);
        }
        self.plan = plan;
        moves
    }

    fn receive(&mut self, settings: &UpstreamSettings, fetched: Result<DerpMap, UpstreamError>) {
        let name = settings.name();
        // The plan may have changed under the fetch.
        let Some(known) = self.upstreams.get_mut(&name) else { return };
        match fetched {
            Ok(map) => {
                if known.last_error.take().is_some() {
                    tracing::info!(upstream = name, "the map of others is there again");
                }
                let fetched = SystemTime::now();
                known.fetched = Some(fetched);
                known.map = Some(map.clone());
                if let Some(folder) = &self.plan.state_dir {
                    let path = copy::path(folder, &name);
                    if let Err(error) = copy::write(&path, &Copy { map, fetched }) {
                        tracing::warn!(%error, path = %path.display(), "no copy of the map of others is kept");
                    }
                }
            }
            Err(error) => {
                known.failures += 1;
                let words = error.to_string();
                if known.last_error.as_ref() != Some(&words) {
                    let kept = if known.map.is_some() {
                        "the last good map stays"
                    } else {
                        "there is no map of it"
                    };
                    tracing::warn!(upstream = name, %error, "{kept}");
                    known.last_error = Some(words);
                }
            }
        }
    }

    fn collide(&mut self, collision: Option<Collision>, error: Option<String>) {
        if self.collision != collision {
            match &collision {
                Some(collision) => tracing::error!("{collision}"),
                None => tracing::info!("Headscale's embedded relay is out of the way"),
            }
            self.collision = collision;
        }
        if self.config_file_error != error {
            if let Some(error) = &error {
                tracing::warn!("{error}");
            }
            self.config_file_error = error;
        }
    }

    fn compose(&mut self) -> DerpMap {
        let choices: Vec<_> = self
            .plan
            .upstreams
            .iter()
            .filter_map(|it| Some((it.name(), &it.choice, self.upstreams.get(&it.name())?)))
            .filter_map(|(name, choice, known)| Some((name, choice, known.map.as_ref()?)))
            .collect();
        let upstreams: Vec<_> =
            choices.iter().map(|(_, choice, map)| Upstream { map, choice }).collect();
        let composed = compose(&self.plan.regions(), &self.book.members(), &upstreams);
        let names: Vec<String> = choices.into_iter().map(|(name, _, _)| name).collect();
        let found = names.into_iter().zip(composed.overridden).zip(composed.taken);
        for ((name, overridden), taken) in found {
            let Some(known) = self.upstreams.get_mut(&name) else { continue };
            if known.overridden != overridden && !overridden.is_empty() {
                tracing::warn!(upstream = name, ids = ?overridden, "regions of others are left out: there are such already");
            }
            (known.overridden, known.taken) = (overridden, taken);
        }
        composed.map
    }

    fn picture(&self) -> Status {
        let nodes = self.book.entries().iter().map(|it| NodeStatus {
            region: it.member.region_id,
            node: it.member.node.clone(),
            configured: it.configured,
            live: it.live,
            is_in: it.is_in,
            is_kept: it.is_kept(),
            since: it.since,
            last_probe: it.last.clone(),
        });
        let upstreams = self.plan.upstreams.iter().map(|settings| {
            let known = self.upstreams.get(&settings.name()).cloned().unwrap_or_default();
            UpstreamStatus {
                name: settings.name(),
                fetched: known.fetched,
                regions: known.taken,
                overridden: known.overridden,
                last_error: known.last_error,
                failures: known.failures,
            }
        });
        Status {
            confirmed: self.confirmed,
            changed: self.changed,
            changes: self.changes,
            nodes: nodes.collect(),
            upstreams: upstreams.collect(),
            collision: self.collision.clone(),
            file_error: self.file_error.clone(),
        }
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

/// The last good copy, or else the file that came with the configuration.
fn from_disk(plan: &Plan, settings: &UpstreamSettings) -> Known {
    let name = settings.name();
    if let Some(folder) = &plan.state_dir {
        let path = copy::path(folder, &name);
        match copy::read(&path) {
            Ok(Some(copy)) => {
                return Known {
                    map: Some(copy.map),
                    fetched: Some(copy.fetched),
                    ..Known::default()
                };
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(upstream = name, path = %path.display(), %error, "the copy of the map of others is not used");
            }
        }
    }
    match settings.read_file() {
        Some(Ok(map)) => Known { map: Some(map), ..Known::default() },
        Some(Err(error)) => {
            tracing::warn!(upstream = name, %error, "the file of the map of others is not used");
            Known::default()
        }
        None => Known::default(),
    }
}

fn log(moves: &[Move]) {
    for it in moves {
        let (node, region, why) = (&it.node, it.region, &it.why);
        if it.is_in {
            tracing::info!(node, region, why, "a node is in the map");
        } else {
            tracing::warn!(node, region, why, "a node is out of the map");
        }
    }
}

async fn next_round(interval: Option<Duration>) {
    match interval {
        Some(interval) => tokio::time::sleep(vary(interval)).await,
        None => std::future::pending().await,
    }
}

/// Waits until relays come or go; for ever, if none ever can.
async fn changed(live: &mut Option<Live>) {
    if let Some(live) = live
        && live.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
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
