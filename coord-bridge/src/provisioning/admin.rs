//! Administrators who come over the network.
//!
//! Does: lets in whoever shows the administrator's token; writes down who is refused and what was
//! done; does to tokens what the commands do.
//! Does not: speak HTTP. What is done to machines and keys is in `administration`.

use std::time::Duration;

use super::refusal::Refusal;
use super::token_file::TokenHash;
use super::tokens::{self, NewToken, TokenError};
use super::{Caller, Provisioning};
use crate::headscale::Secret;
use crate::store::{Store, StoreError};

/// Kind of the events.
const KIND: &str = "admin";

/// What something that was done is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// A registration.
    pub machine: Option<String>,
    /// Name of a token.
    pub token: Option<String>,
}

impl Provisioning {
    /// Lets pass whoever shows the administrator's token; no enrollment token counts as much. A
    /// right token is never refused, however many wrong ones came from its address.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which is in the audit.
    pub async fn admit_admin(&self, caller: &Caller) -> Result<(), Refusal> {
        let mut entry = self.audit.entry(KIND, caller);
        let admitted = async {
            let admin = self.read_file(self.settings.admin_token_file.clone()).await?;
            if let (Some(shown), Some(admin)) = (&caller.token, admin)
                && TokenHash::of(shown).is(&TokenHash::of(&admin))
            {
                return Ok(());
            }
            self.authenticate(caller, &mut entry).await?;
            Err(Refusal::AdminRequired)
        };
        let admitted = admitted.await;
        if let Err(refusal) = &admitted {
            self.audit.close(entry, &Err(refusal)).await;
        }
        admitted
    }

    /// The hash of the administrator's token as it is in the file now; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Refusal::Store`] where the file cannot be read.
    pub(crate) async fn admin_token(&self) -> Result<Option<TokenHash>, Refusal> {
        let token = self.read_file(self.settings.admin_token_file.clone()).await?;
        Ok(token.as_ref().map(TokenHash::of))
    }

    /// Writes down what an administrator has done, or why not.
    pub async fn note_admin(&self, caller: &Caller, outcome: &str, subject: Subject) {
        let mut entry = self.audit.entry(KIND, caller);
        entry.event.machine = subject.machine;
        entry.event.token = subject.token;
        self.audit.note(entry, outcome).await;
    }

    /// As [`tokens::create`].
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub async fn create_token(&self, wanted: NewToken) -> Result<Secret, TokenError> {
        let now_ms = self.now_ms();
        self.change_tokens(move |store| tokens::create(&store, &wanted, now_ms)).await
    }

    /// As [`tokens::rotate`].
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub async fn rotate_token(&self, name: String, grace: Duration) -> Result<Secret, TokenError> {
        let (file, now_ms) = (self.settings.token_file.clone(), self.now_ms());
        self.change_tokens(move |store| tokens::rotate(&store, &name, grace, &file, now_ms)).await
    }

    /// As [`tokens::revoke`].
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub async fn revoke_token(&self, name: String) -> Result<(), TokenError> {
        let now_ms = self.now_ms();
        self.change_tokens(move |store| tokens::revoke(&store, &name, now_ms)).await
    }

    /// Does `work`, which blocks, where that disturbs nobody.
    async fn change_tokens<T: Send + 'static>(
        &self,
        work: impl FnOnce(Store) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, TokenError> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || work(store)).await;
        done.map_err(|error| StoreError::Failed(error.to_string()))?
    }
}
