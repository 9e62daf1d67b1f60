//! Relays that have registered with another bridge on the same store, or with this one before it
//! started.
//!
//! Does: carries who was heard of here into the store, and who was heard of elsewhere out of it,
//! every second. Does not: keep anybody waiting for the store, or forget a relay without it.

use std::sync::Arc;

use tokio::time::{sleep, timeout};

use super::Relays;
use super::limits::{TICK, WRITE_TIME};
use crate::provisioning::clock::millis;
use crate::store::{StoreError, relays};

impl Relays {
    /// Follows the store, for ever.
    pub(super) async fn share(self: Arc<Self>) {
        let mut fails = false;
        loop {
            let done = match self.save().await {
                Ok(()) => self.look().await,
                Err(error) => Err(error),
            };
            if let Err(error) = &done
                && !fails
            {
                tracing::warn!(%error, "relays of other bridges are not known, nor ours to them");
            }
            fails = done.is_err();
            sleep(TICK).await;
        }
    }

    /// Looks once, for a relay that says that it has registered, and waits for that a bounded time.
    pub(super) async fn look_for(&self, id: &str) {
        if !self.registry.has(id)
            && let Ok(Err(error)) = timeout(WRITE_TIME, self.look()).await
        {
            tracing::debug!(%error, "a relay is not known here, and the store does not say");
        }
    }

    /// Saves what is not saved, and waits for that a bounded time.
    pub(super) async fn save_soon(&self) {
        if let Ok(Err(error)) = timeout(WRITE_TIME, self.save()).await {
            tracing::debug!(%error, "other bridges do not know of a relay yet");
        }
    }

    async fn save(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let heard = self.registry.take_unsaved(self.clock.elapsed());
        if heard.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = heard.iter().map(|relay| relay.id.clone()).collect();
        let saved = store.write(move |session| relays::save(session, &heard)).await;
        if saved.is_err() {
            self.registry.keep_unsaved(&ids);
        }
        saved
    }

    async fn look(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let known = store.read(relays::all).await?;
        self.registry.merge(&known, self.clock.elapsed(), millis(self.clock.now()));
        Ok(())
    }
}
