//! What became of machines and keys: Headscale is asked every 30 s.
//!
//! Does: finds the node of each registration and says where it stands; finds keys whose answer
//! was lost, and ends them and those that nobody wants any more; removes what is over for long.
//! A round asks for the nodes once, for the keys of an owner once and only if one is missing, and
//! ends at most [`MAX_ENDED`] keys.
//! A bridge that does not lead only asks whether Headscale is well; one that has lost the lead in
//! the middle of a round changes nothing in the store any more.
//! Does not: take anything for gone because Headscale does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Provisioning;
use super::administration::AdministrationError;
use super::clock::{millis, span};
use super::registration::is_in_flight;
use crate::headscale::{Failure, KeyId, KeyRecord, Node, UserId};
use crate::store::events::{self, Event};
use crate::store::installations;
use crate::store::keys::{self, Key, KeyState};
use crate::store::machines::{self, Machine, State};
use crate::store::{Session, StoreError};

/// Most keys that a round ends. Each is a call that costs Headscale some 80 ms.
pub const MAX_ENDED: usize = 32;

/// Time that events are kept.
const EVENT_TTL: Duration = Duration::from_secs(90 * 86_400);

/// Rounds fail for one of two reasons.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    #[error(transparent)]
    Headscale(#[from] Failure),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a stale machine stays: {0}")]
    Stale(#[from] AdministrationError),
    #[error("another bridge leads now")]
    Superseded,
}

impl Provisioning {
    /// One round. What fails is in the log and at `/ready`, and is done in the next.
    pub async fn reconcile(&self) {
        let mut findings = Vec::new();
        if let Err(failure) = self.call(self.headscale.check()).await {
            tracing::warn!(%failure, "Headscale is not well");
            findings.push(failure.kind.to_string());
        } else if self.may_lead()
            && let Err(error) = self.round().await
        {
            tracing::warn!(%error, "machines and keys could not be compared with Headscale");
            findings.extend(match error {
                RoundError::Headscale(failure) => Some(failure.kind.to_string()),
                RoundError::Store(_) => Some("the store does not work".to_owned()),
                RoundError::Stale(_) => Some("a stale machine cannot be deleted".to_owned()),
                RoundError::Superseded => None,
            });
        }
        // Whatever Headscale says: what is kept has bounds.
        if self.may_lead()
            && let Err(error) = self.prune().await
        {
            tracing::warn!(%error, "what is over stays in the store");
        }
        if findings.is_empty() && self.may_lead() {
            *self.held(&self.reconciled) = Some(self.clock.elapsed());
        }
        *self.held(&self.findings) = findings;
    }

    async fn round(&self) -> Result<(), RoundError> {
        self.ensure_users().await?;
        self.find_lost_keys().await?;
        self.follow_machines().await?;
        self.end_unwanted_keys().await?;
        self.delete_stale().await?;
        Ok(())
    }

    /// Removes what is over for long.
    async fn prune(&self) -> Result<(), RoundError> {
        let now_ms = self.now_ms();
        let over_ms = now_ms.saturating_sub(span(self.settings.record_ttl));
        let events_ms = now_ms.saturating_sub(span(EVENT_TTL));
        self.write_as_leader(move |session| {
            machines::prune(session, over_ms)?;
            keys::prune(session, over_ms)?;
            installations::prune(session)?;
            events::prune(session, events_ms)
        })
        .await?;
        Ok(())
    }

    /// Runs `work` as a transaction that finds in the store that this bridge leads.
    pub(super) async fn write_as_leader<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Session) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, RoundError> {
        let leadership = self.leadership.get().cloned().unwrap_or_default();
        let done = self.store.write(move |session| {
            if !leadership.may_lead() || !leadership.is_confirmed(session)? {
                return Ok(None);
            }
            work(session).map(Some)
        });
        done.await?.ok_or(RoundError::Superseded)
    }

    /// Makes the users that there have to be, once.
    async fn ensure_users(&self) -> Result<(), Failure> {
        if self.has_users.load(Ordering::Relaxed) {
            return Ok(());
        }
        if let Some(admin) = &self.settings.admin_user {
            self.call(self.headscale.ensure_user(admin)).await?;
        }
        let user = self.call(self.headscale.ensure_user(&self.settings.user)).await?;
        *self.held(&self.user) = Some(user.id);
        self.has_users.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Ends keys that were asked for and whose answer never came: nobody has them.
    async fn find_lost_keys(&self) -> Result<(), RoundError> {
        let now_ms = self.now_ms();
        let (missing, known) = self
            .store
            .read(move |session| {
                let states = [KeyState::Asked, KeyState::Lost, KeyState::Void];
                Ok((keys::in_states(session, &states)?, keys::known_numbers(session, now_ms)?))
            })
            .await?;
        let is_missing = |key: &Key| match key.state {
            KeyState::Asked => !is_in_flight(key, now_ms),
            KeyState::Lost => true,
            // Headscale may have been slow. One that has ended is of no interest.
            KeyState::Void => key.expires_ms > now_ms && key.key_id.is_none(),
            KeyState::Issued | KeyState::Used | KeyState::Expired => false,
        };
        let mut by_user = BTreeMap::<String, Vec<Key>>::new();
        for key in missing.into_iter().filter(is_missing) {
            by_user.entry(key.user_id.clone()).or_default().push(key);
        }
        for (user, missing) in by_user {
            let user = UserId(user);
            let listed = self.call(self.headscale.keys(&user)).await?;
            for key in missing {
                let found = lost_key(&key, &listed, &known);
                if let Some(number) = &found {
                    self.call(self.headscale.expire_key(&user, number)).await?;
                    tracing::info!(key_id = number.0, "ended a key whose answer was lost");
                }
                let state = if found.is_some() { KeyState::Expired } else { KeyState::Void };
                if found.is_none() && key.state == KeyState::Void {
                    continue;
                }
                let event = self.event("key", state.as_str(), key.machine.clone());
                self.write_as_leader(move |session| {
                    let number = found.map(|number| number.0);
                    keys::settle(session, &key.id, state, number.as_deref())?;
                    events::insert(session, &Event { key_id: number, ..event })
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Finds the nodes of machines, and writes down what has changed.
    async fn follow_machines(&self) -> Result<(), RoundError> {
        let (live, all_keys, installing) = self
            .store
            .read(|session| {
                let states = [KeyState::Issued, KeyState::Used];
                let keys = keys::in_states(session, &states)?;
                Ok((machines::live(session)?, keys, installations::waiting(session)?))
            })
            .await?;
        if live.is_empty() && installing.is_empty() {
            return Ok(());
        }
        let nodes = self.call(self.headscale.nodes()).await?;
        self.finish_installations(&installing, &nodes).await?;
        let now_ms = self.now_ms();
        let stale_ms = now_ms.saturating_sub(span(self.settings.stale_after));
        let times = Times { now_ms, stale_ms, expiry_ms: span(self.settings.key_expiry) };
        let mut keys_of = BTreeMap::<&str, Vec<&Key>>::new();
        for key in &all_keys {
            if let Some(machine) = &key.machine {
                keys_of.entry(machine).or_default().push(key);
            }
        }
        let nodes = Nodes::new(&nodes);
        let mut changes = Vec::new();
        for machine in live {
            let its_keys = keys_of.get(machine.id.as_str()).map_or(&[][..], Vec::as_slice);
            let after = follow(&machine, its_keys, &nodes, times);
            if after != machine {
                let used = nodes.of(&machine, its_keys).and_then(|node| node.key.clone());
                let used = used.and_then(|number| {
                    its_keys.iter().find(|key| key.key_id.as_ref() == Some(&number.0))
                });
                let used = used.filter(|key| key.state == KeyState::Issued);
                changes.push((machine.state, after, used.map(|key| key.id.clone())));
            }
        }
        self.write_changes(changes).await
    }

    async fn write_changes(
        &self,
        changes: Vec<(State, Machine, Option<String>)>,
    ) -> Result<(), RoundError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::new();
        for (before, machine, used) in changes {
            if before != machine.state {
                let (from, to) = (before.as_str(), machine.state.as_str());
                tracing::info!(
                    machine = machine.id,
                    hostname = machine.hostname,
                    from,
                    to,
                    "machine"
                );
            }
            let event = self.event_of("machine", machine.state.as_str(), &machine);
            rows.push((before, machine, used, event));
        }
        let used: Vec<String> = rows.iter().filter_map(|(_, _, used, _)| used.clone()).collect();
        self.write_as_leader(move |session| {
            for (before, machine, used, event) in &rows {
                if let Some(row) = used {
                    keys::settle(session, row, KeyState::Used, None)?;
                }
                let is_written = machines::update(session, machine, *before)?;
                if is_written && *before != machine.state {
                    events::insert(session, event)?;
                }
            }
            Ok(())
        })
        .await?;
        let mut fresh = self.held(&self.fresh_keys);
        for row in used {
            fresh.remove(&row);
        }
        Ok(())
    }

    /// Ends keys whose machine does not wait for them any more.
    async fn end_unwanted_keys(&self) -> Result<(), RoundError> {
        let now_ms = self.now_ms();
        let unwanted = self.write_as_leader(move |session| {
            let mut unwanted = Vec::new();
            for key in keys::in_states(session, &[KeyState::Issued])? {
                if key.expires_ms <= now_ms {
                    keys::settle(session, &key.id, KeyState::Expired, None)?;
                    continue;
                }
                let Some(machine) = &key.machine else { continue };
                let machine = machines::by_id(session, machine)?;
                if machine.is_none_or(|machine| machine.state != State::Pending) {
                    unwanted.push(key);
                }
            }
            Ok(unwanted)
        });
        let unwanted = unwanted.await?;
        for key in unwanted.iter().take(MAX_ENDED) {
            if self.end_key(key).await.is_err() {
                // The log has it; Headscale is not asked again in this round.
                break;
            }
        }
        Ok(())
    }
}

/// The key that was asked for as `key` among those that Headscale lists: it ends at that second,
/// as no other of ours does, and is none that we know.
pub(super) fn lost_key(key: &Key, listed: &[KeyRecord], known: &[String]) -> Option<KeyId> {
    let known: BTreeSet<&String> = known.iter().collect();
    let is_it = |record: &&KeyRecord| {
        let expires_ms = record.expiration.map(millis).unwrap_or_default();
        // To the second: releases differ in how many digits they keep.
        expires_ms.div_euclid(1_000) == key.expires_ms.div_euclid(1_000)
            && !known.contains(&record.id.0)
    };
    listed.iter().find(is_it).map(|record| record.id.clone())
}

/// Moments that decide where a machine stands, in ms since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Now.
    pub now_ms: i64,
    /// A node that was not connected since is stale.
    pub stale_ms: i64,
    /// How long a registration waits for its node, in ms.
    pub expiry_ms: i64,
}

/// Nodes, by what they are looked for by.
#[derive(Debug)]
pub struct Nodes<'a> {
    by_id: BTreeMap<&'a str, &'a Node>,
    by_machine_key: BTreeMap<&'a str, &'a Node>,
    by_key: BTreeMap<&'a str, &'a Node>,
}

impl<'a> Nodes<'a> {
    /// Nodes as Headscale lists them.
    #[must_use]
    pub fn new(nodes: &'a [Node]) -> Self {
        let with_key = |node: &'a Node| Some((node.key.as_ref()?.0.as_str(), node));
        Self {
            by_id: nodes.iter().map(|node| (node.id.0.as_str(), node)).collect(),
            by_machine_key: nodes.iter().map(|node| (node.machine_key.as_str(), node)).collect(),
            by_key: nodes.iter().filter_map(with_key).collect(),
        }
    }

    /// The node of a machine. What was seen at first holds: later Headscale may show another key.
    fn of(&self, machine: &Machine, keys: &[&Key]) -> Option<&'a Node> {
        let known = || self.by_id.get(machine.node_id.as_deref()?).copied();
        let again = || self.by_machine_key.get(machine.machine_key.as_deref()?).copied();
        let by_key = || {
            if machine.node_id.is_some() {
                return None;
            }
            keys.iter().find_map(|key| self.by_key.get(key.key_id.as_deref()?).copied())
        };
        known().or_else(again).or_else(by_key)
    }
}

/// Where a machine stands now. No IO.
#[must_use]
pub fn follow(machine: &Machine, keys: &[&Key], nodes: &Nodes<'_>, times: Times) -> Machine {
    let mut after = machine.clone();
    match nodes.of(machine, keys) {
        Some(node) => {
            after.node_id = Some(node.id.0.clone());
            after.machine_key = Some(node.machine_key.clone());
            after.tailscale_ip = node.first_address();
            let seen_ms = node.last_seen.map(millis).filter(|seen| *seen > 0);
            after.last_seen_ms = seen_ms.or(machine.last_seen_ms);
            let since_ms = after.last_seen_ms.unwrap_or(machine.registered_ms);
            after.state = if node.online {
                State::Online
            } else if since_ms < times.stale_ms {
                State::Stale
            } else {
                State::Joined
            };
        }
        None if machine.state == State::Pending => {
            let is_valid =
                |key: &&Key| key.state == KeyState::Issued && key.expires_ms > times.now_ms;
            let waits = machine.changed_ms.saturating_add(times.expiry_ms) > times.now_ms;
            if !keys.iter().any(is_valid) && !waits {
                after.state = State::Expired;
            }
        }
        None => after.state = State::Deleted,
    }
    if after.state != machine.state {
        after.changed_ms = times.now_ms;
    }
    after
}
