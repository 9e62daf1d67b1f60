//! Framing, through the public API only. Spec: docs/protocol/derp.md, section 2.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use derp::frame::{
    DISCO_MAGIC, DecodeError, Frame, HEADER_LEN, Kind, MAX_CLIENT_INFO_LEN, MAX_PACKET_LEN,
    MAX_PING_LEN, MAX_SERVER_FRAME_LEN, MIN_DISCO_LEN, PING_LEN, Reader, Step, decode, decode_only,
    encode, header, is_disco, recv_head, split_key,
};
use derp::key::{KEY_LEN, NodePublic};
use derp::login::MIN_CLIENT_INFO_LEN;
use proptest::prelude::*;

/// Every kind that has a name, by wire value.
const KINDS: [Kind; 16] = [
    Kind::ServerKey,
    Kind::ClientInfo,
    Kind::ServerInfo,
    Kind::SendPacket,
    Kind::RecvPacket,
    Kind::KeepAlive,
    Kind::NotePreferred,
    Kind::PeerGone,
    Kind::PeerPresent,
    Kind::ForwardPacket,
    Kind::WatchConns,
    Kind::ClosePeer,
    Kind::Ping,
    Kind::Pong,
    Kind::Health,
    Kind::Restarting,
];

/// DERP-2.1: a golden frame, kind by kind and byte by byte, in both directions.
#[test]
fn a_frame_is_a_kind_a_length_and_a_body() {
    let mut wire = Vec::new();
    encode(Kind::Ping, &[b"PING", b"PING"], &mut wire);

    assert_eq!(wire, b"\x12\x00\x00\x00\x08PINGPING");
    let frame = Frame { kind: Kind::Ping, body: b"PINGPING" };
    assert_eq!(decode(&wire, Reader::Server), Ok(Step::Frame { frame, used: 13 }));
}

/// DERP-2.1: what follows a frame is not touched, and two frames in one read are two.
#[test]
fn frames_follow_each_other_without_gaps() {
    let mut wire = Vec::new();
    encode(Kind::Ping, &[&[1; 8]], &mut wire);
    encode(Kind::NotePreferred, &[&[7]], &mut wire);

    let (first, used) = whole(&wire, Reader::Server);
    let (second, rest) = whole(&wire[used..], Reader::Server);

    assert_eq!((first.kind, first.body), (Kind::Ping, &[1; 8][..]));
    assert_eq!((second.kind, second.body), (Kind::NotePreferred, &[7][..]));
    assert_eq!(used + rest, wire.len());
}

/// DERP-2.1: wherever the stream is cut, the decoder says how much it needs, never less than it
/// has and never more than the frame.
#[test]
fn a_frame_cut_at_every_byte_waits_for_the_rest() {
    let mut wire = Vec::new();
    encode(Kind::SendPacket, &[&[9; KEY_LEN], b"packet"], &mut wire);

    for cut in 0..wire.len() {
        let until = if cut < HEADER_LEN { HEADER_LEN } else { wire.len() };
        assert_eq!(decode(&wire[..cut], Reader::Server), Ok(Step::NeedMore { until }), "{cut}");
    }
    assert_eq!(whole(&wire, Reader::Server).1, wire.len());
}

/// DERP-2.2: the wire values of the table, both ways, and no others.
#[test]
fn wire_values_and_kinds_are_each_others_inverse() {
    for wire in 0..=u8::MAX {
        match Kind::from_wire(wire) {
            Some(kind) => assert_eq!(kind as u8, wire),
            None => assert!(KINDS.iter().all(|kind| *kind as u8 != wire)),
        }
    }
    assert!(KINDS.iter().all(|kind| Kind::from_wire(*kind as u8) == Some(*kind)));
}

/// DERP-2.2, DERP-2.3, DERP-2.5, DERP-2.6, check-F3 to check-F5, check-F7 to check-F12: each
/// kind that the relay takes, at its limits and one byte beyond them, from the header alone.
#[test]
fn the_relay_takes_each_kind_within_its_limits_only() {
    let packets = (KEY_LEN, KEY_LEN + MAX_PACKET_LEN);
    let taken = [
        (Kind::SendPacket, packets.0, packets.1),
        (Kind::ForwardPacket, 2 * KEY_LEN, 2 * KEY_LEN + MAX_PACKET_LEN),
        (Kind::NotePreferred, 1, 1),
        (Kind::WatchConns, 0, 0),
        (Kind::ClosePeer, KEY_LEN, KEY_LEN),
        (Kind::Ping, PING_LEN, MAX_PING_LEN),
    ];
    assert_eq!((packets, MAX_PING_LEN), ((32, 65_568), 1_000));

    for (kind, min, max) in taken {
        for len in [min, max] {
            let head = header(kind, len);
            let announced = decode(&head, Reader::Server);
            let until = HEADER_LEN + len;
            let empty = Step::Frame { frame: Frame { kind, body: &[] }, used: HEADER_LEN };
            let expected = if len == 0 { empty } else { Step::NeedMore { until } };
            assert_eq!(announced, Ok(expected), "{kind:?} {len}");
        }
        let below = min.checked_sub(1);
        for len in below.into_iter().chain([max + 1, u32::MAX as usize]) {
            let refused =
                DecodeError::BodyLength { kind, len: u32::try_from(len).unwrap(), min, max };
            assert_eq!(decode(&header(kind, len), Reader::Server), Err(refused), "{kind:?} {len}");
        }
    }
}

/// DERP-2.7, check-F1, check-F2, fault-D12: what has no use for the relay is skipped, from the
/// header alone and whatever its length.
#[test]
fn the_relay_skips_what_it_has_no_use_for() {
    let useless = [0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x08, 0x09, 0x13, 0x14, 0x15, 0x55, 0x7f];
    for wire in useless.into_iter().chain(0x16..=0xff) {
        for len in [0_u32, 8, 100, 3_000_000, u32::MAX] {
            let [l0, l1, l2, l3] = len.to_be_bytes();
            let front = [wire, l0, l1, l2, l3, 0xaa];
            let step = decode(&front, Reader::Server);
            assert_eq!(step, Ok(Step::Skip { discard: 5 + u64::from(len) }), "{wire:#x} {len}");
        }
    }
}

/// DERP-2.2, DERP-2.8: a client takes its own kinds and passes over the short and the unknown.
#[test]
fn a_client_takes_its_kinds_and_skips_the_rest() {
    let takes = [
        (Kind::RecvPacket, 32),
        (Kind::PeerGone, 32),
        (Kind::PeerPresent, 32),
        (Kind::Ping, 8),
        (Kind::Pong, 8),
        (Kind::Restarting, 8),
        (Kind::KeepAlive, 0),
        (Kind::Health, 0),
    ];
    for (kind, min) in takes {
        let mut wire = header(kind, min).to_vec();
        wire.resize(HEADER_LEN + min, 0);
        assert_eq!(whole(&wire, Reader::Client).0.kind, kind);
        if min > 0 {
            let head = header(kind, min - 1);
            let short = decode(&head, Reader::Client);
            assert_eq!(short, Ok(Step::Skip { discard: 4 + min as u64 }), "{kind:?}");
        }
    }
    for kind in KINDS.into_iter().filter(|kind| takes.iter().all(|(taken, _)| taken != kind)) {
        let head = header(kind, 70);
        let step = decode(&head, Reader::Client);
        assert_eq!(step, Ok(Step::Skip { discard: 75 }), "{kind:?}");
    }
    assert_eq!(decode(&[0xee, 0, 0, 0, 9], Reader::Client), Ok(Step::Skip { discard: 14 }));
}

/// DERP-2.8: one MiB is the most a client takes, of kinds it knows and of others, and a packet
/// keeps its own limit.
#[test]
fn a_client_takes_no_frame_over_one_mebibyte() {
    let most = MAX_SERVER_FRAME_LEN;
    let until = HEADER_LEN + most;
    assert_eq!(decode(&header(Kind::Health, most), Reader::Client), Ok(Step::NeedMore { until }));

    let len = u32::try_from(most + 1).unwrap();
    for wire in [Kind::Health as u8, Kind::RecvPacket as u8, Kind::SendPacket as u8, 0xee] {
        let [_, length @ ..] = header(Kind::Health, most + 1);
        let announced: Vec<u8> = [wire].into_iter().chain(length).collect();
        let refused = DecodeError::ServerFrame { wire, len };
        assert_eq!(decode(&announced, Reader::Client), Err(refused));
    }

    let (min, max) = (KEY_LEN, KEY_LEN + MAX_PACKET_LEN);
    let over = DecodeError::BodyLength { kind: Kind::RecvPacket, len: 65_569, min, max };
    assert_eq!(decode(&header(Kind::RecvPacket, max + 1), Reader::Client), Err(over));
}

/// DERP-2.4, check-H9, check-H12: a login takes exactly one kind, within its limits.
#[test]
fn a_login_takes_one_kind_within_its_limits_only() {
    let limits = (MIN_CLIENT_INFO_LEN, MAX_CLIENT_INFO_LEN);
    assert_eq!(limits, (56, 262_144));

    for len in [56, 262_144] {
        let head = header(Kind::ClientInfo, len);
        let step = decode_only(&head, Kind::ClientInfo, limits);
        assert_eq!(step, Ok(Step::NeedMore { until: HEADER_LEN + len }));
    }
    for len in [55, 262_145] {
        let (min, max) = limits;
        let head = header(Kind::ClientInfo, len);
        let len = u32::try_from(len).unwrap();
        let refused = DecodeError::BodyLength { kind: Kind::ClientInfo, len, min, max };
        assert_eq!(decode_only(&head, Kind::ClientInfo, limits), Err(refused));
    }
    let head = header(Kind::SendPacket, 56);
    let refused = DecodeError::WrongKind { wire: 0x04, wanted: Kind::ClientInfo };
    assert_eq!(decode_only(&head, Kind::ClientInfo, limits), Err(refused));
    let front = decode_only(&head[..4], Kind::ClientInfo, limits);
    assert_eq!(front, Ok(Step::NeedMore { until: HEADER_LEN }));
}

/// DERP-5.1: the head of a relayed packet is header and source key, 37 bytes.
#[test]
fn the_head_of_a_relayed_packet_names_its_source() {
    let source = NodePublic::from_bytes([7; KEY_LEN]);
    let mut wire = recv_head(&source, 3).to_vec();
    wire.extend_from_slice(b"abc");

    let (frame, used) = whole(&wire, Reader::Client);

    assert_eq!(wire[..5], [0x05, 0, 0, 0, 35]);
    assert_eq!((frame.kind, used), (Kind::RecvPacket, 40));
    assert_eq!(split_key(frame.body), Some((source, &b"abc"[..])));
    assert_eq!(split_key(&[0; 31]), None);
}

/// DERP-5.5, check-F13, check-F14: the magic alone is not disco; 62 bytes are, 61 are not.
#[test]
fn disco_is_known_by_its_magic_and_its_length() {
    let mut packet = DISCO_MAGIC.to_vec();
    assert!(!is_disco(&packet));
    packet.resize(MIN_DISCO_LEN, 0);
    assert_eq!(packet.len(), 62);
    assert!(is_disco(&packet));
    assert!(!is_disco(&packet[..61]));
    packet[5] ^= 1;
    assert!(!is_disco(&packet));
    assert!(!is_disco(&[]));
}

proptest! {
    /// DERP-2.1, DERP-2.2: what is encoded is decoded, wherever the stream is cut.
    #[test]
    fn frames_round_trip_at_every_cut(
        (kind, body) in relay_frame(),
        behind in prop::collection::vec(any::<u8>(), 0..10),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut wire = Vec::new();
        encode(kind, &[&body], &mut wire);
        let used = wire.len();
        let cut = cut.index(used);
        wire.extend_from_slice(&behind);

        let frame = Frame { kind, body: &body };
        prop_assert_eq!(decode(&wire, Reader::Server), Ok(Step::Frame { frame, used }));
        let part = decode(&wire[..cut], Reader::Server).unwrap();
        let waits = matches!(part, Step::NeedMore { until } if until > cut && until <= used);
        prop_assert!(waits);
    }

    /// DERP-2.1, DERP-2.2, DERP-2.8: no bytes make either side panic, take more than there is,
    /// or wait for what there is already.
    #[test]
    fn any_bytes_are_taken_skipped_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        server in any::<bool>(),
    ) {
        let reader = if server { Reader::Server } else { Reader::Client };
        match decode(&bytes, reader) {
            Ok(Step::Frame { frame, used }) => {
                prop_assert!(used <= bytes.len());
                prop_assert_eq!(used, HEADER_LEN + frame.body.len());
            }
            Ok(Step::Skip { discard }) => prop_assert!(discard >= HEADER_LEN as u64),
            Ok(Step::NeedMore { until }) => prop_assert!(until > bytes.len()),
            Err(_) => prop_assert!(bytes.len() >= HEADER_LEN),
        }
    }
}

/// A frame that the relay takes, with a short body.
fn relay_frame() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    let taken = [
        (Kind::SendPacket, KEY_LEN..200),
        (Kind::ForwardPacket, 2 * KEY_LEN..200),
        (Kind::NotePreferred, 1..2),
        (Kind::WatchConns, 0..1),
        (Kind::ClosePeer, KEY_LEN..KEY_LEN + 1),
        (Kind::Ping, PING_LEN..100),
    ];
    prop::sample::select(taken.to_vec())
        .prop_flat_map(|(kind, lengths)| (Just(kind), prop::collection::vec(any::<u8>(), lengths)))
}

/// The whole frame at the front of `wire` and its length.
fn whole(wire: &[u8], reader: Reader) -> (Frame<'_>, usize) {
    match decode(wire, reader).unwrap() {
        Step::Frame { frame, used } => (frame, used),
        step @ (Step::Skip { .. } | Step::NeedMore { .. }) => panic!("no whole frame: {step:?}"),
    }
}
