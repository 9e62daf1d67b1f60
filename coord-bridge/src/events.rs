//! Events for others: a file of JSON lines, and webhooks.
//!
//! ```text
//! store (table events) --> feed, position --+-> file      one line per event
//!                                           +-> webhook   one signed request per event
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`feed`] | what is new since a position, and which of it is wanted |
//! | [`position`] | how far an outlet is, over restarts |
//! | `trail` | how far it follows an outlet of another bridge |
//! | [`file`](mod@file) | the outlet that writes lines |
//! | [`webhook`] | the outlet that sends requests |
//! | [`signature`] | how receivers know that a request is ours |
//!
//! Does: hands every event that is wanted to every outlet at least once, in the order in which
//! they were written; each outlet at its own pace, on threads of its own, so that a dead receiver
//! holds up nothing but itself. Does not: hand over what happened before an outlet first ran, but
//! for what a bridge that leads may still be trying.

pub mod feed;
pub mod file;
pub mod position;
pub mod signature;
mod trail;
pub mod webhook;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

pub use crate::lease::Leadership;
use crate::provisioning::timestamp;
use crate::store::Store;
use crate::store::events::Event;

use feed::{Channel, Feed};
use file::LinesFile;
use webhook::{Pace, SetupError, Webhook, WebhookConfig};

/// Most threads that wait for disk and DNS, per outlet: a name server that does not answer keeps
/// one for half a minute, and an attempt gives up before.
const BLOCKING_THREADS: usize = 4;

/// Where events go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsConfig {
    /// File of JSON lines.
    pub file: Option<PathBuf>,
    /// Requests.
    pub webhooks: Vec<WebhookConfig>,
    /// Folder of the positions.
    pub state_dir: PathBuf,
}

/// An event, as it is outside of the store.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Event")]
pub struct EventBody {
    /// Its id. Ids sort in the order in which events were written.
    pub id: String,
    /// When it happened, RFC 3339.
    pub time: String,
    /// What was wanted or found.
    pub kind: String,
    /// What came of it.
    pub outcome: String,
    /// Request that it belongs to.
    pub request_id: Option<String>,
    /// Registration that it is about.
    pub machine: Option<String>,
    /// Host name of the machine.
    pub hostname: Option<String>,
    /// Name of the token.
    pub token: Option<String>,
    /// Headscale's number of the key.
    pub key_id: Option<String>,
    /// Address of whoever asked.
    pub remote_ip: Option<String>,
}

/// Outlets that run. Dropping them stops them; what was not handed over yet is, after the next
/// start.
pub struct Outlets {
    channels: Vec<Arc<Channel>>,
    reopen: watch::Sender<()>,
    stop: watch::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Outlets {
    /// Runs the outlets of `config` on `store`; `None` if there are none.
    ///
    /// # Errors
    ///
    /// [`SetupError`], for the first that cannot be: nothing runs then.
    pub fn start(
        config: &EventsConfig,
        store: &Store,
        leadership: &Leadership,
        pace: Pace,
    ) -> Result<Option<Self>, SetupError> {
        let (reopen, reopened) = watch::channel(());
        let mut channels = Vec::new();
        let mut running: Vec<feed::Running> = Vec::new();
        if let Some(path) = &config.file {
            // Every bridge has a file of its own.
            let channel = Arc::new(Channel::new("file", &Leadership::all()));
            let feed = Feed::new(&channel, store, &config.state_dir, Vec::new(), pace);
            let file = LinesFile::new(path.clone(), Arc::clone(&channel), reopened);
            running.push(Box::pin(feed.run(file)));
            channels.push(channel);
        }
        for webhook in &config.webhooks {
            let channel = Arc::new(Channel::new(&webhook.name, leadership));
            let filter = webhook.events.clone();
            let feed = Feed::new(&channel, store, &config.state_dir, filter, pace);
            let outlet = Webhook::new(webhook, Arc::clone(&channel), pace)?;
            running.push(Box::pin(feed.run(outlet)));
            channels.push(channel);
        }
        if running.is_empty() {
            return Ok(None);
        }
        let (stop, stopped) = watch::channel(());
        let thread = run(running, stopped).map_err(SetupError::System)?;
        Ok(Some(Self { channels, reopen, stop, thread: Some(thread) }))
    }

    /// How far each outlet is, and what became of its events.
    #[must_use]
    pub fn channels(&self) -> &[Arc<Channel>] {
        &self.channels
    }

    /// Opens the file anew, which somebody may have moved away.
    pub fn reopen(&self) {
        self.reopen.send_replace(());
    }
}

/// Runs the outlets on a thread of their own until `stop` changes.
fn run(running: Vec<feed::Running>, mut stop: watch::Receiver<()>) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS * running.len())
        .enable_all()
        .build()?;
    std::thread::Builder::new().name("events".to_owned()).spawn(move || {
        runtime.block_on(async move {
            for outlet in running {
                tokio::spawn(outlet);
            }
            // An error is the end of whoever would say so.
            drop(stop.changed().await);
        });
        runtime.shutdown_background();
    })
}

impl Drop for Outlets {
    fn drop(&mut self) {
        self.stop.send_replace(());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of events ended by a fault of ours");
        }
    }
}

impl fmt::Debug for Outlets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlets").field("channels", &self.channels).finish_non_exhaustive()
    }
}

impl From<Event> for EventBody {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            time: timestamp::write(event.at_ms),
            kind: event.kind,
            outcome: event.outcome,
            request_id: event.request_id,
            machine: event.machine,
            hostname: event.hostname,
            token: event.token,
            key_id: event.key_id,
            remote_ip: event.remote_ip,
        }
    }
}
