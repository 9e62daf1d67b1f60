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
//! | `watches` | probing, fetching and looking, again and again |
//! | `writer` | the thread that writes the map's file, and waits for the disk |
//!
//! Does: publishes before anything was probed or fetched, and again at each change. Whatever
//! fails, the map that is published stays.
//! Does not: serve it; that is `http`. Nor does anybody who asks wait for a disk: see
//! docs/decisions/0072.

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
mod watches;
mod writer;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use derp::key::{KEY_LEN, NodePrivate, NodePublic};
use derp_relay::probe::Authorities;
use tokio::sync::{Semaphore, watch};

use self::accord::Verdicts;
use self::health::{Move, Turn};
use self::probing::Prober;
use self::state::State;
use self::status::Status;
use self::writer::Desk;
use crate::map_file::{MapFile, WriteError};
use crate::published::{Edition, Format, Published};
use crate::relays::LiveNode;

pub use self::plan::Plan;
pub use self::probing::{MAX_PROBES, PROBE_TIME};
pub use self::writer::ADOPT_TIME;

/// Time between two rounds of probes unless told otherwise.
pub const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(15);

/// Relays that have registered and are heard of, as whoever registers them tells it.
pub type Live = watch::Receiver<Arc<Vec<LiveNode>>>;

/// What publishing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The map is another one than before.
    Replaced,
    /// It is the same map.
    Same,
    /// The disk takes its time; what is to come of it is published, or told, when it is known.
    Waiting,
}

/// Why nothing can be published.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// The map's file.
    #[error(transparent)]
    File(#[from] WriteError),
    /// The system has no thread left.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Keeps what is published up to date.
#[derive(Debug)]
pub struct Publisher {
    published: Arc<Published>,
    live: Option<Live>,
    prober: Prober,
    /// Held for moments only, never over what waits.
    state: Mutex<State>,
    status: ArcSwap<Status>,
    plans: watch::Sender<Arc<Plan>>,
    desk: Desk,
    /// The one place for who keeps a copy of a map of others: a disk that hangs takes one thread.
    copying: Arc<Semaphore>,
}

impl Publisher {
    /// Publishes what `plan` says and what lies on the disk, in the file first. Probes and fetches
    /// nothing yet: that is [`Publisher::run`]. Blocks on the disk.
    ///
    /// Where the file cannot be written for want of room, and Headscale has a map all the same,
    /// the file is written later.
    ///
    /// # Errors
    ///
    /// [`PublicationError`].
    pub fn start(
        plan: Plan,
        live: Option<Live>,
        map_file: Option<MapFile>,
        key: NodePrivate,
    ) -> Result<Arc<Self>, PublicationError> {
        let plan = Arc::new(plan);
        let heard = live.as_ref().map(|live| Arc::clone(&live.borrow())).unwrap_or_default();
        let now = Instant::now();
        let mut state = State::new(plan, &heard, now);
        let composed = state.compose();
        state.note(composed.upstreams);
        let edition = Edition::new(composed.map);
        let written =
            map_file.as_ref().map(|it| (it, it.write(&edition.rendering(Format::Yaml).bytes)));
        if let Some((file, Err(error))) = written {
            if !(error.is_for_want_of_room() && file.leaves_a_map()) {
                return Err(error.into());
            }
            tracing::error!(%error, "the map is published, and written as soon as there is room");
            state.lack_file(error.to_string());
        }
        let published = Published::new(edition);
        published.set_findings(state.lacks_file(), None);
        let (desk, nudges) = Desk::new(map_file);
        let publisher = Arc::new(Self {
            published: Arc::new(published),
            live,
            prober: Prober {
                key,
                authorities: Authorities::of_system(),
                places: Arc::new(Semaphore::new(MAX_PROBES)),
            },
            status: ArcSwap::from_pointee(state.picture(now)),
            plans: watch::Sender::new(Arc::clone(&state.plan)),
            state: Mutex::new(state),
            desk,
            copying: Arc::new(Semaphore::new(1)),
        });
        writer::start(Arc::downgrade(&publisher), nudges)?;
        Ok(publisher)
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
    /// them. Blocks on the disk, for [`ADOPT_TIME`] at most.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; the old plan then stays, and the old map everywhere.
    pub fn adopt(&self, plan: Plan) -> Result<Change, WriteError> {
        self.desk.submit(plan)
    }

    /// Which nodes are in, by what this bridge has found.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        self.state().book.verdicts()
    }

    /// Publishes from now on what another bridge has found of nodes that both know; with nothing
    /// found, what this one has.
    pub fn follow(&self, verdicts: Verdicts) {
        if self.state().book.follows(&verdicts) {
            return;
        }
        self.change(|state, _, _| {
            state.book.follow(verdicts);
            Vec::new()
        });
    }

    /// Probes, fetches and looks, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let [upstreams, embedded, disk] = std::array::from_fn(|_| Arc::clone(&self));
        tokio::join!(
            self.watch_nodes(),
            upstreams.watch_upstreams(),
            embedded.watch_embedded(),
            disk.watch_disk(),
        );
    }

    /// Changes what is known; what follows is published when its turn to be written comes.
    fn change(&self, change: impl FnOnce(&mut State, &[LiveNode], Instant) -> Vec<Move>) {
        let moves = {
            let mut state = self.state();
            let now = Instant::now();
            let moves = change(&mut state, &self.heard(), now);
            self.show(&state, now);
            moves
        };
        log(&moves);
        self.desk.nudge();
    }

    /// Shows what is known to whoever asks.
    fn show(&self, state: &State, now: Instant) {
        let lacks_file = state.file_trouble(now).is_some();
        self.published.set_findings(lacks_file, state.collision.as_ref());
        self.status.store(Arc::new(state.picture(now)));
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
pub fn new_probe_key() -> io::Result<NodePrivate> {
    let mut bytes = [0; KEY_LEN];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
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
