//! The files of the provisioner before this one: read once at the first start, written for a way
//! back.
//!
//! | file | form |
//! |---|---|
//! | `machines.json` | object: by MAC, `hostname`, `mac`, `registered_at` (seconds), `tailscale_ip` |
//! | `registrations.json` | array: `hostname`, `mac`, `ip`, `registered_at` (ISO 8601), `key_prefix` |
//!
//! Does: takes over who registered, as registrations that are over: their keys have ended.
//! Does not: change the files, or take over what is no host name.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::request::{UNKNOWN_MAC, checked_hostname, checked_mac};
use super::{Provisioning, id, timestamp};
use crate::store::machines::{self, Machine, State};
use crate::store::{Session, StoreError};

/// Names of the files.
pub const FILES: [&str; 2] = ["machines.json", "registrations.json"];

/// Most bytes of such a file: some 100,000 machines.
const MAX_FILE_LEN: u64 = 16 * 1024 * 1024;

/// Token that imported registrations are listed with.
pub const IMPORT_TOKEN: &str = "imported";

/// Why a file is not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The system.
    #[error("cannot be read: {0}")]
    File(#[from] io::Error),
    /// The file is damaged, or something else.
    #[error("is not what the provisioner wrote: {0}; it is left as it is")]
    Form(String),
}

impl Provisioning {
    /// Imports what is there and was not imported before. Says whether that is done with.
    pub(super) async fn import(&self) -> bool {
        let Some(folder) = self.settings.import_folder.clone() else { return true };
        for name in FILES {
            let path = folder.join(name);
            let now_ms = self.now_ms();
            let read = tokio::task::spawn_blocking(move || read(&path, now_ms)).await;
            let found = match read {
                Ok(Ok(Some(found))) => found,
                Ok(Ok(None)) => continue,
                Ok(Err(error)) => {
                    tracing::error!(file = name, %error, "not imported");
                    continue;
                }
                Err(error) => {
                    tracing::error!(file = name, %error, "not imported");
                    continue;
                }
            };
            let (taken, skipped) = (found.machines.len(), found.skipped);
            let work = move |session: &mut dyn Session| write(session, name, &found, now_ms);
            match self.store.write(work).await {
                Ok(true) => tracing::info!(file = name, taken, skipped, "imported"),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(file = name, %error, "not imported yet");
                    return false;
                }
            }
        }
        true
    }
}

/// What is in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Who registered.
    pub machines: Vec<Machine>,
    /// Entries that nothing can be made of.
    pub skipped: usize,
}

/// Reads a file of either form; `None` where there is none.
///
/// # Errors
///
/// [`ImportError`].
pub fn read(path: &Path, now_ms: i64) -> Result<Option<Imported>, ImportError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file").into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_LEN {
        return Err(ImportError::Form(format!("more than {MAX_FILE_LEN} bytes")));
    }
    parse(&bytes, now_ms).map(Some)
}

/// Reads the text of a file of either form. No IO.
///
/// # Errors
///
/// [`ImportError::Form`].
pub fn parse(bytes: &[u8], now_ms: i64) -> Result<Imported, ImportError> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| ImportError::Form(error.to_string()))?;
    let entries: Vec<Value> = match value {
        Value::Object(by_mac) => by_mac.into_iter().map(|(_, entry)| entry).collect(),
        Value::Array(entries) => entries,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(ImportError::Form("neither object nor array".to_owned()));
        }
    };
    let mut imported = Imported::default();
    for entry in &entries {
        match machine(entry, now_ms) {
            Some(machine) => imported.machines.push(machine),
            None => imported.skipped += 1,
        }
    }
    Ok(imported)
}

/// `machines.json` as the provisioner before this one reads it. Its keys are MAC addresses, or
/// ids where two machines have none.
#[must_use]
pub fn export(machines: &[Machine]) -> String {
    let mut by_mac = Map::new();
    for machine in machines {
        let entry = json!({
            "hostname": machine.hostname,
            "mac": machine.mac,
            "registered_at": seconds(machine.registered_ms),
            "tailscale_ip": machine.tailscale_ip,
        });
        let key = if machine.mac == UNKNOWN_MAC {
            format!("{UNKNOWN_MAC}-{}", machine.id)
        } else {
            machine.mac.clone()
        };
        by_mac.insert(key, entry);
    }
    format!("{:#}", Value::Object(by_mac))
}

/// Seconds since 1970 with a fraction, as clients of old read them.
#[must_use]
pub fn seconds(millis: i64) -> f64 {
    std::time::Duration::from_millis(u64::try_from(millis).unwrap_or(0)).as_secs_f64()
}

fn machine(entry: &Value, now_ms: i64) -> Option<Machine> {
    let hostname = checked_hostname(entry.get("hostname")?.as_str()?.trim()).ok()?;
    let mac = entry.get("mac").and_then(Value::as_str).unwrap_or(UNKNOWN_MAC);
    let registered_ms = match entry.get("registered_at")? {
        Value::Number(seconds) => {
            std::time::Duration::try_from_secs_f64(seconds.as_f64()?).ok()?.as_millis()
        }
        Value::String(date) => u128::try_from(timestamp::read(date)?).ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let registered_ms = i64::try_from(registered_ms).ok()?;
    let id = id::new(registered_ms);
    let text = |name| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let address = |name| {
        text(name).parse().map(|address: std::net::IpAddr| address.to_string()).unwrap_or_default()
    };
    Some(Machine {
        identity: format!("{IMPORT_TOKEN} {id}"),
        id,
        hostname,
        mac: checked_mac(mac.trim()).unwrap_or_else(|_| UNKNOWN_MAC.to_owned()),
        token: IMPORT_TOKEN.to_owned(),
        remote_ip: address("ip"),
        state: State::Expired,
        registered_ms,
        // They are kept for as long as others from now on.
        changed_ms: now_ms,
        node_id: None,
        machine_key: None,
        tailscale_ip: address("tailscale_ip"),
        last_seen_ms: None,
        replaces: None,
    })
}

/// Says whether the file was new.
fn write(
    session: &mut dyn Session,
    file: &str,
    found: &Imported,
    now_ms: i64,
) -> Result<bool, StoreError> {
    if !session.query("SELECT file FROM imports WHERE file = $1", &[file.into()])?.is_empty() {
        return Ok(false);
    }
    for machine in &found.machines {
        machines::insert(session, machine)?;
    }
    let count = i64::try_from(found.machines.len()).unwrap_or(i64::MAX);
    session.execute(
        "INSERT INTO imports (file, at_ms, machines) VALUES ($1, $2, $3)",
        &[file.into(), now_ms.into(), count.into()],
    )?;
    Ok(true)
}
