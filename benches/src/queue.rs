//! `derp::queue`: a burst goes in and comes out as one run of frames.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use derp::counters::Counters;
use derp::hash::Seed;
use derp::limits::Limits;
use derp::queue::{Gathering, Offer, Pool, Queue};
use derp::time::Time;

use crate::scenario::{BURST, PACKET, node};

/// Bytes gathered at once: one record.
const RECORD: usize = 16 * 1024;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Bytes((BURST * PACKET) as u64));
    for (name, sources) in [("offer_gather", 1_u8), ("offer_gather_16_sources", 16)] {
        group.bench_function(name, |bencher| {
            let (limits, now, packet) = (Limits::default(), Time::ZERO, [0x5a; PACKET]);
            let (mut queue, mut pool) = (Queue::default(), Pool::default());
            let (mut counters, mut out) = (Counters::default(), Vec::new());
            let sources: Vec<_> =
                (0..sources).map(node).map(|key| (key, Seed(7).flow(&key))).collect();
            bencher.iter(|| {
                for (source, flow) in sources.iter().cycle().take(BURST) {
                    let offer = Offer { source, flow: *flow, packet: &packet, since: now };
                    queue.offer(offer, now, &limits, &mut pool, &mut counters);
                }
                let mut gathered = 0;
                while !queue.is_empty() {
                    out.clear();
                    let mut to = Gathering { out: &mut out, start: 0, limit: RECORD };
                    queue.gather(&mut to, &limits, now, &mut pool, &mut counters);
                    gathered += to.out.len();
                }
                gathered
            });
        });
    }
    group.bench_function("gather", |bencher| {
        let (limits, now, packet) = (Limits::default(), Time::ZERO, [0x5a; PACKET]);
        let (mut pool, mut counters) = (Pool::default(), Counters::default());
        let (source, mut out) = (node(1), Vec::new());
        let flow = Seed(7).flow(&source);
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let mut queue = Queue::default();
                for _ in 0..BURST {
                    let offer = Offer { source: &source, flow, packet: &packet, since: now };
                    queue.offer(offer, now, &limits, &mut pool, &mut counters);
                }
                let start = Instant::now();
                while !queue.is_empty() {
                    out.clear();
                    let mut to = Gathering { out: &mut out, start: 0, limit: RECORD };
                    queue.gather(&mut to, &limits, now, &mut pool, &mut counters);
                }
                spent += start.elapsed();
            }
            spent
        });
    });
    group.finish();
}
