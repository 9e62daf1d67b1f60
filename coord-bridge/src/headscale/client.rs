//! One Headscale, asked in turn, in time, and not when it is hurt.
//!
//! Does: finds out which release answers, again when answers stop making sense; repeats what may
//! be repeated; takes a replaced API key; leaves Headscale alone after failures in a row.
//! Does not: repeat what makes something, or remember an answer.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use hyper::StatusCode;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

use super::adapter::{self, Adapter, KeysBy};
use super::answer::{self, Health, Trouble, Voice};
use super::api_key::{ApiKey, ApiKeyFile};
use super::blame;
use super::breaker::{Breaker, BreakerState};
use super::counters::{Counters, Outcome};
use super::limits::{Limits, RETRY_PAUSES};
use super::transport::{Answer, Ask, Fault, Transport};
use super::{
    Call, Failure, FailureKind, Headscale, IssuedKey, KeyId, KeyRecord, NewKey, Node, NodeId,
    SetupError, User, UserId, wire,
};
use crate::config::{HeadscaleConfig, Reach};

/// The user that [`Headscale::check`] looks for. It need not be there.
const CHECKED_USER: &str = "coord-bridge";

/// The way to one Headscale.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    /// None for the socket.
    key: Option<ApiKeyFile>,
    limits: Limits,
    turns: Semaphore,
    breaker: Mutex<Breaker>,
    /// None until somebody asks, and when answers have stopped making sense.
    adapter: Mutex<Option<Adapter>>,
    counters: Counters,
}

impl Client {
    /// A way to this Headscale, which is not asked yet.
    ///
    /// # Errors
    ///
    /// [`SetupError`].
    pub fn new(config: &HeadscaleConfig, limits: Limits) -> Result<Self, SetupError> {
        let key = match &config.reach {
            Reach::Url { api_key, .. } => Some(ApiKeyFile::new(api_key.locate()?)),
            Reach::Socket(_) => None,
        };
        Ok(Self {
            transport: Transport::new(&config.reach)?,
            key,
            limits,
            turns: Semaphore::new(limits.max_calls.max(1)),
            breaker: Mutex::new(Breaker::new(limits.max_failures, limits.pause_time)),
            adapter: Mutex::new(None),
            counters: Counters::default(),
        })
    }

    /// What has become of the calls so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether this Headscale is left alone.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        lock(&self.breaker).state()
    }

    /// How this Headscale is asked now; `None` before the first answer.
    #[must_use]
    pub fn adapter(&self) -> Option<Adapter> {
        *lock(&self.adapter)
    }

    /// When the API key ends that is in the file; `None` for the socket, and where Headscale does
    /// not say.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn api_key_end(&self) -> Result<Option<SystemTime>, Failure> {
        self.call(true, move |adapter| async move {
            let Some(key) = self.read_key()? else { return Ok(None) };
            let listed: wire::ApiKeys = self.ask(adapter, &adapter::api_keys()).await?;
            Ok(listed.end_of(|prefix| key.begins_with(prefix)))
        })
        .await
    }

    /// Does `work`, which may be done twice if `is_repeatable`, and counts what became of it.
    async fn call<T, W, F>(&self, is_repeatable: bool, work: W) -> Result<T, Failure>
    where
        W: Fn(Adapter) -> F + Send + Sync,
        F: Future<Output = Result<T, Trouble>> + Send,
        T: Send,
    {
        let done = self.call_in_turn(is_repeatable, work).await;
        let outcome = done.as_ref().map_or_else(|it| Outcome::Failed(it.kind), |_| Outcome::Done);
        self.counters.calls.add_one(outcome);
        done
    }

    async fn call_in_turn<T, W, F>(&self, is_repeatable: bool, work: W) -> Result<T, Failure>
    where
        W: Fn(Adapter) -> F + Send + Sync,
        F: Future<Output = Result<T, Trouble>> + Send,
        T: Send,
    {
        let _turn = self.turn().await?;
        let pass = self.admit()?;
        let tried = timeout(self.limits.call_time, self.attempt(is_repeatable, work)).await;
        let trouble = match tried {
            Ok(Ok(value)) => {
                pass.answered();
                return Ok(value);
            }
            Ok(Err(trouble)) => trouble,
            Err(_) => Trouble::hurt(
                FailureKind::Unreachable,
                format!(
                    "no answer within {:?}; is Headscale overloaded, or the network between?",
                    self.limits.call_time
                ),
            ),
        };
        let failure =
            blame::failure(&trouble, self.transport.place(), self.key.as_ref(), is_repeatable);
        match trouble.health {
            Health::Alive => pass.answered(),
            Health::Hurt => pass.failed(&failure),
            Health::Unknown => drop(pass),
        }
        Err(failure)
    }

    /// Waits for its turn.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Failure> {
        match timeout(self.limits.turn_time, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Failure {
                kind: FailureKind::Unreachable,
                detail: format!(
                    "{}: not asked: it was not its turn within {:?}, with {} calls at once",
                    self.transport.place(),
                    self.limits.turn_time,
                    self.limits.max_calls
                ),
            }),
        }
    }

    fn admit(&self) -> Result<Pass<'_>, Failure> {
        lock(&self.breaker).admit(Instant::now()).map_err(|paused| Failure {
            kind: FailureKind::Paused,
            detail: format!(
                "{}: tried again in {} s; last failure: {}",
                self.transport.place(),
                paused.left.as_secs() + 1,
                paused.why
            ),
        })?;
        Ok(Pass { client: self, is_over: false })
    }

    /// Does `work` as the release wants it, and once more if it turns out to be another one.
    async fn attempt<T, W, F>(&self, is_repeatable: bool, work: W) -> Result<T, Trouble>
    where
        W: Fn(Adapter) -> F + Send + Sync,
        F: Future<Output = Result<T, Trouble>> + Send,
        T: Send,
    {
        let adapter = self.found().await?;
        let trouble = match work(adapter).await {
            Err(trouble) if trouble.is_other_release => trouble,
            done => return done,
        };
        *lock(&self.adapter) = None;
        tracing::warn!(
            headscale = self.transport.place(),
            "Headscale no longer answers as before; finding out its release again"
        );
        if !is_repeatable {
            return Err(trouble);
        }
        let now = self.found().await?;
        if now == adapter { Err(trouble) } else { work(now).await }
    }

    /// How Headscale is asked, found out if nobody has yet.
    async fn found(&self) -> Result<Adapter, Trouble> {
        if let Some(adapter) = self.adapter() {
            return Ok(adapter);
        }
        let adapter = self.find_out().await?;
        *lock(&self.adapter) = Some(adapter);
        tracing::info!(headscale = self.transport.place(), ?adapter, "Headscale answers");
        Ok(adapter)
    }

    /// A request without a key is refused in the form of the release. What `/version` says would
    /// not do: builds from source say `dev`, or name the release before.
    async fn find_out(&self) -> Result<Adapter, Trouble> {
        self.counters.detections.add_one();
        if self.transport.is_socket() {
            // Older releases speak no HTTP there.
            return Ok(Adapter::Http);
        }
        let answer = self.send(&adapter::sound(), None).await?;
        match answer::voice(&answer) {
            Voice::Http(_) => Ok(Adapter::Http),
            Voice::Gateway(_) | Voice::GatewayUnauthorized => {
                Ok(Adapter::Gateway(self.keys_by().await?))
            }
            Voice::Foreign => Err(answer::foreign(&answer)),
        }
    }

    async fn keys_by(&self) -> Result<KeysBy, Trouble> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let answer = self.send(&adapter::version(), None).await?;
        let version = serde_json::from_slice::<Version>(&answer.body);
        Ok(version.map_or(KeysBy::Text, |it| KeysBy::of_version(&it.version)))
    }

    /// Asks, and reads what was asked for.
    async fn ask<T: DeserializeOwned>(&self, adapter: Adapter, ask: &Ask) -> Result<T, Trouble> {
        let answer = self.ask_with_key(ask).await?;
        read(&answer, adapter)
    }

    /// Asks for something to end that may have ended already.
    async fn end(&self, adapter: Adapter, ask: &Ask) -> Result<(), Trouble> {
        let answer = self.ask_with_key(ask).await?;
        if adapter.says_unknown(&answer) {
            return Ok(());
        }
        read::<Object>(&answer, adapter).map(drop)
    }

    /// Asks with the key that is in the file, and once more if that was replaced meanwhile: who
    /// refuses a key has done nothing.
    async fn ask_with_key(&self, ask: &Ask) -> Result<Answer, Trouble> {
        let key = self.read_key()?;
        let answer = self.send(ask, key.as_ref()).await?;
        if !answer::is_unauthorized(&answer) {
            return Ok(answer);
        }
        let now = self.read_key()?;
        if now == key { Ok(answer) } else { self.send(ask, now.as_ref()).await }
    }

    fn read_key(&self) -> Result<Option<ApiKey>, Trouble> {
        let Some(file) = &self.key else { return Ok(None) };
        file.read().map(Some).map_err(|error| {
            Trouble::unsent(Failure {
                kind: FailureKind::Unauthorized,
                detail: format!("not asked, as the file of the API key {error}"),
            })
        })
    }

    /// Sends, and again what may be sent again while nobody is there.
    async fn send(&self, ask: &Ask, key: Option<&ApiKey>) -> Result<Answer, Trouble> {
        let mut pauses = RETRY_PAUSES.into_iter();
        let sent = loop {
            self.counters.requests.add_one();
            let sent = self.transport.exchange(ask, key.map(ApiKey::header)).await;
            let is_away = match &sent {
                Ok(answer) => is_away(answer.status),
                Err(Fault::Connect(_) | Fault::CutOff(_)) => true,
                Err(Fault::NotHttp(_) | Fault::TooLong(_) | Fault::NoRequest(_)) => false,
            };
            match pauses.next() {
                Some(pause) if is_away && ask.repeatable => sleep(pause).await,
                Some(_) | None => break sent,
            }
        };
        match sent {
            Ok(answer) => Ok(blotted(answer, key)),
            Err(fault) => Err(blame::trouble(&fault, self.transport.is_socket())),
        }
    }

    async fn find_user(&self, adapter: Adapter, name: &str) -> Result<Option<User>, Trouble> {
        let users: wire::Users = self.ask(adapter, &adapter::find_user(name)).await?;
        Ok(users.named(name))
    }

    async fn make_user(&self, adapter: Adapter, name: &str) -> Result<User, Trouble> {
        if let Some(user) = self.find_user(adapter, name).await? {
            return Ok(user);
        }
        let made: Result<wire::OneUser, _> = self.ask(adapter, &adapter::create_user(name)).await;
        match made {
            Ok(made) => Ok(made.into_user()),
            // Somebody else may have made it at the same time, or the answer is lost.
            Err(trouble) => match self.find_user(adapter, name).await {
                Ok(Some(user)) => Ok(user),
                Ok(None) | Err(_) => Err(trouble),
            },
        }
    }

    async fn make_key(&self, adapter: Adapter, wanted: &NewKey) -> Result<IssuedKey, Trouble> {
        let ask = adapter::create_key(wanted).map_err(Trouble::unsent)?;
        let made: wire::OneKey = self.ask(adapter, &ask).await?;
        made.into_issued().ok_or_else(|| {
            Trouble::hurt(FailureKind::Unintelligible, "the answer has no key in it")
        })
    }

    async fn end_key(&self, adapter: Adapter, user: &UserId, key: &KeyId) -> Result<(), Trouble> {
        let mut text = None;
        if adapter.expires_by_text() {
            let ask = adapter.keys(user).map_err(Trouble::unsent)?;
            text = self.ask::<wire::Keys>(adapter, &ask).await?.text_of(key);
            if text.is_none() {
                return Ok(());
            }
        }
        let ask = adapter.expire_key(user, key, text.as_ref()).map_err(Trouble::unsent)?;
        self.end(adapter, &ask).await
    }

    async fn list_keys(&self, adapter: Adapter, user: &UserId) -> Result<Vec<KeyRecord>, Trouble> {
        let ask = adapter.keys(user).map_err(Trouble::unsent)?;
        Ok(self.ask::<wire::Keys>(adapter, &ask).await?.of(user))
    }
}

impl Headscale for Client {
    fn user<'a>(&'a self, name: &'a str) -> Call<'a, Option<User>> {
        Box::pin(self.call(true, move |adapter| self.find_user(adapter, name)))
    }

    fn ensure_user<'a>(&'a self, name: &'a str) -> Call<'a, User> {
        Box::pin(self.call(true, move |adapter| self.make_user(adapter, name)))
    }

    fn create_key<'a>(&'a self, wanted: &'a NewKey) -> Call<'a, IssuedKey> {
        Box::pin(self.call(false, move |adapter| self.make_key(adapter, wanted)))
    }

    fn expire_key<'a>(&'a self, user: &'a UserId, key: &'a KeyId) -> Call<'a, ()> {
        Box::pin(self.call(true, move |adapter| self.end_key(adapter, user, key)))
    }

    fn keys<'a>(&'a self, user: &'a UserId) -> Call<'a, Vec<KeyRecord>> {
        Box::pin(self.call(true, move |adapter| self.list_keys(adapter, user)))
    }

    fn nodes(&self) -> Call<'_, Vec<Node>> {
        Box::pin(self.call(true, move |adapter| async move {
            Ok(self.ask::<wire::Nodes>(adapter, &adapter::nodes()).await?.into_nodes())
        }))
    }

    fn delete_node<'a>(&'a self, node: &'a NodeId) -> Call<'a, ()> {
        Box::pin(self.call(true, move |adapter| async move {
            self.end(adapter, &adapter::delete_node(node).map_err(Trouble::unsent)?).await
        }))
    }

    fn expire_node<'a>(&'a self, node: &'a NodeId) -> Call<'a, ()> {
        Box::pin(self.call(true, move |adapter| async move {
            let ask = adapter::expire_node(node).map_err(Trouble::unsent)?;
            self.ask::<Object>(adapter, &ask).await.map(drop)
        }))
    }

    fn check(&self) -> Call<'_, ()> {
        // Needs the key and the database, in every release; 0.26 has nothing made for it.
        Box::pin(self.call(true, move |adapter| async move {
            self.find_user(adapter, CHECKED_USER).await.map(drop)
        }))
    }

    fn client(&self) -> Option<&Self> {
        Some(self)
    }
}

/// A call that the breaker has let through, and that has to tell it how it went.
struct Pass<'a> {
    client: &'a Client,
    is_over: bool,
}

impl Pass<'_> {
    fn answered(mut self) {
        self.is_over = true;
        if lock(&self.client.breaker).on_success() {
            let headscale = self.client.transport.place();
            tracing::info!(headscale, "Headscale answers again");
        }
    }

    fn failed(mut self, failure: &Failure) {
        self.is_over = true;
        let why = failure.to_string();
        if lock(&self.client.breaker).on_failure(&why, Instant::now()) {
            self.client.counters.pauses.add_one();
            let pause = self.client.limits.pause_time;
            tracing::warn!(?pause, "{why}; Headscale is left alone, then tried again");
        }
    }
}

impl Drop for Pass<'_> {
    /// Whoever asked has stopped waiting, or nothing was sent.
    fn drop(&mut self) {
        if !self.is_over {
            lock(&self.client.breaker).on_abandoned(Instant::now());
        }
    }
}

/// An object whose contents are of no interest: that it is one tells Headscale from an error page.
type Object = std::collections::BTreeMap<String, IgnoredAny>;

/// What was asked for, or why it is not there.
pub(super) fn read<T: DeserializeOwned>(answer: &Answer, adapter: Adapter) -> Result<T, Trouble> {
    if !answer.status.is_success() {
        return Err(answer::trouble(answer, adapter));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        // Without the words of the error: they may quote a key.
        let detail = format!(
            "an answer that cannot be read at line {}, column {}; is headscale.url right, or \
             this release newer than the bridge knows?",
            error.line(),
            error.column()
        );
        Trouble::hurt(FailureKind::Unintelligible, detail).of_another_release()
    })
}

/// The answer without the key that was shown, should somebody have sent it back where it would be
/// quoted. Before the quote is cut: half a key is a secret too.
fn blotted(answer: Answer, key: Option<&ApiKey>) -> Answer {
    match key {
        Some(key) if !answer.status.is_success() => Answer {
            body: key.blot_out(&String::from_utf8_lossy(&answer.body)).into(),
            location: answer.location.map(|location| key.blot_out(&location)),
            ..answer
        },
        Some(_) | None => answer,
    }
}

/// Whether a proxy says that nobody is there.
fn is_away(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// No state behind these locks can be half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
