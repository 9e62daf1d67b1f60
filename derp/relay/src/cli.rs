//! The commands of the program.
//!
//! Does: reads the command line, starts what it asks for, waits for signals, and says on one
//! line what went wrong. Exit codes: 0 clean, 1 runtime, 2 usage or configuration.
//! Does not: know how a relay works.

mod check;
mod dev;
mod serve;
mod signals;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::config::{ConfigError, Keys, VARIABLE_PREFIX};
use crate::relay::{Addresses, StartError};
use crate::socket::{RAISE_LIMITS, exhaustion};

pub use dev::{DEV_DERP_PORT, DEV_HTTP_PORT, DEV_METRICS_PORT, DEV_STUN_PORT, state_folder};
pub use signals::{Signal, Signals};

#[derive(Parser)]
#[command(name = "derp-relay", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the relay.
    Serve(ServeArguments),
    /// Says what `serve` would do with the same arguments, and whether it can.
    Check(ServeArguments),
    /// Runs a relay for trying out, on loopback: self-signed TLS, everybody may enter.
    Dev,
}

#[derive(clap::Args)]
struct ServeArguments {
    /// TOML file of settings. Flags and environment variables weigh more.
    #[arg(long, env = "DERP_RELAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    keys: Keys,
}

/// Why the program ends without having done its work.
#[derive(Debug, thiserror::Error)]
pub enum ExitError {
    /// Settings that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The relay does not start with these settings.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The relay of `dev` does not start.
    #[error("{0}{hint}", hint = dev::hint(.0))]
    Dev(#[source] StartError),
    /// The system.
    #[error("the system does not let it run: {0}; {RAISE_LIMITS}")]
    System(#[from] std::io::Error),
}

impl ExitError {
    /// 2 where an operator has to change something, 1 where the system failed.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::System(_) | Self::Start(StartError::System(_)) => 1,
            Self::Dev(StartError::System(_)) => 1,
            Self::Start(error) | Self::Dev(error) if exhaustion(error).is_some() => 1,
            Self::Config(_) | Self::Start(_) | Self::Dev(_) => 2,
        }
    }
}

/// Runs the program with the arguments of this process.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    let done = match arguments.command {
        Command::Serve(arguments) => serve::run(arguments.keys, arguments.config.as_deref()),
        Command::Check(arguments) => check::run(arguments.keys, arguments.config.as_deref()),
        Command::Dev => dev::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error.to_string());
            ExitCode::from(error.code())
        }
    }
}

/// Prints help or the version where clap was asked for that, and a fault on one line.
#[expect(clippy::wildcard_enum_match_arm, reason = "not our enum, and it grows")]
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => {
            let is_set = |variable: &str| std::env::var_os(variable).is_some();
            say_error(&on_one_line(&error.to_string(), is_set));
            ExitCode::from(2)
        }
    }
}

/// What clap says over several lines, without its usage; and the variable that a wrong value may
/// have come from, which clap does not name.
fn on_one_line(text: &str, is_set: impl Fn(&str) -> bool) -> String {
    let text = text.split("\nUsage:").next().unwrap_or_default();
    let text = text.split("\nFor more information").next().unwrap_or_default();
    let lines = text.trim_start_matches("error: ").lines().map(str::trim);
    let mut lines: Vec<String> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    for key in Keys::names() {
        let flag = format!("for '--{}", key.replace('_', "-"));
        let variable = format!("{VARIABLE_PREFIX}{}", key.to_uppercase());
        let ends = |rest: &str| rest.starts_with([' ', '\'']);
        if text.split_once(&flag).is_some_and(|(_, rest)| ends(rest)) && is_set(&variable) {
            lines.push(format!("{variable} is set in the environment"));
        }
    }
    lines.push("see --help".to_owned());
    lines.join("; ")
}

#[expect(clippy::print_stderr, reason = "the last word of the program is for its operator")]
fn say_error(error: &str) {
    eprintln!("derp-relay: {}", error.replace(['\n', '\r'], " "));
}

#[expect(clippy::print_stdout, reason = "what a command was asked to say")]
fn say(text: &str) {
    println!("{text}");
}

/// The line that says that all listeners are open: `ready derp=… http=… stun=… metrics=…`.
#[must_use]
pub fn ready_line(addresses: &Addresses) -> String {
    let list = |addresses: &[std::net::SocketAddr]| {
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        if texts.is_empty() { "none".to_owned() } else { texts.join(",") }
    };
    format!(
        "ready derp={} stun={} http={} metrics={}",
        list(&addresses.derp),
        list(&addresses.stun),
        list(&addresses.http),
        list(&addresses.metrics)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_command_line_is_said_on_one_line() {
        for (text, line) in [
            (
                "error: unexpected argument '--tsl' found\n\n  tip: a similar argument exists: \
                 '--tls'\n\nUsage: derp-relay serve [OPTIONS]\n\nFor more information, try \
                 '--help'.\n",
                "unexpected argument '--tsl' found; tip: a similar argument exists: '--tls'; \
                 see --help",
            ),
            (
                "error: invalid value 'x' for '--shards <N>': no digit\n\nFor more information, \
                 try '--help'.\n",
                "invalid value 'x' for '--shards <N>': no digit; DERP_RELAY_SHARDS is set in the \
                 environment; see --help",
            ),
        ] {
            assert_eq!(on_one_line(text, |name| name.ends_with("SHARDS")), line);
        }
    }
}
