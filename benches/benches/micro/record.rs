//! `derp_relay::tls::record`: our record layer beside rustls', on records as they are on a relay.

use benches::scenario::{BURST, burst, node};
use criterion::{BatchSize, Criterion, Throughput};
use derp::time::Time;
use derp_relay::tls::record::pair::{Pair, Suite, say};
use derp_relay::tls::record::{HEADER_LEN, MAX_PLAINTEXT, Record, Unbuffered};

/// Bytes sealed at once: what the queue of a client gives when it is long, and one packet.
const SEALED: [(&str, usize); 2] = [("16k", MAX_PLAINTEXT), ("packet", 1_437)];

pub(crate) fn benches(criterion: &mut Criterion) {
    open(criterion);
    seal(criterion);
}

/// A burst, a record for every frame, as Tailscale's clients send it.
fn open(criterion: &mut Criterion) {
    let plaintext = burst(&node(1));
    let frame_len = plaintext.len() / BURST;
    let mut group = criterion.benchmark_group("record/open");
    group.throughput(Throughput::Bytes(plaintext.len() as u64));
    for (name, suite) in [("aes128", Suite::Aes128), ("chacha20", Suite::ChaCha20)] {
        group.bench_function(name, |bencher| {
            let Pair { mut client, server } = Pair::new(suite);
            let mut record = Record::take_over(*server).expect("a suite that is ours");
            let mut answer = Vec::new();
            bencher.iter_batched_ref(
                || {
                    let mut wire = Vec::new();
                    say(&mut client, &plaintext, frame_len, &mut wire);
                    wire
                },
                |wire| {
                    record.open(wire, Time::ZERO, &mut answer, |_, _| {}).expect("what was said")
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.bench_function("rustls_aes128", |bencher| {
        let Pair { mut client, server } = Pair::new(Suite::Aes128);
        let (mut rustls, mut answer) = (Unbuffered::new(server), Vec::new());
        bencher.iter_batched_ref(
            || {
                let mut wire = Vec::new();
                say(&mut client, &plaintext, frame_len, &mut wire);
                wire
            },
            |wire| rustls.open(wire, &mut answer, |_| {}).expect("what was said"),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// What was gathered, where it was gathered.
fn seal(criterion: &mut Criterion) {
    for (size, len) in SEALED {
        let mut group = criterion.benchmark_group(format!("record/seal_{size}"));
        group.throughput(Throughput::Bytes(len as u64));
        let gathered = || {
            let mut out = Vec::with_capacity(HEADER_LEN + len + 128);
            out.resize(HEADER_LEN + len, 0x5a);
            out
        };
        for (name, suite) in [("aes128", Suite::Aes128), ("chacha20", Suite::ChaCha20)] {
            group.bench_function(name, |bencher| {
                let server = Pair::new(suite).server;
                let mut record = Record::take_over(*server).expect("a suite that is ours");
                bencher.iter_batched_ref(
                    gathered,
                    |out| record.seal_in_place(out, HEADER_LEN).expect("room and keys"),
                    BatchSize::SmallInput,
                );
            });
        }
        group.bench_function("rustls_aes128", |bencher| {
            let mut rustls = Unbuffered::new(Pair::new(Suite::Aes128).server);
            bencher.iter_batched_ref(
                gathered,
                |out| rustls.seal_in_place(out, HEADER_LEN).expect("room and keys"),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}
