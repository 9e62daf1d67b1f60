//! `machines`: lists registrations, ends them, and writes them for the provisioner before this
//! one; all of it while the bridge runs.

use std::collections::BTreeMap;

use clap::Subcommand;

use super::registration::with;
use super::store::load;
use super::{ConfigArguments, ExitError, say, say_list, table};
use crate::http::api::MachineBody;
use crate::provisioning::{legacy, timestamp};
use crate::store::installations::{self, Installed};
use crate::store::machines::{Machine, all};
use crate::store::{Session, StoreError};

#[derive(Subcommand)]
pub(super) enum MachinesCommand {
    /// Lists registrations, the oldest first.
    List {
        #[command(flatten)]
        config: ConfigArguments,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Prints `machines.json` as the provisioner before this one reads it.
    Export(ConfigArguments),
    /// Deletes a machine: its node goes, and its keys end.
    Delete {
        #[command(flatten)]
        config: ConfigArguments,
        /// Its id in the list.
        id: String,
    },
    /// Logs a machine out: its node stays, and its keys end.
    Expire {
        #[command(flatten)]
        config: ConfigArguments,
        /// Its id in the list.
        id: String,
    },
}

pub(super) fn run(command: MachinesCommand) -> Result<(), ExitError> {
    match command {
        MachinesCommand::List { config, json } => {
            let (_, store) = load(config)?;
            let (list, mut installed) =
                store.read_now(|session| Ok((all(session)?, installed(session)?)))?;
            if !json {
                return say(as_table(&list, &installed).as_bytes());
            }
            let bodies = list.into_iter().map(|machine| {
                let installed = installed.remove(&machine.id);
                MachineBody::new(machine, installed)
            });
            say_list(&bodies.collect::<Vec<_>>())
        }
        MachinesCommand::Export(config) => {
            let (_, store) = load(config)?;
            say(legacy::export(&store.read_now(all)?).as_bytes())
        }
        MachinesCommand::Delete { config, id } => {
            let node =
                with(config, async |provisioning| Ok(provisioning.delete_machine(&id).await?))?;
            let had = if node.is_some() { "; its node is gone from Headscale" } else { "" };
            say(format!("deleted {id}{had}\n").as_bytes())
        }
        MachinesCommand::Expire { config, id } => {
            with(config, async |provisioning| Ok(provisioning.expire_machine(&id).await?))?;
            say(format!("logged out {id}\n").as_bytes())
        }
    }
}

/// What was installed from each live system, the last one of each.
type ByMachine = BTreeMap<String, Installed>;

fn installed(session: &mut dyn Session) -> Result<ByMachine, StoreError> {
    let done = installations::all(session)?.into_iter();
    Ok(done.filter_map(|it| Some((it.machine, it.installed?))).collect())
}

fn as_table(list: &[Machine], installed: &ByMachine) -> String {
    let rows: Vec<[String; 8]> = list
        .iter()
        .map(|machine| {
            [
                machine.id.clone(),
                machine.hostname.clone(),
                machine.state.as_str().to_owned(),
                machine.tailscale_ip.clone(),
                timestamp::write(machine.registered_ms),
                machine.remote_ip.clone(),
                machine.token.clone(),
                installed.get(&machine.id).map(|it| it.hostname.clone()).unwrap_or_default(),
            ]
        })
        .collect();
    table::render(
        ["ID", "HOSTNAME", "STATE", "ADDRESS", "REGISTERED", "FROM", "TOKEN", "INSTALLED"],
        &rows,
    )
}
