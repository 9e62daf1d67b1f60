//! Pre-auth keys over the API.
//!
//! Does: makes one for an installer, and ends those that nobody has used, by what the commands
//! use too. Does not: list keys, or tell one twice.

use std::time::Duration;

use derp_relay::settings::Span;
use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::route::{Asked, Reply};
use crate::provisioning::administration::Keys;
use crate::provisioning::settings::{MAX_KEY_EXPIRY, MIN_KEY_EXPIRY};
use crate::store::tokens::Profile;

/// How long a key is valid unless told otherwise, in seconds: as `keys create` has it.
const DEFAULT_EXPIRY_SECONDS: u64 = 2 * 3_600;

/// A key that is to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// What its machine is. Default `machine`.
    #[serde(default = "machine")]
    profile: Profile,
    /// How long it is valid, in seconds. Default two hours.
    #[schemars(range(min = MIN_KEY_EXPIRY.as_secs(), max = MAX_KEY_EXPIRY.as_secs()))]
    #[serde(default = "expiry")]
    expires_in_seconds: u64,
    /// Id of the machine, a live system, that it is installed from. Default none.
    #[serde(default)]
    installs: Option<String>,
}

/// A key, told this once.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub(super) struct KeyBody {
    /// What the machine shows to Headscale.
    key: String,
    /// When it ends, RFC 3339.
    expires_at: String,
}

/// Which keys are to be ended.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyExpiry {
    /// Also those of the user that this bridge has not made. Default false.
    #[serde(default)]
    all: bool,
}

/// How many keys were ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EndedKeys {
    ended: usize,
}

const fn machine() -> Profile {
    Profile::Machine
}

const fn expiry() -> u64 {
    DEFAULT_EXPIRY_SECONDS
}

pub(super) async fn create(asked: Asked) -> Result<Reply, Problem> {
    let body: NewKey = asked.body()?;
    let expiry = Duration::from_secs(body.expires_in_seconds);
    if !(MIN_KEY_EXPIRY..=MAX_KEY_EXPIRY).contains(&expiry) {
        let (least, most) = (Span(MIN_KEY_EXPIRY), Span(MAX_KEY_EXPIRY));
        return Err(Problem::invalid(format!("expires_in_seconds: from {least} to {most}")));
    }
    let provisioning = asked.scope.provisioning()?;
    let made = provisioning.create_key(body.profile, expiry, body.installs.as_deref()).await?;
    let body = KeyBody { key: made.key.reveal().to_owned(), expires_at: made.expires_at };
    Reply::json(StatusCode::CREATED, &body)
}

pub(super) async fn expire(asked: Asked) -> Result<Reply, Problem> {
    let body: KeyExpiry = asked.body()?;
    let which = if body.all { Keys::All } else { Keys::Ours };
    let ended = asked.scope.provisioning()?.expire_keys(which).await?;
    Reply::json(StatusCode::OK, &EndedKeys { ended })
}
