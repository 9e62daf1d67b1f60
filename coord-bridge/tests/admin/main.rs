//! The listener of administrators, the events that leave the bridge, and the metrics: with real
//! sockets and a Headscale in memory.
//!
//! After a wanted change of the API: `BLESS=1 cargo test -p coord-bridge --test admin`, and read
//! the difference of `docs/api/openapi.json`.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod access;
#[path = "../provisioning/bench.rs"]
#[expect(dead_code, reason = "the tests of registration use all of it")]
mod bench;
mod browser;
#[path = "../bridge/client.rs"]
mod client;
mod docs;
mod events;
#[path = "../provisioning/headscale.rs"]
#[expect(dead_code, reason = "the tests of registration use all of it")]
mod headscale;
mod hostile;
mod list_time;
mod metrics;
mod openapi;
mod operations;
mod overview;
mod page;
mod pages;
mod receiver;
mod running;
mod sessions;
mod takeover;
mod webhooks;

/// What the client of the other tests wants to know.
mod program {
    /// Time for anything to happen that has to.
    pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
}
