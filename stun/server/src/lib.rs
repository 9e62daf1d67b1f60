//! A STUN responder on UDP, in batches, for `derp-relay` and for hosts that do only STUN.
//!
//! ```text
//! socket -> Inbox::receive -> stun::binding::respond -> Outbox::push -> Outbox::send -> socket
//!           one recvmmsg       once per datagram                         one sendmmsg
//! ```
//!
//! One thread per core, and for every listen address one `SO_REUSEPORT` socket in every thread:
//! the kernel spreads clients over them by a hash of their address, and no thread ever waits
//! for another. A thread waits in `poll` for its sockets and for the one descriptor that means
//! stop; what has come then goes through the line above in batches.
//!
//! ```no_run
//! let server = stun_server::Server::builder()
//!     .listen("0.0.0.0:3478".parse()?)
//!     .listen("[::]:3478".parse()?)
//!     .start()?;
//! println!("{:?} {:?}", server.addresses(), server.counters());
//! server.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What this crate never does: allocate, lock or sleep on the way of a datagram, remember a
//! client, handle a signal, print, or keep global state; two servers can run in one process.
//! It runs on Linux only. All unsafe code is in `batch`.
//!
//! Spec: docs/protocol/stun.md, section 5. Who is answered is decided in the crate `stun`.

#[cfg(not(target_os = "linux"))]
compile_error!("stun-server needs Linux: recvmmsg, SO_REUSEPORT groups and IP_PKTINFO");

pub mod limits;
pub mod listen;
pub mod server;
pub mod tally;

mod batch;
mod control;
mod sockaddr;
mod wake;
mod worker;

pub use listen::BindError;
pub use server::{Builder, Running, Server, StartError};
pub use stun::binding::Rule;
pub use tally::Counters;
