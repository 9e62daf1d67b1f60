//! What others leave for a shard, and what it shows them.
//!
//! Does: holds arrivals, messages and packets for one shard, wakes it once per batch, and
//! publishes its counters and its load.
//! Does not: block either side. Packets that find the ring full are dropped by the sender's
//! core, which asks for the room beforehand; messages are never dropped.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_queue::{ArrayQueue, SegQueue};
use derp::counters::Counters;
use derp::id::ShardId;
use derp::key::NodePublic;
use derp::limits::RING_BYTES;
use derp::shard::Message;
use mio::{Poll, Token, Waker};

use crate::handover::Handover;

/// The token under which a shard's poll reports a wake-up.
pub(super) const WAKE: Token = Token(usize::MAX);

/// Batches on the way from one shard to another; each is what one turn of its loop gathered. So
/// many that bytes are the bound, also where a turn gathers a single packet.
const RING_BATCHES: usize = 1_024;

/// Largest buffer that is used again for a later batch, in bytes.
const KEPT_BATCH: usize = 256 * 1024;

/// Buffers kept for later batches: with [`KEPT_BATCH`], 1 MiB per pair of shards.
const KEPT_BATCHES: usize = 4;

#[derive(Debug)]
pub(crate) struct Mailbox {
    waker: Waker,
    /// Whether a wake-up is already on its way.
    woken: AtomicBool,
    arrivals: SegQueue<Handover>,
    /// Keys whose connections are to be closed.
    closings: SegQueue<NodePublic>,
    messages: SegQueue<Message>,
    /// One ring per sending shard.
    rings: Vec<Ring>,
    connections: AtomicUsize,
    busy: AtomicU64,
    counters: Mutex<Counters>,
}

/// Packets from one other shard. One thread puts in, one takes out.
#[derive(Debug)]
struct Ring {
    batches: ArrayQueue<Vec<u8>>,
    bytes: AtomicUsize,
    /// Empty buffers on their way back.
    spare: ArrayQueue<Vec<u8>>,
}

impl Mailbox {
    pub(super) fn new(poll: &Poll, shards: u16) -> io::Result<Self> {
        let ring = || Ring {
            batches: ArrayQueue::new(RING_BATCHES),
            bytes: AtomicUsize::new(0),
            spare: ArrayQueue::new(KEPT_BATCHES),
        };
        Ok(Self {
            waker: Waker::new(poll.registry(), WAKE)?,
            woken: AtomicBool::new(false),
            arrivals: SegQueue::new(),
            closings: SegQueue::new(),
            messages: SegQueue::new(),
            rings: (0..shards).map(|_| ring()).collect(),
            connections: AtomicUsize::new(0),
            busy: AtomicU64::new(0),
            counters: Mutex::new(Counters::default()),
        })
    }

    /// Leaves a connection for the shard.
    pub(super) fn hand_over(&self, handover: Handover) {
        // Counted here, so that a storm of arrivals spreads before the shards have seen any.
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.arrivals.push(handover);
        self.wake();
    }

    /// Leaves keys whose connections the shard is to close: those that it has, and those that
    /// were handed over before.
    pub(super) fn close(&self, keys: &[NodePublic]) {
        for key in keys {
            self.closings.push(*key);
        }
        self.wake();
    }

    /// Leaves a message for the shard; the sender wakes it when its turn is over.
    pub(super) fn post(&self, message: Message) {
        self.messages.push(message);
    }

    /// Bytes of packets that the shard takes from another one now.
    pub(super) fn room(&self, from: ShardId) -> usize {
        match self.rings.get(from.index()) {
            Some(ring) if !ring.batches.is_full() => {
                RING_BYTES.saturating_sub(ring.bytes.load(Ordering::Acquire))
            }
            Some(_) | None => 0,
        }
    }

    /// An empty buffer for the next batch from another shard.
    pub(super) fn spare(&self, from: ShardId) -> Vec<u8> {
        self.rings.get(from.index()).and_then(|ring| ring.spare.pop()).unwrap_or_default()
    }

    /// Leaves a batch of packets; the sender wakes the shard when its turn is over.
    ///
    /// Returns the batch if there is no room, which `room` had then ruled out beforehand.
    pub(super) fn put(&self, from: ShardId, batch: Vec<u8>) -> Result<(), Vec<u8>> {
        let Some(ring) = self.rings.get(from.index()) else { return Err(batch) };
        let len = batch.len();
        ring.bytes.fetch_add(len, Ordering::AcqRel);
        ring.batches.push(batch).inspect_err(|_| {
            ring.bytes.fetch_sub(len, Ordering::AcqRel);
        })
    }

    /// Takes the next batch of packets that another shard has left.
    pub(super) fn next_batch(&self, from: ShardId) -> Option<Vec<u8>> {
        let ring = self.rings.get(from.index())?;
        let batch = ring.batches.pop()?;
        ring.bytes.fetch_sub(batch.len(), Ordering::AcqRel);
        Some(batch)
    }

    /// Gives the buffer of a batch back to the shard that filled it.
    pub(super) fn give_back(&self, from: ShardId, mut batch: Vec<u8>) {
        batch.clear();
        if batch.capacity() <= KEPT_BATCH
            && let Some(ring) = self.rings.get(from.index())
        {
            // Enough are on their way back already: this one is freed.
            drop(ring.spare.push(batch));
        }
    }

    pub(super) fn next_arrival(&self) -> Option<Handover> {
        self.arrivals.pop()
    }

    pub(super) fn next_closing(&self) -> Option<NodePublic> {
        self.closings.pop()
    }

    pub(super) fn next_message(&self) -> Option<Message> {
        self.messages.pop()
    }

    /// Wakes the shard, unless it is on its way to look here anyway.
    pub(super) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a packet thread cannot be woken");
        }
    }

    /// To be called by the shard before it looks at what was left for it.
    pub(super) fn looking(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Reports one connection that has ended.
    pub(super) fn ended(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn busy(&self) -> u64 {
        self.busy.load(Ordering::Relaxed)
    }

    pub(super) fn publish_busy(&self, thousandths: u64) {
        self.busy.store(thousandths, Ordering::Relaxed);
    }

    /// Shows the counters. Never waits: while somebody reads them, they stay as they are, and
    /// the next turn shows them.
    pub(super) fn publish(&self, counters: &Counters) {
        if let Ok(mut shown) = self.counters.try_lock() {
            *shown = *counters;
        }
    }

    pub(super) fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
