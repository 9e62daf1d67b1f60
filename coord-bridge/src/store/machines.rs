//! Machines that have registered, one row for each registration.
//!
//! ```text
//!            node seen          online         offline for long
//! pending ------------> joined <------> online ---------------> stale
//!    | key ended           |               |                      |
//!    v                     +------- node gone --------------------+--> deleted
//! expired                  +------- registered again -------------+--> replaced
//! ```
//!
//! Does: holds that a machine has one live row at most. Does not: decide who is the same machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::session::{Row, Session};

/// Where a registration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has a key, and Headscale has no node of it yet.
    Pending,
    /// Headscale has its node, which is not connected.
    Joined,
    /// Its node is connected.
    Online,
    /// Its node has not been connected for long.
    Stale,
    /// Its key has ended unused.
    Expired,
    /// The same machine has registered again.
    Replaced,
    /// Its node is gone.
    Deleted,
}

/// A registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its id: a ULID.
    pub id: String,
    /// What makes it the same machine.
    pub identity: String,
    /// Its host name, checked.
    pub hostname: String,
    /// Its MAC address, or `unknown`.
    pub mac: String,
    /// Name of the token that it registered with.
    pub token: String,
    /// Where it registered from.
    pub remote_ip: String,
    /// Where it stands.
    pub state: State,
    /// When it registered, in ms since 1970.
    pub registered_ms: i64,
    /// When its state last changed.
    pub changed_ms: i64,
    /// Headscale's number of its node.
    pub node_id: Option<String>,
    /// Key of its node, which stays when it logs in again.
    pub machine_key: Option<String>,
    /// Address of its node, the IPv4 one first; empty while there is none.
    pub tailscale_ip: String,
    /// When its node was last connected.
    pub last_seen_ms: Option<i64>,
    /// Registration that this one took the place of.
    pub replaces: Option<String>,
}

const COLUMNS: &str = "id, identity, hostname, mac, token, remote_ip, state, registered_ms, \
                       changed_ms, node_id, machine_key, tailscale_ip, last_seen_ms, replaces";

const LIVE: &str = "state IN ('pending', 'joined', 'online', 'stale')";

/// Adds a registration.
///
/// # Errors
///
/// [`StoreError`], also where the machine has a live one.
pub fn insert(session: &mut dyn Session, machine: &Machine) -> Result<(), StoreError> {
    session.execute(
        &format!(
            "INSERT INTO machines ({COLUMNS}) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        ),
        &[
            (&machine.id).into(),
            (&machine.identity).into(),
            (&machine.hostname).into(),
            (&machine.mac).into(),
            (&machine.token).into(),
            (&machine.remote_ip).into(),
            machine.state.as_str().into(),
            machine.registered_ms.into(),
            machine.changed_ms.into(),
            machine.node_id.as_ref().into(),
            machine.machine_key.as_ref().into(),
            (&machine.tailscale_ip).into(),
            machine.last_seen_ms.into(),
            machine.replaces.as_ref().into(),
        ],
    )?;
    Ok(())
}

/// The live registration of this machine.
///
/// # Errors
///
/// [`StoreError`].
pub fn live_by_identity(
    session: &mut dyn Session,
    identity: &str,
) -> Result<Option<Machine>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM machines WHERE identity = $1 AND {LIVE}");
    session.query(&sql, &[identity.into()])?.first().map(machine).transpose()
}

/// The registration with this id.
///
/// # Errors
///
/// [`StoreError`].
pub fn by_id(session: &mut dyn Session, id: &str) -> Result<Option<Machine>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM machines WHERE id = $1");
    session.query(&sql, &[id.into()])?.first().map(machine).transpose()
}

/// All registrations, the oldest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn all(session: &mut dyn Session) -> Result<Vec<Machine>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM machines ORDER BY registered_ms, id");
    session.query(&sql, &[])?.iter().map(machine).collect()
}

/// Which registrations are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those that stand there.
    pub state: Option<State>,
    /// Those with this text in id, host name, address, MAC address or name of the token.
    pub text: Option<String>,
    /// Those after this one: when it registered, in ms since 1970, and its id.
    pub after: Option<(i64, String)>,
}

/// At most `count` of the registrations that `filter` wants, the oldest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn page(
    session: &mut dyn Session,
    filter: &Filter,
    count: i64,
) -> Result<Vec<Machine>, StoreError> {
    let mut conditions = vec!["1 = 1".to_owned()];
    let mut values = vec![count.into()];
    if let Some((registered_ms, id)) = &filter.after {
        values.push((*registered_ms).into());
        values.push(id.into());
        // The first condition is what the index is for.
        conditions.push("registered_ms >= $2 AND (registered_ms > $2 OR id > $3)".to_owned());
    }
    if let Some(state) = filter.state {
        values.push(state.as_str().into());
        conditions.push(format!("state = ${}", values.len()));
    }
    if let Some(text) = &filter.text {
        values.push(pattern(text).into());
        let place = values.len();
        let matches = ["id", "hostname", "tailscale_ip", "mac", "token"]
            .map(|column| format!("LOWER({column}) LIKE ${place} ESCAPE '!'"));
        conditions.push(format!("({})", matches.join(" OR ")));
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM machines WHERE {} ORDER BY registered_ms, id LIMIT $1",
        conditions.join(" AND ")
    );
    session.query(&sql, &values)?.iter().map(machine).collect()
}

/// How many registrations stand where.
///
/// # Errors
///
/// [`StoreError`].
pub fn count_by_state(session: &mut dyn Session) -> Result<Vec<(State, i64)>, StoreError> {
    let rows = session.query("SELECT state, COUNT(*) FROM machines GROUP BY state", &[])?;
    let mut counts: Vec<(State, i64)> = State::ALL.into_iter().map(|state| (state, 0)).collect();
    for row in &rows {
        let (state, count) = (row.text(0)?, row.number(1)?);
        if let Some(known) = counts.iter_mut().find(|(known, _)| known.as_str() == state) {
            known.1 = count;
        }
    }
    Ok(counts)
}

/// The pattern of texts that have `text` in them, whatever their case.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.to_lowercase().chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

/// The registrations that may change by themselves.
///
/// # Errors
///
/// [`StoreError`].
pub fn live(session: &mut dyn Session) -> Result<Vec<Machine>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM machines WHERE {LIVE} ORDER BY registered_ms, id");
    session.query(&sql, &[])?.iter().map(machine).collect()
}

/// Writes where a registration stands, and what is known of its node, provided that it still
/// stands at `before`. Says whether it did.
///
/// # Errors
///
/// [`StoreError`].
pub fn update(
    session: &mut dyn Session,
    machine: &Machine,
    before: State,
) -> Result<bool, StoreError> {
    let changed = session.execute(
        "UPDATE machines SET state = $1, changed_ms = $2, node_id = $3, machine_key = $4, \
         tailscale_ip = $5, last_seen_ms = $6 WHERE id = $7 AND state = $8",
        &[
            machine.state.as_str().into(),
            machine.changed_ms.into(),
            machine.node_id.as_ref().into(),
            machine.machine_key.as_ref().into(),
            (&machine.tailscale_ip).into(),
            machine.last_seen_ms.into(),
            (&machine.id).into(),
            before.as_str().into(),
        ],
    )?;
    Ok(changed > 0)
}

/// Removes registrations that are over since before `before_ms`. Says how many.
///
/// # Errors
///
/// [`StoreError`].
pub fn prune(session: &mut dyn Session, before_ms: i64) -> Result<u64, StoreError> {
    session.execute(
        &format!("DELETE FROM machines WHERE changed_ms < $1 AND NOT ({LIVE})"),
        &[before_ms.into()],
    )
}

impl State {
    /// Every state, once.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Joined,
        Self::Online,
        Self::Stale,
        Self::Expired,
        Self::Replaced,
        Self::Deleted,
    ];

    /// The state that is written so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Joined => "joined",
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Replaced => "replaced",
            Self::Deleted => "deleted",
        }
    }

    /// Whether it may still change by itself.
    #[must_use]
    pub const fn is_live(self) -> bool {
        match self {
            Self::Pending | Self::Joined | Self::Online | Self::Stale => true,
            Self::Expired | Self::Replaced | Self::Deleted => false,
        }
    }
}

fn machine(row: &Row) -> Result<Machine, StoreError> {
    let state = row.text(6)?;
    let state = State::parse(&state)
        .ok_or_else(|| StoreError::Damaged(format!("a machine has state {state:?}")))?;
    Ok(Machine {
        id: row.text(0)?,
        identity: row.text(1)?,
        hostname: row.text(2)?,
        mac: row.text(3)?,
        token: row.text(4)?,
        remote_ip: row.text(5)?,
        state,
        registered_ms: row.number(7)?,
        changed_ms: row.number(8)?,
        node_id: row.maybe_text(9)?,
        machine_key: row.maybe_text(10)?,
        tailscale_ip: row.text(11)?,
        last_seen_ms: row.maybe_number(12)?,
        replaces: row.maybe_text(13)?,
    })
}
