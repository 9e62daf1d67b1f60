//! Scripts against a whole relay in memory: the state behind the parsers.
//!
//! ```text
//! byte 0        shards: 1 + value % 3
//! then, each    move = value % 8, client = value / 8 % 8, followed by what the move takes
//! ```

use std::time::Duration;

use derp::frame::{Kind, encode};
use derp::key::NodePublic;
use derp::limits::{Limits, MIN_QUEUE_BYTES};
use derp::sim::World;

/// Moves in one script, so that a run ends.
const MAX_MOVES: usize = 400;

/// Whatever clients do in whatever order, no packet is lost without being counted, and the
/// relay comes to rest with nothing waiting and nothing held.
///
/// # Panics
///
/// If one of these does not hold.
pub fn shard_script(data: &[u8]) {
    let mut script = data.iter().copied();
    let Some(first) = script.next() else { return };
    let shards = 1 + u16::from(first % 3);
    let limits = Limits { queue_bytes: MIN_QUEUE_BYTES, ..Limits::default() };
    let mut world = World::new(shards, limits);
    for _ in 0..MAX_MOVES {
        let Some(step) = script.next() else { break };
        let client = usize::from(step / 8 % 8);
        let mut next = || script.next().unwrap_or_default();
        match step % 8 {
            0 => {
                world.connect(node(next() % 6), u16::from(next()) % shards);
            }
            1 => world.disconnect(client),
            2 => {
                let (to, length) = (node(next() % 8), usize::from(next()) * 40);
                world.send_packet(client, &to, &vec![next(); length]);
            }
            3 => {
                // Raw bytes: half frames, impossible ones, skipped ones.
                let length = usize::from(next() % 32);
                let bytes: Vec<u8> = (0..length).map(|_| next()).collect();
                world.send(client, &bytes);
            }
            4 => {
                let mut bytes = Vec::new();
                let kind = Kind::from_wire(next() % 0x16).unwrap_or(Kind::Ping);
                encode(kind, &[&vec![next(); usize::from(next())]], &mut bytes);
                world.send(client, &bytes);
            }
            5 => {
                let room = usize::from(next()) * 64;
                if let Some(client) = world.clients.get_mut(client) {
                    client.socket_room = room;
                }
            }
            6 => world.advance(Duration::from_millis(u64::from(next()) * 300)),
            _ => {
                world.turn(u16::from(next()) % shards);
            }
        }
        world.check_conservation();
    }
    for client in 0..world.clients.len() {
        world.clients[client].socket_room = usize::MAX;
    }
    world.settle();
    assert_eq!(world.waiting().packets, 0);
    for client in 0..world.clients.len() {
        world.disconnect(client);
    }
    world.settle();
    assert_eq!(world.held_bytes(), 0);
    let (mut connections, mut keys) = (0, 0);
    for counters in world.counters() {
        connections += counters.connections;
        keys += counters.keys;
    }
    assert_eq!((connections, keys), (0, 0));
}

fn node(key: u8) -> NodePublic {
    NodePublic::from_bytes([key; 32])
}
