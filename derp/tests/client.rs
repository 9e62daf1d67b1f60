//! A client's session, through the public API only. Spec: docs/protocol/derp.md, section 2.8.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::time::Duration;

use derp::client::{
    Event, GoneReason, PacketTooLong, SEND_HEAD_LEN, Session, note_preferred, ping, pong,
    send_head, send_packet,
};
use derp::frame::{
    DecodeError, Frame, Kind, MAX_PACKET_LEN, MAX_SERVER_FRAME_LEN, Reader, Step, decode, encode,
    header,
};
use derp::key::{KEY_LEN, NodePublic};
use proptest::prelude::*;

/// DERP-2.2, DERP-2.8: every frame that a client has a use for, as an event.
#[test]
fn frames_become_events() {
    let key = NodePublic::from_bytes([7; KEY_LEN]);
    let k = key.as_bytes();
    let gone = |reason| Event::PeerGone { key, reason };
    let cases: Vec<(Kind, Vec<&[u8]>, Event<'_>)> = vec![
        (Kind::RecvPacket, vec![k, b"hi"], Event::Packet { source: key, payload: b"hi" }),
        (Kind::RecvPacket, vec![k], Event::Packet { source: key, payload: b"" }),
        (Kind::PeerGone, vec![k], gone(GoneReason::Disconnected)),
        (Kind::PeerGone, vec![k, &[0]], gone(GoneReason::Disconnected)),
        (Kind::PeerGone, vec![k, &[1]], gone(GoneReason::NotHere)),
        (Kind::PeerGone, vec![k, &[0xf0, 9]], gone(GoneReason::Other(0xf0))),
        (Kind::KeepAlive, vec![], Event::KeepAlive),
        (Kind::KeepAlive, vec![b"more"], Event::KeepAlive),
        (Kind::Ping, vec![b"PINGPING"], Event::Ping(*b"PINGPING")),
        (Kind::Ping, vec![b"PINGPINGmore"], Event::Ping(*b"PINGPING")),
        (Kind::Pong, vec![b"PONGPONG"], Event::Pong(*b"PONGPONG")),
        (Kind::Health, vec!["dübel".as_bytes()], Event::Health("dübel".into())),
        (Kind::Health, vec![], Event::Health("".into())),
        (Kind::Health, vec![b"a\xffb"], Event::Health("a\u{fffd}b".into())),
        (
            Kind::Restarting,
            vec![&[0, 0, 0x27, 0x10, 0, 0, 0x07, 0xd0]],
            Event::Restarting {
                reconnect_in: Duration::from_secs(10),
                try_for: Duration::from_secs(2),
            },
        ),
    ];
    for (kind, parts, event) in cases {
        let mut wire = Vec::new();
        encode(kind, &parts, &mut wire);
        let (mut session, mut input) = (Session::new(), &wire[..]);
        assert_eq!(session.on_bytes(&mut input), Ok(Some(event)), "{kind:?}");
        assert_eq!(session.on_bytes(&mut input), Ok(None));
        assert!(input.is_empty());
    }
}

/// DERP-2.2, fault-D36: a watcher's frame, of 51 bytes, is handed out as it is.
#[test]
fn frames_without_an_event_are_handed_out_whole() {
    let mut wire = Vec::new();
    encode(Kind::PeerPresent, &[&[3; 51]], &mut wire);
    let mut input = &wire[..];
    let frame = Frame { kind: Kind::PeerPresent, body: &[3; 51] };
    assert_eq!(Session::new().on_bytes(&mut input), Ok(Some(Event::Other(frame))));
}

/// DERP-2.8: a packet that is whole in the input is not copied.
#[test]
fn a_whole_packet_is_borrowed_from_the_input() {
    let mut wire = Vec::new();
    encode(Kind::RecvPacket, &[&[7; KEY_LEN], &[9; 1_400]], &mut wire);
    let range = wire.as_ptr_range();

    let (mut session, mut input) = (Session::new(), &wire[..]);
    let Ok(Some(Event::Packet { payload, .. })) = session.on_bytes(&mut input) else {
        panic!("no packet");
    };
    assert!(range.contains(&payload.as_ptr()));
}

/// DERP-2.1, DERP-2.7: whatever the pieces, the same events come, and frames that nobody wants
/// leave no trace.
#[test]
fn pieces_of_any_size_give_the_same_events() {
    let (wire, expected) = stream();
    for piece in 1..=wire.len() {
        let mut session = Session::new();
        let mut seen = Vec::new();
        for bytes in wire.chunks(piece) {
            seen.extend(events(&mut session, bytes));
        }
        assert_eq!(seen, expected, "{piece}");
    }
}

/// DERP-2.8: a frame over 1 MiB, or a packet over 65,536 bytes, ends the session, from its header
/// alone and in pieces too.
#[test]
fn a_frame_that_no_client_takes_ends_the_session() {
    let long = header(Kind::Health, MAX_SERVER_FRAME_LEN + 1);
    let packet = header(Kind::RecvPacket, KEY_LEN + MAX_PACKET_LEN + 1);
    for wire in [long, packet] {
        let whole = Session::new().on_bytes(&mut &wire[..]).map(|_| ()).unwrap_err();
        let mut session = Session::new();
        let mut outcome = Ok(());
        for byte in wire.chunks(1) {
            outcome = session.on_bytes(&mut &byte[..]).map(|_| ());
        }
        assert_eq!(outcome, Err(whole));
        let refused = matches!(
            whole,
            DecodeError::ServerFrame { wire: 0x14, len: 1_048_577 }
                | DecodeError::BodyLength { kind: Kind::RecvPacket, len: 65_569, .. }
        );
        assert!(refused, "{whole:?}");
    }
}

/// DERP-2.3, DERP-2.5, DERP-2.6: what our client says is what the relay takes.
#[test]
fn what_a_client_says_the_relay_takes() {
    let key = NodePublic::from_bytes([7; KEY_LEN]);
    let mut wire = Vec::new();
    send_packet(&key, b"hi", &mut wire).unwrap();
    send_packet(&key, &vec![0xaa; MAX_PACKET_LEN], &mut wire).unwrap();
    ping(*b"PINGPING", &mut wire);
    pong(*b"PONGPONG", &mut wire);
    note_preferred(true, &mut wire);
    note_preferred(false, &mut wire);

    let mut rest = &wire[..];
    let mut said = Vec::new();
    while !rest.is_empty() {
        match decode(rest, Reader::Server).unwrap() {
            Step::Frame { frame, used } => {
                said.push((frame.kind, frame.body.len(), frame.body[0]));
                rest = &rest[used..];
            }
            // A pong is for relays that ping; ours skips it.
            Step::Skip { discard } => rest = &rest[usize::try_from(discard).unwrap()..],
            Step::NeedMore { until } => panic!("{until} bytes wanted"),
        }
    }
    let expected = [
        (Kind::SendPacket, 34, 7),
        (Kind::SendPacket, 65_568, 7),
        (Kind::Ping, 8, b'P'),
        (Kind::NotePreferred, 1, 1),
        (Kind::NotePreferred, 1, 0),
    ];
    assert_eq!(said, expected);
    assert_eq!(send_head(&key, 2).unwrap(), wire[..SEND_HEAD_LEN]);
}

/// DERP-2.3: a packet that would end the connection is not sent.
#[test]
fn a_packet_that_is_too_long_is_not_sent() {
    let key = NodePublic::from_bytes([7; KEY_LEN]);
    let mut wire = vec![1, 2, 3];
    let refused = send_packet(&key, &vec![0; MAX_PACKET_LEN + 1], &mut wire);
    assert_eq!(refused, Err(PacketTooLong { len: 65_537 }));
    assert_eq!(wire, [1, 2, 3]);
}

proptest! {
    /// DERP-2.1, DERP-2.8: no bytes make a session panic, and pieces change nothing: the same
    /// events, then the same error.
    #[test]
    fn any_bytes_mean_the_same_in_pieces(
        frames in prop::collection::vec((any::<u8>(), 0..60_u8, any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..8),
        cuts in prop::collection::vec(1..40_usize, 1..20),
    ) {
        let mut wire = Vec::new();
        for (kind, len, fill) in frames {
            wire.extend_from_slice(&[kind % 0x18, 0, 0, 0, len]);
            wire.resize(wire.len() + usize::from(len), fill);
        }
        wire.extend_from_slice(&tail);

        let whole = run(&mut Session::new(), [&wire[..]]);
        let mut pieces = Vec::new();
        let mut rest = &wire[..];
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        prop_assert_eq!(run(&mut Session::new(), pieces), whole);
    }
}

/// Frames of all sorts, and what a client makes of them.
fn stream() -> (Vec<u8>, Vec<String>) {
    let mut wire = Vec::new();
    encode(Kind::ServerKey, &[&[1; 40]], &mut wire);
    encode(Kind::RecvPacket, &[&[7; KEY_LEN], b"one"], &mut wire);
    encode(Kind::KeepAlive, &[], &mut wire);
    wire.extend_from_slice(&[0xee, 0, 0, 0, 3, 0x05, 0x05, 0x05]);
    encode(Kind::Ping, &[b"short"], &mut wire);
    encode(Kind::Pong, &[b"PONGPONG"], &mut wire);
    wire.extend_from_slice(&[0xee, 0, 0, 0, 0]);
    encode(Kind::RecvPacket, &[&[7; KEY_LEN], b"two"], &mut wire);
    let key = NodePublic::from_bytes([7; KEY_LEN]);
    let expected = [
        Event::Packet { source: key, payload: b"one" },
        Event::KeepAlive,
        Event::Pong(*b"PONGPONG"),
        Event::Packet { source: key, payload: b"two" },
    ];
    (wire, expected.iter().map(|event| format!("{event:?}")).collect())
}

/// The events in `bytes`, as text, so that they outlive the session's buffer.
fn events(session: &mut Session, mut bytes: &[u8]) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(event) = session.on_bytes(&mut bytes).unwrap() {
        seen.push(format!("{event:?}"));
    }
    assert!(bytes.is_empty(), "input is used up");
    seen
}

/// The events in all pieces, and the error that ended them.
fn run<'w>(
    session: &mut Session,
    pieces: impl IntoIterator<Item = &'w [u8]>,
) -> (Vec<String>, Option<DecodeError>) {
    let mut seen = Vec::new();
    for mut bytes in pieces {
        loop {
            match session.on_bytes(&mut bytes) {
                Ok(Some(event)) => seen.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}
