//! The audit: who did what, when, with which token and key.
//!
//! Does: keeps one row for each request that is answered and each change that is found, gives
//! each an id that sorts behind all that were written before, and bounds how many.
//! Does not: hold secrets; there is no column that one would fit in.

use super::StoreError;
use super::session::{Row, Session};
use crate::provisioning::id;

/// What events are about. A word and the outcome, `machine.joined`, is the type of an event
/// outside of the store.
pub const KINDS: &[(&str, &str)] = &[
    ("register", "a registration was asked for; `ok`, or the code that it was refused with"),
    (
        "machines",
        "the list of machines was asked for at the provisioning listener; outcome as above",
    ),
    ("machine", "a registration stands elsewhere than before: the new state, or `logged_out`"),
    (
        "key",
        "a pre-auth key was `created` for an installer, has `expired`, or is `void`: there was none",
    ),
    ("token", "an enrollment token was `created`, `rotated` or `revoked`"),
    (
        "admin",
        "an administrator asked for something at the REST API or on a page: the operation that was done, or the code that it was refused with",
    ),
];

/// Most rows that are kept; the oldest go. About 200 bytes each, so 20 MiB.
pub const MAX_EVENTS: i64 = 100_000;

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its id: a ULID.
    pub id: String,
    /// When, in ms since 1970.
    pub at_ms: i64,
    /// What was wanted or found: a word of [`KINDS`].
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

/// Adds an event. Its id is the one that it has, or one more than the highest in the store:
/// transactions that write follow each other, also those of other bridges, so whoever has read up
/// to an id finds everything that is written later behind it, whatever clocks say.
///
/// # Errors
///
/// [`StoreError`].
pub fn insert(session: &mut dyn Session, event: &Event) -> Result<(), StoreError> {
    let own_id = match last_id(session)? {
        Some(last) if last >= event.id => id::after(&last),
        Some(_) | None => event.id.clone(),
    };
    session.execute(
        &format!("INSERT INTO events ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"),
        &[
            own_id.into(),
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

/// The highest id.
///
/// # Errors
///
/// [`StoreError`].
pub fn last_id(session: &mut dyn Session) -> Result<Option<String>, StoreError> {
    let rows = session.query("SELECT id FROM events ORDER BY id DESC LIMIT 1", &[])?;
    rows.first().map(|row| row.text(0)).transpose()
}

/// The last event that was written before any that says it happened at `from_ms` or later: what
/// is behind it may be as recent, also where a clock that was behind has written it.
///
/// # Errors
///
/// [`StoreError`].
pub fn last_id_before(
    session: &mut dyn Session,
    from_ms: i64,
) -> Result<Option<String>, StoreError> {
    let recent = session
        .query("SELECT id FROM events WHERE at_ms >= $1 ORDER BY id LIMIT 1", &[from_ms.into()])?;
    let Some(recent) = recent.first() else { return last_id(session) };
    let before = session.query(
        "SELECT id FROM events WHERE id < $1 ORDER BY id DESC LIMIT 1",
        &[recent.text(0)?.into()],
    )?;
    before.first().map(|row| row.text(0)).transpose()
}

/// At most `count` events that were written after the one with this id, in the order that they
/// were written in.
///
/// # Errors
///
/// [`StoreError`].
pub fn after(session: &mut dyn Session, id: &str, count: i64) -> Result<Vec<Event>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM events WHERE id > $1 ORDER BY id LIMIT $2");
    session.query(&sql, &[id.into(), count.into()])?.iter().map(event).collect()
}

/// How many were written after the one with this id.
///
/// # Errors
///
/// [`StoreError`].
pub fn count_after(session: &mut dyn Session, id: &str) -> Result<i64, StoreError> {
    let rows = session.query("SELECT COUNT(*) FROM events WHERE id > $1", &[id.into()])?;
    rows.first().map_or(Ok(0), |row| row.number(0))
}

/// At most `count` events that were written before the one with this id, or the last ones, the
/// newest first; of one kind, if that is given.
///
/// # Errors
///
/// [`StoreError`].
pub fn before(
    session: &mut dyn Session,
    id: Option<&str>,
    kind: Option<&str>,
    count: i64,
) -> Result<Vec<Event>, StoreError> {
    let mut conditions = vec!["1 = 1".to_owned()];
    let mut values = vec![count.into()];
    for (column, value) in [("id <", id), ("kind =", kind)] {
        if let Some(value) = value {
            values.push(value.into());
            conditions.push(format!("{column} ${}", values.len()));
        }
    }
    let conditions = conditions.join(" AND ");
    let sql = format!("SELECT {COLUMNS} FROM events WHERE {conditions} ORDER BY id DESC LIMIT $1");
    session.query(&sql, &values)?.iter().map(event).collect()
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
