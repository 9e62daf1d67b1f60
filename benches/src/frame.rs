//! `derp::frame`.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use derp::frame::{Reader, Step, decode, recv_head};

use crate::scenario::{PACKET, burst, node};

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let bytes = burst(&node(2));
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let mut rest = black_box(bytes.as_slice());
            let mut bodies = 0;
            while let Ok(Step::Frame { frame, used }) = decode(rest, Reader::Server) {
                bodies += frame.body.len();
                rest = &rest[used..];
            }
            bodies
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("recv_head", |bencher| {
        let source = node(1);
        bencher.iter(|| recv_head(black_box(&source), black_box(PACKET)));
    });
    group.finish();
}
