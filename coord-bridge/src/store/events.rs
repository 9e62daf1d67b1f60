//! The audit: who did what, when, with which token and key.
//!
//! Does: keeps one row for each request that is answered and each change that is found, and
//! bounds how many. Does not: hold secrets; there is no column that one would fit in.

use super::StoreError;
use super::session::{Row, Session};

/// Most rows that are kept; the oldest go. About 200 bytes each, so 20 MiB.
pub const MAX_EVENTS: i64 = 100_000;

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its id: a ULID.
    pub id: String,
    /// When, in ms since 1970.
    pub at_ms: i64,
    /// What was wanted or found: `register`, `machines`, `machine`, `key`.
    pub kind: String,
    /// What came of it: `ok`, or a code as clients see it.
    pub outcome: String,
    /// Request that it belongs to.
    pub request_id: Option<String>,
    /// Registration that it is about.
    pub machine: Option<String>,
    /// Host name, checked.
    pub hostname: Option<String>,
    /// Name of the token.
    pub token: Option<String>,
    /// Headscale's number of the key.
    pub key_id: Option<String>,
    /// Address of whoever asked.
    pub remote_ip: Option<String>,
}

const COLUMNS: &str =
    "id, at_ms, kind, outcome, request_id, machine, hostname, token, key_id, remote_ip";

/// Adds an event.
///
/// # Errors
///
/// [`StoreError`].
pub fn insert(session: &mut dyn Session, event: &Event) -> Result<(), StoreError> {
    session.execute(
        &format!("INSERT INTO events ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"),
        &[
            (&event.id).into(),
            event.at_ms.into(),
            (&event.kind).into(),
            (&event.outcome).into(),
            event.request_id.as_ref().into(),
            event.machine.as_ref().into(),
            event.hostname.as_ref().into(),
            event.token.as_ref().into(),
            event.key_id.as_ref().into(),
            event.remote_ip.as_ref().into(),
        ],
    )?;
    Ok(())
}

/// The newest `count` events, the newest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn newest(session: &mut dyn Session, count: i64) -> Result<Vec<Event>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM events ORDER BY at_ms DESC, id DESC LIMIT $1");
    session.query(&sql, &[count.into()])?.iter().map(event).collect()
}

/// Removes events from before `before_ms`, and the oldest beyond [`MAX_EVENTS`].
///
/// # Errors
///
/// [`StoreError`].
pub fn prune(session: &mut dyn Session, before_ms: i64) -> Result<u64, StoreError> {
    let bound = session.query(
        "SELECT at_ms FROM events ORDER BY at_ms DESC, id DESC LIMIT 1 OFFSET $1",
        &[MAX_EVENTS.into()],
    )?;
    let bound = bound.first().map_or(Ok(i64::MIN), |row| row.number(0))?;
    session.execute(
        "DELETE FROM events WHERE at_ms < $1 OR at_ms <= $2",
        &[before_ms.into(), bound.into()],
    )
}

fn event(row: &Row) -> Result<Event, StoreError> {
    Ok(Event {
        id: row.text(0)?,
        at_ms: row.number(1)?,
        kind: row.text(2)?,
        outcome: row.text(3)?,
        request_id: row.maybe_text(4)?,
        machine: row.maybe_text(5)?,
        hostname: row.maybe_text(6)?,
        token: row.maybe_text(7)?,
        key_id: row.maybe_text(8)?,
        remote_ip: row.maybe_text(9)?,
    })
}
