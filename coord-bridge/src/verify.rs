//! The verify front: whether a node may use a relay, by the node lists of Headscale.
//!
//! ```text
//! relay --POST /verify--> http::verify -> front -> rosters <-- look, every 25 s or on demand
//!                                                    ^  |        <- GET nodes <- Headscale
//!                                             forget |  `-- gone --> relays::journal --> relays
//!                                                    `-- deleted through a bridge --'
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `front` | one answer, and the wait for it |
//! | `rosters` | what all Headscales have listed |
//! | `roster` | what one has listed |
//! | `doubt` | which loss of nodes is believed |
//! | `look` | asking one Headscale for its nodes, for ever |
//! | `counters` | how that went, in numbers |
//! | [`limits`] | how long, how often, how many |
//!
//! Does: answers from memory for nodes that are listed; looks once more, for all who ask together,
//! for those that are not; finds nodes that are gone, and has relays told.
//! Does not: ask Headscale's own `/verify`, speak HTTP, or keep a list over a restart.
//!
//! Reasons: docs/decisions/0054 to 0057.

mod counters;
mod doubt;
mod front;
pub mod limits;
mod look;
mod roster;
mod rosters;

use std::sync::Arc;
use std::time::Duration;

pub use counters::{Counters, Refusal};
pub(crate) use doubt::{Doubt, Weighed};
pub use front::{Front, HeadscaleSnapshot, Snapshot, Verdict};
pub use rosters::Rosters;

use crate::headscale::Headscale;
use crate::relays::Relays;

/// What is behind the listener that relays reach.
#[derive(Clone, Debug)]
pub struct Verify {
    /// Who may enter.
    pub front: Arc<Front>,
    /// What relays say and hear.
    pub relays: Arc<Relays>,
}

/// How strictly and how often the front looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Nodes whose own key has expired may not enter.
    pub refuse_expired: bool,
    /// Age of a list up to which it is believed while Headscale gives no newer one.
    pub max_age: Duration,
}

/// One Headscale that is looked at.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, for people.
    pub name: String,
    /// The way to it.
    pub headscale: Arc<dyn Headscale>,
    /// Time between two looks.
    pub interval: Duration,
}
