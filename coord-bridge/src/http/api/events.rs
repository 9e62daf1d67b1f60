//! The audit over the API.
//!
//! Does: lists events, the newest first. Does not: change any.

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::page;
use super::problem::Problem;
use super::route::{Asked, Reply};
use crate::events::EventBody;
use crate::store::events::{self, KINDS};

/// Some events, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EventList {
    events: Vec<EventBody>,
    /// What to give as `cursor` for those before; null if there are none.
    next_cursor: Option<String>,
}

pub(super) async fn list(asked: Asked) -> Result<Reply, Problem> {
    let count = page::limit(&asked)?;
    let kind = asked.parameter("kind").map(str::to_owned);
    if let Some(kind) = &kind
        && !KINDS.iter().any(|(known, _)| known == kind)
    {
        let known: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
        return Err(Problem::invalid(format!("kind: one of {}", known.join(", "))));
    }
    let cursor = asked.parameter("cursor").map(str::to_owned);
    let is_id = |text: &String| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if cursor.as_ref().is_some_and(|text| !is_id(text)) {
        return Err(Problem::invalid("cursor: not one that a page has named"));
    }
    let store = asked.scope.provisioning()?.store();
    let mut found = store
        .read(move |session| events::before(session, cursor.as_deref(), kind.as_deref(), count + 1))
        .await?;
    let rows = usize::try_from(count).unwrap_or(usize::MAX);
    let follows = found.len() > rows;
    found.truncate(rows);
    let next_cursor = found.last().filter(|_| follows).map(|event| event.id.clone());
    let events = found.into_iter().map(EventBody::from).collect();
    Reply::json(StatusCode::OK, &EventList { events, next_cursor })
}
