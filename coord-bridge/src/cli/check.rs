//! `check`: tries everything that the bridge needs, and says what to do where it does not work.

use std::path::PathBuf;

use super::{ConfigArguments, ExitError, say, store};
use crate::config::Config;
use crate::doctor::{self, Patient};

#[derive(clap::Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArguments,

    /// Headscale's configuration, to be held against this one. Default `headscale.config_file`.
    #[arg(long, value_name = "FILE")]
    headscale_config: Option<PathBuf>,

    /// For programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: CheckArguments) -> Result<(), ExitError> {
    let file = arguments.config.config;
    let (config, _) = Config::load(arguments.config.keys, file.as_deref())?;
    let patient = Patient {
        headscale_file: arguments
            .headscale_config
            .or_else(|| config.plan.embedded.config_file.clone()),
        store: store::location(&config.registration).map_err(|error| error.to_string()),
        config,
        file,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(doctor::examine(&patient));
    // A name that does not resolve keeps its thread longer than anybody wants to wait.
    runtime.shutdown_background();
    let text =
        if arguments.json { format!("{:#}\n", report.to_json()) } else { report.to_string() };
    say(text.as_bytes())?;
    match report.wrong() {
        0 => Ok(()),
        wrong => Err(ExitError::Check(wrong)),
    }
}
