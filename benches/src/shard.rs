//! `derp::shard`: a burst from one client to another, from bytes to bytes, in memory.

use criterion::{Criterion, Throughput};
use derp::limits::Limits;
use derp::sim::World;

use crate::scenario::{BURST, PACKET, burst, node};

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard");
    group.throughput(Throughput::Bytes((BURST * PACKET) as u64));
    for (name, shards) in [("relay_burst", 1), ("relay_burst_across", 2)] {
        group.bench_function(name, |bencher| {
            let mut world = World::new(shards, Limits::default());
            let sender = world.connect(node(1), 0);
            let receiver = world.connect(node(2), shards - 1);
            world.settle();
            world.read(receiver);
            let bytes = burst(&node(2));
            bencher.iter(|| {
                world.send(sender, &bytes);
                for shard in 0..shards {
                    world.turn(shard);
                }
                world.read(receiver).len()
            });
        });
    }
    group.finish();
}
