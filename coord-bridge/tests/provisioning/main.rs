//! The store and the registration of machines, with a Headscale in memory that can fail in every
//! way, on SQLite and, where it is installed, on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod bench;
mod crashes;
mod headscale;
mod postgres_server;
mod registration;
mod store;
