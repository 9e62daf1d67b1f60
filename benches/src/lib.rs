//! Scenarios shared by every kind of measurement, and the criterion suites made of them.
//!
//! Group names are the paths of the modules that are measured: `frame/decode` is
//! `derp::frame::decode`. `cargo bench -p benches` measures; with `-- --test` each body runs
//! once, which is what the checks do. Whole servers are measured by the program `derp-load`, in
//! [`load`]. Method and traps: `docs/benchmarking.md`.

mod frame;
pub mod load;
mod login;
mod queue;
mod route;
pub mod scenario;
mod shard;
mod stun;

use criterion::Criterion;

/// All suites.
pub fn all(criterion: &mut Criterion) {
    frame::benches(criterion);
    login::benches(criterion);
    queue::benches(criterion);
    route::benches(criterion);
    shard::benches(criterion);
    stun::benches(criterion);
}
