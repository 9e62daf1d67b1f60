//! What forwarding costs in copies and allocations: one and none, on the shortest way.
//! Spec: docs/architecture.md, "Copies".
#![expect(unsafe_code, reason = "a global allocator that counts is the only way to count")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use derp::frame::{self, Kind};
use derp::hash::Seed;
use derp::id::{ConnId, ShardId};
use derp::key::NodePublic;
use derp::limits::Limits;
use derp::shard::{Arrival, Setup, Shard};
use derp::sim::LocalDirectory;
use derp::time::Time;

/// Packets in one turn: what fits in one read.
const BURST: usize = 44;

const LEN: usize = 1_400;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// DERP-5.1: a packet whose receiver has room is copied once, into what is written, and nothing
/// is allocated for it.
#[test]
fn a_forwarded_packet_is_copied_once_and_allocates_nothing() {
    let mut relay = Relay::new();
    relay.warm_up();
    let copied = relay.shard.counters().copied_bytes;

    let allocated = relay.allocations(|relay| {
        for _ in 0..100 {
            assert_eq!(relay.turn(true), BURST * (LEN + frame::RECV_HEAD_LEN));
        }
    });

    let counters = relay.shard.counters();
    assert_eq!(counters.copied_bytes - copied, (100 * BURST * LEN) as u64);
    assert_eq!(counters.dropped.total().packets, 0);
    assert_eq!(allocated, 0);
}

/// DERP-5.3: a packet that has to wait is copied twice, and the pool's segments are used again.
#[test]
fn a_queued_packet_is_copied_twice_and_allocates_nothing_when_warm() {
    let mut relay = Relay::new();
    relay.warm_up();
    let copied = relay.shard.counters().copied_bytes;

    let allocated = relay.allocations(|relay| {
        for _ in 0..100 {
            relay.turn(false);
            relay.write();
        }
    });

    let counters = relay.shard.counters();
    assert_eq!(counters.copied_bytes - copied, (100 * 2 * BURST * LEN) as u64);
    assert_eq!(allocated, 0);
}

/// One shard with a sender and a receiver, and the buffers that a shell would have.
struct Relay {
    shard: Shard,
    directory: LocalDirectory,
    sender: ConnId,
    receiver: ConnId,
    arena: Vec<u8>,
    out: Vec<u8>,
    now: Time,
}

impl Relay {
    fn new() -> Self {
        let now = Time::ZERO;
        let directory = LocalDirectory::default();
        let setup = Setup { id: ShardId(0), shards: 1, limits: Limits::default(), seed: Seed(7) };
        let mut shard = Shard::new(setup, now);
        let mut attach = |number: u8| {
            let arrival = Arrival {
                key: key(number),
                server_info: b"sealed".to_vec(),
                login_deadline: now + Duration::from_secs(10),
                keep_alive: Duration::from_secs(60),
                not_ideal: false,
            };
            shard.attach(arrival, now, &directory)
        };
        let (sender, receiver) = (attach(1), attach(2));
        let mut arena = Vec::new();
        for _ in 0..BURST {
            frame::encode(Kind::SendPacket, &[key(2).as_bytes(), &[0x4d; LEN]], &mut arena);
        }
        let out = Vec::with_capacity(1 << 20);
        Self { shard, directory, sender, receiver, arena, out, now }
    }

    /// Both ways, until every pool has what it needs.
    fn warm_up(&mut self) {
        for _ in 0..3 {
            self.turn(true);
            self.turn(false);
            self.write();
        }
        self.out.clear();
    }

    /// One turn: a burst comes in and, if the receiver's socket has room, goes out.
    fn turn(&mut self, room: bool) -> usize {
        self.now += Duration::from_millis(1);
        let place = 0..self.arena.len();
        self.shard.on_bytes(self.sender, &self.arena, place, self.now, &self.directory);
        while self.shard.poll_ready().is_some() {}
        let written = if room { self.write() } else { 0 };
        self.shard.end_turn(&self.arena, self.now);
        written
    }

    /// Writes all that waits for the receiver; returns how many bytes that are.
    fn write(&mut self) -> usize {
        self.out.clear();
        while self.shard.transmit(self.receiver, &self.arena, &mut self.out, 16 * 1024, self.now) {}
        self.out.len()
    }

    fn allocations(&mut self, what: impl FnOnce(&mut Self)) -> u64 {
        let before = ALLOCATIONS.get();
        what(self);
        ALLOCATIONS.get() - before
    }
}

fn key(number: u8) -> NodePublic {
    NodePublic::from_bytes([number; 32])
}
