//! The server: configured by a [`Builder`], alive as a [`Running`].
//!
//! Does: binds all sockets before it starts the first thread, so that a server either runs
//! completely or not at all. Does not: install signal handlers or keep anything global.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use stun::binding::Rule;

use crate::limits::MAX_THREADS;
use crate::listen::{BindError, Group};
use crate::tally::{Counters, Tally};
use crate::wake::Wake;
use crate::worker::Worker;

/// A STUN responder that is not running yet; see [`Server::builder`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Server;

impl Server {
    /// Starts a configuration: no addresses, the strict rule, one thread per core.
    pub fn builder() -> Builder {
        Builder { listens: Vec::new(), rule: Rule::default(), threads: None }
    }
}

/// Why a server does not start. Each one is a line for the operator with what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No address was given, or none that this host has the family for.
    #[error("no address to listen on: give at least one, such as 0.0.0.0:3478")]
    NoListen,
    /// More threads than [`MAX_THREADS`].
    #[error("{threads} threads are too many: at most {MAX_THREADS}")]
    TooManyThreads {
        /// What was asked for.
        threads: usize,
    },
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives no thread or no descriptor.
    #[error(
        "cannot start the threads ({0}): raise the limits of this process (systemd: \
         LimitNOFILE=, TasksMax=; else ulimit) or use fewer threads"
    )]
    Threads(#[source] io::Error),
}

/// What a server is to do.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    listens: Vec<Listen>,
    rule: Rule,
    threads: Option<NonZero<usize>>,
}

#[derive(Clone, Copy, Debug)]
struct Listen {
    address: SocketAddr,
    if_supported: bool,
}

impl Builder {
    /// Adds an address to listen on. Port 0 takes a free port, see [`Running::addresses`].
    ///
    /// `0.0.0.0` and `[::]` stand for all addresses of their own family only: an IPv6 socket
    /// takes no IPv4 clients. Answers leave from the address that the client asked.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listens.push(Listen { address, if_supported: false });
        self
    }

    /// Adds an address that is left out if the kernel does not have its family.
    ///
    /// For defaults that nobody chose; what an operator asks for should not be left out.
    pub fn listen_if_supported(mut self, address: SocketAddr) -> Self {
        self.listens.push(Listen { address, if_supported: true });
        self
    }

    /// Sets who is answered. Default: [`Rule::Tailnode`].
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    /// Sets the number of threads, and so of sockets per address. Default: one per core.
    ///
    /// Memory: about 80 KiB per thread, and per socket at most `RECEIVE_BUFFER_BYTES` twice over
    /// in the kernel while requests wait.
    pub fn threads(mut self, threads: NonZero<usize>) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Binds all addresses and starts all threads. Does not block.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running or bound.
    pub fn start(self) -> Result<Running, StartError> {
        let threads = self.threads.or_else(|| thread::available_parallelism().ok());
        let threads = threads.map_or(1, NonZero::get);
        if threads > MAX_THREADS {
            return Err(StartError::TooManyThreads { threads });
        }
        let mut groups = Vec::with_capacity(self.listens.len());
        for listen in &self.listens {
            match Group::bind(listen.address, threads) {
                Ok(group) => groups.push(group),
                Err(error @ BindError::NoFamily { .. }) if listen.if_supported => {
                    tracing::warn!(%error, "left out");
                }
                Err(error) => return Err(error.into()),
            }
        }
        if groups.is_empty() {
            return Err(StartError::NoListen);
        }
        let wake = Arc::new(Wake::new().map_err(StartError::Threads)?);
        let mut running = Running {
            addresses: groups.iter().map(|group| group.address).collect(),
            wake,
            paused: Arc::default(),
            tallies: Vec::with_capacity(threads),
            threads: Vec::with_capacity(threads),
        };
        for index in 0..threads {
            let sockets = groups.iter_mut().filter_map(|group| group.sockets.pop()).collect();
            let tally = Arc::<Tally>::default();
            let worker = Worker {
                sockets,
                rule: self.rule,
                wake: Arc::clone(&running.wake),
                paused: Arc::clone(&running.paused),
                tally: Arc::clone(&tally),
            };
            // On failure `running` is dropped, which stops the threads before this one.
            let thread = thread::Builder::new()
                .name(format!("stun-{index}"))
                .spawn(move || {
                    if let Err(error) = worker.run() {
                        tracing::error!(%error, index, "a STUN thread has failed");
                    }
                })
                .map_err(StartError::Threads)?;
            running.tallies.push(tally);
            running.threads.push(thread);
        }
        tracing::debug!(addresses = running.address_list(), threads, rule = ?self.rule, "STUN started");
        Ok(running)
    }
}

/// A server that answers, until it is stopped or dropped.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<SocketAddr>,
    wake: Arc<Wake>,
    paused: Arc<AtomicBool>,
    tallies: Vec<Arc<Tally>>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Addresses with the ports that were really bound, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The addresses in one word for a log or a `ready` line, with commas between them.
    #[must_use]
    pub fn address_list(&self) -> String {
        let mut list = String::new();
        for (index, address) in self.addresses.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(list, "{comma}{address}").ok();
        }
        list
    }

    /// Counters of all threads together. Costs a few loads per thread and disturbs none.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.thread_counters().sum()
    }

    /// Counters of each thread.
    pub fn thread_counters(&self) -> impl ExactSizeIterator<Item = Counters> {
        self.tallies.iter().map(|tally| tally.read())
    }

    /// How many threads were started and are at work. Fewer than were started means that some
    /// have failed, and that their share of the clients is served by the others.
    #[must_use]
    pub fn live_threads(&self) -> usize {
        self.threads.iter().filter(|thread| !thread.is_finished()).count()
    }

    /// Stops answering but goes on reading, so that no request is answered late: what comes is
    /// thrown away and counted as `paused`. Takes effect with the next batch.
    pub fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    /// Answers again.
    pub fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
    }

    /// Stops all threads, closes all sockets, and returns the last counters.
    ///
    /// Blocks until the threads have ended: each finishes its turn, at most a few milliseconds.
    pub fn stop(mut self) -> Counters {
        self.end();
        self.counters()
    }

    fn end(&mut self) {
        if let Err(error) = self.wake.signal() {
            // Without the signal the threads would be waited for in vain.
            tracing::error!(%error, "cannot stop the STUN threads");
            return;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a STUN thread has panicked");
            }
        }
    }
}

impl Drop for Running {
    /// Stops as [`Running::stop`] does.
    fn drop(&mut self) {
        self.end();
    }
}
