//! A relay of several shards in memory, with links and a clock that tests move by hand.
//!
//! Does: connects clients to shards, carries bytes and ring traffic between them step by step,
//! and checks at every step that no packet is lost without being counted:
//! `received = sent + dropped + waiting`.
//! Does not: know what ought to arrive; that is for the test and its model.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::counters::{Counters, Tally};
use crate::frame::{self, Kind};
use crate::hash::Seed;
use crate::id::{ConnId, ShardId};
use crate::key::NodePublic;
use crate::limits::{Limits, RING_BYTES};
use crate::route::Directory;
use crate::shard::{Arrival, CloseReason, Message, Setup, Shard, tally_batch};
use crate::time::Time;

/// Bytes gathered for one write.
const WRITE_BUDGET: usize = 64 * 1024;

/// Time that a simulated login has left when it reaches its shard.
const LOGIN_TIME: Duration = Duration::from_secs(10);

/// Keep-alive interval of simulated clients.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A directory for one thread.
#[derive(Debug, Default)]
pub struct LocalDirectory {
    version: Cell<u64>,
    keys: RefCell<BTreeMap<NodePublic, ConnId>>,
}

impl Directory for LocalDirectory {
    fn version(&self) -> u64 {
        self.version.get()
    }

    fn find(&self, key: &NodePublic) -> Option<ConnId> {
        self.keys.borrow().get(key).copied()
    }

    fn publish(&self, key: &NodePublic, conn: Option<ConnId>) {
        let replaced = match conn {
            Some(conn) => self.keys.borrow_mut().insert(*key, conn),
            None => self.keys.borrow_mut().remove(key),
        };
        if replaced.is_some() {
            self.version.set(self.version.get() + 1);
        }
    }
}

/// One client and the socket between it and its shard.
#[derive(Debug)]
pub struct Client {
    /// Its key.
    pub key: NodePublic,
    /// Its connection, while it lives.
    pub conn: Option<ConnId>,
    /// Bytes that the relay has written and the client has not read.
    pub socket: Vec<u8>,
    /// Bytes that the socket takes before it refuses more.
    pub socket_room: usize,
    /// Gathered by the relay, refused by the socket.
    refused: Vec<u8>,
    /// Why the relay closed the connection, if it did.
    pub closed: Option<CloseReason>,
}

/// A relay, its clients and its clock.
#[derive(Debug)]
pub struct World {
    /// Now.
    pub now: Time,
    /// Who is where.
    pub directory: LocalDirectory,
    /// The clients, in the order in which they connected.
    pub clients: Vec<Client>,
    shards: Vec<Shard>,
    control: Vec<VecDeque<Message>>,
    data: BTreeMap<(ShardId, ShardId), VecDeque<Vec<u8>>>,
    /// Per shard, what its clients have sent since its last turn.
    arenas: Vec<Vec<u8>>,
}

impl World {
    /// A relay of `shards` shards without clients, at time zero.
    #[must_use]
    pub fn new(shards: u16, limits: Limits) -> Self {
        let now = Time::ZERO;
        let setup = |id| Setup { id: ShardId(id), shards, limits, seed: Seed(7) };
        let mut world = Self {
            now,
            directory: LocalDirectory::default(),
            clients: Vec::new(),
            shards: (0..shards).map(|id| Shard::new(setup(id), now)).collect(),
            control: (0..shards).map(|_| VecDeque::new()).collect(),
            data: BTreeMap::new(),
            arenas: (0..shards).map(|_| Vec::new()).collect(),
        };
        for shard in 0..shards {
            world.fill_rings(ShardId(shard));
        }
        world
    }

    /// Connects a client with `key` to a shard; returns its place in `clients`.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    pub fn connect(&mut self, key: NodePublic, shard: u16) -> usize {
        let mut server_info = Vec::new();
        frame::encode(Kind::ServerInfo, &[b"sealed"], &mut server_info);
        let arrival = Arrival {
            key,
            server_info,
            login_deadline: self.now + LOGIN_TIME,
            keep_alive: KEEP_ALIVE,
            not_ideal: false,
        };
        let conn = self.shard(shard).attach(arrival);
        self.clients.push(Client {
            key,
            conn: Some(conn),
            socket: Vec::new(),
            socket_room: usize::MAX,
            refused: Vec::new(),
            closed: None,
        });
        self.clients.len() - 1
    }

    /// Lets a client send bytes, as far as it is still connected.
    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        let Some(conn) = self.clients.get(client).and_then(|client| client.conn) else { return };
        let (now, place) = (self.now, conn.shard.index());
        let (Some(shard), Some(arena)) = (self.shards.get_mut(place), self.arenas.get_mut(place))
        else {
            return;
        };
        let start = arena.len();
        arena.extend_from_slice(bytes);
        shard.on_bytes(conn, arena, start..arena.len(), now, &self.directory);
        self.collect_closed(conn.shard);
    }

    /// Lets a client send a packet to a key.
    pub fn send_packet(&mut self, client: usize, to: &NodePublic, packet: &[u8]) {
        let mut bytes = Vec::new();
        frame::encode(Kind::SendPacket, &[to.as_bytes(), packet], &mut bytes);
        self.send(client, &bytes);
    }

    /// Whether the relay would read from a client now; what [`World::send`] sends, it has read.
    #[must_use]
    pub fn is_read_from(&self, client: usize) -> bool {
        let conn = self.clients.get(client).and_then(|client| client.conn);
        let shard = conn.and_then(|conn| self.shards.get(conn.shard.index()));
        conn.zip(shard).is_some_and(|(conn, shard)| shard.read_allowance(conn) > 0)
    }

    /// Ends a client's connection from its side.
    pub fn disconnect(&mut self, client: usize) {
        let Some(conn) = self.clients.get_mut(client).and_then(|client| client.conn.take()) else {
            return;
        };
        self.shard(conn.shard.0).detach(conn);
    }

    /// Closes all connections of a key, as an operator may.
    pub fn close_key(&mut self, key: &NodePublic) {
        let keys = BTreeSet::from([*key]);
        let now = self.now;
        for shard in 0..self.shards_len() {
            if let Some(core) = self.shards.get_mut(usize::from(shard)) {
                core.close_keys(&keys, now, &self.directory);
            }
            self.collect_closed(ShardId(shard));
        }
    }

    /// Takes what has arrived at a client.
    pub fn read(&mut self, client: usize) -> Vec<u8> {
        self.clients
            .get_mut(client)
            .map(|client| std::mem::take(&mut client.socket))
            .unwrap_or_default()
    }

    /// Lets one shard take its turn: rings in, sockets out, rings out. Returns whether anything
    /// moved.
    pub fn turn(&mut self, shard: u16) -> bool {
        let id = ShardId(shard);
        let mut moved = false;
        // Messages first into a list, then packets, then the list: see `shard`.
        let messages = self.control.get_mut(id.index()).map(std::mem::take).unwrap_or_default();
        for from in 0..self.shards_len() {
            let batches = self.data.remove(&(ShardId(from), id)).unwrap_or_default();
            for batch in batches {
                moved = true;
                self.shard(shard).on_batch(ShardId(from), batch);
            }
        }
        for message in messages {
            moved = true;
            self.shard(shard).on_message(message);
        }
        moved |= self.write_sockets(id);
        self.end_turn(id);
        // What had to wait for the packets of this turn.
        moved |= self.write_sockets(id);
        moved |= self.fill_rings(id);
        self.collect_closed(id);
        moved
    }

    /// Lets all shards take turns until nothing moves any more.
    ///
    /// # Panics
    ///
    /// If a packet was lost without being counted, or the shards never come to rest.
    pub fn settle(&mut self) {
        for _ in 0..1_000 {
            let moved = (0..self.shards_len()).map(|shard| self.turn(shard)).collect::<Vec<_>>();
            self.check_conservation();
            if !moved.contains(&true) {
                return;
            }
        }
        panic!("the shards do not come to rest");
    }

    /// Lets time pass.
    pub fn advance(&mut self, span: Duration) {
        self.now += span;
        for shard in 0..self.shards_len() {
            self.shard(shard).on_tick();
            self.shard(shard).on_push_back_timeout();
            self.collect_closed(ShardId(shard));
        }
    }

    /// Sum of what all shards have counted.
    #[must_use]
    pub fn counters(&self) -> Vec<Counters> {
        self.shards.iter().map(Shard::counters).collect()
    }

    /// Memory that the shards hold in queues and half frames, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.shards.iter().map(Shard::held_bytes).sum()
    }

    /// Packets in queues, in batches and on rings.
    #[must_use]
    pub fn waiting(&self) -> Tally {
        let mut sum = Tally::default();
        for shard in &self.shards {
            sum.merge(shard.waiting());
        }
        for batch in self.data.values().flatten() {
            sum.merge(tally_batch(batch));
        }
        sum
    }

    /// Holds the books against each other.
    ///
    /// # Panics
    ///
    /// If `received` is not `sent + dropped + waiting`.
    pub fn check_conservation(&self) {
        let (mut received, mut accounted) = (Tally::default(), self.waiting());
        for counters in self.counters() {
            received.merge(counters.received.total());
            accounted.merge(counters.sent.total());
            accounted.merge(counters.dropped.total());
        }
        assert_eq!(received, accounted, "received = sent + dropped + waiting");
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards_len(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    fn write_sockets(&mut self, id: ShardId) -> bool {
        let mut moved = false;
        while let Some(conn) = self.shards.get_mut(id.index()).and_then(Shard::poll_ready) {
            moved |= self.write(conn);
        }
        // Sockets that refused take more when their client has read.
        let blocked: Vec<ConnId> = self
            .clients
            .iter()
            .filter(|client| !client.refused.is_empty())
            .filter_map(|client| client.conn)
            .filter(|conn| conn.shard == id)
            .collect();
        for conn in blocked {
            moved |= self.write(conn);
        }
        moved
    }

    fn write(&mut self, conn: ConnId) -> bool {
        let now = self.now;
        let Some(client) = self.clients.iter_mut().find(|client| client.conn == Some(conn)) else {
            return false;
        };
        let place = conn.shard.index();
        let (Some(shard), Some(arena)) = (self.shards.get_mut(place), self.arenas.get(place))
        else {
            return false;
        };
        let mut took = false;
        loop {
            let room = client.socket_room.saturating_sub(client.socket.len());
            let part = room.min(client.refused.len());
            client.socket.extend(client.refused.drain(..part));
            took |= part > 0;
            if !client.refused.is_empty() {
                shard.on_written(conn, took, true, now);
                return took;
            }
            shard.on_written(conn, took, false, now);
            shard.transmit(conn, arena, &mut client.refused, WRITE_BUDGET, now);
            if client.refused.is_empty() {
                return took;
            }
        }
    }

    fn end_turn(&mut self, id: ShardId) {
        let now = self.now;
        let (Some(shard), Some(arena)) =
            (self.shards.get_mut(id.index()), self.arenas.get_mut(id.index()))
        else {
            return;
        };
        shard.end_turn(arena, now);
        arena.clear();
        // Real shells give these back; here each batch gets a new one.
        while shard.poll_spent().is_some() {}
        // Clients here send whenever the test says so.
        while shard.poll_resumed().is_some() {}
    }

    fn fill_rings(&mut self, id: ShardId) -> bool {
        let mut moved = false;
        let shards = self.shards_len();
        let Some(shard) = self.shards.get_mut(id.index()) else { return false };
        while let Some((to, message)) = shard.poll_message() {
            moved = true;
            if let Some(ring) = self.control.get_mut(to.index()) {
                ring.push_back(message);
            }
        }
        for to in (0..shards).map(ShardId).filter(|to| *to != id) {
            let batch = shard.take_batch(to, Vec::new());
            let ring = self.data.entry((id, to)).or_default();
            if !batch.is_empty() {
                moved = true;
                ring.push_back(batch);
            }
            let on_ring: usize = ring.iter().map(Vec::len).sum();
            shard.set_room(to, RING_BYTES.saturating_sub(on_ring));
        }
        moved
    }

    fn collect_closed(&mut self, id: ShardId) {
        let Some(shard) = self.shards.get_mut(id.index()) else { return };
        while let Some((conn, reason)) = shard.poll_closed() {
            if let Some(client) = self.clients.iter_mut().find(|client| client.conn == Some(conn)) {
                client.conn = None;
                client.closed = Some(reason);
            }
        }
    }

    fn shard(&mut self, id: u16) -> Bound<'_> {
        let shards = self.shards.len();
        let Some(shard) = self.shards.get_mut(usize::from(id)) else {
            panic!("shard {id} of {shards}");
        };
        Bound { shard, now: self.now, directory: &self.directory }
    }
}

/// A shard with the time and the directory that each of its calls wants.
struct Bound<'a> {
    shard: &'a mut Shard,
    now: Time,
    directory: &'a LocalDirectory,
}

impl Bound<'_> {
    fn attach(&mut self, arrival: Arrival) -> ConnId {
        self.shard.attach(arrival, self.now, self.directory)
    }

    fn detach(&mut self, conn: ConnId) {
        self.shard.detach(conn, self.now, self.directory);
    }

    fn on_batch(&mut self, from: ShardId, batch: Vec<u8>) {
        self.shard.on_batch(from, batch, self.now);
    }

    fn on_push_back_timeout(&mut self) {
        self.shard.on_push_back_timeout(self.now);
    }

    fn on_message(&mut self, message: Message) {
        self.shard.on_message(message, self.now, self.directory);
    }

    fn on_tick(&mut self) {
        self.shard.on_tick(self.now, self.directory);
    }
}
