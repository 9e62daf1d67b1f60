//! Enrollment tokens: what each may do, and the hashes of its secrets.
//!
//! Does: keeps a token apart from its secrets, so that a token can have two while it is rotated.
//! Does not: ever see a secret.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::session::{Row, Session, Value};

/// Most secrets that are kept, those of former times included. Every request compares with all.
pub const MAX_SECRETS: usize = 1_024;

/// What the machines of a token are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// A live system whose state goes when it is switched off: its node goes too.
    Iso,
    /// A machine that survives a restart.
    Machine,
}

/// A token, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// What its machines are.
    pub profile: Profile,
    /// Tags of their nodes.
    pub tags: Vec<String>,
    /// Networks that it may be used from; empty for any.
    pub sources: Vec<String>,
    /// Most machines that it may register; `None` for no bound.
    pub quota: Option<i64>,
    /// Machines that it has registered.
    pub uses: i64,
    /// When it was made, in ms since 1970.
    pub created_ms: i64,
    /// When it ends.
    pub expires_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
    /// When a machine last registered with it.
    pub last_used_ms: Option<i64>,
}

/// A secret of a token, hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSecret {
    /// SHA-256 of the secret, 64 hex digits.
    pub hash: String,
    /// Name of its token.
    pub token: String,
    /// When it ends, in ms since 1970; `None` for never.
    pub ends_ms: Option<i64>,
}

const COLUMNS: &str = "name, profile, tags, sources, quota, uses, created_ms, expires_ms, \
                       revoked_ms, last_used_ms";

/// Adds a token.
///
/// # Errors
///
/// [`StoreError`], also for a name that is there.
pub fn insert(session: &mut dyn Session, token: &Token) -> Result<(), StoreError> {
    session.execute(
        "INSERT INTO tokens (name, profile, tags, sources, quota, uses, created_ms, expires_ms, \
         revoked_ms, last_used_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[
            (&token.name).into(),
            token.profile.as_str().into(),
            list_text(&token.tags).into(),
            list_text(&token.sources).into(),
            token.quota.into(),
            token.uses.into(),
            token.created_ms.into(),
            token.expires_ms.into(),
            token.revoked_ms.into(),
            token.last_used_ms.into(),
        ],
    )?;
    Ok(())
}

/// The token of this name.
///
/// # Errors
///
/// [`StoreError`].
pub fn by_name(session: &mut dyn Session, name: &str) -> Result<Option<Token>, StoreError> {
    let rows =
        session.query(&format!("SELECT {COLUMNS} FROM tokens WHERE name = $1"), &[name.into()])?;
    rows.first().map(token).transpose()
}

/// All tokens, by name.
///
/// # Errors
///
/// [`StoreError`].
pub fn all(session: &mut dyn Session) -> Result<Vec<Token>, StoreError> {
    let rows = session.query(&format!("SELECT {COLUMNS} FROM tokens ORDER BY name"), &[])?;
    rows.iter().map(token).collect()
}

/// Notes that a machine has registered.
///
/// # Errors
///
/// [`StoreError`].
pub fn count_use(session: &mut dyn Session, name: &str, now_ms: i64) -> Result<(), StoreError> {
    session.execute(
        "UPDATE tokens SET uses = uses + 1, last_used_ms = $1 WHERE name = $2",
        &[now_ms.into(), name.into()],
    )?;
    Ok(())
}

/// Ends a token and all its secrets. Says whether there was one to end.
///
/// # Errors
///
/// [`StoreError`].
pub fn revoke(session: &mut dyn Session, name: &str, now_ms: i64) -> Result<bool, StoreError> {
    let revoked = session.execute(
        "UPDATE tokens SET revoked_ms = $1 WHERE name = $2 AND revoked_ms IS NULL",
        &[now_ms.into(), name.into()],
    )?;
    session.execute("DELETE FROM token_secrets WHERE token = $1", &[name.into()])?;
    Ok(revoked > 0)
}

/// Adds a secret to a token.
///
/// # Errors
///
/// [`StoreError::Busy`] when there are too many.
pub fn add_secret(
    session: &mut dyn Session,
    secret: &TokenSecret,
    now_ms: i64,
) -> Result<(), StoreError> {
    session.execute("DELETE FROM token_secrets WHERE ends_ms <= $1", &[now_ms.into()])?;
    let count = session.query("SELECT COUNT(*) FROM token_secrets", &[])?;
    let count = count.first().map_or(Ok(0), |row| row.number(0))?;
    if count >= i64::try_from(MAX_SECRETS).unwrap_or(i64::MAX) {
        return Err(StoreError::Busy(format!("{MAX_SECRETS} tokens are valid; revoke some")));
    }
    session.execute(
        "INSERT INTO token_secrets (hash, token, created_ms, ends_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (hash) DO UPDATE SET ends_ms = excluded.ends_ms",
        &[(&secret.hash).into(), (&secret.token).into(), now_ms.into(), secret.ends_ms.into()],
    )?;
    Ok(())
}

/// Lets the secrets that a token has now end at `ends_ms`, unless they end before.
///
/// # Errors
///
/// [`StoreError`].
pub fn end_secrets(session: &mut dyn Session, token: &str, ends_ms: i64) -> Result<(), StoreError> {
    session.execute(
        "UPDATE token_secrets SET ends_ms = $1 \
         WHERE token = $2 AND (ends_ms IS NULL OR ends_ms > $1)",
        &[ends_ms.into(), token.into()],
    )?;
    Ok(())
}

/// The secrets that are valid at `now_ms`.
///
/// # Errors
///
/// [`StoreError`].
pub fn valid_secrets(
    session: &mut dyn Session,
    now_ms: i64,
) -> Result<Vec<TokenSecret>, StoreError> {
    let rows = session.query(
        "SELECT hash, token, ends_ms FROM token_secrets WHERE ends_ms IS NULL OR ends_ms > $1",
        &[now_ms.into()],
    )?;
    let secret = |row: &Row| {
        Ok(TokenSecret { hash: row.text(0)?, token: row.text(1)?, ends_ms: row.maybe_number(2)? })
    };
    rows.iter().map(secret).collect()
}

impl Profile {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Iso => "iso",
            Self::Machine => "machine",
        }
    }

    /// Whether its nodes go when they have been offline for some time.
    #[must_use]
    pub const fn is_ephemeral(self) -> bool {
        match self {
            Self::Iso => true,
            Self::Machine => false,
        }
    }

    /// The profile that is written so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Iso, Self::Machine].into_iter().find(|profile| profile.as_str() == text)
    }
}

fn token(row: &Row) -> Result<Token, StoreError> {
    let profile = row.text(1)?;
    Ok(Token {
        name: row.text(0)?,
        profile: Profile::parse(&profile)
            .ok_or_else(|| StoreError::Damaged(format!("a token has profile {profile:?}")))?,
        tags: list(&row.text(2)?)?,
        sources: list(&row.text(3)?)?,
        quota: row.maybe_number(4)?,
        uses: row.number(5)?,
        created_ms: row.number(6)?,
        expires_ms: row.maybe_number(7)?,
        revoked_ms: row.maybe_number(8)?,
        last_used_ms: row.maybe_number(9)?,
    })
}

/// Neither a tag nor a network has a comma or a blank in it.
fn list_text(list: &[String]) -> String {
    list.join(",")
}

fn list(text: &str) -> Result<Vec<String>, StoreError> {
    if text.chars().any(char::is_whitespace) {
        return Err(StoreError::Damaged("a token has an odd list".to_owned()));
    }
    Ok(text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect())
}

impl From<Profile> for Value {
    fn from(profile: Profile) -> Self {
        profile.as_str().into()
    }
}
