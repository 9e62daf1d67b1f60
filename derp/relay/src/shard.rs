//! The packet threads: everything that happens to a connection after its login.
//!
//! Does: starts one thread per shard, chooses a shard for each connection that the front door
//! hands over, and shows what the shards count.
//! Does not: accept, shake hands or ask anybody anything; nothing here may wait.
//!
//! ```text
//! front door --Handover--> [arrivals]   thread 0: epoll, sockets, TLS, derp::shard::Shard
//!                                          |  ^ control ring (never drops)
//!                                          v  | data ring (1 MiB, drops and counts)
//!                                       thread 1: ...          one directory, shared: key -> id
//! ```
//!
//! A connection stays on its shard. Next on the packet path: `derp::shard`.

mod arena;
mod directory;
mod link;
mod mailbox;
mod socket;
mod thread;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use derp::counters::Counters;
use derp::hash::Seed;
use derp::id::ShardId;
use derp::key::NodePublic;
use derp::limits::Limits;
use derp::shard::Setup;

use crate::access::Connections;
use crate::handover::{Handover, Intake};
use directory::SharedDirectory;
use mailbox::Mailbox;
use thread::Thread;

/// Busy shares that differ by less count as equal, in thousandths of a core.
const BUSY_STEP: u64 = 50;

/// Least part of the total of all queues that a shard gets, in bytes: an eighth of it is still
/// more than the largest packet.
const MIN_QUEUE_PART: usize = 1024 * 1024;

/// What the shards of one relay need to know at their start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardSettings {
    /// How many to start; at least 1.
    pub(crate) shards: u16,
    /// Bounds of queues.
    pub(crate) limits: Limits,
}

/// The running packet threads of one relay. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shards {
    mailboxes: Arc<[Mailbox]>,
    directory: Arc<SharedDirectory>,
    stopping: Arc<AtomicBool>,
}

/// The threads, to be waited for when they have been told to stop.
#[derive(Debug)]
pub(crate) struct Threads(Vec<JoinHandle<()>>);

/// Starts the packet threads.
///
/// # Errors
///
/// When the system has no descriptor or thread left, or no randomness.
pub(crate) fn start(settings: ShardSettings) -> io::Result<(Shards, Threads)> {
    let seed = Seed(getrandom::u64().map_err(io::Error::other)?);
    let directory = Arc::new(SharedDirectory::new(seed));
    let stopping = Arc::new(AtomicBool::new(false));
    let epoch = Instant::now();
    let mut polls = Vec::new();
    let mut mailboxes = Vec::new();
    for _ in 0..settings.shards {
        let poll = mio::Poll::new()?;
        mailboxes.push(Mailbox::new(&poll, settings.shards)?);
        polls.push(poll);
    }
    let mailboxes: Arc<[Mailbox]> = mailboxes.into();
    let mut limits = settings.limits;
    // Each shard keeps to its part by itself, so that none has to ask another.
    let part = limits.queue_bytes_total / usize::from(settings.shards.max(1));
    limits.queue_bytes_total = part.max(MIN_QUEUE_PART);
    let shards = Shards {
        mailboxes: Arc::clone(&mailboxes),
        directory: Arc::clone(&directory),
        stopping: Arc::clone(&stopping),
    };
    let mut threads = Threads(Vec::new());
    for (id, poll) in (0..settings.shards).zip(polls) {
        let setup = Setup { id: ShardId(id), shards: settings.shards, limits, seed };
        let thread = Thread::new(
            setup,
            poll,
            Arc::clone(&mailboxes),
            Arc::clone(&directory),
            Arc::clone(&stopping),
            epoch,
        );
        let name = format!("shard-{id}");
        match std::thread::Builder::new().name(name).spawn(|| thread.run()) {
            Ok(handle) => threads.0.push(handle),
            Err(error) => {
                // Half a relay is none: those that run already end.
                shards.stop();
                threads.join();
                return Err(error);
            }
        }
    }
    Ok((shards, threads))
}

impl Shards {
    /// What each shard has counted, in order of shards.
    pub(crate) fn counters(&self) -> Vec<Counters> {
        self.mailboxes.iter().map(Mailbox::counters).collect()
    }

    /// Share of its time that each shard was busy lately, in thousandths.
    pub(crate) fn busy(&self) -> Vec<u64> {
        self.mailboxes.iter().map(Mailbox::busy).collect()
    }

    /// Tells the threads to close all connections and end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for mailbox in &*self.mailboxes {
            mailbox.wake();
        }
    }

    /// The shard with the least recent busy time, then the fewest connections.
    fn choose(&self) -> Option<&Mailbox> {
        self.mailboxes
            .iter()
            .min_by_key(|mailbox| (mailbox.busy() / BUSY_STEP, mailbox.connections()))
    }
}

impl Connections for Shards {
    fn parts(&self) -> usize {
        directory::PARTS
    }

    fn keys(&self, part: usize) -> Vec<NodePublic> {
        self.directory.keys(part)
    }

    fn close(&self, keys: &[NodePublic]) {
        // All shards: a connection that is on its way to one is in no directory.
        for mailbox in &*self.mailboxes {
            mailbox.close(keys);
        }
    }
}

impl Intake for Shards {
    fn take(&self, handover: Handover) {
        if let Some(mailbox) = self.choose() {
            mailbox.hand_over(handover);
        }
    }
}

impl Threads {
    /// Waits until all threads have ended.
    pub(crate) fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a packet thread ended by a panic");
            }
        }
    }
}
