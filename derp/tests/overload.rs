//! What a relay does with more packets than its receivers take, in memory.
//! Spec: docs/protocol/derp.md, section 5.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::collections::BTreeMap;
use std::time::Duration;

use derp::counters::Counters;
use derp::drop_reason::DropReason;
use derp::frame::{self, Kind, Reader, Step};
use derp::key::NodePublic;
use derp::limits::{DELAY_INTERVAL, DELAY_TARGET, Limits, PUSH_BACK_TIME, SOLE_DESTINATION_TIME};
use derp::sim::World;

const MS: Duration = Duration::from_millis(1);

/// A packet of the length that tunnels usually have.
const PACKET: [u8; 1_400] = [0x4d; 1_400];

/// DERP-5.8: one source with a thousand packets does not keep another's ten waiting behind them.
#[test]
fn sources_share_a_receiver_fairly() {
    for shards in 1..=2 {
        let (mut world, crowd, hub) = crowd(2, shards, Limits::default());
        world.clients[hub].socket_room = 0;
        send(&mut world, crowd[1], b"refused by the socket");
        for _ in 0..1_000 {
            world.send_packet(crowd[0], &hub_key(), &PACKET);
        }
        world.settle();
        for _ in 0..10 {
            world.send_packet(crowd[1], &hub_key(), &PACKET);
        }
        world.settle();

        // Room for about thirty of them: both have their turns.
        world.clients[hub].socket_room = 30 * 1_437;
        world.settle();
        let got = by_source(&world.read(hub));
        assert!(got.get(&key(2)).is_some_and(|count| *count >= 10), "{shards} shards: {got:?}");
        assert!(got.get(&key(1)).is_some_and(|count| *count >= 10), "{shards} shards: {got:?}");
    }
}

/// DERP-5.3, DERP-5.8: a full queue loses packets of the source that has most in it.
#[test]
fn a_full_queue_takes_from_the_longest_flow() {
    let (mut world, crowd, hub) = crowd(2, 1, Limits::default());
    world.clients[hub].socket_room = 0;
    send(&mut world, crowd[1], b"refused by the socket");
    for _ in 0..5 {
        world.send_packet(crowd[1], &hub_key(), &PACKET);
    }
    for _ in 0..5_000 {
        world.send_packet(crowd[0], &hub_key(), &PACKET);
    }
    world.settle();
    assert!(total(&world).dropped.of(DropReason::QueueHead).other.packets > 3_000);

    world.clients[hub].socket_room = usize::MAX;
    world.settle();
    assert_eq!(by_source(&world.read(hub))[&key(2)], 6, "the short flow lost nothing");
}

/// DERP-5.9: all queues together keep to their total, and a short queue finds room beside long
/// ones.
#[test]
fn all_queues_together_are_bounded() {
    let limits = Limits { queue_bytes_total: 16 << 20, ..Limits::default() };
    let (mut world, senders, hub) = crowd(1, 1, limits);
    let stalled: Vec<usize> = (100..160).map(|number| world.connect(key(number), 0)).collect();
    world.settle();
    for client in &stalled {
        world.clients[*client].socket_room = 0;
        world.read(*client);
    }
    for round in 0..1_500 {
        for number in 100..160 {
            world.send_packet(senders[0], &key(number), &PACKET);
        }
        if round % 100 == 0 {
            world.settle();
            world.send_packet(senders[0], &hub_key(), &PACKET);
            world.settle();
            assert_eq!(by_source(&world.read(hub)).len(), 1, "a running flow loses nothing");
        }
    }
    world.settle();
    assert!(world.held_bytes() <= limits.queue_bytes_total, "{}", world.held_bytes());
    assert!(total(&world).dropped.of(DropReason::QueueTotal).other.packets > 10_000);
}

/// DERP-5.10: a queue that stands loses packets before it is full, one after the other; a burst
/// loses none.
#[test]
fn a_standing_queue_is_shortened() {
    // Three packets come for every two that leave, a hundred milliseconds at a time.
    let lost_after = |millis: u32| {
        let (mut world, crowd, hub) = crowd(1, 1, Limits::default());
        world.clients[hub].socket_room = 0;
        for _ in 0..4 * DELAY_TARGET.as_millis() {
            send(&mut world, crowd[0], &PACKET);
        }
        for _ in 0..millis {
            world.advance(MS);
            world.clients[hub].socket_room = 1_437;
            send(&mut world, crowd[0], &PACKET);
            world.read(hub);
        }
        let lost = total(&world).dropped;
        assert_eq!(lost.of(DropReason::QueueHead).other.packets, 0);
        lost.of(DropReason::QueueDelay).other.packets
    };
    let interval = u32::try_from(DELAY_INTERVAL.as_millis()).unwrap();
    assert_eq!(lost_after(interval - 10), 0, "a burst passes");
    let (some, more) = (lost_after(3 * interval), lost_after(10 * interval));
    assert!(some >= 1 && more > some, "{some}, then {more}");
}

/// DERP-5.11: a sender that sends to one receiver only is held back before that one's queue is
/// full, and let go once there is room; nothing is lost meanwhile.
#[test]
fn a_sender_is_held_back_while_its_receiver_catches_up() {
    for shards in 1..=2 {
        let (mut world, crowd, hub) = crowd(1, shards, Limits::default());
        let sender = crowd[0];
        let mut held = 0;
        for _ in 0..2_000 {
            world.advance(MS / 10);
            // 1.4 MB a millisecond come, 70 kB a millisecond leave.
            world.clients[hub].socket_room = 7_000;
            for _ in 0..100 {
                if world.is_read_from(sender) {
                    world.send_packet(sender, &hub_key(), &PACKET);
                } else {
                    held += 1;
                }
            }
            world.settle();
            world.read(hub);
        }
        let counters = total(&world);
        assert!(held > 1_000 && counters.push_backs > 1, "{shards} shards: {held}");
        assert_eq!(counters.dropped.total().packets, 0, "{shards} shards: {:?}", counters.dropped);
    }
}

/// DERP-5.11: a receiver that takes nothing holds nobody back: its packets are dropped.
#[test]
fn a_blocked_receiver_holds_nobody_back() {
    for shards in 1..=2 {
        let (mut world, crowd, hub) = crowd(1, shards, Limits::default());
        world.clients[hub].socket_room = 0;
        for _ in 0..5_000 {
            world.advance(MS / 10);
            send(&mut world, crowd[0], &PACKET);
            assert!(world.is_read_from(crowd[0]));
        }
        assert_eq!(total(&world).push_backs, 0);
        assert!(total(&world).dropped.total().packets > 0);
    }
}

/// DERP-5.11: who sends to others too is never held back, or the others would suffer.
#[test]
fn a_sender_with_another_flow_is_not_held_back() {
    for shards in 1..=2 {
        let (mut world, crowd, hub) = crowd(1, shards, Limits::default());
        let other = world.connect(key(77), 0);
        world.settle();
        world.read(other);
        for round in 0..2_000 {
            world.advance(MS / 10);
            world.clients[hub].socket_room = 7_000;
            if round % 100 == 0 {
                world.send_packet(crowd[0], &key(77), b"of the innocent flow");
            }
            for _ in 0..20 {
                world.send_packet(crowd[0], &hub_key(), &PACKET);
                assert!(world.is_read_from(crowd[0]));
            }
            world.settle();
            world.read(hub);
        }
        assert_eq!(total(&world).push_backs, 0);
        assert_eq!(by_source(&world.read(other)).values().sum::<u32>(), 20);
    }
}

/// DERP-5.11: nobody is held back for longer than agreed, whatever the receiver does.
#[test]
fn a_hold_ends_by_itself() {
    let (mut world, crowd, hub) = crowd(1, 1, Limits::default());
    send_until_held(&mut world, crowd[0], hub);
    world.clients[hub].socket_room = 0;
    world.advance(PUSH_BACK_TIME);
    assert!(world.is_read_from(crowd[0]));
    // It did not help: no more of it until the queue has been empty.
    for _ in 0..1_000 {
        send(&mut world, crowd[0], &PACKET);
        assert!(world.is_read_from(crowd[0]));
    }
}

/// DERP-5.11: senders whose receiver leaves are let go.
#[test]
fn a_hold_ends_with_its_receiver() {
    for shards in 1..=2 {
        let (mut world, crowd, hub) = crowd(1, shards, Limits::default());
        world.advance(SOLE_DESTINATION_TIME);
        send_until_held(&mut world, crowd[0], hub);
        world.disconnect(hub);
        world.settle();
        assert!(world.is_read_from(crowd[0]));
    }
}

/// DERP-5.13: while the thread of a receiver waits for its core, who sends to that receiver only
/// is held back before the way there is full; nothing is lost.
#[test]
fn a_sender_is_held_back_while_the_other_thread_stands_still() {
    let (mut world, crowd, hub) = crowd(1, 2, Limits::default());
    let mut sent = 0;
    for _ in 0..3 {
        while world.is_read_from(crowd[0]) {
            world.send_packet(crowd[0], &hub_key(), &PACKET);
            world.turn(0);
            sent += 1;
            assert!(sent < 10_000, "never held back");
        }
        world.settle();
        assert!(world.is_read_from(crowd[0]));
    }
    let counters = total(&world);
    assert_eq!((counters.push_backs, counters.dropped.total().packets), (3, 0));
    assert_eq!(by_source(&world.read(hub)).get(&key(1)), Some(&sent));
}

/// DERP-5.13: nobody is held back for longer than agreed, nor again before the way was empty.
#[test]
fn a_hold_ends_though_the_other_thread_stands_still() {
    let (mut world, crowd, hub) = crowd(1, 2, Limits::default());
    let fill = |world: &mut World| {
        for _ in 0..1_000 {
            world.send_packet(crowd[0], &hub_key(), &PACKET);
            world.turn(0);
        }
    };
    fill(&mut world);
    assert!(!world.is_read_from(crowd[0]));
    world.advance(PUSH_BACK_TIME);
    assert!(world.is_read_from(crowd[0]));
    fill(&mut world);
    assert!(world.is_read_from(crowd[0]));
    assert!(total(&world).dropped.of(DropReason::ShardRing).other.packets > 0);

    world.settle();
    world.read(hub);
    fill(&mut world);
    assert!(!world.is_read_from(crowd[0]));
}

/// DERP-5.13: who sends to others too is never held back for a thread that stands still.
#[test]
fn another_flow_goes_on_while_the_other_thread_stands_still() {
    let (mut world, crowd, _) = crowd(1, 2, Limits::default());
    let other = world.connect(key(77), 0);
    world.settle();
    world.read(other);
    for _ in 0..1_000 {
        world.advance(MS / 10);
        world.send_packet(crowd[0], &key(77), b"of the innocent flow");
        world.send_packet(crowd[0], &hub_key(), &PACKET);
        world.turn(0);
        assert!(world.is_read_from(crowd[0]));
    }
    assert_eq!(by_source(&world.read(other)).values().sum::<u32>(), 1_000);
    assert_eq!(total(&world).push_backs, 0);
}

/// Lets a client send more than the receiver takes, until the relay reads no more of it.
fn send_until_held(world: &mut World, client: usize, hub: usize) {
    for _ in 0..1_000 {
        world.advance(MS / 10);
        world.clients[hub].socket_room = 7_000;
        for _ in 0..100 {
            if world.is_read_from(client) {
                world.send_packet(client, &hub_key(), &PACKET);
            }
        }
        world.settle();
        world.read(hub);
        if !world.is_read_from(client) {
            return;
        }
    }
    panic!("never held back");
}

/// A relay with `count` senders, `key(1)` and so on, on its first shard, and one receiver on its
/// last.
fn crowd(count: usize, shards: u16, limits: Limits) -> (World, Vec<usize>, usize) {
    let mut world = World::new(shards, limits);
    let senders: Vec<usize> = (1..=count).map(|number| world.connect(key(number), 0)).collect();
    let hub = world.connect(hub_key(), shards - 1);
    world.settle();
    for client in senders.iter().chain([&hub]) {
        world.read(*client);
    }
    (world, senders, hub)
}

/// Sends one packet to the receiver and lets the relay deal with it.
fn send(world: &mut World, client: usize, packet: &[u8]) {
    world.send_packet(client, &hub_key(), packet);
    world.settle();
}

fn hub_key() -> NodePublic {
    key(9)
}

fn key(number: usize) -> NodePublic {
    let mut bytes = [0x22; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    NodePublic::from_bytes(bytes)
}

fn total(world: &World) -> Counters {
    world.counters().iter().fold(Counters::default(), |sum, part| sum.plus(part))
}

/// How many packets came from whom.
fn by_source(mut bytes: &[u8]) -> BTreeMap<NodePublic, u32> {
    let mut counts = BTreeMap::new();
    while let Ok(Step::Frame { frame, used }) = frame::decode(bytes, Reader::Client) {
        bytes = &bytes[used..];
        if frame.kind == Kind::RecvPacket {
            let (source, _) = frame::split_key(frame.body).unwrap();
            *counts.entry(source).or_default() += 1;
        }
    }
    counts
}
