//! `stun::binding`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use criterion::{Criterion, Throughput};
use stun::binding::{MAX_REPLY_LEN, Rule, respond};
use stun::message::TransactionId;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stun");
    let request = stun::request::encode(TransactionId::new([7; 12]));
    let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4_000);
    group.throughput(Throughput::Elements(1));
    group.bench_function("respond", |bencher| {
        let mut out = [0; MAX_REPLY_LEN];
        bencher.iter(|| respond(black_box(&request), source, Rule::Tailnode, &mut out));
    });
    group.finish();
}
