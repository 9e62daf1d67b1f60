//! Which machine was installed from a live system that had registered.
//!
//! Does: holds the way from the registration of a live system over the key that its installer
//! was given to the node that came with that key. Does not: guess by names or addresses.

use std::collections::BTreeMap;

use super::StoreError;
use super::session::{Row, Session, Value};

/// Most registrations that one query names; all databases take so many parameters.
const MAX_MACHINES: usize = 500;

/// An installation, from the moment that the installer has a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Registration of the live system.
    pub machine: String,
    /// Headscale's number of the key, once it is known.
    pub key_id: Option<String>,
    /// The node that came with the key, once there is one.
    pub installed: Option<Installed>,
}

/// The machine that was installed, as it was when it first came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Headscale's number of its node.
    pub node_id: String,
    /// Its name in the tailnet.
    pub hostname: String,
    /// Address of its node, the IPv4 one first; may be empty.
    pub tailscale_ip: String,
    /// When it was found, in ms since 1970.
    pub found_ms: i64,
}

const SELECT: &str = "SELECT i.machine, k.key_id, i.node_id, i.hostname, i.tailscale_ip, \
                      i.found_ms FROM installations i JOIN issued_keys k ON k.id = i.issued_key";

/// Notes that the key in row `issued_key` is for installing what has registered as `machine`.
///
/// # Errors
///
/// [`StoreError`].
pub fn begin(session: &mut dyn Session, issued_key: &str, machine: &str) -> Result<(), StoreError> {
    session.execute(
        "INSERT INTO installations (issued_key, machine) VALUES ($1, $2)",
        &[issued_key.into(), machine.into()],
    )?;
    Ok(())
}

/// Those whose node has not been seen.
///
/// # Errors
///
/// [`StoreError`].
pub fn waiting(session: &mut dyn Session) -> Result<Vec<Installation>, StoreError> {
    let sql = format!("{SELECT} WHERE i.node_id IS NULL AND k.key_id IS NOT NULL");
    session.query(&sql, &[])?.iter().map(installation).collect()
}

/// All, the oldest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn all(session: &mut dyn Session) -> Result<Vec<Installation>, StoreError> {
    let sql = format!("{SELECT} ORDER BY k.asked_ms, k.id");
    session.query(&sql, &[])?.iter().map(installation).collect()
}

/// The last one that was installed from each of `machines`, ids of registrations.
///
/// # Errors
///
/// [`StoreError`].
pub fn of_machines(
    session: &mut dyn Session,
    machines: &[&str],
) -> Result<BTreeMap<String, Installed>, StoreError> {
    let mut found = BTreeMap::new();
    for machines in machines.chunks(MAX_MACHINES) {
        let places: Vec<String> = (1..=machines.len()).map(|place| format!("${place}")).collect();
        let sql = format!(
            "{SELECT} WHERE i.node_id IS NOT NULL AND i.machine IN ({}) ORDER BY k.asked_ms, k.id",
            places.join(", ")
        );
        let values: Vec<Value> = machines.iter().map(|machine| (*machine).into()).collect();
        let rows = session.query(&sql, &values)?;
        for row in &rows {
            let Installation { machine, installed, .. } = installation(row)?;
            found.extend(installed.map(|installed| (machine, installed)));
        }
    }
    Ok(found)
}

/// Writes down the node that came with a key.
///
/// # Errors
///
/// [`StoreError`].
pub fn finish(
    session: &mut dyn Session,
    key_id: &str,
    installed: &Installed,
) -> Result<(), StoreError> {
    session.execute(
        "UPDATE installations SET node_id = $1, hostname = $2, tailscale_ip = $3, found_ms = $4 \
         WHERE node_id IS NULL \
         AND issued_key IN (SELECT id FROM issued_keys WHERE key_id = $5)",
        &[
            (&installed.node_id).into(),
            (&installed.hostname).into(),
            (&installed.tailscale_ip).into(),
            installed.found_ms.into(),
            key_id.into(),
        ],
    )?;
    Ok(())
}

/// Removes those whose registration or key is not kept any more.
///
/// # Errors
///
/// [`StoreError`].
pub fn prune(session: &mut dyn Session) -> Result<u64, StoreError> {
    session.execute(
        "DELETE FROM installations WHERE machine NOT IN (SELECT id FROM machines) \
         OR issued_key NOT IN (SELECT id FROM issued_keys)",
        &[],
    )
}

fn installation(row: &Row) -> Result<Installation, StoreError> {
    let installed = match row.maybe_text(2)? {
        None => None,
        Some(node_id) => Some(Installed {
            node_id,
            hostname: row.text(3)?,
            tailscale_ip: row.text(4)?,
            found_ms: row.number(5)?,
        }),
    };
    Ok(Installation { machine: row.text(0)?, key_id: row.maybe_text(1)?, installed })
}
