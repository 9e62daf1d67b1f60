//! One request of an administrator who has logged in.
//!
//! Does: holds what a page needs to know: the bridge, the session, and what was asked.
//! Does not: check any of it; `site` has.

use std::sync::Arc;

use maud::{Markup, html};
use serde_json::Value;

use super::form::Form;
use super::sessions::Session;
use crate::headscale::Secret;
use crate::http::api::Api;
use crate::http::api::problem::Problem;
use crate::http::scope::Scope;
use crate::provisioning::{Caller, Provisioning};

/// Name of the field with the word of the session.
pub(super) const WORD_FIELD: &str = "session_word";

/// Name of the field that makes every form another one.
pub(super) const ONCE_FIELD: &str = "once";

/// One request of an administrator who has logged in.
pub(super) struct Visit {
    pub(super) api: Arc<Api>,
    pub(super) scope: Arc<Scope>,
    pub(super) provisioning: Arc<Provisioning>,
    pub(super) caller: Caller,
    pub(super) session: Session,
    /// What the forms on this page say that no other page says.
    pub(super) once: Secret,
    pub(super) query: Form,
    /// Empty unless a form was sent.
    pub(super) form: Form,
    /// In ms since 1970.
    pub(super) now_ms: i64,
}

impl Visit {
    /// What every form has to have in it.
    pub(super) fn seal(&self) -> Markup {
        html! {
            input type="hidden" name=(WORD_FIELD) value=(self.session.word.reveal());
            input type="hidden" name=(ONCE_FIELD) value=(self.once.reveal());
        }
    }

    /// Does an operation of the API: with its checks, and with its line in the audit.
    pub(super) async fn perform(
        &self,
        operation: &str,
        path: &[&str],
        body: Value,
    ) -> Result<Value, Problem> {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        self.api.perform(operation, path, &body, self.caller.clone()).await
    }
}
