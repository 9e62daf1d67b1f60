//! Signals, as a blocking queue.
//!
//! SIGHUP always means reload, never the end of the process (fault-D2).

use std::fs::File;
use std::io;
use std::sync::mpsc;

use tokio::signal::unix::{SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// The signals of this process from now on.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    ///
    /// The system has no thread or descriptor left.
    pub fn new() -> io::Result<Self> {
        has_room()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        drop(guard);
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                loop {
                    let signal = tokio::select! {
                        _ = terminate.recv() => Signal::Stop,
                        _ = interrupt.recv() => Signal::Stop,
                        _ = hangup.recv() => Signal::Reload,
                    };
                    if sender.send(signal).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok(Self(receiver))
    }

    /// Waits for the next signal.
    #[must_use]
    pub fn next(&self) -> Signal {
        self.0.recv().unwrap_or(Signal::Stop)
    }
}

/// Whether there are descriptors for what tokio needs to hear signals: it panics without.
fn has_room() -> io::Result<()> {
    const NEEDED: usize = 6;
    let room = (0..NEEDED).map(|_| File::open("/dev/null")).collect::<io::Result<Vec<File>>>();
    room.map(drop)
}
