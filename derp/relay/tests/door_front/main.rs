//! The front door over real sockets, on both loopback addresses: accept to hand-over.
//!
//! | module | holds |
//! |---|---|
//! | `tls` | handshakes, good and bad |
//! | `http` | what is answered to requests |
//! | `leaving` | how a connection leaves HTTP, with every byte |
//! | `login` | logins, good and bad |
//! | `limits` | floods, deadlines, garbage |
//! | `relay`, `client`, `shard` | the three parties: the door under test, and both ends of a test |
//! | `trust`, `uninterrupted` | shared with the other tests |
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod client;
mod http;
mod leaving;
mod limits;
mod login;
mod relay;
mod shard;
mod tls;
#[path = "../support/trust.rs"]
mod trust;
#[path = "../support/uninterrupted.rs"]
mod uninterrupted;
