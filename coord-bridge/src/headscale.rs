//! What the bridge asks of Headscale, and how.
//!
//! ```text
//! Headscale (trait) <- client -+-> breaker, limits      whether and how long
//!                              +-> adapter -> transport  requests out, as the release wants them
//!                              +-> answer, wire          answers in, as leniently as is safe
//! ```
//!
//! Does: names the calls, what they take and give, and how they fail; asks Headscale from 0.26
//! to 0.30, and finds out by itself which one it is.
//! Does not: touch Headscale's database, or store what it is told.
//!
//! Differences of the releases: `docs/headscale.md`.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use derp::key::NodePublic;
use derp_relay::tls::outgoing::TrustError;

use crate::config::{HeadscaleConfig, NoCredentials};

mod adapter;
mod answer;
mod api_key;
mod blame;
mod breaker;
mod client;
mod counters;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod limits;
pub(crate) mod transport;
mod wire;

pub use adapter::{Adapter, KeysBy};
pub(crate) use answer::one_line;
pub use breaker::BreakerState;
pub use client::Client;
pub use counters::{Counters, Outcome};
pub use limits::Limits;

/// The way to a Headscale, which is asked nothing yet: it may come up later, go away, and come
/// back as another release. Reads certificates where the URL is `https`.
///
/// # Errors
///
/// [`SetupError`].
pub fn connect(config: &HeadscaleConfig) -> Result<Arc<dyn Headscale>, SetupError> {
    Ok(Arc::new(Client::new(config, Limits::default())?))
}

/// What a call gives, sooner or later.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// One Headscale, whatever its release.
pub trait Headscale: Send + Sync + fmt::Debug {
    /// The user of this name, if there is one.
    fn user<'a>(&'a self, name: &'a str) -> Call<'a, Option<User>>;

    /// The user of this name, made if there is none.
    fn ensure_user<'a>(&'a self, name: &'a str) -> Call<'a, User>;

    /// Makes a pre-auth key. Never tried twice: whoever asks cannot know whether a lost answer
    /// left a key.
    fn create_key<'a>(&'a self, wanted: &'a NewKey) -> Call<'a, IssuedKey>;

    /// Ends the validity of a pre-auth key; one that is unknown or has ended is no failure.
    fn expire_key<'a>(&'a self, user: &'a UserId, key: &'a KeyId) -> Call<'a, ()>;

    /// The pre-auth keys of a user.
    fn keys<'a>(&'a self, user: &'a UserId) -> Call<'a, Vec<KeyRecord>>;

    /// All nodes.
    fn nodes(&self) -> Call<'_, Vec<Node>>;

    /// Deletes a node; one that is unknown is no failure.
    fn delete_node<'a>(&'a self, node: &'a NodeId) -> Call<'a, ()>;

    /// Logs a node out.
    fn expire_node<'a>(&'a self, node: &'a NodeId) -> Call<'a, ()>;

    /// Whether Headscale answers, knows the API key and reaches its database.
    fn check(&self) -> Call<'_, ()>;

    /// The client that asks, for its numbers; `None` where Headscale is asked in another way.
    fn client(&self) -> Option<&Client> {
        None
    }
}

/// A user's number, as Headscale writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserId(pub String);

/// A pre-auth key's number, as Headscale writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub String);

/// A node's number, as Headscale writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(pub String);

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub id: UserId,
    /// Its name.
    pub name: String,
}

/// A pre-auth key that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Its owner.
    pub user: UserId,
    /// The node goes when it has been offline for some time.
    pub ephemeral: bool,
    /// When it ends. Never left out: Headscale takes that for the year 1.
    pub expiration: SystemTime,
    /// Tags of the node, each `tag:name`.
    pub tags: Vec<String>,
}

/// A pre-auth key as it is made: the only time that it is shown.
pub struct IssuedKey {
    /// Its number.
    pub id: KeyId,
    /// The key. Never logged, never stored.
    pub secret: Secret,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A pre-auth key as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its number.
    pub id: KeyId,
    /// A node has registered with it.
    pub used: bool,
    /// When it ends or ended.
    pub expiration: Option<SystemTime>,
    /// When it was made.
    pub created: Option<SystemTime>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// As the machine calls itself.
    pub name: String,
    /// As the tailnet calls it.
    pub given_name: String,
    /// Its machine key, `mkey:…`, as Headscale writes it.
    pub machine_key: String,
    /// Its key, which the relay knows it by; `None` where it is not readable.
    pub node_key: Option<NodePublic>,
    /// Its addresses in the tailnet.
    pub addresses: Vec<IpAddr>,
    /// Name of its owner, if it has one.
    pub user: Option<String>,
    /// The pre-auth key that it registered with, as far as Headscale remembers.
    pub key: Option<KeyId>,
    /// Whether it is connected.
    pub online: bool,
    /// When it was last connected.
    pub last_seen: Option<SystemTime>,
    /// When its own key ends.
    pub expiry: Option<SystemTime>,
    /// Its tags.
    pub tags: Vec<String>,
}

/// Why a call failed, and whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// On one line, without secrets.
    pub detail: String,
}

/// Kinds of failure, by what an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// Nobody answers there, or not in time.
    Unreachable,
    /// Too many calls have failed; this one was not tried.
    Paused,
    /// Headscale does not take the API key.
    Unauthorized,
    /// Headscale refuses what was asked.
    Refused,
    /// Headscale has a fault of its own.
    Faulty,
    /// The answer is none of Headscale's.
    Unintelligible,
}

/// Why Headscale cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The API key is a credential, and there are none.
    #[error("headscale.api_key_file: {0}")]
    Credentials(#[from] NoCredentials),
    /// Its certificate could not be checked.
    #[error("headscale.{0}")]
    Trust(#[from] TrustError),
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "Headscale cannot be reached",
            Self::Paused => "Headscale has failed too often and is left alone for a moment",
            Self::Unauthorized => "Headscale refuses the API key",
            Self::Refused => "Headscale refuses",
            Self::Faulty => "Headscale fails",
            Self::Unintelligible => "what answers is not Headscale, or of an unknown release",
        })
    }
}

impl Node {
    /// Its address in the tailnet, the IPv4 one first; empty where it has none.
    #[must_use]
    pub fn first_address(&self) -> String {
        let v4 = self.addresses.iter().find(|address| address.is_ipv4());
        v4.or(self.addresses.first()).map(ToString::to_string).unwrap_or_default()
    }
}

impl Secret {
    /// Text that is not to be shown.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that it is meant for.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedKey").field("id", &self.id).finish_non_exhaustive()
    }
}
