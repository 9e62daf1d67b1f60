//! What administrators do to machines and keys.
//!
//! Does: makes keys for installers, with the same row ahead as for machines; ends keys; logs
//! machines out and deletes them, and has relays told which node is to be cut off.
//! Does not: check who asks.

use std::collections::BTreeSet;
use std::time::Duration;

use derp::key::NodePublic;

use super::clock::{date, millis, span};
use super::nodes::is_node_of;
use super::{Provisioning, id, timestamp};
use crate::headscale::{Failure, KeyId, NewKey, Node, Secret};
use crate::store::events::{self, Event};
use crate::store::keys::{self, Key, KeyState};
use crate::store::machines::{self, Machine, State};
use crate::store::tokens::Profile;
use crate::store::{Session, StoreError, installations, relay_events};

/// Why it was not done, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum AdministrationError {
    /// There is no such registration.
    #[error("there is no machine {0:?}")]
    UnknownMachine(String),
    /// It has no node that could be logged out.
    #[error("machine {0:?} has no node in Headscale")]
    NoNode(String),
    /// Headscale.
    #[error(transparent)]
    Headscale(#[from] Failure),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A key for an installer.
#[derive(Debug)]
pub struct MadeKey {
    /// The key, told this once.
    pub key: Secret,
    /// When it ends, RFC 3339.
    pub expires_at: String,
}

/// Which keys are to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Those that this bridge has made.
    Ours,
    /// All of the owner's, whoever has made them.
    All,
}

impl Provisioning {
    /// Makes a key that an operator gives to an installer, which may run on the live system
    /// that registered as `installs`.
    ///
    /// # Errors
    ///
    /// [`AdministrationError`]; a key that was made nevertheless is ended by the next round.
    pub async fn create_key(
        &self,
        profile: Profile,
        expiry: Duration,
        installs: Option<&str>,
    ) -> Result<MadeKey, AdministrationError> {
        let user = self.call(self.headscale.ensure_user(&self.settings.user)).await?.id;
        let now_ms = self.now_ms();
        let mut key = Key {
            id: id::new(now_ms),
            machine: None,
            user_id: user.0.clone(),
            key_id: None,
            state: KeyState::Asked,
            asked_ms: now_ms,
            expires_ms: now_ms.saturating_add(span(expiry)),
        };
        let live_system = installs.map(str::to_owned);
        let key = self
            .store
            .write(move |session| {
                if let Some(machine) = &live_system {
                    if machines::by_id(session, machine)?.is_none() {
                        return Ok(None);
                    }
                    installations::begin(session, &key.id, machine)?;
                }
                keys::ask(session, &mut key)?;
                Ok(Some(key))
            })
            .await?;
        let unknown = || AdministrationError::UnknownMachine(installs.unwrap_or_default().into());
        let key = key.ok_or_else(unknown)?;
        let wanted = NewKey {
            user,
            ephemeral: profile.is_ephemeral(),
            expiration: date(key.expires_ms),
            tags: Vec::new(),
        };
        // Whatever fails from here on, the row leads to the key.
        let issued = self.call(self.headscale.create_key(&wanted)).await?;
        let number = issued.id.0.clone();
        let event = Event { key_id: Some(number.clone()), ..self.event("key", "created", None) };
        self.store
            .write(move |session| {
                keys::settle(session, &key.id, KeyState::Issued, Some(&number))?;
                events::insert(session, &event)
            })
            .await?;
        Ok(MadeKey { key: issued.secret, expires_at: timestamp::write(key.expires_ms) })
    }

    /// Ends keys that no node has registered with. Says how many.
    ///
    /// # Errors
    ///
    /// [`AdministrationError`]; those before are ended.
    pub async fn expire_keys(&self, which: Keys) -> Result<usize, AdministrationError> {
        let user = self.call(self.headscale.ensure_user(&self.settings.user)).await?.id;
        let listed = self.call(self.headscale.keys(&user)).await?;
        let now_ms = self.now_ms();
        let rows = self.store.read(|session| keys::in_states(session, &[KeyState::Issued])).await?;
        let ours: BTreeSet<&String> = rows.iter().filter_map(|key| key.key_id.as_ref()).collect();
        let is_valid = |expiration| millis(expiration) > now_ms;
        let mut ended = 0;
        for record in listed {
            let is_meant = which == Keys::All || ours.contains(&record.id.0);
            if record.used || !is_meant || !record.expiration.is_none_or(is_valid) {
                continue;
            }
            self.call(self.headscale.expire_key(&user, &record.id)).await?;
            self.note_ended(&rows, record.id).await?;
            ended += 1;
        }
        Ok(ended)
    }

    /// Deletes a machine: its keys end, its node goes, and relays cut its connections, those of
    /// other bridges on the same store included. Gives the key of the node.
    ///
    /// # Errors
    ///
    /// [`AdministrationError`]; then the machine is listed as it was.
    pub async fn delete_machine(
        &self,
        id: &str,
    ) -> Result<Option<NodePublic>, AdministrationError> {
        // Keys first: what joins after the nodes were listed would stay.
        self.end_keys_of(&self.machine(id).await?).await?;
        let (machine, node) = self.machine_and_node(id).await?;
        if let Some(node) = &node {
            self.call(self.headscale.delete_node(&node.id)).await?;
            self.held(&self.attendance).forget(&machine);
        }
        let event = self.event_of("machine", "deleted", &machine);
        let now_ms = self.now_ms();
        let gone = node.and_then(|node| node.node_key);
        self.tell_relays_at_once(gone);
        let stored = self
            .store
            .write(move |session| {
                if delete(session, &machine.id, now_ms)? {
                    events::insert(session, &event)?;
                }
                cut_off(session, gone, now_ms)?;
                keys::of_machine(session, &machine.id)
            })
            .await;
        // The node is gone, whatever the store says.
        self.tell_relays(gone, &stored).await;
        // A registration that went on meanwhile may have got its key before the machine was deleted.
        for key in stored?.iter().filter(|key| key.state == KeyState::Issued) {
            if self.end_key(key).await.is_err() {
                tracing::debug!(key = key.id, "the next round ends it");
            }
        }
        Ok(gone)
    }

    /// Logs a machine out; its keys end, its node stays, and relays cut its connections. It may come
    /// back to them unless `verify.refuse_expired` is set. Gives the key of the node.
    ///
    /// # Errors
    ///
    /// [`AdministrationError`].
    pub async fn expire_machine(
        &self,
        id: &str,
    ) -> Result<Option<NodePublic>, AdministrationError> {
        let (machine, node) = self.machine_and_node(id).await?;
        let node = node.ok_or_else(|| AdministrationError::NoNode(id.to_owned()))?;
        self.end_keys_of(&machine).await?;
        self.call(self.headscale.expire_node(&node.id)).await?;
        let event = self.event_of("machine", "logged_out", &machine);
        let (gone, now_ms) = (node.node_key, self.now_ms());
        self.tell_relays_at_once(gone);
        let stored = self
            .store
            .write(move |session| {
                cut_off(session, gone, now_ms)?;
                events::insert(session, &event)
            })
            .await;
        self.tell_relays(gone, &stored).await;
        stored?;
        Ok(gone)
    }

    async fn machine(&self, id: &str) -> Result<Machine, AdministrationError> {
        let wanted = id.to_owned();
        let found = self.store.read(move |session| machines::by_id(session, &wanted)).await?;
        found.ok_or_else(|| AdministrationError::UnknownMachine(id.to_owned()))
    }

    async fn machine_and_node(
        &self,
        id: &str,
    ) -> Result<(Machine, Option<Node>), AdministrationError> {
        let machine = self.machine(id).await?;
        // What was seen in the last round may be half a minute old; the keys lead to the node.
        let row = machine.id.clone();
        let its_keys = self.store.read(move |session| keys::of_machine(session, &row)).await?;
        let numbers: BTreeSet<KeyId> =
            its_keys.into_iter().filter_map(|key| key.key_id).map(KeyId).collect();
        let is_its = |node: &Node| match &machine.node_id {
            Some(_) => is_node_of(&machine, node),
            None => node.key.as_ref().is_some_and(|key| numbers.contains(key)),
        };
        let nodes = self.call(self.headscale.nodes()).await?;
        let node = nodes.into_iter().find(is_its);
        Ok((machine, node))
    }

    async fn end_keys_of(&self, machine: &Machine) -> Result<(), AdministrationError> {
        let row = machine.id.clone();
        let its_keys = self.store.read(move |session| keys::of_machine(session, &row)).await?;
        for key in its_keys.iter().filter(|key| key.state.may_be_valid()) {
            self.end_key(key).await.map_err(|kind| Failure {
                kind,
                detail: "a key of the machine could not be ended".to_owned(),
            })?;
        }
        Ok(())
    }

    async fn note_ended(&self, rows: &[Key], number: KeyId) -> Result<(), StoreError> {
        let row = rows.iter().find(|key| key.key_id.as_ref() == Some(&number.0));
        let row = row.map(|key| key.id.clone());
        let event = Event { key_id: Some(number.0), ..self.event("key", "expired", None) };
        self.store
            .write(move |session| {
                if let Some(row) = row {
                    keys::settle(session, &row, KeyState::Expired, None)?;
                }
                events::insert(session, &event)
            })
            .await
    }
}

/// Writes down that a machine is deleted, wherever it stands now. Says whether that is news.
fn delete(session: &mut dyn Session, id: &str, now_ms: i64) -> Result<bool, StoreError> {
    let machine = machines::by_id(session, id)?;
    let Some(machine) = machine.filter(|it| it.state != State::Deleted) else { return Ok(false) };
    let before = machine.state;
    let after = Machine { state: State::Deleted, changed_ms: now_ms, ..machine };
    machines::update(session, &after, before)
}

/// Writes down that relays have to cut a node off.
fn cut_off(
    session: &mut dyn Session,
    node: Option<NodePublic>,
    now_ms: i64,
) -> Result<(), StoreError> {
    node.map_or(Ok(()), |node| relay_events::insert_close(session, &node, now_ms))
}
