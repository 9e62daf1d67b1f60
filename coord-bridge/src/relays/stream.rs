//! The events of one relay, as lines.
//!
//! Does: begins behind the last event that the relay has heard, or with `verify-changed` where
//! nobody can say what it has missed; goes on with news; sends an empty line now and then.
//! Does not: wait for a relay that does not read, or go on for one whose token is not valid any
//! more.

use std::sync::Arc;

use bytes::Bytes;
use derp_relay::bridge::wire::{Event, Line};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::journal::{Backlog, line};
use super::limits::{KEEP_ALIVE_TIME, LINES, MAX_BACKLOG, SLOW_TIME};
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
    /// The last event that the relay has heard.
    seq: i64,
    /// The relay does not know that it has to ask about all nodes.
    owes_check: bool,
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
        let owes_check = !opened.is_checked;
        let seq = i64::try_from(after).unwrap_or(i64::MAX);
        let relays = Arc::clone(relays);
        Some((Self { relays, opened, token, lines, seq, owes_check }, receiver))
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
                Ok(()) = looked.changed(), if self.owes_check => self.check().await,
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
        if self.owes_check && self.relays.rosters.is_complete() {
            self.owes_check = false;
            self.say(Line { seq: None, event: Event::VerifyChanged }).await?;
            self.relays.registry.checked(&self.opened);
        }
        Ok(())
    }

    async fn keep_alive(&mut self) -> Result<(), End> {
        match self.relays.recognize(&self.token).await {
            // A file that cannot be read at this moment says nothing about the token.
            Ok(()) | Err(AuthenticationError::NoToken(_)) => {}
            Err(AuthenticationError::Unauthorized) => return Err(End::Unauthorized),
        }
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
