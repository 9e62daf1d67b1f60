//! `enroll`: registers this machine and joins the tailnet, or has nothing to do.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{ExitError, say};
use crate::config::SecretFile;
use crate::enroll::inputs::{self, Input};
use crate::enroll::{self, EnrollError, Enrolled, Machine, Order, ProvisionerUrl, Schedule};
use crate::headscale::Secret;

/// Where images of the live system have their token. Source: the live system.
const TOKEN_FILE: &str = "/etc/sovran/enroll-token";

/// Where they have the provisioner's URL.
const URL_FILE: &str = "/etc/sovran/provisioner-url";

#[derive(Args)]
pub(super) struct EnrollArguments {
    /// File with the enrollment token, or `credential:NAME`. Without the file there is nothing to
    /// do, and that is no fault.
    #[arg(long, value_name = "FILE", default_value = TOKEN_FILE)]
    token_file: SecretFile,

    /// File with the URL of the provisioner. Without the file there is nothing to do.
    #[arg(long, value_name = "FILE", default_value = URL_FILE)]
    url_file: PathBuf,

    /// URL of the provisioner, instead of the file.
    #[arg(long, value_name = "URL", conflicts_with = "url_file")]
    url: Option<String>,

    /// Certificates to trust beside the system's, as PEM, for an `https` URL.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Name of the machine. `sovran-deploy-` and 16 random hex digits unless told otherwise.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,

    /// The program `tailscale`.
    #[arg(long, value_name = "PATH", default_value = "tailscale")]
    tailscale: PathBuf,

    /// How often the provisioner is asked before this gives up.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = Schedule::default().tries,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    tries: u32,

    /// For programs.
    #[arg(long)]
    json: bool,
}

/// What the files say.
enum Told {
    Everything { token: Secret, url: String },
    NothingToDo { reason: String, is_silent: bool },
}

pub(super) fn run(arguments: &EnrollArguments) -> Result<(), ExitError> {
    let (token, url) = match told(arguments)? {
        Told::Everything { token, url } => (token, url),
        Told::NothingToDo { reason, .. } if arguments.json => {
            return say_json(&json!({ "enrolled": false, "reason": reason }));
        }
        Told::NothingToDo { is_silent: true, .. } => return Ok(()),
        Told::NothingToDo { reason, .. } => return say(format!("{reason}\n").as_bytes()),
    };
    let order = Order {
        provisioner: ProvisionerUrl::parse(&url)?,
        token,
        ca_file: arguments.ca_file.clone(),
        machine: Machine::here(arguments.hostname.as_deref(), Path::new("/"))?,
        tailscale: arguments.tailscale.clone(),
        schedule: Schedule { tries: arguments.tries, ..Schedule::default() },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let enrolled = runtime.block_on(enroll::enroll(&order, &mut report))?;
    if arguments.json { say_enrolled_json(&enrolled) } else { say_enrolled(&enrolled) }
}

/// Reads the files in the order in which the live system's script does.
fn told(arguments: &EnrollArguments) -> Result<Told, EnrollError> {
    let absent = |what: &str, file: &dyn std::fmt::Display| Told::NothingToDo {
        reason: format!("no {what} in {file}: nothing to enroll with"),
        is_silent: false,
    };
    let empty = |what: &str, file: &dyn std::fmt::Display| Told::NothingToDo {
        reason: format!("the {what} in {file} is empty: nothing to enroll with"),
        is_silent: true,
    };
    let (what, file) = ("enrollment token", &arguments.token_file);
    let token = match inputs::read(what, &file.locate()?)? {
        Input::Absent => return Ok(absent(what, file)),
        Input::Empty => return Ok(empty(what, file)),
        Input::Text(token) => token,
    };
    if let Some(url) = &arguments.url {
        return Ok(Told::Everything { token, url: url.clone() });
    }
    let (what, file) = ("provisioner URL", arguments.url_file.display());
    Ok(match inputs::read(what, &arguments.url_file)? {
        Input::Absent => absent(what, &file),
        Input::Empty => empty(what, &file),
        Input::Text(url) => Told::Everything { token, url: url.reveal().to_owned() },
    })
}

fn say_enrolled(enrolled: &Enrolled) -> Result<(), ExitError> {
    let Enrolled { hostname, login_server, .. } = enrolled;
    let mut text = format!("{hostname} is in the tailnet of {login_server}\n");
    if let Some(address) = enrolled.tailscale_ip {
        // Alone on its line, as the live system's script has it.
        text.push_str(&format!("{address}\n"));
    }
    say(text.as_bytes())
}

fn say_enrolled_json(enrolled: &Enrolled) -> Result<(), ExitError> {
    say_json(&json!({
        "enrolled": true,
        "hostname": enrolled.hostname,
        "machine_id": enrolled.machine_id,
        "login_server": enrolled.login_server,
        "expires_at": enrolled.expires_at,
        "derp_map_url": enrolled.derp_map_url,
        "tailscale_ip": enrolled.tailscale_ip,
    }))
}

fn say_json(value: &serde_json::Value) -> Result<(), ExitError> {
    say(format!("{value}\n").as_bytes())
}

#[expect(clippy::print_stderr, reason = "what does not work yet is for the journal")]
fn report(line: &str) {
    eprintln!("coord-bridge: {line}");
}
