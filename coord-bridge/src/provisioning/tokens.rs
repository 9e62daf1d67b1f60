//! Who may register: the token in the file, and tokens with names.
//!
//! Does: compares hashes in constant time, and holds the bounds of each token. Making, rotating
//! and revoking are functions on a store, so that commands work while the bridge runs.
//! Does not: keep a token anywhere but in its one file; of the others nobody can tell it again.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::audit::Entry;
use super::network::{Network, ParseNetworkError};
use super::refusal::Refusal;
use super::request::checked_hostname;
use super::token_file::{self, TokenFileError, TokenHash, new_token};
use super::{Caller, Provisioning, id, limits};
use crate::headscale::Secret;
use crate::store::events::{self, Event};
use crate::store::tokens::{self, Profile, Token, TokenSecret};
use crate::store::{Session, Store, StoreError};

/// Name of the token in the file.
pub const FILE_TOKEN: &str = "enroll-token";

/// Most tags of a token.
const MAX_TAGS: usize = 16;

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its name: letters, digits and hyphens.
    pub name: String,
    /// What its machines are.
    pub profile: Profile,
    /// Tags of their nodes, each `tag:name`.
    pub tags: Vec<String>,
    /// Networks that it may be used from; empty for any.
    pub sources: Vec<Network>,
    /// Most machines.
    pub quota: Option<i64>,
    /// How long it is valid.
    pub expiry: Option<Duration>,
}

/// Why a token is not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name is none.
    #[error("{0:?} cannot be the name of a token: write letters, digits and hyphens")]
    Name(String),
    /// Another has the name.
    #[error("there is a token {0:?} already; write a name that no other has")]
    Taken(String),
    /// A tag is none.
    #[error("{0:?} is no tag: write tag: and lower-case letters, digits or hyphens, at most 16")]
    Tag(String),
    /// There is no such token.
    #[error("there is no token {0:?}")]
    Unknown(String),
    /// It was revoked.
    #[error("token {0:?} was revoked; make another")]
    Revoked(String),
    /// Its time is over.
    #[error("token {0:?} has ended; make another")]
    Ended(String),
    /// The file.
    #[error(transparent)]
    File(#[from] TokenFileError),
    /// No random numbers.
    #[error("cannot make a token: {0}")]
    Random(#[from] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Provisioning {
    /// The token that a machine shows.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unauthorized`], [`Refusal::TooManyFailures`], [`Refusal::Store`].
    pub(super) async fn authenticate(
        &self,
        caller: &Caller,
        entry: &mut Entry,
    ) -> Result<Token, Refusal> {
        let found = match &caller.token {
            Some(shown) => self.find(TokenHash::of(shown)).await?,
            None => None,
        };
        let Some(token) = found else { return Err(self.refuse(caller)) };
        entry.event.token = Some(token.name.clone());
        let now_ms = self.now_ms();
        let is_over = token.expires_ms.is_some_and(|end| end <= now_ms);
        if is_over || token.revoked_ms.is_some() {
            return Err(self.refuse(caller));
        }
        Ok(token)
    }

    /// Lets pass whoever shows the administrator's token, or what counts as much.
    pub(super) async fn authenticate_admin(
        &self,
        caller: &Caller,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let path = self.settings.admin_token_file.clone();
        let admin = self.read_file(path).await?;
        if let (Some(shown), Some(admin)) = (&caller.token, admin)
            && TokenHash::of(shown).is(&TokenHash::of(&admin))
        {
            return Ok(());
        }
        self.authenticate(caller, entry).await?;
        if self.settings.enroll_token_lists { Ok(()) } else { Err(Refusal::AdminRequired) }
    }

    async fn find(&self, shown: TokenHash) -> Result<Option<Token>, Refusal> {
        let in_file = self.read_file(self.settings.token_file.clone()).await?;
        let is_in_file = in_file.is_some_and(|token| TokenHash::of(&token).is(&shown));
        let now_ms = self.now_ms();
        let found = self.store.read(move |session| {
            // Each is compared, so that the time tells nothing.
            let name =
                tokens::valid_secrets(session, now_ms)?.into_iter().fold(None, |found, secret| {
                    if shown.is_hex(&secret.hash) { Some(secret.token) } else { found }
                });
            let name = if is_in_file { Some(FILE_TOKEN.to_owned()) } else { name };
            match name {
                None => Ok(None),
                Some(name) => match tokens::by_name(session, &name)? {
                    None if is_in_file => Ok(Some(file_token(now_ms))),
                    found => Ok(found),
                },
            }
        });
        found.await.map_err(|error| self.store_fails(&error))
    }

    pub(super) async fn read_file(
        &self,
        path: std::path::PathBuf,
    ) -> Result<Option<Secret>, Refusal> {
        let read = tokio::task::spawn_blocking(move || token_file::read(&path));
        match tokio::time::timeout(super::CALL_TIME, read).await {
            Ok(Ok(Ok(token))) => Ok(token),
            Ok(Ok(Err(error))) => {
                if self.audit.may_complain() {
                    tracing::error!(%error, "nobody can be let in by this token");
                }
                match error {
                    // As if there were none: other tokens hold.
                    TokenFileError::Short { .. } => Ok(None),
                    TokenFileError::File { .. } => Err(Refusal::Store),
                }
            }
            Ok(Err(_)) | Err(_) => Err(Refusal::Store),
        }
    }

    /// Counts a refused token against its address.
    fn refuse(&self, caller: &Caller) -> Refusal {
        let now = self.clock.elapsed();
        let address = limits::network(caller.address);
        let mut failures = self.held(&self.failures);
        let wait = failures.wait(&address, now);
        if wait > Duration::ZERO {
            return Refusal::TooManyFailures(wait);
        }
        failures.take(address, now);
        Refusal::Unauthorized
    }
}

/// Makes a token, which is told here and never again.
///
/// # Errors
///
/// [`TokenError`]. Blocks.
pub fn create(store: &Store, wanted: &NewToken, now_ms: i64) -> Result<Secret, TokenError> {
    let name = checked_name(&wanted.name)?;
    check_tags(&wanted.tags)?;
    let secret = new_token()?;
    let token = Token {
        name: name.clone(),
        profile: wanted.profile,
        tags: wanted.tags.clone(),
        sources: wanted.sources.iter().map(ToString::to_string).collect(),
        quota: wanted.quota,
        uses: 0,
        created_ms: now_ms,
        expires_ms: wanted.expiry.map(|expiry| now_ms.saturating_add(super::clock::span(expiry))),
        revoked_ms: None,
        last_used_ms: None,
    };
    let hash = TokenHash::of(&secret).to_hex();
    let is_new = store.write_now(move |session| {
        if token.name == FILE_TOKEN || tokens::by_name(session, &token.name)?.is_some() {
            return Ok(false);
        }
        tokens::insert(session, &token)?;
        note(session, &token.name, "created", now_ms)?;
        let ends_ms = token.expires_ms;
        tokens::add_secret(session, &TokenSecret { hash, token: token.name, ends_ms }, now_ms)?;
        Ok(true)
    })?;
    if is_new { Ok(secret) } else { Err(TokenError::Taken(name)) }
}

/// Gives a token another secret. The one before holds for `grace` more.
///
/// # Errors
///
/// [`TokenError`]; the secret before then holds as it did. Blocks.
pub fn rotate(
    store: &Store,
    name: &str,
    grace: Duration,
    file: &Path,
    now_ms: i64,
) -> Result<Secret, TokenError> {
    let ends_ms = now_ms.saturating_add(super::clock::span(grace));
    let secret = new_token()?;
    if name == FILE_TOKEN {
        let before = token_file::read(file).unwrap_or_default();
        let was_revoked = store.write_now(move |session| {
            ensure_file_token(session, now_ms)?;
            let row = tokens::by_name(session, FILE_TOKEN)?;
            let was_revoked = row.is_some_and(|row| row.revoked_ms.is_some());
            // Secrets that were revoked stay so, whatever the grace: they may have leaked.
            let ends_ms = if was_revoked { now_ms } else { ends_ms };
            tokens::end_secrets(session, FILE_TOKEN, ends_ms)?;
            if let Some(before) = before.filter(|_| ends_ms > now_ms) {
                let hash = TokenHash::of(&before).to_hex();
                let token = FILE_TOKEN.to_owned();
                let secret = TokenSecret { hash, token, ends_ms: Some(ends_ms) };
                tokens::add_secret(session, &secret, now_ms)?;
            }
            note(session, FILE_TOKEN, "rotated", now_ms)?;
            Ok(was_revoked)
        })?;
        token_file::replace(file, &secret)?;
        if was_revoked {
            // Only now: until here the file has the secret that was revoked.
            store.write_now(|session| {
                session.execute(
                    "UPDATE tokens SET revoked_ms = NULL WHERE name = $1",
                    &[FILE_TOKEN.into()],
                )
            })?;
        }
        return Ok(secret);
    }
    let hash = TokenHash::of(&secret).to_hex();
    let wanted = name.to_owned();
    let found = store.write_now(move |session| {
        let Some(token) = tokens::by_name(session, &wanted)? else { return Ok(None) };
        if token.revoked_ms.is_none() && !has_ended(&token, now_ms) {
            tokens::end_secrets(session, &wanted, ends_ms)?;
            note(session, &wanted, "rotated", now_ms)?;
            let ends_ms = token.expires_ms;
            tokens::add_secret(session, &TokenSecret { hash, token: wanted, ends_ms }, now_ms)?;
        }
        Ok(Some(token))
    })?;
    match found {
        None => Err(TokenError::Unknown(name.to_owned())),
        Some(token) if token.revoked_ms.is_some() => Err(TokenError::Revoked(name.to_owned())),
        Some(token) if has_ended(&token, now_ms) => Err(TokenError::Ended(name.to_owned())),
        Some(_) => Ok(secret),
    }
}

fn has_ended(token: &Token, now_ms: i64) -> bool {
    token.expires_ms.is_some_and(|ends_ms| ends_ms <= now_ms)
}

/// Ends a token at once. Blocks.
///
/// # Errors
///
/// [`TokenError`].
pub fn revoke(store: &Store, name: &str, now_ms: i64) -> Result<(), TokenError> {
    let wanted = name.to_owned();
    let found = store.write_now(move |session| {
        if wanted == FILE_TOKEN {
            ensure_file_token(session, now_ms)?;
        }
        let is_revoked = tokens::revoke(session, &wanted, now_ms)?;
        if is_revoked {
            note(session, &wanted, "revoked", now_ms)?;
        }
        Ok(is_revoked)
    })?;
    if found { Ok(()) } else { Err(TokenError::Unknown(name.to_owned())) }
}

/// Writes down what was done to a token.
fn note(
    session: &mut dyn Session,
    name: &str,
    outcome: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let event = Event {
        id: id::new(now_ms),
        at_ms: now_ms,
        kind: "token".to_owned(),
        outcome: outcome.to_owned(),
        token: Some(name.to_owned()),
        ..Event::default()
    };
    events::insert(session, &event)
}

/// Gives the token in the file its row, where its use is counted.
///
/// # Errors
///
/// [`StoreError`].
pub(super) fn ensure_file_token(session: &mut dyn Session, now_ms: i64) -> Result<(), StoreError> {
    if tokens::by_name(session, FILE_TOKEN)?.is_none() {
        tokens::insert(session, &file_token(now_ms))?;
    }
    Ok(())
}

/// Whether `token` may be used from the address of `caller`.
pub(super) fn is_from_its_sources(token: &Token, caller: &Caller) -> bool {
    let networks: Result<Vec<Network>, ParseNetworkError> =
        token.sources.iter().map(|source| source.parse()).collect();
    // One that cannot be read lets nobody in.
    networks.is_ok_and(|networks| {
        networks.is_empty() || networks.iter().any(|network| network.contains(caller.address))
    })
}

/// The token in the file, as nobody has changed it: for live systems.
fn file_token(now_ms: i64) -> Token {
    Token {
        name: FILE_TOKEN.to_owned(),
        profile: Profile::Iso,
        tags: Vec::new(),
        sources: Vec::new(),
        quota: None,
        uses: 0,
        created_ms: now_ms,
        expires_ms: None,
        revoked_ms: None,
        last_used_ms: None,
    }
}

fn checked_name(name: &str) -> Result<String, TokenError> {
    checked_hostname(name).map_err(|_| TokenError::Name(name.to_owned()))
}

fn check_tags(tags: &[String]) -> Result<(), TokenError> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_tag = |tag: &String| {
        tag.strip_prefix("tag:").is_some_and(|name| !name.is_empty() && name.bytes().all(is_plain))
    };
    match tags.iter().enumerate().find(|(n, tag)| *n >= MAX_TAGS || !is_tag(tag)) {
        Some((_, tag)) => Err(TokenError::Tag(tag.clone())),
        None => Ok(()),
    }
}
