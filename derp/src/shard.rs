//! All connections of one packet thread, without the thread.
//!
//! Does: everything that happens to a connection after its login: frames in, routing, queues,
//! frames out, duplicates, departures, timers; and speaks to the other shards in messages.
//! Does not: own a socket, a TLS state or a clock. The shell moves bytes and messages:
//!
//! ```text
//!   socket bytes --> on_bytes ----+                +--> poll_ready, transmit --> socket bytes
//!   control ring --> on_message --+--> [ Shard ] --+--> poll_message --> control ring
//!   data ring ----> on_batch -----+                +--> take_batch ----> data ring
//!   tick ---------> on_tick ------+                +--> poll_closed ---> close the socket
//! ```
//!
//! The control ring never drops. On arrival the shell empties the control ring into a list
//! first, then the data rings, and only then passes the list on: a notice that a key has left
//! can then never overtake a packet from it.
//!
//! Spec: docs/protocol/derp.md, sections 4 to 7.

mod batch;
mod conn;
mod control;
mod inbound;
mod outbound;
mod push_back;
mod staging;
mod timers;

use std::collections::{BTreeSet, VecDeque};

use crate::counters::{Counters, Tally};
use crate::hash::Seed;
use crate::id::{ConnId, ShardId};
use crate::key::NodePublic;
use crate::limits::Limits;
use crate::presence::Presence;
use crate::queue::Pool;
use crate::registry::Registry;
use crate::route::Directory;
use crate::time::Time;
use crate::timer::Wheel;

#[cfg(any(test, feature = "sim"))]
pub use batch::tally as tally_batch;
pub use conn::Arrival;
use conn::{Conn, Slots};
pub use control::Message;
use staging::Staging;
use timers::Timer;

/// Why a shard closed a connection by itself. Each is a value of a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client announced a frame that its kind does not allow.
    BadFrame,
    /// The client sent a frame that needs mesh right.
    NoMeshRight,
    /// A frame stayed incomplete for too long.
    HalfFrame,
    /// The client took no byte for too long while something waited for it.
    Stalled,
    /// The login was not over in time.
    LoginTimeout,
    /// The client may no longer use the relay.
    Revoked,
}

/// What a shard needs to know at its start.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Which of the shards it is.
    pub id: ShardId,
    /// How many shards the relay has; at least 1.
    pub shards: u16,
    /// Bounds that the operator may set.
    pub limits: Limits,
    /// Secret of the hash functions; the same on all shards, since it decides who owns a key.
    pub seed: Seed,
}

/// The connections of one packet thread, and the keys that it owns.
#[derive(Debug)]
pub struct Shard {
    setup: Setup,
    slots: Slots,
    registry: Registry,
    presence: Presence,
    pool: Pool,
    timers: Wheel<Timer>,
    counters: Counters,
    /// Messages to this shard itself, worked off before any call returns.
    own: VecDeque<Message>,
    /// Messages to other shards.
    outbox: VecDeque<(ShardId, Message)>,
    /// Packets to other shards, one batch each.
    batches: Vec<batch::Batch>,
    staging: Staging,
    /// Buffers of other shards' batches that are done with.
    spent: Vec<(ShardId, Vec<u8>)>,
    /// Connections that may be read from again.
    resumed: Vec<ConnId>,
    /// Until when senders are held back for a destination, soonest first.
    held_until: VecDeque<(Time, ConnId)>,
    /// Connections that may have something to write, each once.
    ready: Vec<u32>,
    closed: VecDeque<(ConnId, CloseReason)>,
}

impl Shard {
    /// A shard without connections.
    #[must_use]
    pub fn new(setup: Setup, now: Time) -> Self {
        Self {
            setup,
            slots: Slots::new(setup.id),
            registry: Registry::new(setup.seed),
            presence: Presence::new(setup.seed),
            pool: Pool::default(),
            timers: Wheel::new(now),
            counters: Counters::default(),
            own: VecDeque::new(),
            outbox: VecDeque::new(),
            batches: (0..setup.shards).map(|_| batch::Batch::default()).collect(),
            staging: Staging::default(),
            spent: Vec::new(),
            resumed: Vec::new(),
            held_until: VecDeque::new(),
            ready: Vec::new(),
            closed: VecDeque::new(),
        }
    }

    /// Takes over a connection whose client has logged in.
    ///
    /// Its `ServerInfo` is written, before anything else, once the key's owner has entered it:
    /// a client that has seen its `ServerInfo` can be reached by everybody.
    pub fn attach(&mut self, arrival: Arrival, now: Time, directory: &impl Directory) -> ConnId {
        let key = arrival.key;
        let (keep_alive, login_deadline) = (arrival.keep_alive, arrival.login_deadline);
        if arrival.not_ideal {
            self.counters.not_ideal_connections += 1;
        }
        let conn = self.slots.insert(Conn::new(arrival, self.setup.seed, now));
        self.timers.insert(now + keep_alive, Timer::KeepAlive(conn));
        self.timers.insert(login_deadline, Timer::Login(conn));
        self.counters.connections += 1;
        self.post(self.owner(&key), Message::Join { key, conn });
        self.settle(now, directory);
        conn
    }

    /// Lets go of a connection whose socket has ended. Unknown names are ignored, so that a
    /// shell may report an end that the shard already knows of.
    pub fn detach(&mut self, conn: ConnId, now: Time, directory: &impl Directory) {
        self.remove(conn);
        self.settle(now, directory);
    }

    /// Takes one message off the control ring.
    pub fn on_message(&mut self, message: Message, now: Time, directory: &impl Directory) {
        self.own.push_back(message);
        self.settle(now, directory);
    }

    /// Closes all connections of these keys that this shard has, those still logging in too.
    ///
    /// Walks all connections, once for all keys: it is the owner of a key that knows where its
    /// connections are, and one that is on its way here the owner has not heard of.
    pub fn close_keys(
        &mut self,
        keys: &BTreeSet<NodePublic>,
        now: Time,
        directory: &impl Directory,
    ) {
        let named = self.slots.named().filter(|(_, conn)| keys.contains(&conn.key));
        let names: Vec<ConnId> = named.map(|(name, _)| name).collect();
        for name in names {
            self.close(name, CloseReason::Revoked);
        }
        self.settle(now, directory);
    }

    /// The next message for the control ring of another shard.
    pub fn poll_message(&mut self) -> Option<(ShardId, Message)> {
        self.outbox.pop_front()
    }

    /// The next connection that the shard has closed; its socket is to be closed.
    pub fn poll_closed(&mut self) -> Option<(ConnId, CloseReason)> {
        self.closed.pop_front()
    }

    /// The next connection that may have something to write. Each is named once until its next
    /// [`Shard::transmit`].
    pub fn poll_ready(&mut self) -> Option<ConnId> {
        while let Some(slot) = self.ready.pop() {
            if let Some(conn) = self.slots.at(slot) {
                return Some(conn);
            }
        }
        None
    }

    /// What was counted so far, and the gauges as they stand.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let (duplicate_keys, duplicate_connections) = self.registry.duplicates();
        Counters {
            keys: self.registry.keys(),
            duplicate_keys,
            duplicate_connections,
            ..self.counters
        }
    }

    /// Packets that wait in queues and in batches to other shards. Walks all connections.
    #[must_use]
    pub fn waiting(&self) -> Tally {
        let mut sum = Tally::default();
        for conn in self.slots.iter() {
            sum.merge(conn.waiting());
        }
        for batch in &self.batches {
            sum.merge(batch.waiting());
        }
        sum.merge(self.staging.waiting());
        sum
    }

    /// Memory held in queues and half frames, in bytes. Walks all connections.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let half: usize = self.slots.iter().map(|conn| conn.half_frame.capacity()).sum();
        self.pool.lent() + half
    }

    /// Says how many bytes the shell holds for connections of this shard, beside the queues: they
    /// count towards the same total.
    pub const fn set_held_outside(&mut self, bytes: usize) {
        self.pool.set_outside(bytes);
    }

    /// Whether the connection has had its `ServerInfo` written.
    #[must_use]
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.slots.get(conn).is_some_and(Conn::is_open)
    }

    /// Key of the connection's client.
    #[must_use]
    pub fn key(&self, conn: ConnId) -> Option<NodePublic> {
        self.slots.get(conn).map(|conn| conn.key)
    }

    fn owner(&self, key: &NodePublic) -> ShardId {
        self.setup.seed.owner(key, self.setup.shards)
    }

    fn post(&mut self, to: ShardId, message: Message) {
        if to == self.setup.id {
            self.own.push_back(message);
        } else {
            self.outbox.push_back((to, message));
        }
    }

    /// Works off the messages to this shard itself.
    fn settle(&mut self, now: Time, directory: &impl Directory) {
        while let Some(message) = self.own.pop_front() {
            self.obey(message, now, directory);
        }
    }

    /// Closes a connection for what its client did, or may no longer do.
    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        match reason {
            CloseReason::BadFrame => self.counters.closed_bad_frame += 1,
            CloseReason::NoMeshRight => self.counters.closed_no_mesh_right += 1,
            CloseReason::HalfFrame => self.counters.closed_half_frame += 1,
            CloseReason::Stalled => self.counters.closed_stalled += 1,
            CloseReason::LoginTimeout => self.counters.closed_login_timeout += 1,
            CloseReason::Revoked => self.counters.closed_revoked += 1,
        }
        self.remove(conn);
        self.closed.push_back((conn, reason));
    }

    fn remove(&mut self, name: ConnId) {
        let Some(mut conn) = self.slots.remove(name) else { return };
        conn.abandon_queue(&mut self.pool, &mut self.counters);
        if let Some(push_back) = conn.push_back.take() {
            self.release_all_of(*push_back, name);
        }
        self.presence.forget(name.slot, &mut conn.sources);
        self.counters.connections -= 1;
        if conn.session.is_home() {
            self.counters.home_connections -= 1;
        }
        if conn.not_ideal {
            self.counters.not_ideal_connections -= 1;
        }
        self.post(self.owner(&conn.key), Message::Leave { key: conn.key, conn: name });
    }

    /// Puts a connection on the list of those that may have something to write, once.
    fn mark_ready(slot: u32, conn: &mut Conn, ready: &mut Vec<u32>) {
        if !conn.ready {
            conn.ready = true;
            ready.push(slot);
        }
    }
}
