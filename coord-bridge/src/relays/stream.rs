//! The events of one relay, as lines.
//!
//! Does: begins behind the last event that the relay has heard, or with `verify-changed` where
//! nobody can say what it has missed; goes on with news; sends an empty line now and then.
//! Does not: wait for a relay that does not read, or go on for one whose token is not valid any
//! more; know what a relay has read: there is no answer to a line. A stream that ends early is
//! taken for one whose relay has not.

use std::sync::Arc;

use bytes::Bytes;
use derp_relay::bridge::wire::{Event, Line};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::journal::{Backlog, line};
use super::limits::{KEEP_ALIVE_TIME, LINES, MAX_BACKLOG, READ_TIME, SLOW_TIME};
use super::registry::Opened;
use super::{AuthenticationError, Relays};
use crate::provisioning::token_file::TokenHash;

/// The stream of one relay.
#[derive(Debug)]
pub(crate) struct Stream {
    relays: Arc<Relays>,
    opened: Opened,
    token: TokenHash,
    lines: mpsc::Sender<Bytes>,
    /// The last event that the relay has heard, or that is queued.
    seq: i64,
    check: Check,
}

/// Whether the relay knows that it has to ask about all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// It was not told.
    Owed,
    /// The line was queued at this moment, and may be lost with the connection.
    Queued(Instant),
    /// It has read it.
    Read,
}

/// Why a stream ends. Whoever had it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The relay has gone, or has another stream.
    Gone,
    /// It does not read.
    Slow,
    /// Its token is not valid any more.
    Unauthorized,
}

impl Stream {
    /// Opens the stream of relay `id` behind event `after`; `None` if there is no such relay. What
    /// it says comes out of the receiver once [`Stream::run`] runs.
    pub(crate) async fn open(
        relays: &Arc<Relays>,
        id: &str,
        after: u64,
        token: TokenHash,
    ) -> Option<(Self, mpsc::Receiver<Bytes>)> {
        relays.look_for(id).await;
        let opened = relays.registry.open(id)?;
        let (lines, receiver) = mpsc::channel(LINES);
        let check = if opened.is_checked { Check::Read } else { Check::Owed };
        let seq = i64::try_from(after).unwrap_or(i64::MAX);
        let relays = Arc::clone(relays);
        Some((Self { relays, opened, token, lines, seq, check }, receiver))
    }

    /// Sends until something ends it.
    pub(crate) async fn run(mut self) {
        let end = self.follow().await;
        self.relays.registry.closed(&self.opened);
        tracing::debug!(?end, "the events of a relay end");
    }

    async fn follow(&mut self) -> End {
        // Before the backlog is read: what comes in between is in both, and told once.
        let mut news = self.relays.journal.subscribe();
        let mut looked = self.relays.rosters.looked();
        if let Err(end) = self.begin().await {
            return end;
        }
        let mut alive = interval_at(Instant::now(), KEEP_ALIVE_TIME);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                line = news.recv() => match line {
                    Ok(line) => self.say(line).await,
                    Err(broadcast::error::RecvError::Lagged(_)) => Err(End::Slow),
                    Err(broadcast::error::RecvError::Closed) => Err(End::Gone),
                },
                _ = alive.tick() => self.keep_alive().await,
                Ok(()) = looked.changed(), if self.check == Check::Owed => self.check().await,
                () = self.opened.ended() => Err(End::Gone),
                () = self.lines.closed() => Err(End::Gone),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// What the relay has missed.
    async fn begin(&mut self) -> Result<(), End> {
        match self.relays.journal.backlog(self.seq, MAX_BACKLOG).await {
            Backlog::Events(events) => {
                for event in events {
                    match line(event) {
                        Some(line) => self.say(line).await?,
                        None => self.seq = event.seq,
                    }
                }
            }
            Backlog::Gap(newest) => {
                let seq = u64::try_from(newest).ok();
                self.say(Line { seq, event: Event::VerifyChanged }).await?;
            }
        }
        self.check().await
    }

    /// Has the relay ask about all nodes, once there is somebody who can answer.
    async fn check(&mut self) -> Result<(), End> {
        if self.check == Check::Owed && self.relays.rosters.is_complete() {
            self.check = Check::Queued(Instant::now());
            self.say(Line { seq: None, event: Event::VerifyChanged }).await?;
        }
        Ok(())
    }

    /// Notes that the relay has read that it has to ask, once that can be said.
    fn note_check(&mut self) {
        let is_empty = self.lines.capacity() == self.lines.max_capacity();
        if self.check.is_read(is_empty, Instant::now())
            && self.relays.registry.has_read_check(&self.opened)
        {
            self.check = Check::Read;
        }
    }

    async fn keep_alive(&mut self) -> Result<(), End> {
        match self.relays.recognize(&self.token).await {
            // A file that cannot be read at this moment says nothing about the token.
            Ok(()) | Err(AuthenticationError::NoToken(_)) => {}
            Err(AuthenticationError::Unauthorized) => return Err(End::Unauthorized),
        }
        self.note_check();
        self.send(Bytes::from_static(b"\n")).await
    }

    /// Sends a line, unless the relay has heard it.
    async fn say(&mut self, line: Line) -> Result<(), End> {
        let seq = line.seq.and_then(|seq| i64::try_from(seq).ok());
        // After a gap numbers may begin anew.
        if seq.is_some_and(|seq| seq <= self.seq) && line.event != Event::VerifyChanged {
            return Ok(());
        }
        self.send(Bytes::from(line.to_json())).await?;
        if let (Some(seq), Some(told)) = (seq, line.seq) {
            self.seq = seq;
            self.relays.registry.told(&self.opened, told);
        }
        Ok(())
    }

    async fn send(&self, line: Bytes) -> Result<(), End> {
        match self.lines.send_timeout(line, SLOW_TIME).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(End::Slow),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(End::Gone),
        }
    }
}

impl Check {
    /// Whether the line was read; `is_empty` says that the connection has taken all lines.
    fn is_read(self, is_empty: bool, now: Instant) -> bool {
        match self {
            Self::Queued(at) => is_empty && now.saturating_duration_since(at) >= READ_TIME,
            Self::Owed | Self::Read => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Journal;
    use super::super::words::tests::said;
    use super::*;
    use crate::headscale::Secret;
    use crate::provisioning::clock::{Clock, SystemClock};
    use crate::verify::Rosters;

    const CHECK: &[u8] = b"{\"event\":\"verify-changed\"}\n";

    /// A connection that breaks takes along what was queued for it.
    #[tokio::test]
    async fn a_relay_whose_stream_broke_early_is_told_again() {
        let relays = relays();
        let id = relays.register(said(1, "a")).await.unwrap().id;
        for takes in [false, true] {
            let (mut lines, running) = open(&relays, &id).await;
            if takes {
                assert_eq!(lines.recv().await.unwrap(), CHECK);
            } else {
                while lines.is_empty() {
                    tokio::task::yield_now().await;
                }
            }
            drop(lines);
            running.await.unwrap();
        }
        let (mut lines, running) = open(&relays, &id).await;
        assert_eq!(lines.recv().await.unwrap(), CHECK);
        running.abort();
    }

    /// Who knows that it has to ask is not told again.
    #[tokio::test]
    async fn a_relay_that_has_read_it_is_told_once() {
        let relays = relays();
        let id = relays.register(said(1, "a")).await.unwrap().id;
        assert!(relays.registry.has_read_check(&relays.registry.open(&id).unwrap()));
        let (mut lines, running) = open(&relays, &id).await;
        assert_eq!(lines.recv().await.unwrap(), b"\n"[..]);
        running.abort();
    }

    #[test]
    fn a_line_counts_as_read_when_its_stream_has_lasted() {
        let began = Instant::now();
        let queued = Check::Queued(began);
        assert!(queued.is_read(true, began + READ_TIME));
        assert!(!queued.is_read(true, began + READ_TIME - Duration::from_millis(1)));
        assert!(!queued.is_read(false, began + READ_TIME), "it is still here");
        assert!(!Check::Owed.is_read(true, began + READ_TIME));
    }

    async fn open(
        relays: &Arc<Relays>,
        id: &str,
    ) -> (mpsc::Receiver<Bytes>, tokio::task::JoinHandle<()>) {
        let token = TokenHash::of(&Secret::new("a-token".to_owned()));
        let (stream, lines) = Stream::open(relays, id, 0, token).await.unwrap();
        (lines, tokio::spawn(stream.run()))
    }

    /// Without a Headscale, so that there is nobody whose list is waited for.
    fn relays() -> Arc<Relays> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let rosters = Arc::new(Rosters::new(0, false, Duration::from_secs(60)));
        let journal = Journal::new(None, Arc::clone(&rosters), Arc::clone(&clock));
        Relays::new("no-such-token-file".into(), None, journal, rosters, clock)
    }
}
