//! Real Tailscale nodes through the region that `coord-bridge dev` hosts: see `interop/region`.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "../../interop/suite.rs"]
mod suite;

/// DERP-10.4: the map that the bridge publishes is one that real nodes use.
#[test]
fn tailscale_nodes_reach_each_other_through_the_region() {
    suite::run("./region", &[("INTEROP_COORD_BRIDGE", env!("CARGO_BIN_EXE_coord-bridge"))]);
}
