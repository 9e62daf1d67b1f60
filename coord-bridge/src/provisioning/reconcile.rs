//! What became of machines and keys: Headscale is asked every 30 s.
//!
//! Does: has the nodes of registrations followed; has keys ended whose answer was lost, and ends
//! those that nobody wants any more; removes what is over for long.
//! A round asks for the nodes once, for the keys of an owner once and only if one is missing, and
//! ends at most [`MAX_ENDED`] unwanted and [`MAX_LOST`] lost keys.
//! A bridge that does not lead only asks whether Headscale is well; one that has lost the lead in
//! the middle of a round changes nothing in the store any more.
//! Does not: take anything for gone because Headscale does not answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Provisioning;
use super::administration::AdministrationError;
use super::clock::span;
use crate::headscale::Failure;
use crate::store::keys::{self, KeyState};
use crate::store::machines::{self, State};
use crate::store::{Session, StoreError, events, installations};

/// Most keys that a round ends. Each is a call that costs Headscale some 80 ms.
pub const MAX_ENDED: usize = 32;

/// Most lost keys that a round ends or writes off. Each is a call as above, or a write. The next
/// round goes on behind them.
pub const MAX_LOST: usize = 32;

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
