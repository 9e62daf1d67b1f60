//! Machines over the API.
//!
//! Does: lists them page by page; deletes them and logs them out, by what the commands use too.
//! Does not: tell relays.

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::page::{self, Cursor};
use super::problem::Problem;
use super::route::{Asked, Reply};
use crate::provisioning::timestamp;
use crate::store::installations::{self, Installed};
use crate::store::machines::{self, Filter, Machine, State};

/// Most characters of a text that is looked for.
pub(super) const MAX_TEXT_CHARS: usize = 100;

/// A registration.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Machine")]
pub(crate) struct MachineBody {
    /// Its id.
    id: String,
    /// Its host name.
    hostname: String,
    /// Its MAC address, or `unknown`.
    mac: String,
    /// Where it stands.
    state: State,
    /// When its state last changed, RFC 3339.
    changed: String,
    /// Address of its node; empty while there is none.
    tailscale_ip: String,
    /// Headscale's number of its node.
    node_id: Option<String>,
    /// When it registered.
    registered: String,
    /// When its node was last connected.
    last_seen: Option<String>,
    /// Where it registered from.
    remote_ip: String,
    /// Name of the token that it registered with.
    token_name: String,
    /// Registration that this one took the place of.
    replaces: Option<String>,
    /// What was installed last from this live system; null if nothing was, or is not seen yet.
    installed: Option<InstalledBody>,
}

/// A machine that was installed from a live system, as it was when it first came.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Installed")]
pub(crate) struct InstalledBody {
    /// Headscale's number of its node.
    node_id: String,
    /// Its name in the tailnet.
    hostname: String,
    /// Address of its node; may be empty.
    tailscale_ip: String,
    /// When it was found, RFC 3339.
    found: String,
}

/// Some registrations, the oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct MachineList {
    machines: Vec<MachineBody>,
    /// What to give as `cursor` for those that follow; null if none does.
    next_cursor: Option<String>,
}

/// What has happened to the node of a machine.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EndedMachine {
    /// Id of the registration.
    id: String,
    /// Public key of the node, whose connections to relays have to be cut; null where Headscale
    /// had no node, or did not tell its key.
    node_key: Option<String>,
}

pub(super) async fn list(asked: Asked) -> Result<Reply, Problem> {
    let count = page::limit(&asked)?;
    let state = asked.parameter("state").map(|text| {
        State::parse(text).ok_or_else(|| {
            let known = State::ALL.map(State::as_str).join(", ");
            Problem::invalid(format!("state: one of {known}"))
        })
    });
    let text = asked.parameter("query").filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.chars().count() > MAX_TEXT_CHARS || text.contains('\0')) {
        let detail = format!("query: at most {MAX_TEXT_CHARS} characters, none of them NUL");
        return Err(Problem::invalid(detail));
    }
    let after = asked.parameter("cursor").map(Cursor::read).transpose()?;
    let filter = Filter {
        state: state.transpose()?,
        text: text.map(str::to_owned),
        after: after.map(|cursor| (cursor.at_ms, cursor.id)),
    };
    let store = asked.scope.provisioning()?.store();
    // One more tells whether another page follows.
    let (found, mut installed) = store
        .read(move |session| {
            let found = machines::page(session, &filter, count + 1)?;
            let ids: Vec<&str> = found.iter().map(|machine| machine.id.as_str()).collect();
            let installed = installations::of_machines(session, &ids)?;
            Ok((found, installed))
        })
        .await?;
    let (found, next_cursor) = page::cut(found, count, |machine| Cursor {
        at_ms: machine.registered_ms,
        id: machine.id.clone(),
    });
    let machines = found.into_iter().map(|machine| {
        let installed = installed.remove(&machine.id);
        MachineBody::new(machine, installed)
    });
    let machines = machines.collect();
    Reply::json(StatusCode::OK, &MachineList { machines, next_cursor })
}

pub(super) async fn get(asked: Asked) -> Result<Reply, Problem> {
    let id = asked.name();
    let wanted = id.clone();
    let store = asked.scope.provisioning()?.store();
    let (found, mut installed) = store
        .read(move |session| {
            let installed = installations::of_machines(session, &[&wanted])?;
            Ok((machines::by_id(session, &wanted)?, installed))
        })
        .await?;
    let machine = found.ok_or_else(|| Problem::not_found(format!("there is no machine {id:?}")))?;
    Reply::json(StatusCode::OK, &MachineBody::new(machine, installed.remove(&id)))
}

pub(super) async fn delete(asked: Asked) -> Result<Reply, Problem> {
    let id = asked.name();
    let node = asked.scope.provisioning()?.delete_machine(&id).await?;
    ended(id, node.map(|key| key.to_string()))
}

pub(super) async fn expire(asked: Asked) -> Result<Reply, Problem> {
    let id = asked.name();
    let node = asked.scope.provisioning()?.expire_machine(&id).await?;
    ended(id, node.map(|key| key.to_string()))
}

fn ended(id: String, node_key: Option<String>) -> Result<Reply, Problem> {
    let body = EndedMachine { id, node_key };
    Ok(Reply::json(StatusCode::OK, &body)?.about_machine(&body.id))
}

impl MachineBody {
    /// A registration, and what was installed from it last.
    pub(crate) fn new(machine: Machine, installed: Option<Installed>) -> Self {
        Self {
            installed: installed.map(InstalledBody::from),
            id: machine.id,
            hostname: machine.hostname,
            mac: machine.mac,
            state: machine.state,
            changed: timestamp::write(machine.changed_ms),
            tailscale_ip: machine.tailscale_ip,
            node_id: machine.node_id,
            registered: timestamp::write(machine.registered_ms),
            last_seen: machine.last_seen_ms.map(timestamp::write),
            remote_ip: machine.remote_ip,
            token_name: machine.token,
            replaces: machine.replaces,
        }
    }
}

impl From<Installed> for InstalledBody {
    fn from(installed: Installed) -> Self {
        Self {
            node_id: installed.node_id,
            hostname: installed.hostname,
            tailscale_ip: installed.tailscale_ip,
            found: timestamp::write(installed.found_ms),
        }
    }
}
