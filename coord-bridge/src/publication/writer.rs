//! Who writes the map's file: one thread, for as long as there is a publisher.
//!
//! ```text
//! changes --nudge--> turn: compose -> write -> serve
//! a plan --submit------^                 `--- the only one who waits for the disk
//! ```
//!
//! Does: brings what is known into the file and before the clients, in this order, one map after
//! the other; a turn takes what is known when it begins, so of many changes only the last is
//! written. Tries again where the file could not be written.
//! Does not: hold a lock while it waits for the disk, or know why something has changed.
//!
//! Reasons: docs/decisions/0072.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SendError, SyncSender, TrySendError, sync_channel,
};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use derp::map::DerpMap;

use super::{Change, Plan, Publisher, log, state};
use crate::map_file::{MapFile, WriteError};
use crate::published::{Edition, Format};

/// Time that a disk has to take the map before it is told that it does not.
pub(super) const DISK_TIME: Duration = Duration::from_secs(5);

/// Longest time that whoever brings a plan waits for what comes of it: twice what a disk has,
/// since another write may be under way.
pub const ADOPT_TIME: Duration = Duration::from_secs(10);

/// Time until a file that could not be written is tried again, where nothing changes meanwhile.
const RETRY_TIME: Duration = Duration::from_secs(5);

/// Where work for the thread lies.
#[derive(Debug)]
pub(super) struct Desk {
    file: Option<MapFile>,
    /// The newest plan that is not published; an older one that nobody has taken is void.
    submission: Mutex<Option<Submission>>,
    nudges: SyncSender<()>,
}

#[derive(Debug)]
struct Submission {
    plan: Plan,
    answer: SyncSender<Result<Change, WriteError>>,
}

impl Desk {
    /// A desk, and what its thread listens to.
    pub(super) fn new(file: Option<MapFile>) -> (Self, Receiver<()>) {
        // One nudge that waits is as good as many: a turn takes all that is known.
        let (nudges, receiver) = sync_channel(1);
        (Self { file, submission: Mutex::default(), nudges }, receiver)
    }

    /// Something has changed.
    pub(super) fn nudge(&self) {
        match self.nudges.try_send(()) {
            // Full: a turn is to come. Closed: the thread has ended with the publisher.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }

    /// See [`Publisher::adopt`].
    pub(super) fn submit(&self, plan: Plan) -> Result<Change, WriteError> {
        let (answer, answers) = sync_channel(1);
        let submission = Submission { plan, answer };
        *self.submission.lock().unwrap_or_else(PoisonError::into_inner) = Some(submission);
        self.nudge();
        answers.recv_timeout(ADOPT_TIME).unwrap_or(Ok(Change::Waiting))
    }

    fn take(&self) -> Option<Submission> {
        self.submission.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Starts the thread. It ends with the publisher, once the disk lets it.
pub(super) fn start(publisher: Weak<Publisher>, nudges: Receiver<()>) -> io::Result<()> {
    thread::Builder::new()
        .name("map-writer".to_owned())
        .spawn(move || work(&publisher, &nudges))
        .map(drop)
}

fn work(publisher: &Weak<Publisher>, nudges: &Receiver<()>) {
    loop {
        match nudges.recv_timeout(RETRY_TIME) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => {
                let lacks_file = publisher.upgrade().is_some_and(|it| it.state().lacks_file());
                if !lacks_file {
                    continue;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(publisher) = publisher.upgrade() else { return };
        // What fails once by a fault of ours must not keep the next map from being written.
        if catch_unwind(AssertUnwindSafe(|| publisher.turn())).is_err() {
            tracing::error!("a change of the map ended by a fault of ours");
        }
    }
}

impl Publisher {
    fn turn(&self) {
        let Some(Submission { plan, answer }) = self.desk.take() else { return self.catch_up() };
        let done = self.take_over(Arc::new(plan));
        if let Err(SendError(done)) = answer.send(done) {
            match done {
                Ok(_) => tracing::info!("the map of the new configuration is published"),
                Err(error) => tracing::error!(%error, "the map stays as it was"),
            }
        }
        // Whatever has changed meanwhile.
        self.catch_up();
    }

    /// Publishes what is known now.
    fn catch_up(&self) {
        let (composed, lacks_file) = {
            let state = self.state();
            (state.compose(), state.lacks_file())
        };
        let written = self.write(composed.map, lacks_file);
        let mut state = self.state();
        state.note(composed.upstreams);
        match written {
            Ok(Some(edition)) => {
                self.serve(&mut state, edition);
            }
            Ok(None) => {}
            Err(error) => {
                if state.lack_file(error.to_string()) {
                    tracing::error!(%error, "the map stays as it was");
                }
            }
        }
        self.show(&state, Instant::now());
    }

    /// Publishes what follows from `plan`, and only then goes by it.
    fn take_over(&self, plan: Arc<Plan>) -> Result<Change, WriteError> {
        let unknown = self.state().unknown_of(&plan);
        let kept = state::from_disk(&plan, &unknown);
        let mut candidate = self.state().clone();
        // Told once it is so.
        drop(candidate.adopt(Arc::clone(&plan), &kept, &self.heard(), Instant::now()));
        let composed = candidate.compose();
        let written = self.write(composed.map, true);
        let mut state = self.state();
        let done = match written {
            Ok(edition) => {
                let heard = self.heard();
                let moves = state.adopt(Arc::clone(&plan), &kept, &heard, Instant::now());
                state.note(composed.upstreams);
                log(&moves);
                let change = edition.map_or(Change::Same, |it| self.serve(&mut state, it));
                self.published.accept_reload();
                self.plans.send_replace(plan);
                Ok(change)
            }
            Err(error) => {
                state.lack_file(error.to_string());
                self.published.refuse_reload();
                Err(error)
            }
        };
        self.show(&state, Instant::now());
        done
    }

    /// Writes the map, if it is another one than the one that is published, or `always`. Blocks
    /// on the disk. `None` if no map can be made of it.
    fn write(&self, map: DerpMap, always: bool) -> Result<Option<Arc<Edition>>, WriteError> {
        if let Err(fault) = map.validate() {
            // Cannot be: every part was checked. Whatever it is, clients keep what they have.
            tracing::error!(%fault, "the map would be faulty; the old one stays");
            return Ok(None);
        }
        let published = self.published.edition();
        let is_same = map == *published.map();
        let edition = if is_same { published } else { Arc::new(Edition::new(map)) };
        if let Some(file) = self.desk.file.as_ref().filter(|_| always || !is_same) {
            self.state().write_since(Some(Instant::now()));
            let written = file.write(&edition.rendering(Format::Yaml).bytes);
            self.state().write_since(None);
            written?;
        }
        Ok(Some(edition))
    }

    /// Serves what is in the file.
    fn serve(&self, state: &mut state::State, edition: Arc<Edition>) -> Change {
        let is_same = Arc::ptr_eq(&edition, &self.published.edition());
        state.confirm(!is_same, Instant::now());
        self.published.replace(edition);
        if is_same { Change::Same } else { Change::Replaced }
    }
}
