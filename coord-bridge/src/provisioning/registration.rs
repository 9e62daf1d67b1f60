//! One registration, from token to key.
//!
//! ```text
//! token -> limits -> request -> owner -> [write ahead] -> end old keys -> ask -> [record] -> answer
//! ```
//!
//! What is in brackets is on the disk before the next step. Whatever ends the bridge between two
//! steps, the row that was written ahead says that there may be a key, and which.
//!
//! Does: goes on to the end once it has begun, also when the client has gone: the key is kept for
//! its next try.
//! Does not: retry; the client does.

use std::sync::Arc;
use std::time::Duration;

use super::ahead::{Ahead, Begun, Wanted, begin};
use super::audit::Entry;
use super::clock::{date, span};
use super::nodes::is_node_of;
use super::refusal::Refusal;
use super::request::Request;
use super::settings::Replace;
use super::tokens::is_from_its_sources;
use super::{Caller, Provisioning, REPLY_TIME, timestamp};
use crate::headscale::{FailureKind, IssuedKey, KeyId, NewKey, Secret, UserId};
use crate::store::keys::{Key, KeyState};
use crate::store::machines::{Machine, State};
use crate::store::tokens::Token;
use crate::store::{Session, StoreError, events, keys, machines};

/// Time after which a client tries again that finds its machine being registered.
const UNDER_WAY_TIME: Duration = Duration::from_secs(5);

/// What a machine is given.
#[derive(Debug)]
pub struct Registered {
    /// Its key.
    pub key: Secret,
    /// Where it logs in.
    pub login_server: String,
    /// Its name, as it was taken.
    pub hostname: String,
    /// Id of its record.
    pub machine_id: String,
    /// When the key ends, RFC 3339.
    pub expires_at: String,
    /// The region.
    pub region_id: u64,
    /// Where it finds the map.
    pub map_url: Option<String>,
    /// Node of the registration that this one took the place of.
    pub replaces_node: Option<String>,
}

impl Provisioning {
    /// Registers a machine.
    ///
    /// Dropping the future does not take it back.
    ///
    /// # Errors
    ///
    /// [`Refusal`], within a bounded time.
    pub async fn register(
        self: &Arc<Self>,
        caller: Caller,
        body: Vec<u8>,
    ) -> Result<Registered, Refusal> {
        let this = Arc::clone(self);
        let registration = tokio::spawn(async move {
            let mut entry = this.audit.entry("register", &caller);
            let done = this.try_to_register(&caller, &body, &mut entry).await;
            this.audit.close(entry, &done.as_ref().map(|_| ())).await;
            done
        });
        match tokio::time::timeout(REPLY_TIME, registration).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => {
                tracing::error!(%error, "a registration ended by a fault of ours");
                Err(Refusal::Internal)
            }
            Err(_) => Err(Refusal::TooSlow),
        }
    }

    async fn try_to_register(
        &self,
        caller: &Caller,
        body: &[u8],
        entry: &mut Entry,
    ) -> Result<Registered, Refusal> {
        let token = self.authenticate(caller, entry).await?;
        if !is_from_its_sources(&token, caller) {
            return Err(Refusal::Source);
        }
        let now = self.clock.elapsed();
        self.held(&self.limits)
            .admit(caller.address, &token.name, now)
            .map_err(Refusal::TooMany)?;
        let request = Request::read(body)?;
        entry.event.hostname = Some(request.hostname.clone());
        let user = self.user().await?;
        let begun = match self.write_ahead(caller, token.clone(), request, user.clone()).await? {
            (begun, Some(key)) => return Ok(self.registered(&begun, key, entry)),
            (begun, None) => begun,
        };
        entry.event.machine = Some(begun.machine.id.clone());
        if let Err(refusal) = self.make_way(&begun, &user).await {
            // Nobody was asked for it.
            self.settle(&begun.key, KeyState::Void).await;
            return Err(refusal);
        }
        let issued = self.ask(&begun, &user, &token).await?;
        entry.event.key_id = Some(issued.id.0.clone());
        self.record(&begun, &issued, entry).await?;
        self.keep_fresh(begun.key.id.clone(), issued.secret.clone());
        Ok(self.registered(&begun, issued.secret, entry))
    }

    /// Writes down that a key is going to be asked for. Where the machine has one that may be
    /// told again, gives that instead.
    async fn write_ahead(
        &self,
        caller: &Caller,
        token: Token,
        request: Request,
        user: UserId,
    ) -> Result<(Begun, Option<Secret>), Refusal> {
        let now_ms = self.now_ms();
        let mut wanted = Wanted {
            token,
            request,
            remote_ip: caller.address.to_string(),
            user,
            now_ms,
            expires_ms: now_ms.saturating_add(span(self.settings.key_expiry)),
            renew: false,
        };
        loop {
            let work = wanted.clone();
            let ahead = self.store.write(move |session| begin(session, &work)).await;
            match ahead.map_err(|error| self.store_fails(&error))? {
                Ahead::Begun(begun) => return Ok((*begun, None)),
                Ahead::Repeat(begun) => match self.fresh(&begun.key.id) {
                    Some(key) => return Ok((*begun, Some(key))),
                    None => wanted.renew = true,
                },
                Ahead::UnderWay => return Err(Refusal::UnderWay(UNDER_WAY_TIME)),
                Ahead::QuotaUsedUp => return Err(Refusal::Quota),
                Ahead::TokenEnded => return Err(Refusal::Unauthorized),
            }
        }
    }

    /// Ends the keys that the machine has from before, and its old node if that is wanted.
    async fn make_way(&self, begun: &Begun, user: &UserId) -> Result<(), Refusal> {
        for key in &begun.to_end {
            self.end_key(key)
                .await
                .map_err(|kind| Refusal::of_headscale(kind, Refusal::KeyFailed))?;
        }
        if let (Replace::OfflineOnly, Some(old)) = (self.settings.replace, &begun.replaced)
            && old.node_id.is_some()
            && let Err(failure) = self.delete_if_offline(old).await
        {
            tracing::warn!(machine = old.id, user = user.0, %failure, "the old node stays");
        }
        Ok(())
    }

    async fn delete_if_offline(&self, machine: &Machine) -> Result<(), crate::headscale::Failure> {
        let nodes = self.call(self.headscale.nodes()).await?;
        if let Some(old) = nodes.iter().find(|it| is_node_of(machine, it) && !it.online) {
            self.call(self.headscale.delete_node(&old.id)).await?;
            self.held(&self.attendance).forget(machine);
            tracing::info!(node = old.id.0, "the old node of a machine is deleted");
            // Offline for Headscale is not off the relay.
            if let (Some(key), Some(journal)) = (old.node_key, self.journal.get()) {
                journal.close(&[key]).await;
            }
        }
        Ok(())
    }

    async fn ask(&self, begun: &Begun, user: &UserId, token: &Token) -> Result<IssuedKey, Refusal> {
        let wanted = NewKey {
            user: user.clone(),
            ephemeral: token.profile.is_ephemeral(),
            expiration: date(begun.key.expires_ms),
            tags: token.tags.clone(),
        };
        let failure = match self.call(self.headscale.create_key(&wanted)).await {
            Ok(issued) => return Ok(issued),
            Err(failure) => failure,
        };
        tracing::warn!(machine = begun.machine.id, %failure, "no key");
        let state = match failure.kind {
            // Whether Headscale has made a key nobody knows.
            FailureKind::Unreachable | FailureKind::Faulty | FailureKind::Unintelligible => {
                KeyState::Lost
            }
            FailureKind::Paused | FailureKind::Unauthorized | FailureKind::Refused => {
                KeyState::Void
            }
        };
        self.settle(&begun.key, state).await;
        if failure.kind == FailureKind::Refused {
            // Perhaps the owner is gone.
            *self.held(&self.user) = None;
        }
        Err(Refusal::of_headscale(failure.kind, Refusal::KeyFailed))
    }

    /// Writes down the number of the key, and with it the row of the audit. A key that cannot be
    /// written down, or that nobody waits for any more, is ended.
    async fn record(
        &self,
        begun: &Begun,
        issued: &IssuedKey,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let (asked, number) = (begun.key.clone(), issued.id.0.clone());
        let mut event = entry.event.clone();
        "ok".clone_into(&mut event.outcome);
        let recorded = self.store.write(move |session| {
            let is_waited_for = is_waited_for(session, &asked)?;
            // Also where it is to end: until it has, the next round finds it by this.
            keys::settle(session, &asked.id, KeyState::Issued, Some(&number))?;
            if is_waited_for {
                events::insert(session, &event)?;
            }
            Ok(is_waited_for)
        });
        let refusal = match recorded.await {
            Ok(true) => {
                entry.is_stored = true;
                return Ok(());
            }
            Ok(false) => Refusal::Ended,
            Err(error) => self.store_fails(&error),
        };
        let key = Key { key_id: Some(issued.id.0.clone()), ..begun.key.clone() };
        if self.end_key(&key).await.is_err() {
            tracing::debug!(key = key.id, "the row leads to the key: the next round ends it");
        }
        Err(refusal)
    }

    /// Ends a key that must not be valid any more, wherever it is.
    ///
    /// # Errors
    ///
    /// How Headscale failed; or [`FailureKind::Paused`] where the store did.
    pub(super) async fn end_key(&self, key: &Key) -> Result<(), FailureKind> {
        let row = key.id.clone();
        let number = match &key.key_id {
            Some(number) => Some(number.clone()),
            None => self.find_lost(key).await?.map(|number| number.0),
        };
        let number = match number {
            Some(number) => Some(number),
            // Whoever asked for it may have written its number down since.
            None => self.write_of_key(move |session| keys::void(session, &row)).await?,
        };
        let Some(number) = number.map(KeyId) else { return Ok(()) };
        let user = UserId(key.user_id.clone());
        self.call(self.headscale.expire_key(&user, &number)).await.map_err(|failure| {
            tracing::warn!(key_id = number.0, %failure, "a key cannot be ended now");
            failure.kind
        })?;
        let row = key.id.clone();
        self.write_of_key(move |session| {
            keys::settle(session, &row, KeyState::Expired, Some(&number.0))
        })
        .await
    }

    async fn write_of_key<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Session) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, FailureKind> {
        self.store.write(work).await.map_err(|error| {
            self.store_fails(&error);
            FailureKind::Paused
        })
    }

    async fn settle(&self, key: &Key, state: KeyState) {
        let row = key.id.clone();
        let settled = self.store.write(move |session| keys::settle(session, &row, state, None));
        if let Err(error) = settled.await {
            // It stays as it was written ahead, and is looked for.
            self.store_fails(&error);
        }
    }

    fn registered(&self, begun: &Begun, key: Secret, entry: &mut Entry) -> Registered {
        entry.event.machine = Some(begun.machine.id.clone());
        entry.event.key_id = entry.event.key_id.take().or_else(|| begun.key.key_id.clone());
        Registered {
            key,
            login_server: self.settings.login_server.clone(),
            hostname: begun.machine.hostname.clone(),
            machine_id: begun.machine.id.clone(),
            expires_at: timestamp::write(begun.key.expires_ms),
            region_id: self.settings.region_id,
            map_url: self.settings.map_url.clone(),
            replaces_node: begun.replaced.as_ref().and_then(|old| old.node_id.clone()),
        }
    }
}

/// Whether the machine still waits for the key that was asked for, and nobody has ended that.
fn is_waited_for(session: &mut dyn Session, asked: &Key) -> Result<bool, StoreError> {
    let Some(machine) = &asked.machine else { return Ok(false) };
    let machine = machines::by_id(session, machine)?;
    let Some(machine) = machine.filter(|it| it.state == State::Pending) else { return Ok(false) };
    let its_keys = keys::of_machine(session, &machine.id)?;
    Ok(its_keys.iter().any(|key| key.id == asked.id && key.state == KeyState::Asked))
}

impl KeyState {
    /// Whether a key in this state can be valid.
    pub(super) const fn may_be_valid(self) -> bool {
        match self {
            Self::Asked | Self::Lost | Self::Issued => true,
            Self::Used | Self::Expired | Self::Void => false,
        }
    }
}
