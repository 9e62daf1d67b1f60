//! One registration with a bridge after the other, for ever.
//!
//! Does: registers, says every 10 s that the relay is there, follows the events, and begins again
//! after a pause whenever one of these fails, and at once when the certificate has another pin;
//! resumes behind the last event that it has heard.
//! Does not: end, or keep anything from its course, when there is no bridge.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Announcement;
use super::client::{Client, Fault, Lines, SetupError};
use super::counters::Counters;
use super::wire::{
    EVENTS_PATH, Event, HEARTBEAT_PATH, Heartbeat, Line, MAX_ID_LEN, REGISTER_PATH, Registered,
};
use crate::access::Access;
use crate::config::BridgeConfig;
use crate::rare_log::RareLog;
use crate::tls::Certificates;

/// Pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Longest pause between two tries, before it is shortened at random. A bridge that comes back is
/// found within this.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Bounds of what a bridge may ask for between two heartbeats.
const HEARTBEAT_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Heartbeats in a row that may fail while the stream is open.
const MAX_MISSED: u32 = 2;

/// The relay's end of the channel.
#[derive(Debug)]
pub(crate) struct Link {
    client: Client,
    access: Arc<Access>,
    /// Where clients have to know its pin.
    self_signed: Option<SelfSigned>,
    announcement: Announcement,
    counters: Arc<Counters>,
    log: RareLog,
    refusal_log: RareLog,
    /// The last event that was heard; none before the first registration.
    seq: Option<u64>,
    was_open: bool,
}

/// A certificate that clients know by its pin.
#[derive(Debug)]
struct SelfSigned {
    certificates: Arc<Certificates>,
    reloads: watch::Receiver<()>,
    /// The pin that the bridge was told last.
    told: String,
}

/// Why a registration is over.
enum Left {
    Fault(Fault),
    /// The bridge has to hear of another pin: clients refuse the relay by the old one.
    Renewed,
}

impl Link {
    /// Asks nobody yet: the bridge may come up later.
    ///
    /// # Errors
    ///
    /// [`SetupError`].
    pub(crate) fn new(
        config: &BridgeConfig,
        announcement: Announcement,
        access: Arc<Access>,
        certificates: Option<Arc<Certificates>>,
        counters: Arc<Counters>,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            client: Client::new(config)?,
            access,
            self_signed: certificates.filter(|it| it.is_self_signed()).map(SelfSigned::new),
            announcement,
            counters,
            log: RareLog::default(),
            refusal_log: RareLog::default(),
            seq: None,
            was_open: false,
        })
    }

    /// Keeps the channel up, for ever.
    pub(crate) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            let left = match self.register().await {
                Ok(registered) => self.stay(&registered).await,
                Err(fault) => Left::Fault(fault),
            };
            let fault = match left {
                Left::Fault(fault) => fault,
                Left::Renewed => {
                    tracing::info!("the certificate has another pin; the bridge is told");
                    continue;
                }
            };
            self.counters.set_connected(false);
            self.tell(&fault);
            if begun.elapsed() >= LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            sleep(with_jitter(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn register(&mut self) -> Result<Registered, Fault> {
        let pin = self.self_signed.as_mut().map(SelfSigned::tell);
        let registration = self.announcement.registration(pin);
        let answer = self.client.post(REGISTER_PATH, registration.to_json()).await?;
        let registered = Registered::parse(&answer).map_err(malformed)?;
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let id = registered.id.as_bytes();
        if !(1..=MAX_ID_LEN).contains(&id.len()) || !id.iter().copied().all(is_id) {
            return Err(Fault::Malformed("an id that is none".to_owned()));
        }
        Ok(registered)
    }

    /// Says that the relay is there and follows the events until one of both fails, or there is
    /// more to say.
    async fn stay(&mut self, registered: &Registered) -> Left {
        let (least, most) = HEARTBEAT_BOUNDS;
        let interval = Duration::from_secs(registered.heartbeat_seconds).clamp(least, most);
        let after = *self.seq.get_or_insert(registered.seq);
        let path = format!("{EVENTS_PATH}?relay={}&after={after}", registered.id);
        let mut lines = match self.client.stream(&path).await {
            Ok(lines) => lines,
            Err(fault) => return Left::Fault(fault),
        };
        self.opened();
        let mut due = Instant::now() + interval;
        let mut missed = 0;
        loop {
            let fault = tokio::select! {
                line = lines.next() => match line.and_then(|line| self.obey(&line)) {
                    Ok(()) => continue,
                    Err(fault) => fault,
                },
                () = sleep_until(due) => match self.beat(&mut lines, registered).await {
                    Ok(()) => {
                        missed = 0;
                        due = Instant::now() + interval;
                        continue;
                    }
                    // The stream is open, so the bridge is there; it may just be busy.
                    Err(Fault::Timeout | Fault::Unreachable(_)) if missed < MAX_MISSED => {
                        missed += 1;
                        due = Instant::now() + interval / 4;
                        continue;
                    }
                    Err(fault) => fault,
                },
                () = renewed(&mut self.self_signed) => return Left::Renewed,
            };
            return Left::Fault(fault);
        }
    }

    /// Sends a heartbeat, and obeys what comes meanwhile: a node that is gone does not wait for it.
    async fn beat(&mut self, lines: &mut Lines, registered: &Registered) -> Result<(), Fault> {
        let body = Heartbeat { id: registered.id.clone() }.to_json();
        let mut heard = Vec::new();
        let sent = {
            let mut sending = std::pin::pin!(self.client.post(HEARTBEAT_PATH, body));
            loop {
                tokio::select! {
                    sent = &mut sending => break sent,
                    line = lines.next() => heard.push(act(&self.access, &self.counters, &line?)?),
                }
            }
        };
        for seq in heard {
            self.seq = seq.or(self.seq);
        }
        sent.map(drop)
    }

    fn obey(&mut self, line: &[u8]) -> Result<(), Fault> {
        let seq = act(&self.access, &self.counters, line)?;
        self.seq = seq.or(self.seq);
        Ok(())
    }

    fn opened(&mut self) {
        self.counters.set_connected(true);
        if self.was_open {
            self.counters.reconnects.add_one();
        }
        self.was_open = true;
        tracing::info!(bridge = self.client.place(), "the bridge tells of changes");
    }

    fn tell(&self, fault: &Fault) {
        self.counters.failures.add_one();
        let bridge = self.client.place();
        // What an operator has to change is told apart from what passes by itself.
        let log = match fault {
            Fault::Unauthorized | Fault::Token { .. } | Fault::Status(..) => &self.refusal_log,
            Fault::Unreachable(_)
            | Fault::Timeout
            | Fault::Unknown
            | Fault::Malformed(_)
            | Fault::Ended => &self.log,
        };
        if log.is_due() {
            tracing::warn!(bridge, %fault, "no word from the bridge; the relay goes on by itself");
        } else {
            tracing::debug!(bridge, %fault, "no word from the bridge");
        }
    }
}

impl SelfSigned {
    fn new(certificates: Arc<Certificates>) -> Self {
        Self { reloads: certificates.reloads(), certificates, told: String::new() }
    }

    /// The pin of now, which is told from now on.
    fn tell(&mut self) -> String {
        // Before the pin is read: a reload between the two is looked at once more.
        self.reloads.mark_unchanged();
        self.told = self.certificates.pin();
        self.told.clone()
    }
}

/// Waits until there is another pin than the one that was told; for ever, where there is none.
async fn renewed(self_signed: &mut Option<SelfSigned>) {
    if let Some(it) = self_signed {
        while it.reloads.changed().await.is_ok() {
            if it.certificates.pin() != it.told {
                return;
            }
        }
    }
    std::future::pending::<()>().await;
}

/// Does what a line says; returns its number.
fn act(access: &Access, counters: &Counters, line: &[u8]) -> Result<Option<u64>, Fault> {
    let Line { seq, event } = Line::parse(line).map_err(malformed)?;
    counters.events.add_one(event.into());
    match event {
        Event::Close(key) => access.revoke(&key),
        Event::VerifyChanged => access.check_all(),
        Event::Limits | Event::Unknown => {}
    }
    Ok(seq)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn malformed(error: super::wire::ParseError) -> Fault {
    Fault::Malformed(error.to_string())
}

/// A pause of at least half as long: relays that lost their bridge together do not come together.
fn with_jitter(pause: Duration) -> Duration {
    // Without randomness they do, which is harmless.
    let thousandths = u32::try_from(getrandom::u64().unwrap_or_default() % 1_000).unwrap_or(0);
    pause / 2 + pause / 2_000 * thousandths
}
