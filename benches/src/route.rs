//! `derp::route`: where packets for a key go, remembered and looked up.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use derp::id::{ConnId, ShardId};
use derp::route::{Destinations, Directory};
use derp::sim::LocalDirectory;

use crate::scenario::node;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    let directory = LocalDirectory::default();
    for number in 0..=u8::MAX {
        let conn = ConnId { shard: ShardId(0), slot: u32::from(number), generation: 0 };
        directory.publish(&node(number), Some(conn));
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("remembered", |bencher| {
        let (mut destinations, key) = (Destinations::default(), node(1));
        bencher.iter(|| destinations.route(black_box(&key), &directory));
    });
    group.bench_function("looked_up", |bencher| {
        // Two keys that share a place take it from each other.
        let (mut destinations, keys) = (Destinations::default(), [node(1), node(17)]);
        bencher.iter(|| keys.map(|key| destinations.route(black_box(&key), &directory)));
    });
    group.finish();
}
