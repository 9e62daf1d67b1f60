//! The DERP relay, as a library.
//!
//! ```text
//! accept -> TLS -> HTTP -> login -> access  ==handover==>  shard: read -> open -> frames ->
//! (front door: tokio, once per connection)                 route -> queue -> seal -> write
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`relay`] | a running relay, and how to start one: the way in for programs that embed it |
//! | [`config`] | what the relay is to do; every key, flag and variable |
//! | [`door`] | everything that happens to a connection once, before its packets |
//! | [`tls`] | TLS up to the hand-over |
//! | [`access`] | who may use the relay |
//! | [`bridge`] | the channel to a bridge, which knows of nodes that are gone |
//! | [`handover`] | what the front door gives a shard |
//! | `shard` | the packet threads: everything after that |
//! | [`identity`] | the relay's own key |
//! | [`counter`], [`metrics`] | how the door counts; what is counted, under which names |
//! | [`probe`] | tries a relay as a client would |
//! | `status` | `/metrics`, `/health`, `/ready` |
//! | [`socket`] | listening sockets and descriptors |
//! | `rare_log` | log lines that come once a minute at most |
//! | `memory` | how much memory the machine has for us |
//! | [`settings`] | durations, sizes and files of settings, for every program here |
//! | [`logging`] | log lines |
//! | [`cli`] | the commands of the program |
//!
//! The way of a packet, with all modules on it: `docs/architecture.md`.

pub mod access;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod counter;
pub mod door;
pub mod handover;
pub mod identity;
pub mod logging;
mod memory;
pub mod metrics;
pub mod probe;
mod rare_log;
pub mod relay;
mod secret_file;
pub mod settings;
mod shard;
pub mod socket;
mod status;
pub mod tls;

pub use config::{AccessConfig, BridgeConfig, Config, VerifyConfig, VerifyUrl};
pub use relay::Relay;
