//! `keys`: makes a pre-auth key for an installer, and ends keys that nobody has used.

use clap::{Args, Subcommand};
use derp_relay::settings::Span;
use serde_json::json;

use super::registration::with;
use super::token::ProfileArgument;
use super::{ConfigArguments, ExitError, say};
use crate::provisioning::administration::Keys;
use crate::provisioning::settings::{MAX_KEY_EXPIRY, MIN_KEY_EXPIRY};

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Makes a single-use key and prints it, this once.
    Create(CreateArguments),
    /// Ends keys that no node has registered with.
    Expire {
        #[command(flatten)]
        config: ConfigArguments,
        /// Also those of the user that this bridge has not made.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Args)]
pub(super) struct CreateArguments {
    #[command(flatten)]
    config: ConfigArguments,

    /// What its machine is.
    #[arg(long, value_name = "PROFILE", default_value = "machine")]
    profile: ProfileArgument,

    /// How long it is valid, from 1m to 7d.
    #[arg(long, value_name = "DURATION", default_value = "2h")]
    expiry: Span,

    /// Id of the machine, a live system, that it is installed from: the list then says what
    /// became of it.
    #[arg(long, value_name = "ID")]
    installs: Option<String>,

    /// For programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: KeysCommand) -> Result<(), ExitError> {
    match command {
        KeysCommand::Create(arguments) => create(arguments),
        KeysCommand::Expire { config, all } => {
            let which = if all { Keys::All } else { Keys::Ours };
            let ended =
                with(config, async |provisioning| Ok(provisioning.expire_keys(which).await?))?;
            say(format!("ended {ended}\n").as_bytes())
        }
    }
}

fn create(arguments: CreateArguments) -> Result<(), ExitError> {
    let CreateArguments { config, profile, expiry, installs, json } = arguments;
    if !(MIN_KEY_EXPIRY..=MAX_KEY_EXPIRY).contains(&expiry.0) {
        return Err(ExitError::KeyExpiry(expiry));
    }
    let made = with(config, async |provisioning| {
        let installs = installs.as_deref();
        Ok(provisioning.create_key(profile.into(), expiry.0, installs).await?)
    })?;
    let text = if json {
        format!("{:#}\n", json!({ "key": made.key.reveal(), "expires_at": made.expires_at }))
    } else {
        format!("{}\n", made.key.reveal())
    };
    say(text.as_bytes())
}
