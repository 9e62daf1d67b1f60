//! The criterion suites: those of the library, and those of what only the relay has.

mod record;

use criterion::{criterion_group, criterion_main};

criterion_group!(micro, benches::all, record::benches);
criterion_main!(micro);
