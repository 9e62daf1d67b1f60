//! Headscale 0.26 to 0.29: JSON turned into gRPC, which ignores what it does not know.
//!
//! 0.26 and 0.27 know a pre-auth key by its user and its text, which their lists show; 0.28 and
//! 0.29 know it by its number, and show a part of the text.

use hyper::StatusCode;
use serde::Serialize;

use super::super::answer::{Voice, voice};
use super::super::limits::MAX_LIST_LEN;
use super::super::transport::{Answer, Ask};
use super::super::{Failure, KeyId, Secret, UserId};
use super::{checked, get, post};

/// What a release knows pre-auth keys by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysBy {
    /// Their text: 0.26, 0.27, and whatever does not say what it is.
    Text,
    /// Their number: 0.28 and 0.29.
    Id,
}

impl KeysBy {
    /// What a release knows keys by that calls itself `version`, such as `v0.29.2`.
    pub(crate) fn of_version(version: &str) -> Self {
        let mut numbers = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(0)), Some(Ok(minor))) if minor < 28 => Self::Text,
            (Some(Ok(_)), Some(Ok(_))) => Self::Id,
            _ => Self::Text,
        }
    }
}

/// Up to 0.27 the user is needed; since 0.28 it is ignored.
pub(super) fn keys(user: &UserId) -> Result<Ask, Failure> {
    Ok(get(format!("/api/v1/preauthkey?user={}", checked(&user.0)?), MAX_LIST_LEN))
}

/// With everything that any of these releases may know the key by.
pub(super) fn expire_key(
    user: &UserId,
    key: &KeyId,
    text: Option<&Secret>,
) -> Result<Ask, Failure> {
    #[derive(Serialize)]
    struct Body<'a> {
        user: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<&'a str>,
        id: &'a str,
    }
    let body =
        Body { user: checked(&user.0)?, key: text.map(Secret::reveal), id: checked(&key.0)? };
    Ok(post("/api/v1/preauthkey/expire".to_owned(), Some(&body)))
}

/// 0.26 has no status of its own for it.
pub(super) fn says_unknown(answer: &Answer) -> bool {
    match voice(answer) {
        Voice::Gateway(words) => {
            answer.status == StatusCode::NOT_FOUND || words.contains("record not found")
        }
        Voice::GatewayUnauthorized | Voice::Http(_) | Voice::Foreign => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_that_say_what_they_are_save_a_call() {
        for (version, by) in [
            ("v0.26.1", KeysBy::Text),
            ("0.27.0-beta.2", KeysBy::Text),
            ("v0.28.0", KeysBy::Id),
            ("v0.29.2", KeysBy::Id),
            ("v1.0.0", KeysBy::Id),
            ("dev", KeysBy::Text),
            ("", KeysBy::Text),
            ("v0", KeysBy::Text),
        ] {
            assert_eq!(KeysBy::of_version(version), by, "{version}");
        }
    }
}
