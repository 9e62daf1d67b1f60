//! The tables, and how an older store becomes a newer one.
//!
//! Does: runs the migrations that a store lacks, each exactly once, inside the transaction that
//! notes them. A store says which programs can still use it: one release back can read and write
//! what only got new tables or columns that may be empty.
//! Does not: go back; that is what backups are for.

use super::StoreError;
use super::session::{Session, Value};

/// One step of the schema. Its number is its place in the list, from 1 on.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Oldest schema whose programs can use a store with this step. A step that only adds keeps
    /// that of the step before.
    pub usable_from: i64,
    /// Statements, one each.
    pub statements: &'static [&'static str],
}

/// All steps of this release. Released ones never change.
pub const MIGRATIONS: &[Migration] = &[REGISTRATION, INSTALLATIONS, RELAYS, BRIDGES];

/// Tokens, machines, keys and the audit.
const REGISTRATION: Migration = Migration {
    usable_from: 1,
    statements: &[
        "CREATE TABLE tokens (
            name TEXT PRIMARY KEY,
            profile TEXT NOT NULL,
            tags TEXT NOT NULL,
            sources TEXT NOT NULL,
            quota BIGINT,
            uses BIGINT NOT NULL,
            created_ms BIGINT NOT NULL,
            expires_ms BIGINT,
            revoked_ms BIGINT,
            last_used_ms BIGINT)",
        "CREATE TABLE token_secrets (
            hash TEXT PRIMARY KEY,
            token TEXT NOT NULL REFERENCES tokens (name),
            created_ms BIGINT NOT NULL,
            ends_ms BIGINT)",
        "CREATE TABLE machines (
            id TEXT PRIMARY KEY,
            identity TEXT NOT NULL,
            hostname TEXT NOT NULL,
            mac TEXT NOT NULL,
            token TEXT NOT NULL,
            remote_ip TEXT NOT NULL,
            state TEXT NOT NULL,
            registered_ms BIGINT NOT NULL,
            changed_ms BIGINT NOT NULL,
            node_id TEXT,
            machine_key TEXT,
            tailscale_ip TEXT NOT NULL,
            last_seen_ms BIGINT,
            replaces TEXT)",
        // Whatever two bridges do at once, a machine has one live record.
        "CREATE UNIQUE INDEX machines_live ON machines (identity)
            WHERE state IN ('pending', 'joined', 'online', 'stale')",
        "CREATE INDEX machines_registered ON machines (registered_ms)",
        "CREATE TABLE issued_keys (
            id TEXT PRIMARY KEY,
            machine TEXT,
            user_id TEXT NOT NULL,
            key_id TEXT,
            state TEXT NOT NULL,
            asked_ms BIGINT NOT NULL,
            expires_ms BIGINT NOT NULL UNIQUE)",
        "CREATE INDEX issued_keys_machine ON issued_keys (machine)",
        "CREATE INDEX issued_keys_state ON issued_keys (state)",
        "CREATE TABLE events (
            id TEXT PRIMARY KEY,
            at_ms BIGINT NOT NULL,
            kind TEXT NOT NULL,
            outcome TEXT NOT NULL,
            request_id TEXT,
            machine TEXT,
            hostname TEXT,
            token TEXT,
            key_id TEXT,
            remote_ip TEXT)",
        "CREATE INDEX events_at ON events (at_ms)",
        "CREATE TABLE imports (
            file TEXT PRIMARY KEY,
            at_ms BIGINT NOT NULL,
            machines BIGINT NOT NULL)",
    ],
};

/// What was installed from live systems.
const INSTALLATIONS: Migration = Migration {
    usable_from: 1,
    statements: &["CREATE TABLE installations (
        issued_key TEXT PRIMARY KEY,
        machine TEXT NOT NULL,
        node_id TEXT,
        hostname TEXT,
        tailscale_ip TEXT,
        found_ms BIGINT)"],
};

/// What relays have to hear.
const RELAYS: Migration = Migration {
    usable_from: 1,
    statements: &[
        "CREATE TABLE relay_events (
            seq BIGINT PRIMARY KEY,
            kind TEXT NOT NULL,
            node_key TEXT,
            at_ms BIGINT NOT NULL)",
        "CREATE INDEX relay_events_node ON relay_events (node_key)",
    ],
};

/// What several bridges know together.
const BRIDGES: Migration = Migration {
    usable_from: 1,
    statements: &[
        "CREATE TABLE leases (
            name TEXT PRIMARY KEY,
            holder TEXT NOT NULL,
            turn BIGINT NOT NULL)",
        "CREATE TABLE relays (
            key TEXT PRIMARY KEY,
            id TEXT NOT NULL,
            name TEXT NOT NULL,
            said TEXT NOT NULL,
            since_ms BIGINT NOT NULL,
            heard_ms BIGINT NOT NULL)",
        "CREATE TABLE verdicts (
            name TEXT PRIMARY KEY,
            body TEXT NOT NULL,
            at_ms BIGINT NOT NULL)",
    ],
};

/// Brings the store to the last of `migrations`, or finds that it is newer and can be used.
///
/// # Errors
///
/// [`StoreError::TooNew`] for a store that programs with these migrations must not touch.
pub(super) fn migrate(
    session: &mut dyn Session,
    migrations: &[Migration],
) -> Result<(), StoreError> {
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let (found, needed) = version(session)?;
    if found > known {
        if needed > known {
            return Err(StoreError::TooNew { found, needed, known });
        }
        return Ok(());
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (place, step) in migrations.iter().enumerate().skip(done) {
        for statement in step.statements {
            session.execute(statement, &[])?;
        }
        let number = i64::try_from(place + 1).unwrap_or(i64::MAX);
        session.execute("DELETE FROM schema_version", &[])?;
        session.execute(
            "INSERT INTO schema_version (number, usable_from) VALUES ($1, $2)",
            &[Value::Number(number), Value::Number(step.usable_from)],
        )?;
    }
    Ok(())
}

/// Schema of the store, if it has one; changes nothing.
///
/// # Errors
///
/// [`StoreError::TooNew`] for a store that programs with these migrations must not touch.
pub(super) fn look(
    session: &mut dyn Session,
    migrations: &[Migration],
) -> Result<Option<i64>, StoreError> {
    if !session.has_table("schema_version")? {
        return Ok(None);
    }
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let (found, needed) = version(session)?;
    if needed > known { Err(StoreError::TooNew { found, needed, known }) } else { Ok(Some(found)) }
}

/// Schema of the store, and the oldest whose programs can use it; 0 and 0 for an empty one.
fn version(session: &mut dyn Session) -> Result<(i64, i64), StoreError> {
    if !session.has_table("schema_version")? {
        session.execute(
            "CREATE TABLE schema_version (number BIGINT NOT NULL, usable_from BIGINT NOT NULL)",
            &[],
        )?;
        return Ok((0, 0));
    }
    let rows = session.query("SELECT number, usable_from FROM schema_version", &[])?;
    match rows.as_slice() {
        [row] => Ok((row.number(0)?, row.number(1)?)),
        _ => Err(StoreError::Damaged(format!("{} schema versions", rows.len()))),
    }
}
