//! Pre-auth keys that were asked for. Each has its row before Headscale hears of it.
//!
//! ```text
//!  asked ---- answer ----> issued ---- node seen ----> used
//!    | no answer             | ended, or not wanted
//!    v                       v
//!  lost ---- found ------> expired
//!    | not there
//!    v
//!  void    (looked for until it would have ended: Headscale may have been slow)
//! ```
//!
//! Does: gives every key a moment of expiry, in whole seconds, that no other key has. Until its
//! number is known that is its name.
//! Does not: hold keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::session::{Row, Session};

/// Most seconds that a key may last longer than asked for, so that its expiry is its own. As
/// many keys can be asked for in one second.
pub const MAX_SPREAD: i64 = 3_600;

/// What became of a key that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Headscale is being asked, or the bridge ended while it was.
    Asked,
    /// Headscale was asked, and nobody knows what it did.
    Lost,
    /// There is a key, and it may be valid.
    Issued,
    /// A node has registered with it.
    Used,
    /// It is not valid any more.
    Expired,
    /// There was no key.
    Void,
}

/// A key that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Id of this row: a ULID.
    pub id: String,
    /// Registration that it is for; `None` for one that an operator asked for.
    pub machine: Option<String>,
    /// Headscale's number of its owner.
    pub user_id: String,
    /// Headscale's number of the key, once it is known.
    pub key_id: Option<String>,
    /// What became of it.
    pub state: KeyState,
    /// When it was asked for, in ms since 1970.
    pub asked_ms: i64,
    /// When it ends: a whole second, in ms since 1970.
    pub expires_ms: i64,
}

const COLUMNS: &str = "id, machine, user_id, key_id, state, asked_ms, expires_ms";

/// Notes that a key is going to be asked for. `key.expires_ms` is taken as the least, and set to
/// what the key has to get.
///
/// # Errors
///
/// [`StoreError::Busy`] when too many keys end at about that time.
pub fn ask(session: &mut dyn Session, key: &mut Key) -> Result<(), StoreError> {
    key.expires_ms = free_second(session, key.expires_ms)?;
    session.execute(
        &format!("INSERT INTO issued_keys ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)"),
        &[
            (&key.id).into(),
            key.machine.as_ref().into(),
            (&key.user_id).into(),
            key.key_id.as_ref().into(),
            key.state.as_str().into(),
            key.asked_ms.into(),
            key.expires_ms.into(),
        ],
    )?;
    Ok(())
}

/// The first whole second from `least_ms` on that no key ends at.
fn free_second(session: &mut dyn Session, least_ms: i64) -> Result<i64, StoreError> {
    let first = least_ms.div_euclid(1_000).saturating_add(1).saturating_mul(1_000);
    let last = first.saturating_add(MAX_SPREAD * 1_000);
    let taken = session.query(
        "SELECT expires_ms FROM issued_keys WHERE expires_ms >= $1 AND expires_ms < $2 \
         ORDER BY expires_ms",
        &[first.into(), last.into()],
    )?;
    let mut free = first;
    for row in &taken {
        if row.number(0)? != free {
            break;
        }
        free = free.saturating_add(1_000);
    }
    if free >= last {
        return Err(StoreError::Busy("too many keys at once".to_owned()));
    }
    Ok(free)
}

/// Writes what became of a key. A number that is known stays known.
///
/// # Errors
///
/// [`StoreError`].
pub fn settle(
    session: &mut dyn Session,
    id: &str,
    state: KeyState,
    key_id: Option<&str>,
) -> Result<(), StoreError> {
    session.execute(
        "UPDATE issued_keys SET state = $1, key_id = COALESCE($2, key_id) WHERE id = $3",
        &[state.as_str().into(), key_id.into(), id.into()],
    )?;
    Ok(())
}

/// Writes that there was no key, unless its number has become known meanwhile: that is given.
///
/// # Errors
///
/// [`StoreError`].
pub fn void(session: &mut dyn Session, id: &str) -> Result<Option<String>, StoreError> {
    let rows = session.query("SELECT key_id FROM issued_keys WHERE id = $1", &[id.into()])?;
    let number = rows.first().map_or(Ok(None), |row| row.maybe_text(0))?;
    if number.is_none() {
        settle(session, id, KeyState::Void, None)?;
    }
    Ok(number)
}

/// The keys of a registration, the oldest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn of_machine(session: &mut dyn Session, machine: &str) -> Result<Vec<Key>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM issued_keys WHERE machine = $1 ORDER BY asked_ms, id");
    session.query(&sql, &[machine.into()])?.iter().map(key).collect()
}

/// All keys in one of `states`, the oldest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn in_states(session: &mut dyn Session, states: &[KeyState]) -> Result<Vec<Key>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM issued_keys WHERE state = $1");
    let mut found = Vec::new();
    for state in states {
        let rows = session.query(&sql, &[state.as_str().into()])?;
        found.extend(rows.iter().map(key).collect::<Result<Vec<_>, _>>()?);
    }
    found.sort_by(|a: &Key, b| (a.asked_ms, &a.id).cmp(&(b.asked_ms, &b.id)));
    Ok(found)
}

/// How many keys are in which state.
///
/// # Errors
///
/// [`StoreError`].
pub fn count_by_state(session: &mut dyn Session) -> Result<Vec<(KeyState, i64)>, StoreError> {
    let rows = session.query("SELECT state, COUNT(*) FROM issued_keys GROUP BY state", &[])?;
    let mut counts: Vec<(KeyState, i64)> =
        KeyState::ALL.into_iter().map(|state| (state, 0)).collect();
    for row in &rows {
        let (state, count) = (row.text(0)?, row.number(1)?);
        if let Some(known) = counts.iter_mut().find(|(known, _)| known.as_str() == state) {
            known.1 = count;
        }
    }
    Ok(counts)
}

/// Every number of Headscale's that is known, of keys that end after `after_ms`.
///
/// # Errors
///
/// [`StoreError`].
pub fn known_numbers(session: &mut dyn Session, after_ms: i64) -> Result<Vec<String>, StoreError> {
    let rows = session.query(
        "SELECT key_id FROM issued_keys WHERE key_id IS NOT NULL AND expires_ms > $1",
        &[after_ms.into()],
    )?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// Removes keys that ended before `before_ms` and have no registration any more.
///
/// # Errors
///
/// [`StoreError`].
pub fn prune(session: &mut dyn Session, before_ms: i64) -> Result<u64, StoreError> {
    session.execute(
        "DELETE FROM issued_keys WHERE expires_ms < $1 \
         AND (machine IS NULL OR machine NOT IN (SELECT id FROM machines))",
        &[before_ms.into()],
    )
}

impl KeyState {
    /// Every state, once.
    pub const ALL: [Self; 6] =
        [Self::Asked, Self::Lost, Self::Issued, Self::Used, Self::Expired, Self::Void];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Lost => "lost",
            Self::Issued => "issued",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Void => "void",
        }
    }
}

fn key(row: &Row) -> Result<Key, StoreError> {
    let state = row.text(4)?;
    let state = KeyState::ALL
        .into_iter()
        .find(|known| known.as_str() == state)
        .ok_or_else(|| StoreError::Damaged(format!("a key has state {state:?}")))?;
    Ok(Key {
        id: row.text(0)?,
        machine: row.maybe_text(1)?,
        user_id: row.text(2)?,
        key_id: row.maybe_text(3)?,
        state,
        asked_ms: row.number(5)?,
        expires_ms: row.number(6)?,
    })
}
