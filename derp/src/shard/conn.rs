//! One connection of a shard, and the places that connections live in.

use std::collections::VecDeque;
use std::time::Duration;

use super::push_back::{Aim, PushBack};
use super::staging::Chain;
use crate::counters::{Counters, Tally};
use crate::frame::PING_LEN;
use crate::hash::{FlowId, Seed};
use crate::id::{ConnId, ShardId};
use crate::key::NodePublic;
use crate::presence::Sources;
use crate::queue::{Mark, Pool, Queue};
use crate::route::Destinations;
use crate::session::Session;
use crate::time::Time;

/// A client that has logged in, as the front door hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The client's key.
    pub key: NodePublic,
    /// The whole `ServerInfo` frame, sealed, to be written first.
    pub server_info: Vec<u8>,
    /// When `server_info` has to be on its way; the connection is closed otherwise.
    pub login_deadline: Time,
    /// Time between keep-alives, drawn from `limits::KEEP_ALIVE_SECONDS`.
    pub keep_alive: Duration,
    /// Whether the client would rather have reached another node of the region.
    pub not_ideal: bool,
}

/// What the owner of the key has said of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing yet: its `ServerInfo` is held back.
    Joining,
    /// Packets for the key come here.
    Active,
    /// Packets for the key go to another connection; a frame from here changes that.
    Inactive {
        /// Whether the owner was told of such a frame already.
        reported: bool,
    },
}

/// A `PeerGone` that waits until the packets received before it have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    pub(super) key: NodePublic,
    pub(super) reason: u8,
    pub(super) after: Mark,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) key: NodePublic,
    pub(super) not_ideal: bool,
    pub(super) session: Session,
    pub(super) standing: Standing,
    /// Start of a frame whose end has not come yet, and when its first byte came.
    pub(super) half_frame: Vec<u8>,
    pub(super) half_frame_since: Time,
    pub(super) half_frame_timer: bool,
    /// Bytes still to come of a frame that is being skipped.
    pub(super) skip: u64,
    pub(super) destinations: Option<Box<Destinations>>,
    pub(super) sources: Sources,
    /// Written before anything else.
    pub(super) server_info: Vec<u8>,
    pub(super) pongs: Vec<[u8; PING_LEN]>,
    pub(super) farewells: VecDeque<Farewell>,
    pub(super) keep_alive: Duration,
    pub(super) keep_alive_due: bool,
    /// Packets of this turn, where they were received; newer than those in the queue.
    pub(super) staged: Chain,
    pub(super) queue: Option<Box<Queue>>,
    /// The flow that packets from here wait in.
    pub(super) flow: FlowId,
    pub(super) aim: Aim,
    pub(super) push_back: Option<Box<PushBack>>,
    /// On the shard's list of connections that may have something to write.
    pub(super) ready: bool,
    /// When the socket last took something, if it refuses to take more.
    pub(super) blocked_since: Option<Time>,
    pub(super) stall_timer: bool,
}

impl Conn {
    pub(super) fn new(arrival: Arrival, seed: Seed, now: Time) -> Self {
        Self {
            key: arrival.key,
            not_ideal: arrival.not_ideal,
            session: Session::new(now),
            standing: Standing::Joining,
            half_frame: Vec::new(),
            half_frame_since: now,
            half_frame_timer: false,
            skip: 0,
            destinations: None,
            sources: Sources::new(seed),
            server_info: arrival.server_info,
            pongs: Vec::new(),
            farewells: VecDeque::new(),
            keep_alive: arrival.keep_alive,
            keep_alive_due: false,
            staged: Chain::default(),
            queue: None,
            flow: seed.flow(&arrival.key),
            aim: Aim::new(),
            push_back: None,
            ready: false,
            blocked_since: None,
            stall_timer: false,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.standing, Standing::Joining) && self.server_info.is_empty()
    }

    pub(super) fn waiting(&self) -> Tally {
        self.queue.as_ref().map(|queue| queue.waiting()).unwrap_or_default()
    }

    /// What waits here for the client, in bytes as charged to its queue.
    pub(super) fn held_charge(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.charged()) + self.staged.bytes
    }

    pub(super) fn abandon_queue(&mut self, pool: &mut Pool, counters: &mut Counters) {
        if let Some(mut queue) = self.queue.take() {
            queue.abandon(pool, counters);
            pool.give_queue(queue);
        }
    }
}

/// The places of one shard's connections.
#[derive(Debug)]
pub(super) struct Slots {
    shard: ShardId,
    list: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    conn: Option<Box<Conn>>,
}

impl Slots {
    pub(super) const fn new(shard: ShardId) -> Self {
        Self { shard, list: Vec::new(), free: Vec::new() }
    }

    pub(super) fn insert(&mut self, conn: Conn) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.list.push(Slot::default());
            // Descriptors run out long before 2^32 connections.
            u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX)
        });
        let mut generation = 0;
        if let Some(place) = self.list.get_mut(slot as usize) {
            generation = place.generation;
            place.conn = Some(Box::new(conn));
        }
        ConnId { shard: self.shard, slot, generation }
    }

    pub(super) fn remove(&mut self, name: ConnId) -> Option<Box<Conn>> {
        let place = self.list.get_mut(name.slot as usize)?;
        if place.generation != name.generation {
            return None;
        }
        let conn = place.conn.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(name.slot);
        Some(conn)
    }

    pub(super) fn get(&self, name: ConnId) -> Option<&Conn> {
        let place = self.list.get(name.slot as usize)?;
        if place.generation == name.generation { place.conn.as_deref() } else { None }
    }

    pub(super) fn get_mut(&mut self, name: ConnId) -> Option<&mut Conn> {
        let place = self.list.get_mut(name.slot as usize)?;
        if place.generation == name.generation { place.conn.as_deref_mut() } else { None }
    }

    /// The connection in a place, whatever its generation.
    pub(super) fn at(&self, slot: u32) -> Option<ConnId> {
        let place = self.list.get(slot as usize)?;
        place.conn.as_ref()?;
        Some(ConnId { shard: self.shard, slot, generation: place.generation })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.list.iter().filter_map(|place| place.conn.as_deref())
    }

    /// All connections with their names.
    pub(super) fn named(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        (0..).zip(&self.list).filter_map(|(slot, place)| {
            let name = ConnId { shard: self.shard, slot, generation: place.generation };
            Some((name, place.conn.as_deref()?))
        })
    }
}
