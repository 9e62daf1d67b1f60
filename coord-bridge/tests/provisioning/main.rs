//! The store and the registration of machines, with a Headscale in memory that can fail in every
//! way, on SQLite and, where it is installed, on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod administration;
mod bench;
#[path = "../bridge/client.rs"]
mod client;
mod commands;
mod crashes;
mod defects;
mod deletion;
mod enroll;
mod enroll_answers;
mod headscale;
mod http;
mod iso;
mod lease;
mod legacy;
mod limits;
mod postgres_server;
mod reconcile;
mod registration;
mod relay_events;
mod store;
mod tailnet_client;
mod unit;

/// What the client of the other tests wants to know.
mod program {
    /// Time for anything to happen that has to.
    pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
}
