//! What must hold for every datagram, found by random ones. Spec: docs/protocol/stun.md.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod forge;

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

use forge::{FINGERPRINT, Forge, ID, SOFTWARE};
use proptest::prelude::*;
use stun::binding::{Answer, IgnoreReason, MAX_REPLY_LEN, Rule, respond};
use stun::message::{Message, TransactionId};
use stun::{request, response};

proptest! {
    /// STUN-2.5: no datagram makes anything panic, under either rule or as a client.
    #[test]
    fn never_panics_on_random_bytes(
        datagram in prop::collection::vec(any::<u8>(), 0..2_048),
        source in address(),
        out_len in 0..=MAX_REPLY_LEN,
    ) {
        let mut out = vec![0; out_len];
        for rule in [Rule::Tailnode, Rule::Generic] {
            black_box(respond(&datagram, source, rule, &mut out));
        }
        black_box(response::decode(&datagram)).ok();
    }

    /// STUN-2.5, STUN-1.1: the same behind a right header, where the attributes are reached.
    #[test]
    fn never_panics_on_random_attributes(
        body in prop::collection::vec(any::<u8>(), 0..2_048),
        kind in prop::sample::select(vec![0x0001_u16, 0x0101, 0x0111, 0x0011]),
        announced in any::<u16>(),
        source in address(),
    ) {
        let mut datagram = kind.to_be_bytes().to_vec();
        datagram.extend(announced.to_be_bytes());
        datagram.extend([0x21, 0x12, 0xa4, 0x42]);
        datagram.extend(ID);
        datagram.extend(&body);
        check_invariants(&datagram, source)?;
        black_box(response::decode(&datagram)).ok();
    }

    /// STUN-2.1, STUN-2.2, STUN-2.3, STUN-4.2, STUN-4.5: a client reads the address that the
    /// server saw, and an IPv4 client is never told anything but IPv4.
    #[test]
    fn client_reads_what_the_server_saw(id in any::<[u8; 12]>(), source in address()) {
        let id = TransactionId::new(id);
        let mut out = [0; MAX_REPLY_LEN];

        let answer = respond(&request::encode(id), source, Rule::Tailnode, &mut out);

        let seen = SocketAddr::new(source.ip().to_canonical(), source.port());
        let expected_len = if seen.is_ipv4() { 32 } else { 44 };
        prop_assert_eq!(answer, Answer::Reply(expected_len));
        let response = response::decode(&out[..expected_len]).unwrap();
        prop_assert_eq!(response, response::Response { transaction_id: id, mapped: seen });
    }

    /// STUN-1.5: no change of one byte gets past the fingerprint.
    #[test]
    fn changed_byte_is_noticed(
        id in any::<[u8; 12]>(),
        at in 0..request::LEN,
        change in 1..=255_u8,
    ) {
        let mut request = request::encode(TransactionId::new(id));
        request[at] ^= change;
        let mut out = [0; MAX_REPLY_LEN];

        let answer = respond(&request, "192.0.2.1:1".parse().unwrap(), Rule::Tailnode, &mut out);

        prop_assert!(matches!(answer, Answer::Ignore(_)));
    }

    /// STUN-3.1, STUN-3.8, STUN-1.8: the invariants of both rules hold for requests that are
    /// nearly right.
    #[test]
    fn invariants_hold_for_forged_requests(
        request in forged(),
        cut in any::<prop::sample::Index>(),
        source in address(),
    ) {
        check_invariants(&request, source)?;
        check_invariants(&request[..cut.index(request.len() + 1)], source)?;
    }

    /// STUN-1.3: attributes are read back as they were written.
    #[test]
    fn attributes_round_trip(
        written in prop::collection::vec(
            (any::<u16>(), prop::collection::vec(any::<u8>(), 0..20)),
            0..8,
        ),
    ) {
        let forge = written.iter().fold(Forge::request(), |f, (kind, value)| f.with(*kind, value));
        let bytes = forge.bytes();

        let read = Message::decode(&bytes)
            .unwrap()
            .attributes()
            .map(|attribute| attribute.map(|a| (a.kind.0, a.value.to_vec())))
            .collect::<Result<Vec<_>, _>>();

        prop_assert_eq!(read, Ok(written));
    }
}

/// What no datagram may break; the fuzz driver of this crate asserts the same.
fn check_invariants(datagram: &[u8], source: SocketAddr) -> Result<(), TestCaseError> {
    let (mut strict, mut generic) = ([0xee; MAX_REPLY_LEN], [0xee; MAX_REPLY_LEN]);
    let by_strict = respond(datagram, source, Rule::Tailnode, &mut strict);
    let by_generic = respond(datagram, source, Rule::Generic, &mut generic);

    prop_assert_ne!(by_strict, Answer::Ignore(IgnoreReason::OutTooShort));
    prop_assert_ne!(by_generic, Answer::Ignore(IgnoreReason::OutTooShort));
    if let Answer::Reply(len) = by_strict {
        prop_assert_eq!(by_generic, by_strict);
        prop_assert_eq!(strict, generic);
        prop_assert!(len * 10 <= datagram.len() * 11);
    }
    if let Answer::Reply(len) = by_generic {
        prop_assert!(len * 10 <= datagram.len() * 22);
        prop_assert_eq!(len % 4, 0);
        prop_assert_eq!(usize::from(u16::from_be_bytes([generic[2], generic[3]])), len - 20);
        prop_assert_eq!(&generic[4..20], &datagram[4..20]);
        prop_assert!(generic[len..].iter().all(|&byte| byte == 0xee));
        let mut again = [0; MAX_REPLY_LEN];
        let to_itself = respond(&generic[..len], source, Rule::Generic, &mut again);
        prop_assert_eq!(to_itself, Answer::Ignore(IgnoreReason::NotBindingRequest));
    }
    Ok(())
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
    let mapped = any::<std::net::Ipv4Addr>().prop_map(|ip| IpAddr::V6(ip.to_ipv6_mapped()));
    (prop_oneof![v4, v6, mapped], any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

/// Requests of a Tailscale node with other attributes around, and now and then a byte changed.
fn forged() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        Just(SOFTWARE),
        Just(FINGERPRINT),
        Just(0x0008),
        Just(0x0020),
        0x0000..0x0040_u16,
        any::<u16>(),
    ];
    let value = prop_oneof![Just(b"tailnode".to_vec()), prop::collection::vec(any::<u8>(), 0..9),];
    let attributes = prop::collection::vec((kind, value), 0..12);
    let change = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
    (attributes, any::<bool>(), change).prop_map(|(attributes, sealed, change)| {
        let forge =
            attributes.iter().fold(Forge::request(), |f, (kind, value)| f.with(*kind, value));
        let mut bytes = if sealed { forge.sealed() } else { forge }.bytes();
        if let Some((at, change)) = change {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
        }
        bytes
    })
}
