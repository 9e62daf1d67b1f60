//! Reading what Headscale answers, without a socket: for fuzzing.
//!
//! Does: runs the very code that reads an answer (`answer`, `wire`) on bytes in memory, as each
//! call would.

use bytes::Bytes;
use hyper::StatusCode;

use super::adapter::{Adapter, KeysBy};
use super::client::read;
use super::transport::Answer;
use super::{Failure, wire};

/// Reads an answer as each call does, and as each release's. Returns the failures, if there are
/// any, and how many things were read.
///
/// `status` is taken modulo what a status can be.
#[must_use]
pub fn read_answer(status: u16, content_type: &str, body: &[u8]) -> (Vec<Failure>, usize) {
    let status = StatusCode::from_u16(100 + status % 900).unwrap_or_default();
    let answer = Answer {
        status,
        content_type: content_type.to_owned(),
        location: Some(String::from_utf8_lossy(body).into_owned()),
        retry_after: None,
        body: Bytes::copy_from_slice(body),
    };
    let mut failures = Vec::new();
    let mut things = 0;
    for adapter in [Adapter::Http, Adapter::Gateway(KeysBy::Text)] {
        let nodes = read::<wire::Nodes>(&answer, adapter).map(|nodes| nodes.into_nodes().len());
        let keys = read::<wire::Keys>(&answer, adapter)
            .map(|keys| keys.of(&super::UserId("1".to_owned())).len());
        let users = read::<wire::Users>(&answer, adapter)
            .map(|users| usize::from(users.named("deploy").is_some()));
        let user = read::<wire::OneUser>(&answer, adapter).map(|user| user.into_user().name.len());
        let key = read::<wire::OneKey>(&answer, adapter)
            .map(|key| usize::from(key.into_issued().is_some()));
        for read in [nodes, keys, users, user, key] {
            match read {
                Ok(count) => things += count,
                Err(trouble) => failures.push(trouble.failure),
            }
        }
        things += usize::from(adapter.says_unknown(&answer));
    }
    (failures, things)
}
