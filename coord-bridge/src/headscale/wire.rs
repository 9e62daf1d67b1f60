//! What Headscale writes, read leniently.
//!
//! Does: takes numbers for texts and texts for numbers where ids are, skips fields that it does
//! not know, and takes null and Go's year 1 for nothing.
//! Does not: take an answer without its list for an empty list. An error page that happens to be
//! JSON must not look like a tailnet without nodes.

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{IssuedKey, KeyId, KeyRecord, Node, NodeId, Secret, User, UserId};

/// The user that stands for the owner of all nodes with tags. Source: headscale.md, section 7.
const TAGGED_DEVICES: &str = "2147455555";

/// `{"users":[…]}`
#[derive(serde::Deserialize)]
pub(super) struct Users {
    users: Vec<WireUser>,
}

/// `{"user":{…}}`
#[derive(serde::Deserialize)]
pub(super) struct OneUser {
    user: WireUser,
}

/// `{"preAuthKey":{…}}`
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OneKey {
    pre_auth_key: WireKey,
}

/// `{"preAuthKeys":[…]}`
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Keys {
    pre_auth_keys: Vec<WireKey>,
}

/// `{"apiKeys":[…]}`
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiKeys {
    api_keys: Vec<WireApiKey>,
}

/// `{"nodes":[…]}`
#[derive(serde::Deserialize)]
pub(super) struct Nodes {
    nodes: Vec<WireNode>,
}

#[derive(serde::Deserialize)]
struct WireUser {
    id: Id,
    #[serde(default)]
    name: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireKey {
    id: Id,
    /// Nobody's for keys that have tags only.
    #[serde(default)]
    user: Option<Owner>,
    /// In lists, the whole key up to 0.27, and a part of it since.
    #[serde(default)]
    key: Option<Secret>,
    #[serde(default)]
    used: Option<bool>,
    #[serde(default)]
    expiration: Stamp,
    #[serde(default)]
    created_at: Stamp,
}

#[derive(serde::Deserialize)]
struct WireApiKey {
    /// What the key begins with, up to 0.27; since then with a word before it and dots behind.
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    expiration: Stamp,
}

/// Releases differ in how they name the owner of a key.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Owner {
    User(WireUser),
    Id(Id),
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireNode {
    id: Id,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    given_name: Option<String>,
    #[serde(default)]
    machine_key: Option<String>,
    #[serde(default)]
    node_key: Option<String>,
    #[serde(default)]
    ip_addresses: Option<Vec<String>>,
    #[serde(default)]
    user: Option<WireUser>,
    #[serde(default)]
    pre_auth_key: Option<WireKeyOfNode>,
    #[serde(default)]
    online: Option<bool>,
    #[serde(default)]
    last_seen: Stamp,
    #[serde(default)]
    expiry: Stamp,
    /// Since 0.28.
    #[serde(default)]
    tags: Option<Vec<String>>,
    /// Up to 0.27: set by an administrator.
    #[serde(default)]
    forced_tags: Option<Vec<String>>,
    /// Up to 0.27: asked for by the node, and granted.
    #[serde(default)]
    valid_tags: Option<Vec<String>>,
}

#[derive(serde::Deserialize)]
struct WireKeyOfNode {
    id: Id,
}

/// A number as text, however it is written.
struct Id(String);

/// A time, or none.
#[derive(Clone, Copy, Default)]
struct Stamp(Option<SystemTime>);

impl ApiKeys {
    /// When the key ends that begins so, if it is in the list and ends at all.
    pub(super) fn end_of(&self, begins: impl Fn(&str) -> bool) -> Option<SystemTime> {
        let key = self.api_keys.iter().find(|key| {
            let prefix = key.prefix.as_deref().unwrap_or_default();
            let prefix = prefix.trim_end_matches("-***");
            !prefix.is_empty() && begins(prefix)
        });
        key.and_then(|key| key.expiration.0)
    }
}

impl Users {
    /// The user of this name. One that an identity provider has made may have the same: the
    /// oldest is taken.
    pub(super) fn named(self, name: &str) -> Option<User> {
        self.users
            .into_iter()
            .find(|user| user.name.as_deref() == Some(name))
            .map(WireUser::into_user)
    }
}

impl OneUser {
    pub(super) fn into_user(self) -> User {
        self.user.into_user()
    }
}

impl WireUser {
    fn into_user(self) -> User {
        User { id: UserId(self.id.0), name: self.name.unwrap_or_default() }
    }
}

impl OneKey {
    /// The key with its text; `None` if the text is not there.
    pub(super) fn into_issued(self) -> Option<IssuedKey> {
        let WireKey { id, key, .. } = self.pre_auth_key;
        let secret = key.filter(|secret| !secret.reveal().is_empty())?;
        Some(IssuedKey { id: KeyId(id.0), secret })
    }
}

impl Keys {
    /// The keys of this user: since 0.28 Headscale lists everybody's.
    pub(super) fn of(self, user: &UserId) -> Vec<KeyRecord> {
        let keys = self.pre_auth_keys.into_iter();
        keys.filter(|key| key.is_of(user)).map(WireKey::into_record).collect()
    }

    /// The text of a key, as lists show it.
    pub(super) fn text_of(self, id: &KeyId) -> Option<Secret> {
        self.pre_auth_keys.into_iter().find(|key| key.id.0 == id.0)?.key
    }
}

impl WireKey {
    fn is_of(&self, user: &UserId) -> bool {
        match &self.user {
            Some(Owner::User(owner)) => owner.id.0 == user.0,
            Some(Owner::Id(owner)) => owner.0 == user.0,
            None => false,
        }
    }

    fn into_record(self) -> KeyRecord {
        KeyRecord {
            id: KeyId(self.id.0),
            used: self.used.unwrap_or_default(),
            expiration: self.expiration.0,
            created: self.created_at.0,
        }
    }
}

impl Nodes {
    pub(super) fn into_nodes(self) -> Vec<Node> {
        self.nodes.into_iter().map(WireNode::into_node).collect()
    }
}

impl WireNode {
    fn into_node(self) -> Node {
        let addresses = self.ip_addresses.unwrap_or_default();
        let mut tags: Vec<String> = [self.tags, self.forced_tags, self.valid_tags]
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        tags.sort();
        tags.dedup();
        Node {
            id: NodeId(self.id.0),
            name: self.name.unwrap_or_default(),
            given_name: self.given_name.unwrap_or_default(),
            machine_key: self.machine_key.unwrap_or_default(),
            node_key: self.node_key.and_then(|key| key.parse().ok()),
            addresses: addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()).collect(),
            user: self.user.filter(|user| user.id.0 != TAGGED_DEVICES).and_then(|user| user.name),
            key: self.pre_auth_key.map(|key| KeyId(key.id.0)),
            online: self.online.unwrap_or_default(),
            last_seen: self.last_seen.0,
            expiry: self.expiry.0,
            tags,
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        impl Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id, as a number or in quotes")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Id, E> {
                Ok(Id(number.to_string()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                if is_id(text) { Ok(Id(text.to_owned())) } else { Err(E::custom("not an id")) }
            }
        }

        deserializer.deserialize_any(IdVisitor)
    }
}

/// Whether `text` is a number such as Headscale gives to things. Nothing else may get into a path.
pub(super) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(Self(None));
        };
        if text.is_empty() {
            return Ok(Self(None));
        }
        let time = OffsetDateTime::parse(&text, &Rfc3339)
            .map_err(|_| de::Error::custom("not a time as of RFC 3339"))?;
        // Go's zero time, and what some time zones make of it.
        Ok(Self((time.year() > 1).then(|| time.into())))
    }
}

/// A time as Headscale takes it, in whole seconds; `None` outside the years 1970 to 9999.
pub(super) fn rfc3339(time: SystemTime) -> Option<String> {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    time.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn ids_may_be_numbers_or_texts_and_unknown_fields_are_skipped() {
        for id in ["7", "\"7\""] {
            let json = format!(r#"{{"users":[{{"id":{id},"name":"a","new":{{"x":[1]}}}}],"y":1}}"#);
            let users: Users = serde_json::from_str(&json).unwrap();
            let user = User { id: UserId("7".to_owned()), name: "a".to_owned() };
            assert_eq!(users.named("a"), Some(user));
        }
        for id in ["\"\"", "\"../1\"", "-1", "1.5", "null", "\"123456789012345678901\""] {
            let json = format!(r#"{{"users":[{{"id":{id}}}]}}"#);
            assert!(serde_json::from_str::<Users>(&json).is_err(), "{id}");
        }
    }

    /// The worst that a lenient reader could do: every node would be taken for deleted.
    #[test]
    fn an_answer_without_its_list_is_no_empty_list() {
        for json in ["{}", "null", r#"{"nodes":null}"#, r#"{"error":"boom"}"#, "[]"] {
            assert!(serde_json::from_str::<Nodes>(json).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<Nodes>(r#"{"nodes":[]}"#).is_ok());
    }

    #[test]
    fn times_are_read_and_the_year_one_is_none() {
        let time = |json| serde_json::from_str::<Stamp>(json).map(|stamp| stamp.0);
        for nothing in ["null", "\"\"", "\"0001-01-01T00:00:00Z\"", "\"0001-01-01T01:00:00+01:00\""]
        {
            assert_eq!(time(nothing).unwrap(), None, "{nothing}");
        }
        let second = UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(time("\"1970-01-01T01:00:01.5+01:00\"").unwrap(), Some(second));
        assert!(time("\"yesterday\"").is_err());
        assert_eq!(rfc3339(second).unwrap(), "1970-01-01T00:00:01Z");
        for out_of_bounds in [UNIX_EPOCH - Duration::from_secs(1), UNIX_EPOCH + Duration::MAX / 4] {
            assert_eq!(rfc3339(out_of_bounds), None);
        }
    }

    #[test]
    fn owners_and_tags_are_found_in_every_form() {
        let keys = r#"{"preAuthKeys":[{"id":"1","user":{"id":"3"}},{"id":2,"user":"3"},
            {"id":3,"user":3},{"id":4,"user":null},{"id":5,"user":{"id":"4"}}]}"#;
        let keys: Keys = serde_json::from_str(keys).unwrap();
        let keys = keys.of(&UserId("3".to_owned()));
        assert_eq!(keys.iter().map(|key| key.id.0.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);

        let nodes = r#"{"nodes":[{"id":"1","forcedTags":["tag:b"],"validTags":["tag:a","tag:b"],
            "user":{"id":"2147455555","name":"tagged-devices"},"ipAddresses":["100.64.0.1","x"],
            "nodeKey":"nodekey:short"}]}"#;
        let nodes: Nodes = serde_json::from_str(nodes).unwrap();
        let node = nodes.into_nodes().remove(0);
        assert_eq!(node.tags, ["tag:a", "tag:b"]);
        assert_eq!((node.user, node.node_key, node.addresses.len()), (None, None, 1));
    }
}
