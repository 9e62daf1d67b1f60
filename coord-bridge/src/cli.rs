//! The commands of the program.
//!
//! Does: reads the command line, starts what it asks for, waits for signals, and says on one
//! line what went wrong. Exit codes: 0 clean, 1 runtime, 2 usage or configuration.
//! Does not: know how a map is served.

mod check;
mod dev;
mod embedded;
mod enroll;
mod init;
mod keys;
mod machines;
mod map;
mod registration;
mod relays;
mod serve;
mod store;
mod table;
mod token;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use derp_relay::settings::Span;
use derp_relay::{relay, socket};
use serde::Serialize;

use crate::Addresses;
use crate::bridge::StartError;
use crate::config::{ConfigError, Keys, NoCredentials};
use crate::enroll::EnrollError;
use crate::headscale::SetupError;
use crate::http::basic::LoginError;
use crate::provisioning;
use crate::provisioning::administration::AdministrationError;
use crate::provisioning::settings::{MAX_KEY_EXPIRY, MIN_KEY_EXPIRY};
use crate::provisioning::tokens::TokenError;
use crate::publication::embedded::ConfigFileError;
use crate::published::Format;
use crate::store::StoreError;
use crate::store::backup::{self, BackupError};

pub use dev::AddressError;

#[derive(Parser)]
#[command(name = "coord-bridge", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publishes the DERP map. SIGHUP reads regions and upstreams in the configuration again.
    Serve(ConfigArguments),
    /// Prints the map, byte for byte as `serve` publishes it.
    Map {
        #[command(flatten)]
        config: ConfigArguments,
        /// Form of the map.
        #[arg(long, value_name = "FORMAT", default_value = "json")]
        format: Format,
    },
    /// Prints files to begin with, out of Headscale's configuration.
    Init(init::InitArguments),
    /// Tries everything that the bridge needs, and says what to do where it does not work.
    Check(check::CheckArguments),
    /// Makes, lists and ends enrollment tokens.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Lists machines that have registered, and ends them.
    #[command(subcommand)]
    Machines(machines::MachinesCommand),
    /// Makes and ends pre-auth keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Copies what the bridge remembers into a new file, while it runs.
    Backup {
        #[command(flatten)]
        config: ConfigArguments,
        /// The new file.
        file: PathBuf,
    },
    /// Registers this machine with a provisioner and joins the tailnet.
    Enroll(enroll::EnrollArguments),
    /// Runs a whole region for trying out, on loopback: relay, map and registration.
    Dev(dev::DevArguments),
}

#[derive(clap::Args, Clone)]
struct ConfigArguments {
    /// TOML file of settings. Flags and environment variables weigh more.
    #[arg(long, env = "COORD_BRIDGE_CONFIG", value_name = "FILE")]
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
    /// The bridge does not start with these settings.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The relay in this process does not start.
    #[error("{0}{of_folder}", of_folder = dev::of_folder(.0))]
    Relay(#[from] relay::StartError),
    /// The map of `dev` cannot say where the relay is.
    #[error("{0}")]
    Addresses(#[from] AddressError),
    /// The region of `dev` runs and does not work.
    #[error("the self-test failed: {0}")]
    SelfTest(String),
    /// Headscale's configuration cannot be read.
    #[error("{0}")]
    HeadscaleFile(#[from] ConfigFileError),
    /// A file of `init` is not written.
    #[error("cannot write {}: {source}; nothing is overwritten: give an empty folder", path.display())]
    Init {
        /// The file, or the folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What `check` has found.
    #[error("{0} of these things are wrong")]
    Check(usize),
    /// Nobody can register, so there is no token.
    #[error("login_server: missing; write the URL that machines log in at")]
    LoginServer,
    /// There is nobody to register with.
    #[error("headscale.url, headscale.socket: missing; say where Headscale is")]
    NoHeadscale,
    /// The Headscale.
    #[error(transparent)]
    Headscale(#[from] SetupError),
    /// Registration does not start.
    #[error(transparent)]
    Provisioning(#[from] provisioning::StartError),
    /// A machine or a key.
    #[error(transparent)]
    Administration(#[from] AdministrationError),
    /// A key that would end too soon or too late.
    #[error("--expiry {0}: out of bounds; from {least} to {most}", least = Span(MIN_KEY_EXPIRY), most = Span(MAX_KEY_EXPIRY))]
    KeyExpiry(Span),
    /// A token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The password of the map.
    #[error(transparent)]
    MapLogin(#[from] LoginError),
    /// The password of the store.
    #[error("cannot read store_password_file {}: {source}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The same, among the credentials of a unit.
    #[error("store_password_file: {0}")]
    NoCredentials(#[from] NoCredentials),
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// This machine does not get into the tailnet.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// The system.
    #[error("the system does not let it run: {0}; {RAISE_LIMITS}", RAISE_LIMITS = socket::RAISE_LIMITS)]
    System(#[from] io::Error),
    /// Nobody can be told what the command was asked for.
    #[error("cannot print: {0}; give it an output that takes what it says")]
    Output(#[source] io::Error),
}

impl ExitError {
    /// 2 where an operator has to change something, 1 where the system failed.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::System(_)
            | Self::Start(StartError::System(_))
            | Self::Relay(relay::StartError::System(_))
            | Self::Output(_)
            | Self::Store(_)
            | Self::Administration(_)
            | Self::Token(TokenError::Store(_) | TokenError::Random(_))
            | Self::Backup(_)
            | Self::Check(_)
            | Self::SelfTest(_) => 1,
            Self::Start(_) | Self::Relay(_) if socket::exhaustion(self).is_some() => 1,
            Self::Enroll(error) if !error.is_usage() => 1,
            Self::Config(_)
            | Self::MapLogin(_)
            | Self::Start(_)
            | Self::Enroll(_)
            | Self::Relay(_)
            | Self::LoginServer
            | Self::NoHeadscale
            | Self::NoCredentials(_)
            | Self::Headscale(_)
            | Self::Provisioning(_)
            | Self::KeyExpiry(_)
            | Self::HeadscaleFile(_)
            | Self::Init { .. }
            | Self::Token(_)
            | Self::Password { .. }
            | Self::Addresses(_) => 2,
        }
    }
}

/// Runs the program with the arguments of this process.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Map { config, format } => map::run(config, format),
        Command::Init(arguments) => init::run(&arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Token(command) => token::run(command),
        Command::Machines(command) => machines::run(command),
        Command::Keys(command) => keys::run(command),
        Command::Backup { config, file } => {
            store::load(config).and_then(|(_, store)| Ok(backup::write(&store, &file)?))
        }
        Command::Enroll(arguments) => enroll::run(&arguments),
        Command::Dev(arguments) => dev::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error);
            ExitCode::from(error.code())
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last word of the program is for its operator")]
fn say_error(error: &ExitError) {
    eprintln!("coord-bridge: {error}");
}

/// Prints what a command was asked to say. Whoever reads it may have gone, which is no fault.
fn say(text: &[u8]) -> Result<(), ExitError> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ExitError::Output(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a list for programs, as the API has it.
fn say_list<T: Serialize>(list: &[T]) -> Result<(), ExitError> {
    // Texts and numbers always serialize.
    let text = serde_json::to_string_pretty(list).unwrap_or_default();
    say(format!("{text}\n").as_bytes())
}

/// The end of the line that says that all listeners are open: `map=… register=… verify=…`.
fn ready_fields(addresses: &Addresses) -> String {
    let Addresses { map, provisioning, verify, admin, metrics } = addresses;
    let mut fields = format!("map={} register={}", list(map), list(provisioning));
    // `dev` has no such listeners.
    for (name, addresses) in [("verify", verify), ("admin", admin), ("metrics", metrics)] {
        if !addresses.is_empty() {
            fields.push_str(&format!(" {name}={}", list(addresses)));
        }
    }
    fields
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(",") }
}

fn raise_descriptor_limit() {
    if let Err(error) = socket::raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn tell_systemd() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "systemd does not hear that the bridge is ready");
    }
}
