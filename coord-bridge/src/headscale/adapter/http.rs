//! Headscale from 0.30: HTTP by itself, which refuses what it does not know.
//!
//! Contract: the OpenAPI document that Headscale serves, against which a test holds every request.

use hyper::StatusCode;
use serde::Serialize;

use super::super::Failure;
use super::super::KeyId;
use super::super::answer::{Voice, voice};
use super::super::limits::MAX_LIST_LEN;
use super::super::transport::{Answer, Ask};
use super::{checked, get, post};

/// Everybody's: there is no filter.
pub(super) fn keys() -> Ask {
    get("/api/v1/preauthkey".to_owned(), MAX_LIST_LEN)
}

pub(super) fn expire_key(key: &KeyId) -> Result<Ask, Failure> {
    #[derive(Serialize)]
    struct Body<'a> {
        id: &'a str,
    }
    let body = Body { id: checked(&key.0)? };
    Ok(post("/api/v1/preauthkey/expire".to_owned(), Some(&body)))
}

pub(super) fn says_unknown(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND && matches!(voice(answer), Voice::Http(_))
}
