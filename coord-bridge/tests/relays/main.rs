//! Relays and the bridge: real relays, the real program, and a Headscale that can be away. Spec:
//! docs/protocol/relay-channel.md.
//!
//! | module | holds |
//! |---|---|
//! | `cutting` | nodes that are gone lose their connections, and do not come back |
//! | `front` | what `/verify` answers, and what it costs Headscale |
//! | `embedded` | the relay in the bridge's own process |
//! | `check` | what the doctor says of all of these |
//! | `channel` | registration and events, line by line |
//! | `renewal` | a relay whose certificate gets another pin |
//! | `several` | two bridges on one PostgreSQL store |
//! | `bench`, `tailnet` | all of these together; the Headscale |
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod bench;
mod channel;
mod check;
#[path = "../bridge/client.rs"]
mod client;
mod cutting;
mod embedded;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../headscale/fake.rs"]
mod fake;
mod front;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../../../derp/relay/tests/support/peer.rs"]
mod peer;
#[path = "../provisioning/postgres_server.rs"]
mod postgres_server;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../bridge/program.rs"]
mod program;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../admin/receiver.rs"]
mod receiver;
mod renewal;
mod several;
mod tailnet;
#[path = "../../../derp/relay/tests/support/trust.rs"]
mod trust;
