//! What is written before Headscale is asked for a key: the record of the machine, and the row
//! that leads to the key.
//!
//! Does: finds the machine or makes its record, in one transaction with the row of the key; says
//! which keys must not be valid besides. Does not: ask Headscale, or hold keys.

use super::id;
use super::lost_keys::is_in_flight;
use super::request::Request;
use super::tokens::{FILE_TOKEN, ensure_file_token};
use crate::headscale::UserId;
use crate::store::keys::{Key, KeyState};
use crate::store::machines::{Machine, State};
use crate::store::tokens::Token;
use crate::store::{Session, StoreError, keys, machines, tokens};

/// A registration that may go on.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    pub(super) machine: Machine,
    pub(super) key: Key,
    /// Keys that must not be valid besides.
    pub(super) to_end: Vec<Key>,
    /// The registration before.
    pub(super) replaced: Option<Machine>,
}

/// What is written ahead.
pub(super) enum Ahead {
    Begun(Box<Begun>),
    /// There is a key, which may be in memory.
    Repeat(Box<Begun>),
    UnderWay,
    QuotaUsedUp,
    TokenEnded,
}

/// What is wanted, in the terms of the store.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) token: Token,
    pub(super) request: Request,
    pub(super) remote_ip: String,
    pub(super) user: UserId,
    pub(super) now_ms: i64,
    pub(super) expires_ms: i64,
    /// Make another key, also where there is one.
    pub(super) renew: bool,
}

/// Finds the machine or makes its record, and writes the key that is to be asked for.
pub(super) fn begin(session: &mut dyn Session, wanted: &Wanted) -> Result<Ahead, StoreError> {
    if wanted.token.name == FILE_TOKEN {
        ensure_file_token(session, wanted.now_ms)?;
    }
    // As it is now: a command may have changed it since it was shown.
    let Some(token) = tokens::by_name(session, &wanted.token.name)? else {
        return Ok(Ahead::TokenEnded);
    };
    let is_over = token.expires_ms.is_some_and(|end| end <= wanted.now_ms);
    if is_over || token.revoked_ms.is_some() {
        return Ok(Ahead::TokenEnded);
    }
    let live = find(session, wanted)?;
    let old_keys = match &live {
        Some(machine) => keys::of_machine(session, &machine.id)?,
        None => Vec::new(),
    };
    let is_under_way = |key: &Key| key.state == KeyState::Asked && is_in_flight(key, wanted.now_ms);
    if old_keys.iter().any(is_under_way) {
        return Ok(Ahead::UnderWay);
    }
    if let Some(machine) = &live
        && machine.state == State::Pending
        && !wanted.renew
        && let Some(key) = old_keys.iter().rfind(|key| key.state == KeyState::Issued)
        && key.expires_ms > wanted.now_ms
    {
        let (machine, key) = (machine.clone(), key.clone());
        let begun = Begun { machine, key, to_end: Vec::new(), replaced: None };
        return Ok(Ahead::Repeat(Box::new(begun)));
    }
    let (machine, replaced) = match live {
        // Its first try has not led anywhere yet: it is the same registration.
        Some(machine) if machine.state == State::Pending => (machine, None),
        live => {
            if token.quota.is_some_and(|quota| token.uses >= quota) {
                return Ok(Ahead::QuotaUsedUp);
            }
            tokens::count_use(session, &token.name, wanted.now_ms)?;
            renewed(session, wanted, live)?
        }
    };
    let mut key = Key {
        id: id::new(wanted.now_ms),
        machine: Some(machine.id.clone()),
        user_id: wanted.user.0.clone(),
        key_id: None,
        state: KeyState::Asked,
        asked_ms: wanted.now_ms,
        expires_ms: wanted.expires_ms,
    };
    keys::ask(session, &mut key)?;
    let to_end = old_keys.into_iter().filter(|key| key.state.may_be_valid()).collect();
    Ok(Ahead::Begun(Box::new(Begun { machine, key, to_end, replaced })))
}

/// The live record of the machine: by what it calls itself, or by the id that it was given.
fn find(session: &mut dyn Session, wanted: &Wanted) -> Result<Option<Machine>, StoreError> {
    if let Some(given) = &wanted.request.machine_id
        && let Some(machine) = machines::by_id(session, given)?
        && machine.token == wanted.token.name
        && machine.state.is_live()
    {
        return Ok(Some(machine));
    }
    machines::live_by_identity(session, &identity(wanted))
}

/// A new record, in the place of the one that the machine has.
fn renewed(
    session: &mut dyn Session,
    wanted: &Wanted,
    live: Option<Machine>,
) -> Result<(Machine, Option<Machine>), StoreError> {
    let mut machine = Machine {
        id: id::new(wanted.now_ms),
        identity: live.as_ref().map_or_else(|| identity(wanted), |old| old.identity.clone()),
        hostname: wanted.request.hostname.clone(),
        mac: wanted.request.mac.clone(),
        token: wanted.token.name.clone(),
        remote_ip: wanted.remote_ip.clone(),
        state: State::Pending,
        registered_ms: wanted.now_ms,
        changed_ms: wanted.now_ms,
        node_id: None,
        machine_key: None,
        tailscale_ip: String::new(),
        last_seen_ms: None,
        replaces: None,
    };
    let mut replaced = live;
    if let Some(old) = &mut replaced {
        let before = old.state;
        (old.state, old.changed_ms) = (State::Replaced, wanted.now_ms);
        machines::update(session, old, before)?;
        machine.replaces = Some(old.id.clone());
    }
    machines::insert(session, &machine)?;
    Ok((machine, replaced))
}

/// What makes it the same machine. The token is part of it: whoever has another one must not be
/// able to end this machine's key.
fn identity(wanted: &Wanted) -> String {
    let token = &wanted.token.name;
    match &wanted.request.machine_id {
        Some(id) => format!("{token} id {id}"),
        None => format!("{token} host {}", wanted.request.hostname),
    }
}
