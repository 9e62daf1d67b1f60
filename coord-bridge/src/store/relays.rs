//! Relays that have registered with any bridge on this store, one row each.
//!
//! Does: remembers what a relay last said of itself, and when it was heard of, by the clock of the
//! database alone. Does not: decide who is there, or believe what is in a row; that is `relays`.

use std::time::Duration;

use super::StoreError;
use super::session::{Row, Session};
use crate::provisioning::clock::span;
use crate::relays::limits::{LISTED_TIME, LIVE_TIME, MAX_RELAYS};

/// A relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRelay {
    /// Its key, as text.
    pub key: String,
    /// Its id since it last registered.
    pub id: String,
    /// Name of its node.
    pub name: String,
    /// What it said of itself: the body of its registration.
    pub said: String,
    /// When it first registered, in ms since 1970.
    pub since_ms: i64,
    /// Time since it was heard of.
    pub silence: Duration,
}

/// Writes down that these were heard of, where no bridge has heard of them since; removes those
/// that were not heard of for long, and the oldest beyond [`MAX_RELAYS`].
///
/// # Errors
///
/// [`StoreError`].
pub fn save(session: &mut dyn Session, heard: &[KnownRelay]) -> Result<(), StoreError> {
    let now_ms = session.now_ms()?;
    let live_ms = now_ms.saturating_sub(span(LIVE_TIME));
    for relay in heard {
        let heard_ms = now_ms.saturating_sub(span(relay.silence));
        // A name goes to another relay when its own is not there any more. A date in the future
        // is of a clock that was set back.
        session.execute(
            "DELETE FROM relays WHERE name = $1 AND key <> $2 AND heard_ms <= $3",
            &[(&relay.name).into(), (&relay.key).into(), live_ms.into()],
        )?;
        session.execute(
            "INSERT INTO relays (key, id, name, said, since_ms, heard_ms) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (key) DO UPDATE SET id = excluded.id, name = excluded.name, \
             said = excluded.said, since_ms = excluded.since_ms, heard_ms = excluded.heard_ms \
             WHERE relays.heard_ms <= excluded.heard_ms OR relays.heard_ms > $7",
            &[
                (&relay.key).into(),
                (&relay.id).into(),
                (&relay.name).into(),
                (&relay.said).into(),
                relay.since_ms.into(),
                heard_ms.into(),
                now_ms.into(),
            ],
        )?;
    }
    let listed_ms = now_ms.saturating_sub(span(LISTED_TIME));
    session.execute(
        "DELETE FROM relays WHERE heard_ms <= $1 OR key NOT IN \
         (SELECT key FROM relays ORDER BY heard_ms DESC, key LIMIT $2)",
        &[listed_ms.into(), i64::try_from(MAX_RELAYS).unwrap_or(i64::MAX).into()],
    )?;
    Ok(())
}

/// All relays, by key. One whose date is in the future is as one that is not there any more: if it
/// is, it will be heard of.
///
/// # Errors
///
/// [`StoreError`].
pub fn all(session: &mut dyn Session) -> Result<Vec<KnownRelay>, StoreError> {
    let now_ms = session.now_ms()?;
    let sql = "SELECT key, id, name, said, since_ms, heard_ms FROM relays ORDER BY key";
    session.query(sql, &[])?.iter().map(|row| relay(row, now_ms)).collect()
}

fn relay(row: &Row, now_ms: i64) -> Result<KnownRelay, StoreError> {
    let silence = u64::try_from(now_ms.saturating_sub(row.number(5)?));
    Ok(KnownRelay {
        key: row.text(0)?,
        id: row.text(1)?,
        name: row.text(2)?,
        said: row.text(3)?,
        since_ms: row.number(4)?,
        silence: silence.map_or(LIVE_TIME, Duration::from_millis),
    })
}
