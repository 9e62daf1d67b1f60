//! Keys that were asked for and whose answer never came: nobody has them.
//!
//! Does: finds them among those that Headscale lists, by the second that they end at, and ends
//! them. Does not: look for one that may be on its way to its row.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Provisioning;
use super::clock::{millis, span};
use super::reconcile::{MAX_LOST, RoundError};
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
        let mut missing: Vec<Key> = missing.into_iter().filter(is_missing).collect();
        missing.sort_by(|a, b| a.id.cmp(&b.id));
        // What stopped the last round, an error or the bound, keeps nobody behind it waiting.
        let last = self.held(&self.last_lost).clone();
        let behind = missing.partition_point(|key| key.id <= last);
        missing.rotate_left(behind);
        let mut strays = BTreeMap::<String, Strays>::new();
        let mut settled = 0;
        for key in missing {
            if settled >= MAX_LOST {
                tracing::info!("more keys whose answer was lost are looked for in the next round");
                break;
            }
            let user = UserId(key.user_id.clone());
            let of_user = match strays.entry(key.user_id.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let listed = self.call(self.headscale.keys(&user)).await?;
                    place.insert(Strays::new(listed, &known))
                }
            };
            let found = of_user.find(&key);
            if found.is_none() && key.state == KeyState::Void {
                continue;
            }
            self.held(&self.last_lost).clone_from(&key.id);
            self.settle_lost(key, &user, found).await?;
            settled += 1;
        }
        Ok(())
    }

    /// Ends a key that was found, or writes off one that was not.
    async fn settle_lost(
        &self,
        key: Key,
        user: &UserId,
        found: Option<KeyId>,
    ) -> Result<(), RoundError> {
        if let Some(number) = &found {
            self.call(self.headscale.expire_key(user, number)).await?;
            tracing::info!(key_id = number.0, "ended a key whose answer was lost");
        }
        let state = if found.is_some() { KeyState::Expired } else { KeyState::Void };
        let event = self.event("key", state.as_str(), key.machine.clone());
        self.write_as_leader(move |session| {
            let number = found.map(|number| number.0);
            keys::settle(session, &key.id, state, number.as_deref())?;
            events::insert(session, &Event { key_id: number, ..event })
        })
        .await
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
        Ok(Strays::new(listed, &known).find(key))
    }
}

/// Keys that Headscale lists and no row knows, by the second that they end at, as no other of ours
/// does. To the second: releases differ in how many digits they keep.
struct Strays(BTreeMap<i64, KeyId>);

impl Strays {
    fn new(listed: Vec<KeyRecord>, known: &[String]) -> Self {
        let known: BTreeSet<&String> = known.iter().collect();
        let mut strays = BTreeMap::new();
        for record in listed.into_iter().filter(|record| !known.contains(&record.id.0)) {
            let expires_ms = record.expiration.map(millis).unwrap_or_default();
            strays.entry(expires_ms.div_euclid(1_000)).or_insert(record.id);
        }
        Self(strays)
    }

    /// The key that was asked for as `key`.
    fn find(&self, key: &Key) -> Option<KeyId> {
        self.0.get(&key.expires_ms.div_euclid(1_000)).cloned()
    }
}

/// Whether a key that was asked for may be on its way to its row. A clock that was set back does
/// not make it so for long.
pub(super) fn is_in_flight(key: &Key, now_ms: i64) -> bool {
    now_ms.abs_diff(key.asked_ms) < span(IN_FLIGHT_TIME).unsigned_abs()
}
