//! The whole relay over real sockets: frames, packets, duplicates and departures, on every
//! transport, in both address families, with one packet thread and with several.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::time::Duration;

use derp::frame::{DISCO_MAGIC, Kind};
use derp::key::NodePublic;
use support::peer::{PATIENCE, Peer, Way, private};
use support::{Fixture, HOSTS, eventually};

const WAYS: [Way; 3] = [Way::Plain, Way::Tls12, Way::Tls13];

/// Runs a test on every transport, in both families, with one and with three packet threads.
fn everywhere(test: impl Fn(&Fixture, Way)) {
    for way in WAYS {
        for host in HOSTS {
            for shards in [1, 3] {
                test(&Fixture::start(host, way, shards), way);
            }
        }
    }
}

/// DERP-5.1, DERP-2.3, check-F9, check-F10: packets of all lengths arrive, both ways.
#[test]
fn packets_of_all_lengths_arrive() {
    everywhere(|relay, way| {
        let mut one = Peer::connect(relay.derp, way, 1);
        let mut two = Peer::connect(relay.derp, way, 2);
        for length in [0, 1, 1_400, 16_384, 65_536] {
            let packet = vec![0x5a; length];
            one.send_packet(&two.key, &packet);
            assert_eq!(two.packet(), (one.key, packet.clone()));
            two.send_packet(&one.key, &packet);
            assert_eq!(one.packet(), (two.key, packet));
        }
        let own = one.key;
        one.send_packet(&own, b"to myself");
        assert_eq!(one.packet(), (own, b"to myself".to_vec()));
    });
}

/// DERP-2.3, DERP-2.5, DERP-2.6, DERP-4.6, check-F3, check-F5, check-F7, check-F8, check-F11,
/// check-F17: what cannot be ends the connection, and only that one.
#[test]
fn impossible_frames_close_their_connection() {
    everywhere(|relay, way| {
        let mut other = Peer::connect(relay.derp, way, 99);
        for (number, (kind, length)) in (100..).zip([
            (Kind::SendPacket, 31),
            (Kind::SendPacket, 32 + 65_537),
            (Kind::Ping, 7),
            (Kind::Ping, 1_001),
            (Kind::NotePreferred, 0),
            (Kind::NotePreferred, 2),
            (Kind::ForwardPacket, 64),
            (Kind::WatchConns, 0),
            (Kind::ClosePeer, 32),
        ]) {
            let mut peer = Peer::connect(relay.derp, way, number);
            // The end may come before the last byte has gone out.
            drop(peer.try_send(kind, &vec![1; length]));
            peer.is_closed();
        }
        other.is_up();
    });
}

/// DERP-2.7, DERP-4.2, DERP-4.4, check-F1, check-F2, check-F4, check-F6: what has no meaning is
/// skipped, and what has one is obeyed.
#[test]
fn frames_without_meaning_are_skipped() {
    everywhere(|relay, way| {
        let mut peer = Peer::connect(relay.derp, way, 1);
        for (kind, length) in [
            (0x7f, 100),
            (0x55, 3_000_000),
            (0x13, 8),
            (0x06, 0),
            (0x03, 30),
            (0x02, 80),
            (0x05, 80),
        ] {
            let mut bytes = vec![kind];
            bytes.extend(u32::to_be_bytes(length));
            bytes.resize(5 + length as usize, 0);
            peer.write(&bytes);
            peer.is_up();
        }
        peer.send(Kind::NotePreferred, &[7]);
        peer.send(Kind::Ping, &[3; 1_000]);
        assert_eq!(peer.read().body, [3; 8]);
        relay.counts("derp_current_home_connections", 1);
        relay.counts("derp_unknown_frames", 7);
    });
}

/// DERP-5.7, DERP-6.1, DERP-4.5, check-F12 to check-F16, check-F21.
#[test]
fn an_absent_peer_is_reported_for_disco_only() {
    everywhere(|relay, way| {
        let mut peer = Peer::connect(relay.derp, way, 1);
        let absent = private(77).public();
        peer.send_packet(&NodePublic::from_bytes([0; 32]), b"abc");
        peer.send_packet(&absent, &disco(61));
        peer.is_up();
        // At once: what is limited is the rate of answers.
        let mut ten = Vec::new();
        for _ in 0..10 {
            derp::frame::encode(Kind::SendPacket, &[absent.as_bytes(), &disco(62)], &mut ten);
        }
        peer.write(&ten);
        let gone = [absent.as_bytes().as_slice(), &[1]].concat();
        for _ in 0..3 {
            assert_eq!(peer.read().body, gone);
        }
        peer.is_up();
        relay.counts(r#"derp_packets_dropped{reason="unknown_dest",kind="disco"}"#, 10);
        relay.counts(r#"derp_bytes_dropped{reason="unknown_dest",kind="disco"}"#, 620);
        relay.counts(r#"derp_packets_dropped{reason="unknown_dest",kind="other"}"#, 2);
        relay.counts("derp_peer_gone_not_here_frames", 3);
    });
}

/// DERP-6.2, DERP-6.3, fault-D8, check-P9, check-P10, check-P11: receivers learn of each
/// departure, and who only sent does not.
#[test]
fn receivers_learn_of_each_departure() {
    everywhere(|relay, way| {
        let mut receiver = Peer::connect(relay.derp, way, 1);
        for _ in 0..3 {
            let mut leaver = Peer::connect(relay.derp, way, 2);
            let mut only_sends = Peer::connect(relay.derp, way, 3);
            leaver.send_packet(&receiver.key, b"hi");
            assert_eq!(receiver.packet().1, b"hi");
            only_sends.send_packet(&leaver.key, b"one way");
            assert_eq!(leaver.packet().1, b"one way");
            let gone = [leaver.key.as_bytes().as_slice(), &[0]].concat();
            drop(leaver);
            let notice = receiver.read();
            assert_eq!((notice.kind, notice.body), (Kind::PeerGone as u8, gone));
            only_sends.is_up();
        }
    });
}

/// DERP-7.1 to DERP-7.5, check-P4, check-P5, check-P6, check-P7, check-P8.
#[test]
fn the_last_to_speak_of_duplicates_is_active() {
    everywhere(|relay, way| {
        let mut sender = Peer::connect(relay.derp, way, 1);
        let mut first = Peer::connect(relay.derp, way, 5);
        let mut second = Peer::connect(relay.derp, way, 5);
        let key = first.key;
        sender.send_packet(&key, b"to the newest");
        assert_eq!(second.packet().1, b"to the newest");

        first.is_up();
        until_sent_to(&mut sender, &mut first, b"to the last to speak");
        relay.counts("derp_current_dup_client_keys", 1);

        first.send_packet(&sender.key, b"hello");
        assert_eq!(sender.packet().1, b"hello");
        drop(first);
        until_sent_to(&mut sender, &mut second, b"to the one left");
        drop(second);
        let notice = sender.read();
        assert_eq!(
            (notice.kind, &notice.body[..32]),
            (Kind::PeerGone as u8, key.as_bytes().as_slice())
        );
    });
}

/// DERP-4.3, fault-D11: a flood of pings ends in neither a flood of pongs nor a close.
#[test]
fn a_flood_of_pings_is_limited() {
    for host in HOSTS {
        let relay = Fixture::start(host, Way::Tls13, 1);
        let mut peer = Peer::connect(relay.derp, Way::Tls13, 1);
        // At once: what is limited is the rate.
        let mut flood = Vec::new();
        for _ in 0..500 {
            derp::frame::encode(Kind::Ping, &[&[1; 8]], &mut flood);
        }
        peer.write(&flood);
        let own = peer.key;
        peer.send_packet(&own, b"after the flood");
        let mut pongs = 0;
        loop {
            let received = peer.read();
            if received.kind == Kind::RecvPacket as u8 {
                break;
            }
            pongs += 1;
        }
        assert!((1..100).contains(&pongs), "{pongs} pongs");
    }
}

/// DERP-5.2, check-F19: packets of one sender to one receiver arrive in order, whichever threads they cross.
#[test]
fn order_is_kept_over_many_packets() {
    everywhere(|relay, way| {
        let mut one = Peer::connect(relay.derp, way, 1);
        let mut two = Peer::connect(relay.derp, way, 2);
        for round in 0..20_u32 {
            for number in 0..50_u32 {
                one.send_packet(&two.key, &(round * 50 + number).to_be_bytes());
            }
            for number in 0..50_u32 {
                assert_eq!(two.packet().1, (round * 50 + number).to_be_bytes());
            }
        }
    });
}

/// DERP-2.1: frames arrive whole though each byte comes alone.
#[test]
fn frames_may_come_byte_by_byte() {
    for (way, host) in WAYS.into_iter().zip(HOSTS.into_iter().cycle()) {
        let relay = Fixture::start(host, way, 2);
        let mut one = Peer::connect(relay.derp, way, 1);
        let mut two = Peer::connect(relay.derp, way, 2);
        let mut bytes = Vec::new();
        derp::frame::encode(Kind::SendPacket, &[two.key.as_bytes(), b"slowly"], &mut bytes);
        for byte in bytes {
            one.write(&[byte]);
        }
        assert_eq!(two.packet(), (one.key, b"slowly".to_vec()));
    }
}

/// Sends until a packet arrives at this one of several duplicates: which is active is settled
/// between threads, and what is sent too early goes to another one.
fn until_sent_to(sender: &mut Peer, receiver: &mut Peer, packet: &[u8]) {
    let key = receiver.key;
    eventually("a packet arrives", || {
        sender.send_packet(&key, packet);
        let socket = receiver.stream.socket();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let peeked = socket.peek(&mut [0]);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // What was sent in an earlier phase may still be on its way.
        peeked.is_ok_and(|_| receiver.packet().1 == packet).then_some(()).ok_or("nothing yet")
    });
    // And nothing else is left over.
    receiver.send(Kind::Ping, b"THATSALL");
    while receiver.read().body != b"THATSALL" {}
}

fn disco(length: usize) -> Vec<u8> {
    let mut packet = vec![0; length];
    packet[..6].copy_from_slice(&DISCO_MAGIC);
    packet
}
