//! The bridge as a program: real processes, real sockets, both address families.
//!
//! After a wanted change of a map: `BLESS=1 cargo test -p coord-bridge --test bridge`, and read
//! the difference.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod client;
mod config;
mod dev;
mod docs;
#[path = "../../../derp/relay/tests/support/documents.rs"]
mod documents;
mod full_disk;
mod hostile;
mod init;
mod map;
mod map_file;
mod namespace;
mod pages;
mod program;
#[path = "../../../derp/relay/tests/support/quiet.rs"]
mod quiet;
mod regions;
mod reload;
mod self_test;

/// Hosts to listen on: every test of a listener runs on both.
const HOSTS: [&str; 2] = ["127.0.0.1", "[::1]"];

/// A configuration that works, with any ports on `host`.
fn config_on(host: &str) -> String {
    format!(
        "map_listen = \"{host}:0\"\nverify_listen = \"none\"\n\
         admin_listen = \"{host}:0\"\nmetrics_listen = \"{host}:0\"\n\
         [provisioning]\nlisten = \"{host}:0\"\n\
         [[region.nodes]]\nhostname = \"derp.example.org\"\n"
    )
}
