//! The life of the binary: start, say `ready`, wait for a signal, stop.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use stun_server::{Running, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::Args;

/// How often the threads are looked after.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Why the program ends with another code than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExitError {
    /// The command line asks for something that cannot be had.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The runtime or the signals cannot be set up.
    #[error("cannot wait for signals ({0})")]
    Signals(#[from] io::Error),
    /// Threads are gone; a supervisor should start the program anew.
    #[error("{0} threads have failed")]
    ThreadsFailed(usize),
}

impl ExitError {
    /// Writes one line to standard error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // Nothing is left to do if standard error is closed.
        writeln!(io::stderr(), "stun-server: {self}").ok();
        match self {
            Self::Start(_) => ExitCode::from(2),
            Self::Signals(_) | Self::ThreadsFailed(_) => ExitCode::FAILURE,
        }
    }
}

/// Runs the server until SIGTERM or SIGINT.
pub(crate) fn run(args: &Args) -> Result<(), ExitError> {
    tracing_subscriber::fmt()
        .with_max_level(args.log_level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before `ready`, so that whoever waits for it may send a signal at once.
        let signals = Signals::new()?;
        let server = args.server().start()?;
        let live = server.live_threads();
        tracing::info!(addresses = server.address_list(), threads = live, "answering");
        if let Err(error) = announce(&server) {
            tracing::warn!(%error, "nobody reads the ready line");
        }
        let result = signals.wait(&server, live).await;
        let counters = server.stop();
        tracing::info!(?counters, "stopped");
        result
    })
}

fn announce(server: &Running) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "ready stun={}", server.address_list())?;
    out.flush()
}

/// Signals that mean something to us.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the end: a signal, or a thread that has failed.
    async fn wait(mut self, server: &Running, started: usize) -> Result<(), ExitError> {
        let mut check = tokio::time::interval(CHECK_EVERY);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                // A reload signal sent to every service must not end this one.
                _ = self.hangup.recv() => tracing::info!("nothing to reload"),
                _ = check.tick() => {
                    let failed = started - server.live_threads();
                    if failed > 0 {
                        return Err(ExitError::ThreadsFailed(failed));
                    }
                }
            }
        }
    }
}
