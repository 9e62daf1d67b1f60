//! Random scripts against whole relays in memory: once in step with a model that knows what must
//! arrive, once in disorder, where only what always holds is checked.
//!
//! Both check after every step that no packet is lost without being counted (DERP-5.6).
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use derp::frame::{self, DISCO_MAGIC, Kind, Reader, Step};
use derp::key::NodePublic;
use derp::limits::{Limits, MAX_DISCO_LANE_PACKET, MIN_QUEUE_BYTES};
use derp::sim::World;
use proptest::prelude::*;

const KEYS: u8 = 5;

#[derive(Clone, Debug)]
enum Move {
    Connect { key: u8, shard: u16 },
    Disconnect { client: usize },
    Packet { client: usize, to: u8, len: usize, disco: bool },
    Speak { client: usize },
    Garbage { client: usize, bytes: Vec<u8> },
    Room { client: usize, room: usize },
    Advance { millis: u64 },
    Turn { shard: u16 },
}

fn moves(calm: bool) -> impl Strategy<Value = Vec<Move>> {
    let client = 0_usize..12;
    let step = prop_oneof![
        4 => (0..KEYS, 0_u16..3).prop_map(|(key, shard)| Move::Connect { key, shard }),
        2 => client.clone().prop_map(|client| Move::Disconnect { client }),
        12 => (client.clone(), 0..=KEYS, 0_usize..3_000, any::<bool>())
            .prop_map(|(client, to, len, disco)| Move::Packet { client, to, len, disco }),
        2 => client.clone().prop_map(|client| Move::Speak { client }),
        1 => (client.clone(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(client, bytes)| Move::Garbage { client, bytes }),
        3 => (client, prop::sample::select(vec![0_usize, 1, 500, 5_000, usize::MAX]))
            .prop_map(|(client, room)| Move::Room { client, room }),
        2 => prop::sample::select(vec![1_u64, 100, 600, 3_000, 40_000])
            .prop_map(|millis| Move::Advance { millis }),
        6 => (0_u16..3).prop_map(|shard| Move::Turn { shard }),
    ];
    prop::collection::vec(step, 1..150).prop_map(move |moves| {
        if !calm {
            return moves;
        }
        let disturbs = |step: &Move| {
            matches!(step, Move::Garbage { .. } | Move::Room { .. } | Move::Turn { .. })
        };
        moves.into_iter().filter(|step| !disturbs(step)).collect()
    })
}

proptest! {
    /// DERP-5.1, DERP-5.2, DERP-5.6, DERP-6.3, DERP-7.1, DERP-7.3: with time to settle after
    /// every step, exactly what the model foresees arrives, however many shards there are.
    #[test]
    fn a_calm_relay_does_what_the_model_says(script in moves(true), shards in 1_u16..4) {
        let mut run = Run::new(shards);
        let mut model = Model::default();
        for step in script {
            // Which duplicate is active is settled between shards, not within one packet.
            if let Move::Packet { client, .. } = step {
                run.make(&Move::Speak { client }, shards);
                run.world.settle();
            }
            run.make(&step, shards);
            model.make(&step);
            run.world.settle();
            for client in 0..run.world.clients.len() {
                prop_assert_eq!(run.news(client), model.news(client), "client {}", client);
            }
        }
    }

    /// DERP-5.2, DERP-5.6, DERP-6.2, DERP-6.3: in any disorder, packets keep their order, reach
    /// only whom they are for, at most once, and every loss and every departure is told.
    #[test]
    fn a_disordered_relay_keeps_its_promises(script in moves(false), shards in 1_u16..4) {
        let mut run = Run::new(shards);
        let mut seen = Seen::default();
        for step in script {
            run.make(&step, shards);
            run.world.check_conservation();
            for client in 0..run.world.clients.len() {
                let news = run.news(client);
                seen.take(&run, client, &news)?;
            }
        }
        for client in 0..run.world.clients.len() {
            run.world.clients[client].socket_room = usize::MAX;
        }
        run.world.settle();
        for client in 0..run.world.clients.len() {
            let news = run.news(client);
                seen.take(&run, client, &news)?;
        }
        seen.nobody_waits_for_the_departed(&run)?;
        let live = run.world.clients.iter().filter(|client| client.conn.is_some()).count();
        let counted: u64 = run.world.counters().iter().map(|part| part.connections).sum();
        prop_assert_eq!(live as u64, counted);
        prop_assert_eq!(run.world.waiting().packets, 0);
    }
}

/// What a client reads, as far as the checks care.
#[derive(Clone, Debug, PartialEq, Eq)]
enum News {
    Packet { from: u8, stamp: Vec<u8> },
    Gone { key: u8, reason: u8 },
}

/// The relay under test and what its clients have not parsed yet.
struct Run {
    world: World,
    keys: Vec<u8>,
    unread: Vec<Vec<u8>>,
    packets: u32,
    /// Which key has sent to which.
    written: BTreeSet<(u8, u8)>,
}

impl Run {
    fn new(shards: u16) -> Self {
        let limits = Limits { queue_bytes: MIN_QUEUE_BYTES, ..Limits::default() };
        Self {
            world: World::new(shards, limits),
            keys: vec![],
            unread: vec![],
            packets: 0,
            written: BTreeSet::new(),
        }
    }

    fn make(&mut self, step: &Move, shards: u16) {
        match step {
            Move::Connect { key, shard } => {
                self.world.connect(node(*key), shard % shards);
                self.keys.push(*key);
                self.unread.push(Vec::new());
            }
            Move::Disconnect { client } => self.world.disconnect(*client),
            Move::Packet { client, to, len, disco } => {
                let packet = packet(*client, *to, self.packets, *len, *disco);
                self.packets += 1;
                self.written.extend(self.keys.get(*client).map(|from| (*from, *to)));
                self.world.send_packet(*client, &node(*to), &packet);
            }
            Move::Speak { client } => {
                let mut bytes = Vec::new();
                frame::encode(Kind::NotePreferred, &[&[1]], &mut bytes);
                self.world.send(*client, &bytes);
            }
            Move::Garbage { client, bytes } => self.world.send(*client, bytes),
            Move::Room { client, room } => {
                if let Some(client) = self.world.clients.get_mut(*client) {
                    client.socket_room = *room;
                }
            }
            Move::Advance { millis } => self.world.advance(Duration::from_millis(*millis)),
            Move::Turn { shard } => {
                self.world.turn(shard % shards);
            }
        }
    }

    /// Parses the whole frames that have come to a client.
    fn news(&mut self, client: usize) -> Vec<News> {
        let arrived = self.world.read(client);
        let unread = &mut self.unread[client];
        unread.extend(arrived);
        let mut news = Vec::new();
        let mut used = 0;
        loop {
            match frame::decode(&unread[used..], Reader::Client).unwrap() {
                Step::NeedMore { .. } => break,
                Step::Skip { discard } if (unread.len() - used) as u64 >= discard => {
                    used += usize::try_from(discard).unwrap();
                }
                Step::Skip { .. } => break,
                Step::Frame { frame, used: length } => {
                    used += length;
                    let Some((key, rest)) = frame::split_key(frame.body) else { continue };
                    let key = key.as_bytes()[0];
                    if frame.kind == Kind::RecvPacket {
                        let stamp = rest[..rest.len().min(STAMPED)].to_vec();
                        news.push(News::Packet { from: key, stamp });
                    } else if frame.kind == Kind::PeerGone {
                        news.push(News::Gone { key, reason: rest[0] });
                    }
                }
            }
        }
        unread.drain(..used);
        news
    }
}

/// The smallest description of a relay: per key the connections in the order they last spoke.
#[derive(Default)]
struct Model {
    keys: Vec<u8>,
    live: BTreeMap<u8, Vec<usize>>,
    heard: BTreeMap<usize, BTreeSet<u8>>,
    news: BTreeMap<usize, Vec<News>>,
    packets: u32,
    millis: u64,
    not_here: BTreeMap<usize, u64>,
}

impl Model {
    fn make(&mut self, step: &Move) {
        match step {
            Move::Connect { key, .. } => {
                self.live.entry(*key).or_default().push(self.keys.len());
                self.keys.push(*key);
            }
            Move::Disconnect { client } => self.leave(*client),
            Move::Packet { client, to, len, disco } => {
                let packet = packet(*client, *to, self.packets, *len, *disco);
                self.packets += 1;
                if self.speaks(*client) {
                    self.relay(*client, *to, &packet);
                }
            }
            Move::Speak { client } => {
                self.speaks(*client);
            }
            Move::Advance { millis } => self.millis += millis,
            Move::Garbage { .. } | Move::Room { .. } | Move::Turn { .. } => {
                unreachable!("not in a calm script")
            }
        }
    }

    fn conns(&mut self, client: usize) -> Option<&mut Vec<usize>> {
        let key = self.keys.get(client)?;
        self.live.get_mut(key).filter(|conns| conns.contains(&client))
    }

    /// Makes a client the active one of its key; false if it is not connected.
    fn speaks(&mut self, client: usize) -> bool {
        let Some(conns) = self.conns(client) else { return false };
        conns.retain(|other| *other != client);
        conns.push(client);
        true
    }

    fn relay(&mut self, client: usize, to: u8, packet: &[u8]) {
        let from = self.keys[client];
        let active = self.live.get(&to).and_then(|conns| conns.last()).copied();
        if let Some(receiver) = active {
            let stamp = packet[..packet.len().min(STAMPED)].to_vec();
            self.news.entry(receiver).or_default().push(News::Packet { from, stamp });
            self.heard.entry(receiver).or_default().insert(from);
        } else if frame::is_disco(packet) {
            // One a second, three at once: the time at which the allowance is whole again.
            let whole_at = self.not_here.entry(client).or_default();
            if (*whole_at).max(self.millis) - self.millis <= 2_000 {
                *whole_at = (*whole_at).max(self.millis) + 1_000;
                self.news.entry(client).or_default().push(News::Gone { key: to, reason: 1 });
            }
        }
    }

    fn leave(&mut self, client: usize) {
        let Some(conns) = self.conns(client) else { return };
        conns.retain(|other| *other != client);
        let last = conns.is_empty();
        self.heard.remove(&client);
        self.news.remove(&client);
        let key = self.keys[client];
        if last {
            self.live.remove(&key);
            for (receiver, sources) in &mut self.heard {
                if sources.remove(&key) {
                    self.news.entry(*receiver).or_default().push(News::Gone { key, reason: 0 });
                }
            }
        }
    }

    fn news(&mut self, client: usize) -> Vec<News> {
        self.news.remove(&client).unwrap_or_default()
    }
}

/// What clients of a disordered relay have seen so far.
#[derive(Default)]
struct Seen {
    packets: BTreeSet<u32>,
    newest: BTreeMap<(usize, usize, bool), u32>,
    /// Sources of each receiver, since it was last told that they left.
    heard: BTreeMap<usize, BTreeSet<u8>>,
}

impl Seen {
    fn take(&mut self, run: &Run, receiver: usize, news: &[News]) -> Result<(), TestCaseError> {
        for item in news {
            match item {
                News::Packet { from, stamp } => {
                    let (sender, number, disco) = read_stamp(stamp);
                    prop_assert_eq!(
                        stamp[STAMPED - 1],
                        run.keys[receiver],
                        "reached whom it was not for"
                    );
                    prop_assert!(self.packets.insert(number), "packet {} came twice", number);
                    let newest = self.newest.insert((sender, receiver, disco), number);
                    prop_assert!(newest < Some(number), "order of a lane is kept");
                    self.heard.entry(receiver).or_default().insert(*from);
                }
                News::Gone { key, reason: 0 } => {
                    self.heard.entry(receiver).or_default().remove(key);
                    // Its packets may have been lost on the way, but it must have sent some.
                    let wrote = run.written.contains(&(*key, run.keys[receiver]));
                    prop_assert!(wrote, "told of the departure of a stranger");
                }
                News::Gone { .. } => {}
            }
        }
        Ok(())
    }

    fn nobody_waits_for_the_departed(&self, run: &Run) -> Result<(), TestCaseError> {
        for (receiver, sources) in &self.heard {
            if run.world.clients[*receiver].conn.is_none() {
                continue;
            }
            for source in sources {
                let live = run.world.clients.iter().zip(&run.keys);
                let here = live.into_iter().any(|(c, key)| c.conn.is_some() && key == source);
                prop_assert!(here, "client {receiver} was not told that {source} left");
            }
        }
        Ok(())
    }
}

/// Bytes at the front of every packet by which it is known again.
const STAMPED: usize = 16;

fn packet(client: usize, to: u8, number: u32, len: usize, disco: bool) -> Vec<u8> {
    let len = if disco { len.max(62) } else { len.max(STAMPED) };
    let mut packet = vec![0; len];
    if disco {
        packet[..6].copy_from_slice(&DISCO_MAGIC);
    }
    packet[6..10].copy_from_slice(&number.to_be_bytes());
    packet[10] = u8::try_from(client).unwrap();
    packet[11] = u8::from(disco && len <= MAX_DISCO_LANE_PACKET);
    packet[STAMPED - 1] = to;
    packet
}

/// Sender, number, and whether the packet travels in the disco lane.
fn read_stamp(stamp: &[u8]) -> (usize, u32, bool) {
    let number = u32::from_be_bytes(stamp[6..10].try_into().unwrap());
    (usize::from(stamp[10]), number, stamp[11] == 1)
}

fn node(key: u8) -> NodePublic {
    let mut bytes = [0x11; 32];
    bytes[0] = key;
    NodePublic::from_bytes(bytes)
}
