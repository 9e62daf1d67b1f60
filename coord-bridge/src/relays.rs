//! The channel to relays: which there are, and what they have to hear.
//!
//! ```text
//! relay --register, heartbeat--> registry --live nodes--> publication of the map
//!       <--close, verify-changed-- stream <-- journal <-- store <-- deletions, in any process
//!                                                     <-- verify: nodes that are gone
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `registry` | relays that are there |
//! | `words` | what a relay says of itself |
//! | `journal` | numbered events, over the store |
//! | `stream` | the events of one relay |
//! | `shared` | relays of other bridges, over the store |
//! | [`limits`] | how long, how often, how many |
//!
//! Does: knows relays by their own word and for as long as they keep giving it; gets each event to
//! each of them, also to those that were away.
//! Does not: try whether a relay works; who publishes the map does that.
//!
//! Spec: docs/protocol/relay-channel.md.

mod journal;
pub mod limits;
mod registry;
mod shared;
mod stream;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use derp::key::NodePublic;
use derp::map::Node;
use derp_relay::bridge::wire::{Registered, Registration};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::headscale::Secret;
use crate::provisioning::clock::{Clock, millis};
use crate::provisioning::token_file::{self, TokenFileError, TokenHash};
use crate::store::Store;
use crate::verify::Rosters;

pub use journal::Journal;
use limits::{HEARTBEAT_TIME, TICK};
use registry::Registry;
pub(crate) use stream::Stream;
pub use words::RegistrationFault;

/// A relay that has registered itself and is heard of.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveNode {
    /// Id of its region.
    pub region_id: u64,
    /// Short name of its region, for where the configuration has none.
    pub region_code: String,
    /// Name of its region for people, for where the configuration has none.
    pub region_name: String,
    /// Where it is reached; its name is unique among all nodes.
    pub node: Node,
}

/// What is known of a relay.
#[derive(Clone, Debug, PartialEq)]
pub struct RelaySnapshot {
    /// Its id since it last registered.
    pub id: String,
    /// Its key.
    pub key: NodePublic,
    /// Its version.
    pub version: String,
    /// Where it is.
    pub live: LiveNode,
    /// When it first registered with this bridge, in ms since 1970.
    pub since_ms: i64,
    /// When it was last heard of, in ms since 1970.
    pub heard_ms: i64,
    /// Whether it is heard of.
    pub is_live: bool,
    /// Whether it follows the events.
    pub has_stream: bool,
    /// Number of the last event that was queued for it; it may not have read it yet.
    pub last_event: Option<u64>,
}

/// All relays, and what they are told.
#[derive(Debug)]
pub struct Relays {
    token_file: PathBuf,
    registry: Registry,
    /// Where other bridges find them, and this one after a restart.
    store: Option<Store>,
    journal: Arc<Journal>,
    rosters: Arc<Rosters>,
    clock: Arc<dyn Clock>,
}

/// Why somebody is no relay of ours.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// The token is none, or another one.
    #[error("unauthorized")]
    Unauthorized,
    /// The token cannot be compared with anything.
    #[error("the relay token cannot be read")]
    NoToken(#[source] Option<TokenFileError>),
}

impl Relays {
    /// No relays yet. What they show is compared with `token_file`; they are remembered in `store`.
    #[must_use]
    pub fn new(
        token_file: PathBuf,
        store: Option<Store>,
        journal: Arc<Journal>,
        rosters: Arc<Rosters>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let registry = Registry::default();
        Arc::new(Self { token_file, registry, store, journal, rosters, clock })
    }

    /// Makes the token if there is none.
    ///
    /// # Errors
    ///
    /// [`TokenFileError::File`].
    pub fn ensure_token(&self) -> Result<(), TokenFileError> {
        let path = &self.token_file;
        if token_file::ensure(path)? {
            tracing::info!(file = %path.display(), "made a token");
        } else if token_file::is_open_to_others(path) {
            tracing::warn!(file = %path.display(), "others may read the token; chmod 600");
        }
        Ok(())
    }

    /// Begins to hear of events and to miss relays, on the current runtime, until that ends.
    pub fn watch(self: &Arc<Self>) {
        tokio::spawn(Arc::clone(&self.journal).run());
        tokio::spawn(Arc::clone(self).share());
        let this = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                sleep(TICK).await;
                this.registry.tick(this.clock.elapsed());
            }
        });
    }

    /// The relays that are heard of, by name, as they come and go.
    #[must_use]
    pub fn live(&self) -> watch::Receiver<Arc<Vec<LiveNode>>> {
        self.registry.live()
    }

    /// What is known of each relay. Cheap, from any thread.
    #[must_use]
    pub fn snapshot(&self) -> Vec<RelaySnapshot> {
        self.registry.snapshot()
    }

    /// What relays are told.
    #[must_use]
    pub const fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Where the token is.
    #[must_use]
    pub fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// Whether `token` is the one in the file now.
    ///
    /// # Errors
    ///
    /// [`AuthenticationError`].
    pub(crate) async fn authenticate(
        &self,
        token: Option<&Secret>,
    ) -> Result<TokenHash, AuthenticationError> {
        let shown = TokenHash::of(token.ok_or(AuthenticationError::Unauthorized)?);
        self.recognize(&shown).await.map(|()| shown)
    }

    /// Whether the token with this hash is the one in the file now.
    pub(crate) async fn recognize(&self, shown: &TokenHash) -> Result<(), AuthenticationError> {
        let path = self.token_file.clone();
        let read = tokio::task::spawn_blocking(move || token_file::read(&path)).await;
        let wanted = match read {
            Ok(Ok(Some(token))) => TokenHash::of(&token),
            Ok(Ok(None)) | Err(_) => return Err(AuthenticationError::NoToken(None)),
            Ok(Err(error)) => return Err(AuthenticationError::NoToken(Some(error))),
        };
        if wanted.is(shown) { Ok(()) } else { Err(AuthenticationError::Unauthorized) }
    }

    /// Takes what a relay says of itself.
    ///
    /// # Errors
    ///
    /// [`RegistrationFault`].
    pub(crate) async fn register(
        &self,
        said: Registration,
    ) -> Result<Registered, RegistrationFault> {
        let (now, now_ms) = (self.clock.elapsed(), millis(self.clock.now()));
        let id = self.registry.register(said, now, now_ms)?;
        // Before it is answered: its stream may go to another bridge.
        self.save_soon().await;
        let seq = u64::try_from(self.journal.newest().await).unwrap_or_default();
        Ok(Registered { id, heartbeat_seconds: HEARTBEAT_TIME.as_secs(), seq })
    }

    /// Takes a heartbeat. Says whether the relay is known.
    pub(crate) async fn beat(&self, id: &str) -> bool {
        self.look_for(id).await;
        self.registry.beat(id, self.clock.elapsed(), millis(self.clock.now()))
    }
}
