//! The relay's end of the channel to a bridge.
//!
//! ```text
//! announcement --register--> bridge --id--> heartbeat, every 10 s
//!                                    `---> events: close KEY    -> Access::revoke
//!                                                  verify-changed -> Access::check_all
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`wire`] | what relay and bridge say to each other; the bridge reads and writes by it too |
//! | `announcement` | what the relay says of itself |
//! | `client` | requests, and the stream of events |
//! | `link` | one registration after the other, for ever |
//! | `counters` | how that went, in numbers |
//!
//! Does: tells a bridge where the relay is, and does what it says of nodes that are gone.
//! Does not: need a bridge. Without one, and with one that is dead, the relay goes on by itself:
//! connections stay, verifiers are asked, and re-checks go on.
//!
//! Runs in the front door's runtime, never on a shard. Spec: docs/protocol/relay-channel.md.

mod announcement;
mod client;
mod counters;
mod link;
pub mod wire;

pub(crate) use announcement::Announcement;
pub use client::SetupError;
pub use counters::{Counters, Kind};
pub(crate) use link::Link;

use crate::config::BridgeConfig;

/// Whether a relay with this configuration would start. Reads certificates, and asks nobody.
pub(crate) fn check(config: &BridgeConfig) -> Result<(), SetupError> {
    client::Client::new(config).map(drop)
}
