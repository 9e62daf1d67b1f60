//! `derp::login`: what each client costs once.

use criterion::{BatchSize, Criterion, Throughput};
use derp::key::NodePrivate;
use derp::login::{ClientInfo, ClientLogin, ServerInfo, ServerLogin};

pub(crate) fn benches(criterion: &mut Criterion) {
    let server = NodePrivate::from_random([1; 32]);
    let client = NodePrivate::from_random([2; 32]);
    let info = ClientInfo { version: 2, can_ack_pings: true, ..ClientInfo::default() };
    let Ok(turn) = ClientLogin::fast_start(&client, &info, &[7; 24], server.public()) else {
        return;
    };
    let mut group = criterion.benchmark_group("login");
    group.throughput(Throughput::Elements(1));
    group.bench_function("server", |bencher| {
        bencher.iter_batched(
            ServerLogin::new,
            |login| match login.on_bytes(&turn.send, &server) {
                Ok(ServerLogin::AwaitVerdict(candidate)) => {
                    Some(candidate.admit(&[9; 24], &ServerInfo::default()))
                }
                Ok(ServerLogin::AwaitClientInfo { .. }) | Err(_) => None,
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}
