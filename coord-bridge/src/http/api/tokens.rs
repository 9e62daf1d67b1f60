//! Enrollment tokens over the API.
//!
//! Does: lists, makes, rotates and revokes them, by what the commands use too.
//! Does not: ever tell a secret but in the answer to the request that made it.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::route::{Asked, Reply};
use crate::provisioning::network::Network;
use crate::provisioning::timestamp;
use crate::provisioning::tokens::NewToken;
use crate::store::tokens::{Profile, Token, all};

/// How long an old secret holds unless told otherwise: as `token rotate` has it.
const DEFAULT_GRACE_SECONDS: u64 = 86_400;

/// Longest time that a token or an old secret may hold, in seconds: 100 years, so that its end is
/// a date that everybody can read.
const MAX_SECONDS: u64 = 100 * 366 * 86_400;

/// An enrollment token, without its secret.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub(crate) struct TokenBody {
    /// Its name. `enroll-token` is the one in the file.
    name: String,
    /// What its machines are.
    profile: Profile,
    /// Machines that it has registered.
    uses: i64,
    /// Most machines that it may register; null for no bound.
    quota: Option<i64>,
    /// When it was made, RFC 3339.
    created: String,
    /// When it ends.
    expires: Option<String>,
    /// When it was revoked.
    revoked: Option<String>,
    /// When a machine last registered with it.
    last_used: Option<String>,
    /// Networks that it may be used from; none for any.
    sources: Vec<String>,
    /// Tags of its nodes.
    tags: Vec<String>,
}

/// Enrollment tokens, by name.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TokenList {
    tokens: Vec<TokenBody>,
}

/// A token that is to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewToken")]
pub(super) struct NewTokenBody {
    /// Its name: 1 to 63 letters, digits and hyphens.
    name: String,
    /// What its machines are. Default `machine`.
    #[serde(default = "machine")]
    profile: Profile,
    /// Tags of their nodes, each `tag:name`.
    #[serde(default)]
    tags: Vec<String>,
    /// Networks that it may be used from, each `ADDRESS/BITS`; any if there is none.
    #[serde(default)]
    sources: Vec<String>,
    /// Most machines.
    #[serde(default)]
    quota: Option<NonZeroU32>,
    /// How long it is valid, in seconds; for ever if absent.
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    #[serde(default)]
    expires_in_seconds: Option<NonZeroU64>,
}

/// How a token gets another secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// How long the old secret holds, in seconds. Default a day; 0 ends it at once.
    #[schemars(range(max = MAX_SECONDS))]
    #[serde(default = "grace")]
    grace_seconds: u64,
}

/// A secret, told this once.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TokenSecret {
    /// Name of the token.
    name: String,
    /// What machines show.
    secret: String,
}

const fn machine() -> Profile {
    Profile::Machine
}

const fn grace() -> u64 {
    DEFAULT_GRACE_SECONDS
}

pub(super) async fn list(asked: Asked) -> Result<Reply, Problem> {
    let tokens = asked.scope.provisioning()?.store().read(all).await?;
    let tokens = tokens.into_iter().map(TokenBody::from).collect();
    Reply::json(StatusCode::OK, &TokenList { tokens })
}

pub(super) async fn create(asked: Asked) -> Result<Reply, Problem> {
    let body: NewTokenBody = asked.body()?;
    let expiry = body.expires_in_seconds.map(NonZeroU64::get);
    let expiry = expiry.map(|seconds| span("expires_in_seconds", seconds)).transpose()?;
    let mut sources = Vec::new();
    for source in &body.sources {
        let network = source.parse::<Network>();
        sources.push(network.map_err(|error| Problem::invalid(format!("sources: {error}")))?);
    }
    let wanted = NewToken {
        name: body.name.clone(),
        profile: body.profile,
        tags: body.tags,
        sources,
        quota: body.quota.map(|quota| i64::from(quota.get())),
        expiry,
    };
    let secret = asked.scope.provisioning()?.create_token(wanted).await?;
    // As it is kept: in lower case.
    told(StatusCode::CREATED, body.name.to_ascii_lowercase(), secret.reveal())
}

pub(super) async fn rotate(asked: Asked) -> Result<Reply, Problem> {
    let (name, body) = (asked.name(), asked.body::<Rotation>()?);
    let grace = span("grace_seconds", body.grace_seconds)?;
    let secret = asked.scope.provisioning()?.rotate_token(name.clone(), grace).await?;
    told(StatusCode::OK, name, secret.reveal())
}

pub(super) async fn revoke(asked: Asked) -> Result<Reply, Problem> {
    let name = asked.name();
    asked.scope.provisioning()?.revoke_token(name.clone()).await?;
    Ok(Reply::done().about_token(&name))
}

fn span(field: &str, seconds: u64) -> Result<Duration, Problem> {
    if seconds > MAX_SECONDS {
        return Err(Problem::invalid(format!("{field}: at most {MAX_SECONDS}")));
    }
    Ok(Duration::from_secs(seconds))
}

fn told(status: StatusCode, name: String, secret: &str) -> Result<Reply, Problem> {
    let body = TokenSecret { name, secret: secret.to_owned() };
    Ok(Reply::json(status, &body)?.about_token(&body.name))
}

impl From<Token> for TokenBody {
    fn from(token: Token) -> Self {
        Self {
            name: token.name,
            profile: token.profile,
            uses: token.uses,
            quota: token.quota,
            created: timestamp::write(token.created_ms),
            expires: token.expires_ms.map(timestamp::write),
            revoked: token.revoked_ms.map(timestamp::write),
            last_used: token.last_used_ms.map(timestamp::write),
            sources: token.sources,
            tags: token.tags,
        }
    }
}
