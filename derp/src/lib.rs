//! The DERP protocol without a socket.
//!
//! DERP relays small encrypted packets between nodes that cannot reach each other directly.
//! This crate is all of it that needs no operating system:
//!
//! ```text
//! bytes -> frame::decode -> session::on_frame -> route -> queue::offer -> gather -> bytes
//!                                                           ^
//!                        pongs, PeerGone, keep-alives ------+
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`key`] | node keys, their text forms and key files |
//! | [`frame`] | frame kinds, limits per kind, framing |
//! | [`login`] | both sides of the exchange before the first packet |
//! | [`client`] | a client's session after it, for probes, load and tests |
//! | [`map`] | the DERP map that tells clients where relays are, and its only renderer |
//! | [`time`] | time as an argument |
//!
//! It never opens a socket, reads a clock, draws a random number, starts a thread or logs;
//! all of that comes in as an argument and goes out as a return value. Requirements and their
//! sources: `docs/protocol/derp.md`. The way of a packet: `docs/architecture.md`.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::expect_used))]

pub mod client;
pub mod counters;
pub mod drop_reason;
pub mod frame;
pub mod hash;
pub mod id;
mod json;
pub mod key;
pub mod limiter;
pub mod limits;
pub mod login;
pub mod map;
pub mod presence;
pub mod queue;
pub mod registry;
pub mod route;
pub mod session;
pub mod shard;
#[cfg(feature = "sim")]
pub mod sim;
pub mod time;
pub mod timer;
