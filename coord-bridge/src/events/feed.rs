//! What is new for one outlet.
//!
//! Does: reads events behind a position, leaves out what is not wanted, hands the rest over, and
//! moves the position on when that is done and not before; stays some time behind another bridge
//! that leads.
//! Does not: know how they are handed over; that is `Outlet`.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use derp_relay::counter::{CounterBy, Label};

use super::Leadership;
use super::position::PositionFile;
use super::trail::Trail;
use super::webhook::Pace;
use crate::provisioning::clock::{millis, span};
use crate::store::events::{self, Event};
use crate::store::{Store, StoreError};

/// Most events that are read at once; 200 bytes each.
const BATCH: i64 = 256;

/// Pause after a store or a disk that does not work.
const FAULT_PAUSE: Duration = Duration::from_secs(5);

/// An outlet that runs for ever.
pub(super) type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where events go.
pub(super) trait Outlet: Send {
    /// Most events that it takes at once.
    const AT_ONCE: usize;

    /// Hands `events` over. Comes back when that is done, or will never be.
    fn deliver(&mut self, events: &[Event]) -> impl Future<Output = ()> + Send;
}

/// What others may know of an outlet.
#[derive(Debug)]
pub struct Channel {
    name: String,
    /// Events, by what became of them.
    pub deliveries: CounterBy<Delivery>,
    /// `None` until it is known.
    position: Mutex<Option<String>>,
    /// `None` unless the last attempt failed.
    fault: Mutex<Option<String>>,
    leadership: Leadership,
}

/// What became of an event, or of an attempt to hand it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It was taken.
    Delivered,
    /// An attempt failed; another follows.
    Failed,
    /// The last attempt failed: it is not handed over.
    GivenUp,
}

/// What is new for one outlet.
pub(super) struct Feed {
    channel: Arc<Channel>,
    store: Store,
    file: PositionFile,
    /// Kinds, and kinds with outcome; all if there are none.
    filter: Vec<String>,
    pace: Pace,
    trail: Trail,
}

/// Why a turn was not done.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the position of an outlet cannot be kept: {0}")]
    Position(#[from] io::Error),
}

impl Feed {
    pub(super) fn new(
        channel: &Arc<Channel>,
        store: &Store,
        folder: &Path,
        filter: Vec<String>,
        pace: Pace,
    ) -> Self {
        Self {
            channel: Arc::clone(channel),
            store: store.clone(),
            file: PositionFile::new(folder, &channel.name),
            filter,
            pace,
            trail: Trail::new(pace.takeover),
        }
    }

    /// Hands over what comes, for ever.
    pub(super) async fn run<O: Outlet>(mut self, mut outlet: O) {
        let mut failed = false;
        loop {
            if std::mem::take(&mut failed) {
                // What the last turn has failed by. An attempt in this one tells its own.
                self.channel.set_fault(None);
            }
            let pause = match self.turn(&mut outlet).await {
                Ok(true) => continue,
                Ok(false) => self.pace.poll,
                Err(error) => {
                    tracing::warn!(outlet = self.channel.name, %error, "events wait");
                    self.channel.set_fault(Some(&error));
                    failed = true;
                    FAULT_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Hands over what is there. Says whether there may be more.
    async fn turn<O: Outlet>(&mut self, outlet: &mut O) -> Result<bool, TurnError> {
        let position = match self.channel.position() {
            Some(position) => position,
            None => self.begin().await?,
        };
        if !self.channel.leadership.may_lead() {
            // A bridge that is alone and does not lead yet has nobody to follow.
            if self.channel.leadership.has_rival() {
                self.follow(&position).await?;
            }
            return Ok(false);
        }
        self.trail.clear();
        let from = position.clone();
        let found = self.store.read(move |session| events::after(session, &from, BATCH)).await?;
        let wanted: Vec<Event> =
            found.iter().filter(|event| is_wanted(event, &self.filter)).cloned().collect();
        for events in wanted.chunks(O::AT_ONCE) {
            // What is under way is left to whoever leads now: it begins some time before.
            tokio::select! {
                () = outlet.deliver(events) => {}
                () = self.channel.leadership.lost() => return Ok(false),
            }
            if let Some(last) = events.last() {
                self.move_to(&last.id).await?;
            }
        }
        if let Some(last) = found.last() {
            self.move_to(&last.id).await?;
        }
        Ok(!found.is_empty())
    }

    /// Where it was. Without that: where the lead would be taken over, if another bridge has it,
    /// or else the last event that there is; what was before is no news.
    async fn begin(&self) -> Result<String, TurnError> {
        let file = self.file.clone();
        let kept = blocking(move || file.read()).await.unwrap_or_else(|error| {
            tracing::error!(outlet = self.channel.name, %error, "begins with what is new now");
            None
        });
        if let Some(position) = kept {
            self.channel.set_position(&position);
            return Ok(position);
        }
        let takeover_ms = millis(SystemTime::now()).saturating_sub(span(self.pace.takeover));
        let leadership = self.channel.leadership.clone();
        let start = self.store.read(move |session| {
            if leadership.is_elsewhere(session)? {
                events::last_id_before(session, takeover_ms)
            } else {
                events::last_id(session)
            }
        });
        let start = start.await?.unwrap_or_default();
        self.keep(&start).await?;
        Ok(start)
    }

    /// Stays some time behind whoever leads.
    async fn follow(&mut self, position: &str) -> Result<(), TurnError> {
        if self.trail.is_due(Instant::now()) {
            let last = self.store.read(events::last_id).await?.unwrap_or_default();
            self.trail.mark(Instant::now(), last);
        }
        match self.trail.reached(Instant::now()) {
            Some(old) if old.as_str() > position => self.move_to(&old).await,
            Some(_) | None => Ok(()),
        }
    }

    async fn move_to(&self, id: &str) -> Result<(), TurnError> {
        if self.channel.position().as_deref() == Some(id) {
            return Ok(());
        }
        self.keep(id).await
    }

    async fn keep(&self, id: &str) -> Result<(), TurnError> {
        // What was handed over is not handed over again while the process lives, whatever the
        // disk says.
        self.channel.set_position(id);
        let (file, id) = (self.file.clone(), id.to_owned());
        Ok(blocking(move || file.write(&id)).await?)
    }
}

impl Channel {
    pub(super) fn new(name: &str, leadership: &Leadership) -> Self {
        Self {
            name: name.to_owned(),
            deliveries: CounterBy::default(),
            position: Mutex::default(),
            fault: Mutex::default(),
            leadership: leadership.clone(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the last event that it has dealt with; `None` before it has looked.
    #[must_use]
    pub fn position(&self) -> Option<String> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why it is not further, if the last attempt failed, without URL and secret.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this bridge hands events over by it, and no other does.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.leadership.may_lead()
    }

    pub(super) fn set_fault(&self, fault: Option<&dyn Display>) {
        let fault = fault.map(ToString::to_string);
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn set_position(&self, id: &str) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
    }
}

impl Label for Delivery {
    const ALL: &'static [Self] = &[Self::Delivered, Self::Failed, Self::GivenUp];

    fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
        }
    }
}

/// Does `work`, which waits for the disk, where that holds up nothing else.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Whether `filter` names the kind of `event`, or kind and outcome, or nothing at all.
fn is_wanted(event: &Event, filter: &[String]) -> bool {
    filter.is_empty()
        || filter.iter().any(|wanted| match wanted.split_once('.') {
            None => *wanted == event.kind,
            Some((kind, outcome)) => kind == event.kind && outcome == event.outcome,
        })
}
