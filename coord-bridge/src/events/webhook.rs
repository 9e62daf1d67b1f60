//! The outlet that sends requests.
//!
//! Does: sends one signed request per event, again and again with growing pauses until it is
//! taken, and gives the event up after some, or after some time; follows no redirect, which would carry the event to
//! a place that nobody has named.
//! Does not: tell URL or secret to the log; both may be what lets people in elsewhere.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use derp_relay::tls::outgoing::TrustError;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::{Parts, PathAndQuery};
use hyper::{Method, StatusCode, Uri};
use serde::Serialize;

use super::EventBody;
use super::feed::{Channel, Delivery, Outlet};
use super::signature::{ParseSecretError, Signer};
use crate::config::{NoCredentials, SecretFile};
use crate::headscale::transport::{Ask, Fault, Transport};
use crate::provisioning::timestamp;
use crate::store::events::Event;

/// Time for one attempt, from connecting to the end of the answer.
pub const ATTEMPT_TIME: Duration = Duration::from_secs(10);

/// Attempts for one event.
pub const ATTEMPTS: u32 = 12;

/// Pause after the first attempt; each further one is twice as long.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause.
pub const MAX_PAUSE: Duration = Duration::from_secs(600);

/// Time that a bridge which does not lead stays behind the last event. When it takes the lead it
/// begins there: longer than the one before it may have been stuck without anybody noticing.
pub const TAKEOVER_TIME: Duration = Duration::from_secs(600);

/// Time that one event may take, and hold up those behind it. All attempts with our own longest
/// pauses take 1743 s, so only `Retry-After`, by which a receiver could ask for two hours, is cut.
pub const EVENT_TIME: Duration = Duration::from_secs(1_800);

/// Time between looks for new events.
pub const POLL_TIME: Duration = Duration::from_secs(1);

/// Most bytes of an answer. It is read so that the receiver can end in peace, and not looked at.
pub const MAX_ANSWER_LEN: usize = 64 * 1024;

/// A webhook.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Its name in log, metrics and state: lower-case letters, digits and hyphens.
    pub name: String,
    /// Where requests go.
    pub url: Uri,
    /// Where its secret lies.
    pub secret_file: SecretFile,
    /// Kinds, or kinds with outcome such as `machine.joined`; all if there are none.
    pub events: Vec<String>,
}

/// How often and how long: what tests shorten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time for one attempt.
    pub attempt_time: Duration,
    /// Attempts for one event, at least one.
    pub attempts: u32,
    /// Pause after the first attempt.
    pub first_pause: Duration,
    /// Longest pause.
    pub max_pause: Duration,
    /// Time for one event.
    pub event_time: Duration,
    /// Time between looks for new events.
    pub poll: Duration,
    /// Time that a bridge which does not lead stays behind.
    pub takeover: Duration,
}

/// Why a webhook cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Its secret is a credential, and there are none.
    #[error("webhooks {name}: secret_file: {cause}")]
    Credentials {
        /// Which.
        name: String,
        /// Why.
        cause: NoCredentials,
    },
    /// Its secret cannot be read.
    #[error("webhooks {name}: secret_file {} cannot be read: {source}", path.display())]
    File {
        /// Which.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its secret is none.
    #[error("webhooks {name}: secret_file {}: {cause}", path.display())]
    Secret {
        /// Which.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: ParseSecretError,
    },
    /// Nobody's certificate could be checked.
    #[error("webhooks {name}: {cause}")]
    Trust {
        /// Which.
        name: String,
        /// Why.
        cause: TrustError,
    },
    /// The system has no thread left.
    #[error("events cannot be handed over: {0}")]
    System(io::Error),
}

/// A webhook that runs.
#[derive(Debug)]
pub(super) struct Webhook {
    channel: Arc<Channel>,
    transport: Transport,
    path: String,
    signer: Signer,
    pace: Pace,
}

/// What is sent, as <https://www.standardwebhooks.com> suggests.
#[derive(Serialize)]
struct Payload {
    r#type: String,
    /// When it happened.
    timestamp: String,
    data: EventBody,
}

/// Why an attempt failed, without the URL.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("no answer in time")]
    TooSlow,
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("answered {0}; a receiver has to answer 2xx, redirects are not followed")]
    Refused(StatusCode, Option<Duration>),
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            attempt_time: ATTEMPT_TIME,
            attempts: ATTEMPTS,
            first_pause: FIRST_PAUSE,
            max_pause: MAX_PAUSE,
            event_time: EVENT_TIME,
            poll: POLL_TIME,
            takeover: TAKEOVER_TIME,
        }
    }
}

impl std::fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookConfig").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Reads the secret, and certificates where the URL is `https`.
    pub(super) fn new(
        config: &WebhookConfig,
        channel: Arc<Channel>,
        pace: Pace,
    ) -> Result<Self, SetupError> {
        let name = || config.name.clone();
        let path = config
            .secret_file
            .locate()
            .map_err(|cause| SetupError::Credentials { name: name(), cause })?;
        let text = std::fs::read_to_string(&path).map_err(|source| SetupError::File {
            name: name(),
            path: path.clone(),
            source,
        })?;
        let signer = Signer::parse(&text).map_err(|cause| SetupError::Secret {
            name: name(),
            path: path.clone(),
            cause,
        })?;
        let transport = Transport::to_url(&origin(&config.url), None)
            .map_err(|cause| SetupError::Trust { name: name(), cause })?;
        let path = config.url.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
        Ok(Self { channel, transport, path, signer, pace })
    }

    async fn attempt(&self, id: &str, body: &str) -> Result<(), AttemptError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let headers = [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", now.to_string()),
            ("webhook-signature", self.signer.sign(id, now, body)),
        ];
        let headers: Vec<(HeaderName, HeaderValue)> = headers
            .into_iter()
            .filter_map(|(name, value)| Some((HeaderName::from_static(name), value.parse().ok()?)))
            .collect();
        let ask = Ask {
            method: Method::POST,
            path: self.path.clone(),
            body: Some(body.to_owned()),
            repeatable: false,
            max_answer: MAX_ANSWER_LEN,
        };
        let answer = tokio::time::timeout(
            self.pace.attempt_time,
            self.transport.exchange_with(&ask, &headers),
        );
        let answer = answer.await.map_err(|_| AttemptError::TooSlow)??;
        if answer.status.is_success() {
            return Ok(());
        }
        let seconds = answer.retry_after.and_then(|text| text.trim().parse().ok());
        Err(AttemptError::Refused(answer.status, seconds.map(Duration::from_secs)))
    }

    /// The pause after attempt `number`, counted from 1: twice as long each time, by dice between
    /// half and all of it, and no shorter than the receiver wants it, within bounds.
    fn pause(&self, number: u32, wanted: Option<Duration>) -> Duration {
        let doubled = self.pace.first_pause.saturating_mul(1 << number.saturating_sub(1).min(20));
        let most = doubled.min(self.pace.max_pause);
        let mut dice = [0_u8; 1];
        // Without randomness the pause is the longest.
        let part = getrandom::fill(&mut dice).map_or(255, |()| dice[0]);
        let pause = most / 2 + most * u32::from(part) / 510;
        pause.max(wanted.unwrap_or_default()).min(self.pace.max_pause)
    }

    async fn deliver_one(&self, event: &Event) {
        let (id, outlet) = (event.id.as_str(), self.channel.name());
        let payload = Payload {
            r#type: format!("{}.{}", event.kind, event.outcome),
            timestamp: timestamp::write(event.at_ms),
            data: event.clone().into(),
        };
        // Texts always serialize.
        let body = serde_json::to_string(&payload).unwrap_or_default();
        let began = Instant::now();
        for number in 1..=self.pace.attempts.max(1) {
            let error = match self.attempt(id, &body).await {
                Ok(()) => {
                    self.channel.set_fault(None);
                    self.channel.deliveries.add_one(Delivery::Delivered);
                    return;
                }
                Err(error) => error,
            };
            self.channel.set_fault(Some(&error));
            let wanted = match error {
                AttemptError::Refused(_, wanted) => wanted,
                AttemptError::TooSlow | AttemptError::Fault(_) => None,
            };
            let pause = self.pause(number, wanted);
            let is_late = began.elapsed() + pause + self.pace.attempt_time > self.pace.event_time;
            if number >= self.pace.attempts || is_late {
                self.channel.deliveries.add_one(Delivery::GivenUp);
                tracing::error!(outlet, id, attempts = number, %error, "an event is given up");
                return;
            }
            self.channel.deliveries.add_one(Delivery::Failed);
            if number == 1 {
                tracing::warn!(outlet, id, %error, "an event was not taken; trying again");
            }
            tokio::time::sleep(pause).await;
        }
    }
}

impl Outlet for Webhook {
    const AT_ONCE: usize = 1;

    async fn deliver(&mut self, events: &[Event]) {
        for event in events {
            self.deliver_one(event).await;
        }
    }
}

/// Scheme and host of `url`.
fn origin(url: &Uri) -> Uri {
    let mut parts = Parts::default();
    parts.scheme = url.scheme().cloned();
    parts.authority = url.authority().cloned();
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    // With all three it always is a URL.
    Uri::from_parts(parts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound takes no attempt from a receiver that asks for nothing.
    #[test]
    fn all_attempts_fit_into_the_time_of_an_event() {
        let pauses = (0..ATTEMPTS - 1).map(|doubled| (FIRST_PAUSE * (1 << doubled)).min(MAX_PAUSE));
        let whole = pauses.sum::<Duration>() + ATTEMPTS * ATTEMPT_TIME;
        assert_eq!(whole, Duration::from_secs(1_743));
        assert!(whole <= EVENT_TIME);
        assert!((ATTEMPTS - 1) * MAX_PAUSE > 3 * EVENT_TIME, "what a receiver could ask for");
    }
}
