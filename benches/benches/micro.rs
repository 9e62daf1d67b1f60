//! The criterion suites; see the library.

use criterion::{criterion_group, criterion_main};

criterion_group!(micro, benches::all);
criterion_main!(micro);
