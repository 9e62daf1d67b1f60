//! Keys that were asked for and whose answer never came: nobody has them.
//!
//! Does: finds them among those that Headscale lists, by the second that they end at, and ends
//! them. Does not: look for one that may be on its way to its row.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Provisioning;
use super::clock::{millis, span};
use super::reconcile::RoundError;
use crate::headscale::{FailureKind, KeyId, KeyRecord, UserId};
use crate::store::events::{self, Event};
use crate::store::keys::{self, Key, KeyState};

/// Time in which a key that was asked for may still be on its way to its row. Longer than a
/// registration takes.
const IN_FLIGHT_TIME: Duration = Duration::from_secs(15);

impl Provisioning {
    /// Ends keys that were asked for and whose answer never came: nobody has them.
    pub(super) async fn find_lost_keys(&self) -> Result<(), RoundError> {
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

    /// The number of a key whose answer was lost, if Headscale has made it: no other ends at that
    /// second, and none that we know is meant.
    pub(super) async fn find_lost(&self, key: &Key) -> Result<Option<KeyId>, FailureKind> {
        let user = UserId(key.user_id.clone());
        let listed = self.call(self.headscale.keys(&user)).await.map_err(|failure| {
            tracing::warn!(%failure, "a key that was asked for cannot be looked for now");
            failure.kind
        })?;
        let expires_ms = key.expires_ms;
        let known = self.store.read(move |session| keys::known_numbers(session, expires_ms - 1));
        let known = known.await.map_err(|error| {
            self.store_fails(&error);
            FailureKind::Paused
        })?;
        Ok(lost_key(key, &listed, &known))
    }
}

/// The key that was asked for as `key` among those that Headscale lists: it ends at that second,
/// as no other of ours does, and is none that we know.
fn lost_key(key: &Key, listed: &[KeyRecord], known: &[String]) -> Option<KeyId> {
    let known: BTreeSet<&String> = known.iter().collect();
    let is_it = |record: &&KeyRecord| {
        let expires_ms = record.expiration.map(millis).unwrap_or_default();
        // To the second: releases differ in how many digits they keep.
        expires_ms.div_euclid(1_000) == key.expires_ms.div_euclid(1_000)
            && !known.contains(&record.id.0)
    };
    listed.iter().find(is_it).map(|record| record.id.clone())
}

/// Whether a key that was asked for may be on its way to its row. A clock that was set back does
/// not make it so for long.
pub(super) fn is_in_flight(key: &Key, now_ms: i64) -> bool {
    now_ms.abs_diff(key.asked_ms) < span(IN_FLIGHT_TIME).unsigned_abs()
}
