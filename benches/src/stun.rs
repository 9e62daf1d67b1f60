//! `stun::binding`, beside the crate `stun-rs`, which does more than the answer needs.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use criterion::{Criterion, Throughput};
use stun::binding::{MAX_REPLY_LEN, Rule, respond};
use stun::message::TransactionId;
use stun_rs::attributes::stun::XorMappedAddress;
use stun_rs::methods::BINDING;
use stun_rs::{
    DecoderContextBuilder, MessageClass, MessageDecoderBuilder, MessageEncoderBuilder,
    StunMessageBuilder,
};

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stun");
    let request = stun::request::encode(TransactionId::new([7; 12]));
    let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4_000);
    group.throughput(Throughput::Elements(1));
    group.bench_function("respond", |bencher| {
        let mut out = [0; MAX_REPLY_LEN];
        bencher.iter(|| respond(black_box(&request), source, Rule::Tailnode, &mut out));
    });
    // The same answer by a library: decodes every attribute, checks the fingerprint, encodes.
    let context = DecoderContextBuilder::default().with_validation().build();
    let decoder = MessageDecoderBuilder::default().with_context(context).build();
    let encoder = MessageEncoderBuilder::default().build();
    group.bench_function("respond_stun_rs", |bencher| {
        let mut out = [0; MAX_REPLY_LEN];
        bencher.iter(|| {
            let (message, _) = decoder.decode(black_box(&request)).ok()?;
            let reply = StunMessageBuilder::new(BINDING, MessageClass::SuccessResponse)
                .with_transaction_id(*message.transaction_id())
                .with_attribute(XorMappedAddress::from(source))
                .build();
            encoder.encode(&mut out, &reply).ok()
        });
    });
    group.finish();
}
