//! Tailscale's own client libraries against the relay: see `interop/relay`.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "../../../interop/suite.rs"]
mod suite;

/// DERP-1.4, DERP-1.5, DERP-6.3, DERP-9.3: what those tests hold, each named there.
#[test]
fn tailscale_client_libraries_get_along_with_the_relay() {
    suite::run("./relay", &[("INTEROP_DERP_RELAY", env!("CARGO_BIN_EXE_derp-relay"))]);
}
