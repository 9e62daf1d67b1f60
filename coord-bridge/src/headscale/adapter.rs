//! How a release of Headscale wants to be asked.
//!
//! Does: writes requests, strictly: names in camelCase, ids in quotes, exactly the properties
//! that the release knows, and always an expiration. Most are the same for all releases, as 0.30
//! refuses what it does not know, and older ones take what it knows.
//! Does not: send them, or read answers.

use hyper::Method;
use serde::Serialize;

use super::limits::{MAX_ANSWER_LEN, MAX_LIST_LEN};
use super::transport::{Answer, Ask};
use super::{Failure, FailureKind, KeyId, NewKey, NodeId, Secret, UserId, wire};

mod gateway;
mod http;

pub use gateway::KeysBy;

/// A family of releases that want to be asked alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// 0.26 to 0.29: a gateway in front of gRPC.
    Gateway(KeysBy),
    /// 0.30 and later: plain HTTP, also on the Unix socket.
    Http,
}

/// Who is asked to find out which release it is. A request without a key is refused in the form
/// of the release.
pub(super) fn sound() -> Ask {
    get("/api/v1/user".to_owned(), MAX_ANSWER_LEN)
}

/// What the release calls itself. Not in 0.26.
pub(super) fn version() -> Ask {
    get("/version".to_owned(), MAX_ANSWER_LEN)
}

pub(super) fn api_keys() -> Ask {
    get("/api/v1/apikey".to_owned(), MAX_ANSWER_LEN)
}

pub(super) fn find_user(name: &str) -> Ask {
    get(format!("/api/v1/user?name={}", escaped(name)), MAX_ANSWER_LEN)
}

pub(super) fn create_user(name: &str) -> Ask {
    #[derive(Serialize)]
    struct Body<'a> {
        name: &'a str,
    }
    once(post("/api/v1/user".to_owned(), Some(&Body { name })))
}

/// # Errors
///
/// [`FailureKind::Refused`] for what no Headscale can take.
pub(super) fn create_key(wanted: &NewKey) -> Result<Ask, Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        user: &'a str,
        reusable: bool,
        ephemeral: bool,
        expiration: String,
        acl_tags: &'a [String],
    }
    let refused = |detail: &str| Failure { kind: FailureKind::Refused, detail: detail.to_owned() };
    let body = Body {
        user: checked(&wanted.user.0)?,
        reusable: false,
        ephemeral: wanted.ephemeral,
        expiration: wire::rfc3339(wanted.expiration)
            .ok_or_else(|| refused("an expiration has to be between the years 1970 and 9999"))?,
        acl_tags: &wanted.tags,
    };
    Ok(once(post("/api/v1/preauthkey".to_owned(), Some(&body))))
}

pub(super) fn nodes() -> Ask {
    get("/api/v1/node".to_owned(), MAX_LIST_LEN)
}

pub(super) fn delete_node(node: &NodeId) -> Result<Ask, Failure> {
    let path = format!("/api/v1/node/{}", checked(&node.0)?);
    Ok(Ask { method: Method::DELETE, ..get(path, MAX_ANSWER_LEN) })
}

/// Without a time, which means now.
pub(super) fn expire_node(node: &NodeId) -> Result<Ask, Failure> {
    Ok(post(format!("/api/v1/node/{}/expire", checked(&node.0)?), None::<&()>))
}

impl Adapter {
    pub(super) fn keys(self, user: &UserId) -> Result<Ask, Failure> {
        match self {
            Self::Gateway(_) => gateway::keys(user),
            Self::Http => Ok(http::keys()),
        }
    }

    /// Whether the text of a key has to be known for it to be expired.
    pub(super) const fn expires_by_text(self) -> bool {
        matches!(self, Self::Gateway(KeysBy::Text))
    }

    pub(super) fn expire_key(
        self,
        user: &UserId,
        key: &KeyId,
        text: Option<&Secret>,
    ) -> Result<Ask, Failure> {
        match self {
            Self::Gateway(_) => gateway::expire_key(user, key, text),
            Self::Http => http::expire_key(key),
        }
    }

    /// Whether an answer says that the thing in question is not there.
    pub(super) fn says_unknown(self, answer: &Answer) -> bool {
        match self {
            Self::Gateway(_) => gateway::says_unknown(answer),
            Self::Http => http::says_unknown(answer),
        }
    }
}

fn get(path: String, max_answer: usize) -> Ask {
    Ask { method: Method::GET, path, body: None, repeatable: true, max_answer }
}

fn post(path: String, body: Option<&impl Serialize>) -> Ask {
    // Bodies are structs of texts and truth values: writing one cannot fail.
    let body = body.and_then(|body| serde_json::to_string(body).ok());
    Ask { method: Method::POST, path, body, repeatable: true, max_answer: MAX_ANSWER_LEN }
}

fn once(ask: Ask) -> Ask {
    Ask { repeatable: false, ..ask }
}

/// An id that may stand in a path.
fn checked(id: &str) -> Result<&str, Failure> {
    if wire::is_id(id) {
        return Ok(id);
    }
    let detail = "the id is no number, so nothing of Headscale's can have it".to_owned();
    Err(Failure { kind: FailureKind::Refused, detail })
}

/// `text` as part of a query.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn key() -> NewKey {
        NewKey {
            user: UserId("3".to_owned()),
            ephemeral: true,
            expiration: SystemTime::UNIX_EPOCH + Duration::from_secs(4_070_908_800),
            tags: vec!["tag:deploy".to_owned()],
        }
    }

    #[test]
    fn a_key_is_asked_for_once_with_exactly_the_known_properties() {
        let ask = create_key(&key()).unwrap();
        assert_eq!(
            ask.body.unwrap(),
            r#"{"user":"3","reusable":false,"ephemeral":true,"expiration":"2099-01-01T00:00:00Z","aclTags":["tag:deploy"]}"#
        );
        assert!(!ask.repeatable);
    }

    #[test]
    fn what_is_no_id_gets_into_no_path() {
        for id in ["", "../user/1", "1/expire", "1?x", "a", "1 "] {
            let node = NodeId(id.to_owned());
            assert_eq!(delete_node(&node).unwrap_err().kind, FailureKind::Refused, "{id:?}");
            assert!(expire_node(&node).is_err() && Adapter::Http.keys(&UserId(id.into())).is_ok());
            assert!(create_key(&NewKey { user: UserId(id.to_owned()), ..key() }).is_err());
            for adapter in [Adapter::Http, Adapter::Gateway(KeysBy::Id)] {
                let (user, key) = (UserId("1".to_owned()), KeyId(id.to_owned()));
                assert!(adapter.expire_key(&user, &key, None).is_err(), "{id:?}");
            }
        }
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(find_user("a b&id=1é").path, "/api/v1/user?name=a%20b%26id%3D1%C3%A9");
    }
}
