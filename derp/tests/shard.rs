//! What a relay of one, two and three shards does to its clients, in memory.
//! Spec: docs/protocol/derp.md sections 2 and 4 to 7.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::time::Duration;

use derp::counters::Counters;
use derp::drop_reason::{DropReason, PacketKind};
use derp::frame::{self, DISCO_MAGIC, Kind, Reader, Step};
use derp::key::NodePublic;
use derp::limits::{Limits, MAX_SOURCES};
use derp::route::Directory;
use derp::shard::CloseReason;
use derp::sim::World;

/// DERP-3.4: `ServerInfo` is the first frame, whatever else waits.
#[test]
fn server_info_comes_first() {
    for shards in 1..=3 {
        let mut world = World::new(shards, Limits::default());
        let a = world.connect(key(1), 0);
        world.settle();
        let b = world.connect(key(2), shards - 1);
        world.send_packet(a, &key(2), b"early");
        world.settle();

        let first = frames(&world.read(b)).first().cloned();
        assert_eq!(first, Some((Kind::ServerInfo, b"sealed".to_vec())));
    }
}

/// DERP-5.1, check-F9, check-F10, check-F19: packets of all lengths arrive, with their source in front.
#[test]
fn packets_arrive_with_their_source_stamped() {
    for shards in 1..=3 {
        let (mut world, a, b) = pair(shards);
        for len in [0, 1, 1400, 65_535, 65_536] {
            let packet = vec![0x5a; len];
            world.send_packet(a, &key(2), &packet);
            world.settle();
            let expected = [key(1).as_bytes().as_slice(), &packet].concat();
            assert_eq!(frames(&world.read(b)), [(Kind::RecvPacket, expected)]);
        }
        world.send_packet(a, &key(1), b"to myself");
        world.settle();
        assert_eq!(packets(&world.read(a)), [(key(1), b"to myself".to_vec())]);
    }
}

/// DERP-2.3, check-F11, check-F8: one byte too many, or a key cut short, ends the connection.
#[test]
fn impossible_lengths_close() {
    for (kind, len) in [
        (Kind::SendPacket, 31_u32),
        (Kind::SendPacket, 32 + 65_537),
        (Kind::Ping, 7),
        (Kind::Ping, 1_001),
        (Kind::NotePreferred, 0),
        (Kind::NotePreferred, 2),
    ] {
        let (mut world, a, _) = pair(1);
        let mut header = vec![kind as u8];
        header.extend(len.to_be_bytes());
        world.send(a, &header);
        assert_eq!(world.clients[a].closed, Some(CloseReason::BadFrame), "{kind:?} of {len}");
    }
}

/// DERP-4.6, check-F17: frames that need mesh right end the connection of who has none.
#[test]
fn mesh_frames_of_ordinary_clients_close() {
    for (kind, len) in [(Kind::ForwardPacket, 64), (Kind::WatchConns, 0), (Kind::ClosePeer, 32)] {
        let (mut world, a, _) = pair(1);
        world.send(a, &encode(kind, &vec![1; len]));
        assert_eq!(world.clients[a].closed, Some(CloseReason::NoMeshRight), "{kind:?}");
    }
}

/// DERP-2.7, check-F1, check-F2, fault-D13: what has no meaning is skipped and counted.
#[test]
fn frames_without_meaning_are_skipped_at_any_length_and_cut() {
    for chunk in [1, 7, 1 << 20] {
        let (mut world, a, _) = pair(1);
        let mut bytes = Vec::new();
        for (wire, len) in
            [(0x7f, 100), (0x55, 300_000), (0x13, 8), (0x06, 0), (0x03, 30), (0x02, 80), (0x05, 80)]
        {
            bytes.push(wire);
            bytes.extend(u32::to_be_bytes(len));
            bytes.extend(vec![0; len as usize]);
        }
        bytes.extend(encode(Kind::Ping, b"PINGPING"));
        for part in bytes.chunks(chunk) {
            world.send(a, part);
        }
        world.settle();
        assert_eq!(frames(&world.read(a)), [(Kind::Pong, b"PINGPING".to_vec())]);
        let counters = total(&world);
        assert_eq!(counters.unknown_frames, 7);
        assert_eq!(counters.unknown_frame_bytes, 7 * 5 + 300_298);
    }
}

/// DERP-2.1: frames arrive whole however the stream is cut.
#[test]
fn a_stream_may_be_cut_anywhere() {
    let mut bytes = Vec::new();
    for len in [0, 3, 62, 200] {
        let body = [key(2).as_bytes().as_slice(), &vec![9; len]].concat();
        bytes.extend(encode(Kind::SendPacket, &body));
        bytes.extend(encode(Kind::Ping, &[7; 12]));
        bytes.extend(encode(Kind::Pong, &[8; 8]));
    }
    for cut in 0..bytes.len() {
        let (mut world, a, b) = pair(1);
        world.send(a, &bytes[..cut]);
        world.send(a, &bytes[cut..]);
        world.settle();
        assert_eq!(packets(&world.read(b)).len(), 4, "cut at {cut}");
        assert_eq!(frames(&world.read(a)).len(), 4, "cut at {cut}");
        assert_eq!(world.held_bytes(), 0, "an idle connection holds no buffer");
    }
}

/// DERP-4.2, check-F4: the first eight bytes of a ping come back.
#[test]
fn a_ping_is_answered_with_its_first_eight_bytes() {
    let (mut world, a, _) = pair(1);
    world.send(a, &encode(Kind::Ping, &[3; 1_000]));
    world.settle();
    assert_eq!(frames(&world.read(a)), [(Kind::Pong, vec![3; 8])]);
}

/// DERP-4.3, fault-D11: a flood of pings costs few pongs, and the rest is counted.
#[test]
fn a_flood_of_pings_is_limited() {
    let (mut world, a, _) = pair(1);
    for _ in 0..1_000 {
        world.send(a, &encode(Kind::Ping, &[1; 8]));
        world.settle();
    }
    assert_eq!(frames(&world.read(a)).len(), 20);
    let counters = total(&world);
    assert_eq!((counters.pings, counters.pongs, counters.pings_limited), (1_000, 20, 980));
}

/// DERP-4.1, check-F18: a silent client hears from the relay every minute.
#[test]
fn a_silent_client_gets_keep_alives() {
    let (mut world, a, _) = pair(2);
    let mut at = Vec::new();
    for second in 1..=200 {
        world.advance(Duration::from_secs(1));
        world.settle();
        if !world.read(a).is_empty() {
            at.push(second);
        }
    }
    assert_eq!(at, [60, 120, 180]);
}

/// DERP-4.4, check-F6: any non-zero byte makes the relay the client's home.
#[test]
fn note_preferred_moves_the_home_gauge() {
    let (mut world, a, b) = pair(2);
    world.send(a, &encode(Kind::NotePreferred, &[7]));
    world.advance(Duration::from_secs(6));
    world.send(b, &encode(Kind::NotePreferred, &[1]));
    world.send(b, &encode(Kind::NotePreferred, &[1]));
    let both = total(&world);
    world.send(a, &encode(Kind::NotePreferred, &[0]));
    let one = total(&world);
    world.disconnect(b);
    let none = total(&world);

    // The choice right after the login is no move.
    assert_eq!((both.home_connections, both.home_moves_in), (2, 1));
    assert_eq!((one.home_connections, one.home_moves_out), (1, 1));
    assert_eq!(none.home_connections, 0);
}

/// DERP-5.7, DERP-6.1, check-F12, check-F13, check-F14: only disco to nobody is answered.
#[test]
fn an_absent_peer_is_reported_for_disco_only() {
    for shards in 1..=3 {
        let (mut world, a, _) = pair(shards);
        world.send_packet(a, &key(99), b"abc");
        world.send_packet(a, &key(99), &disco(61));
        world.settle();
        assert_eq!(frames(&world.read(a)), []);

        world.send_packet(a, &key(99), &disco(62));
        world.settle();
        let gone = [key(99).as_bytes().as_slice(), &[1]].concat();
        assert_eq!(frames(&world.read(a)), [(Kind::PeerGone, gone)]);
        let dropped = total(&world).dropped.of(DropReason::UnknownDest);
        assert_eq!((dropped.disco.packets, dropped.other.packets), (1, 2));
        assert_eq!((dropped.disco.bytes, dropped.other.bytes), (62, 64));
    }
}

/// DERP-4.5, check-F15, check-F16, check-F21: three at once, then one a second.
#[test]
fn reports_of_absent_peers_are_limited() {
    let (mut world, a, _) = pair(1);
    for _ in 0..10 {
        world.send_packet(a, &key(99), &disco(62));
    }
    world.settle();
    let at_once = frames(&world.read(a)).len();
    world.advance(Duration::from_millis(1_200));
    world.send_packet(a, &key(99), &disco(62));
    world.settle();
    let later = frames(&world.read(a)).len();
    assert_eq!((at_once, later), (3, 1));
    assert_eq!(total(&world).peer_gone_not_here, 4);
}

/// DERP-6.2, DERP-6.3, check-P10, check-P9: who received is told, who only sent is not.
#[test]
fn receivers_learn_that_their_peer_left() {
    for shards in 1..=3 {
        let (mut world, x, y) = pair(shards);
        let sender = world.connect(key(3), 0);
        world.settle();
        world.send_packet(x, &key(2), b"hi");
        world.send_packet(sender, &key(1), b"one way");
        world.settle();
        for client in [x, y, sender] {
            world.read(client);
        }
        world.disconnect(x);
        world.settle();
        let gone = [key(1).as_bytes().as_slice(), &[0]].concat();
        assert_eq!(frames(&world.read(y)), [(Kind::PeerGone, gone)]);
        assert_eq!(frames(&world.read(sender)), []);
    }
}

/// DERP-6.3, fault-D8, check-P11: every departure is reported, not only the first.
#[test]
fn each_departure_is_reported_anew() {
    for shards in 1..=3 {
        let (mut world, _, y) = pair(shards);
        for round in 0..3 {
            let x = world.connect(key(7), round % shards);
            world.settle();
            world.send_packet(x, &key(2), b"hi");
            world.settle();
            world.disconnect(x);
            world.settle();
            let kinds: Vec<Kind> = frames(&world.read(y)).iter().map(|frame| frame.0).collect();
            assert!(kinds.ends_with(&[Kind::RecvPacket, Kind::PeerGone]), "{kinds:?}");
        }
    }
}

/// DERP-6.3: a packet never follows the news that its source has left.
#[test]
fn a_farewell_comes_after_the_packets_before_it() {
    for shards in 1..=3 {
        let (mut world, x, y) = pair(shards);
        world.clients[y].socket_room = 0;
        for _ in 0..50 {
            world.send_packet(x, &key(2), &[1; 1_400]);
            world.send_packet(x, &key(2), &disco(100));
        }
        world.disconnect(x);
        world.settle();
        world.clients[y].socket_room = usize::MAX;
        world.settle();
        let kinds: Vec<Kind> = frames(&world.read(y)).iter().map(|frame| frame.0).collect();
        assert_eq!(kinds.len(), 101);
        assert_eq!(kinds.last(), Some(&Kind::PeerGone));
    }
}

/// DERP-6.4, fault-D9: what a receiver remembers is bounded.
#[test]
fn a_receiver_remembers_a_bounded_number_of_sources() {
    let mut world = World::new(2, Limits::default());
    let hub = world.connect(key(1), 0);
    let mut clients = Vec::new();
    for number in 0..MAX_SOURCES + 10 {
        clients.push(world.connect(key(1_000 + number), 1));
    }
    world.settle();
    for client in &clients {
        world.send_packet(*client, &key(1), b"x");
    }
    world.settle();
    world.read(hub);
    for client in clients {
        world.disconnect(client);
    }
    world.settle();
    assert_eq!(frames(&world.read(hub)).len(), MAX_SOURCES);
    assert_eq!(total(&world).sources_overflowed, 10);
}

/// DERP-7.1 to DERP-7.5, check-P4, check-P5, check-P6, check-P7, check-P8: the newest, or the last to speak, is active.
#[test]
fn the_last_to_speak_of_duplicates_gets_the_packets() {
    for shards in 1..=3 {
        let (mut world, a, _) = pair(shards);
        let d1 = world.connect(key(5), 0);
        world.settle();
        let d2 = world.connect(key(5), shards - 1);
        world.settle();
        let reached = |world: &mut World| {
            world.read(d1);
            world.read(d2);
            world.send_packet(a, &key(5), b"which");
            world.settle();
            (packets(&world.read(d1)).len(), packets(&world.read(d2)).len())
        };

        assert_eq!(reached(&mut world), (0, 1), "the newest is active");
        world.send(d1, &encode(Kind::NotePreferred, &[0]));
        world.settle();
        assert_eq!(reached(&mut world), (1, 0), "the last to speak is active");
        world.send(d2, &encode(Kind::Pong, &[0; 8]));
        world.settle();
        assert_eq!(reached(&mut world), (0, 1), "a frame without meaning is speech too");
        world.send(d1, &encode(Kind::NotePreferred, &[1]));
        world.settle();
        let counters = total(&world);
        assert_eq!((counters.duplicate_keys, counters.duplicate_connections), (1, 2));

        world.send_packet(d1, &key(1), b"hello");
        world.settle();
        world.read(a);
        world.disconnect(d1);
        world.settle();
        assert_eq!(frames(&world.read(a)), [], "not gone while one is left");
        assert_eq!(reached(&mut world), (0, 1), "the one left over is active");
        world.disconnect(d2);
        world.settle();
        assert_eq!(frames(&world.read(a)).len(), 1, "gone with the last");
        assert_eq!(total(&world).keys, 2);
    }
}

/// DERP-5.3, DERP-5.4, check-F20, fault-D22: a receiver that stops reading loses its oldest packets, in
/// bounded memory, and nobody else notices.
#[test]
fn a_receiver_that_stops_reading_loses_its_oldest_packets() {
    for shards in 1..=3 {
        let (mut world, a, b) = pair(shards);
        let innocent = world.connect(key(3), 0);
        world.settle();
        world.read(innocent);
        world.clients[b].socket_room = 100_000;
        for number in 0..20_000_u32 {
            world.send_packet(a, &key(2), &[&number.to_be_bytes()[..], &[0; 1_396]].concat());
            if number % 50 == 0 {
                world.send_packet(a, &key(3), &number.to_be_bytes());
                world.settle();
            }
        }
        world.settle();
        assert!(world.held_bytes() < 3 * 1024 * 1024, "{} bytes", world.held_bytes());
        assert_eq!(packets(&world.read(innocent)).len(), 400, "others are unhurt");

        world.clients[b].socket_room = usize::MAX;
        world.settle();
        let arrived: Vec<u32> = packets(&world.read(b))
            .iter()
            .map(|(_, packet)| u32::from_be_bytes(packet[..4].try_into().unwrap()))
            .collect();
        assert!(arrived.is_sorted(), "order is kept");
        assert_eq!(arrived.last(), Some(&19_999), "the newest got through");
        let counters = total(&world);
        let dropped = counters.dropped.of(DropReason::QueueHead).of(PacketKind::Other);
        assert_eq!(dropped.packets, 20_000 - arrived.len() as u64);
        assert_eq!(dropped.bytes, dropped.packets * 1_400, "keys and headers are not counted");
    }
}

/// DERP-5.3: thirty packets of the largest size wait without loss.
#[test]
fn thirty_of_the_largest_packets_fit() {
    let (mut world, a, b) = pair(2);
    world.clients[b].socket_room = 0;
    for _ in 0..30 {
        world.send_packet(a, &key(2), &vec![1; 65_536]);
        world.settle();
    }
    world.clients[b].socket_room = usize::MAX;
    world.settle();
    assert_eq!(packets(&world.read(b)).len(), 30);
}

/// DERP-5.3: what is older than the bound is worthless, and dropped.
#[test]
fn old_packets_are_dropped() {
    let (mut world, a, b) = pair(1);
    world.clients[b].socket_room = 0;
    world.send_packet(a, &key(2), b"first: gathered, and refused by the socket");
    world.settle();
    world.send_packet(a, &key(2), b"old");
    world.settle();
    world.advance(Duration::from_millis(501));
    world.send_packet(a, &key(2), b"new");
    world.clients[b].socket_room = usize::MAX;
    world.settle();
    let arrived: Vec<Vec<u8>> = packets(&world.read(b)).into_iter().map(|(_, p)| p).collect();
    assert_eq!(arrived[1..], [b"new".to_vec()]);
    assert_eq!(total(&world).dropped.of(DropReason::QueueAge).other.packets, 1);
}

/// DERP-5.5, fault-D23: disco waits in its own lane, so that data cannot push it out.
#[test]
fn data_cannot_push_disco_out() {
    let (mut world, a, b) = pair(1);
    world.clients[b].socket_room = 0;
    world.send_packet(a, &key(2), &disco(100));
    world.settle();
    world.send_packet(a, &key(2), &disco(101));
    for _ in 0..5_000 {
        world.send_packet(a, &key(2), &[0; 1_400]);
    }
    world.settle();
    world.clients[b].socket_room = usize::MAX;
    world.settle();
    let arrived = packets(&world.read(b));
    assert_eq!(arrived[0].1.len(), 100);
    assert_eq!(arrived[1].1.len(), 101, "disco goes before the data that waits");
}

/// DERP-5.5: the disco lane is bounded, and what merely looks like disco may not crowd it.
#[test]
fn the_disco_lane_is_bounded() {
    let (mut world, a, b) = pair(1);
    world.clients[b].socket_room = 0;
    world.send_packet(a, &key(2), b"gathered");
    world.settle();
    for _ in 0..1_000 {
        world.send_packet(a, &key(2), &disco(100));
    }
    world.send_packet(a, &key(2), &disco(60_000));
    assert!(world.held_bytes() < 256 * 1024, "{}", world.held_bytes());
    let dropped = total(&world).dropped.of(DropReason::QueueHead);
    assert_eq!(dropped.disco.packets, 1_000 - 256);
}

/// DERP-5.4: a receiver that takes no byte for half a minute is closed.
#[test]
fn a_stalled_receiver_is_closed() {
    let (mut world, a, b) = pair(2);
    world.clients[b].socket_room = 0;
    world.send_packet(a, &key(2), b"stuck");
    world.settle();
    for second in 1..=31 {
        assert_eq!(world.clients[b].closed, None, "closed after {second} s");
        world.advance(Duration::from_secs(1));
        world.settle();
        if world.clients[b].closed.is_some() {
            break;
        }
    }
    assert_eq!(world.clients[b].closed, Some(CloseReason::Stalled));
}

/// DERP-5.4: a slow receiver is not a stalled one.
#[test]
fn a_slow_receiver_is_not_closed() {
    let (mut world, a, b) = pair(1);
    world.clients[b].socket_room = 0;
    world.send_packet(a, &key(2), &[0; 1_000]);
    world.settle();
    for _ in 0..200 {
        world.clients[b].socket_room += 1;
        world.advance(Duration::from_secs(1));
        world.settle();
    }
    assert_eq!(world.clients[b].closed, None);
}

/// DERP-2.9: half a frame may not wait for ever.
#[test]
fn a_half_frame_is_closed_at_its_deadline() {
    let (mut world, a, b) = pair(1);
    let whole = encode(Kind::Ping, &[1; 8]);
    world.send(a, &whole[..9]);
    for _ in 0..40 {
        world.advance(Duration::from_secs(1));
        // Another client that always has half a frame, but completes it, stays.
        world.send(b, &whole[..6]);
        world.send(b, &whole[6..]);
        world.settle();
    }
    assert_eq!(world.clients[a].closed, Some(CloseReason::HalfFrame));
    assert_eq!(world.clients[b].closed, None);
}

/// DERP-3.5: a connection whose `ServerInfo` is never on its way is closed at its deadline.
#[test]
fn a_login_that_never_ends_is_closed() {
    // Without a turn of the shards the owner of the key never hears of it.
    let mut world = World::new(2, Limits::default());
    let clients: Vec<usize> = (1..20).map(|number| world.connect(key(number), 0)).collect();
    for _ in 0..12 {
        world.advance(Duration::from_secs(1));
    }
    for client in clients {
        assert_eq!(world.clients[client].closed, Some(CloseReason::LoginTimeout));
    }
    assert_eq!(total(&world).connections, 0);
}

/// DERP-8.8: whose key is revoked loses every connection, on every shard, one that has not had its
/// `ServerInfo` too, and nobody else loses any.
#[test]
fn all_connections_of_a_revoked_key_are_closed() {
    for shards in 1..=3 {
        let (mut world, a, b) = pair(shards);
        let second = world.connect(key(1), shards - 1);
        world.settle();
        // The owner of the key has not heard of this one.
        let on_its_way = world.connect(key(1), 0);

        world.close_key(&key(1));

        for client in [a, second, on_its_way] {
            assert_eq!(world.clients[client].closed, Some(CloseReason::Revoked));
        }
        world.settle();
        assert_eq!(world.directory.find(&key(1)), None);
        assert_eq!(world.clients[b].closed, None);
        assert_eq!((total(&world).connections, total(&world).closed_revoked), (1, 3));
        let back = world.connect(key(1), 0);
        world.settle();
        assert_eq!(world.clients[back].closed, None);
    }
}

/// DERP-6.3: many departures at once are told within the budget of each write, and all of them.
#[test]
fn many_departures_are_all_told() {
    let (mut world, _, b) = pair(1);
    let peers: Vec<usize> = (100..2_100).map(|number| world.connect(key(number), 0)).collect();
    world.settle();
    for peer in &peers {
        world.send_packet(*peer, &key(2), b"hi");
    }
    world.settle();
    world.read(b);
    world.clients[b].socket_room = 10_000;
    for peer in peers {
        world.disconnect(peer);
    }
    world.settle();
    assert!(world.clients[b].socket.len() <= 10_000);
    world.clients[b].socket_room = usize::MAX;
    world.settle();
    assert_eq!(frames(&world.read(b)).len(), 2_000);
}

/// DERP-5.6: what waits for somebody who leaves is counted.
#[test]
fn packets_for_somebody_who_leaves_are_counted() {
    for shards in 1..=3 {
        let (mut world, a, b) = pair(shards);
        world.clients[b].socket_room = 0;
        world.send_packet(a, &key(2), b"gathered");
        world.settle();
        world.send_packet(a, &key(2), b"waits");
        world.settle();
        world.disconnect(b);
        // Before the owner of the key has heard of it, its old name is still in the directory.
        world.send_packet(a, &key(2), b"too late");
        world.settle();
        let gone = total(&world).dropped.of(DropReason::GoneDisconnected).other.packets;
        let unknown = total(&world).dropped.of(DropReason::UnknownDest).other.packets;
        assert_eq!(gone + unknown, 2);
    }
}

/// DERP-5.6: a ring between shards that is full loses packets under its own name.
#[test]
fn a_full_ring_between_shards_is_counted() {
    let mut world = World::new(2, Limits::default());
    let a = world.connect(key(1), 0);
    let b = world.connect(key(2), 1);
    world.settle();
    world.read(b);
    for _ in 0..2_000 {
        world.send_packet(a, &key(2), &[0; 1_400]);
    }
    world.settle();
    let lost = total(&world).dropped.of(DropReason::ShardRing).other.packets;
    assert!(lost > 0);
    let arrived = packets(&world.read(b)).len() as u64;
    assert_eq!(arrived + lost, 2_000);
}

/// A relay of `shards` shards with two clients, `key(1)` and `key(2)`, as far apart as can be.
fn pair(shards: u16) -> (World, usize, usize) {
    let mut world = World::new(shards, Limits::default());
    let a = world.connect(key(1), 0);
    let b = world.connect(key(2), shards - 1);
    world.settle();
    world.read(a);
    world.read(b);
    (world, a, b)
}

fn key(number: usize) -> NodePublic {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[0] = number.to_le_bytes()[0];
    NodePublic::from_bytes(bytes)
}

fn disco(len: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    packet[..6].copy_from_slice(&DISCO_MAGIC);
    packet
}

fn encode(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode(kind, &[body], &mut out);
    out
}

fn frames(mut bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let mut list = Vec::new();
    // The login's `ServerInfo` is no business of `decode`; here it is the first frame.
    if bytes.first() == Some(&(Kind::ServerInfo as u8)) {
        list.push((Kind::ServerInfo, bytes[5..11].to_vec()));
        bytes = &bytes[11..];
    }
    while !bytes.is_empty() {
        let Step::Frame { frame, used } = frame::decode(bytes, Reader::Client).unwrap() else {
            panic!("not a whole frame: {bytes:?}");
        };
        list.push((frame.kind, frame.body.to_vec()));
        bytes = &bytes[used..];
    }
    list
}

fn packets(bytes: &[u8]) -> Vec<(NodePublic, Vec<u8>)> {
    frames(bytes)
        .into_iter()
        .filter(|(kind, _)| *kind == Kind::RecvPacket)
        .map(|(_, body)| {
            let (source, packet) = frame::split_key(&body).unwrap();
            (source, packet.to_vec())
        })
        .collect()
}

fn total(world: &World) -> Counters {
    world.counters().into_iter().fold(Counters::default(), |sum, part| sum.plus(&part))
}
