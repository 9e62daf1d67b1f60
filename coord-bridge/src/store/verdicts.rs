//! What the leading bridge has found of the nodes of the map: one row.
//!
//! Does: says how old it is, by the clock of the database. Does not: understand it.

use std::time::Duration;

use super::StoreError;
use super::session::Session;

/// Name of the only row.
const MAP: &str = "map";

/// Writes what was found.
///
/// # Errors
///
/// [`StoreError`].
pub fn put(session: &mut dyn Session, body: &str) -> Result<(), StoreError> {
    let now_ms = session.now_ms()?;
    session.execute(
        "INSERT INTO verdicts (name, body, at_ms) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET body = excluded.body, at_ms = excluded.at_ms",
        &[MAP.into(), body.into(), now_ms.into()],
    )?;
    Ok(())
}

/// What was found, and its age; `None` if nothing was, or its date is in the future, which a clock
/// that was set back leaves behind.
///
/// # Errors
///
/// [`StoreError`].
pub fn current(session: &mut dyn Session) -> Result<Option<(String, Duration)>, StoreError> {
    let now_ms = session.now_ms()?;
    let rows = session.query("SELECT body, at_ms FROM verdicts WHERE name = $1", &[MAP.into()])?;
    let Some(row) = rows.first() else { return Ok(None) };
    let age = u64::try_from(now_ms.saturating_sub(row.number(1)?));
    let body = row.text(0)?;
    Ok(age.ok().map(|age| (body, Duration::from_millis(age))))
}
