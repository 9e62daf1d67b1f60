//! `init`: files to begin with, out of Headscale's configuration.
//!
//! Does: prints them, or writes them into a folder where none of them is.
//! Does not: overwrite anything.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::{ExitError, say};
use crate::first_setup::{self, Facts, Resolved, StarterFile};
use crate::headscale_file::HeadscaleFile;

/// Time for the relay's name to be resolved: without it, it is left to clients.
const DNS_TIME: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(super) struct InitArguments {
    /// Headscale's configuration, usually `/etc/headscale/config.yaml`. It is read only.
    #[arg(long, value_name = "FILE")]
    headscale_config: PathBuf,

    /// Name by which clients shall reach the relay. Default `derp.` and the domain of Headscale's
    /// `server_url`.
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    hostname: Option<String>,

    /// Folder to write the files into, made if it is missing. Without it they are printed.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &InitArguments) -> Result<(), ExitError> {
    let file = HeadscaleFile::read(&arguments.headscale_config)?;
    let hostname = arguments.hostname.as_deref();
    let name = Facts::relay_name(&file, hostname);
    let facts = Facts::new(&file, hostname, Resolved::of(&resolve(name)));
    let files = first_setup::files(&facts);
    let said = match &arguments.out {
        Some(folder) => {
            write(folder, &files)?;
            let name = |file: &StarterFile| format!("  {:<20} {}\n", file.name, file.place);
            files.iter().map(name).collect::<String>()
        }
        None => files
            .iter()
            .map(|file| format!("# ---- {}: {}\n\n{}\n", file.name, file.place, file.text))
            .collect(),
    };
    say(format!("{said}{}", next_steps(first_setup::marks(&files))).as_bytes())
}

fn next_steps(marks: usize) -> String {
    format!(
        "# {marks} lines are marked `CHECK`: nobody here could know them.\n\
         #\n\
         # Then, in this order:\n\
         #   1 put the files where they go, and an API key into /etc/coord-bridge/headscale-api-key\n\
         #   2 start the bridge; copy its relay-token to /etc/derp-relay/relay-token, mode 0600\n\
         #   3 start the relay and the proxy\n\
         #   4 coord-bridge check --config /etc/coord-bridge/bridge.toml --headscale-config FILE\n\
         #   5 put the `derp:` block into Headscale's configuration, and restart Headscale\n"
    )
}

/// All or nothing: what is there already stays, and then nothing else is written.
fn write(folder: &Path, files: &[StarterFile]) -> Result<(), ExitError> {
    let failed = |path: PathBuf| move |source| ExitError::Init { path, source };
    std::fs::create_dir_all(folder).map_err(failed(folder.to_owned()))?;
    for file in files {
        let path = folder.join(file.name);
        if path.symlink_metadata().is_ok() {
            return Err(failed(path)(io::ErrorKind::AlreadyExists.into()));
        }
    }
    for file in files {
        let path = folder.join(file.name);
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(failed(path.clone()))?;
        new.write_all(file.text.as_bytes()).map_err(failed(path))?;
    }
    Ok(())
}

/// What DNS says within [`DNS_TIME`]; nothing is an answer too.
fn resolve(name: String) -> BTreeSet<IpAddr> {
    let (done, found) = mpsc::channel();
    let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        let found = found.map(|it| it.map(|address| address.ip()).collect::<BTreeSet<_>>());
        // Nobody waits any more for what comes too late.
        drop(done.send(found.unwrap_or_default()));
    });
    match thread {
        Ok(_) => found.recv_timeout(DNS_TIME).unwrap_or_default(),
        Err(_) => BTreeSet::new(),
    }
}

/// A name that can stand in every one of the files.
fn host_name(text: &str) -> Result<String, &'static str> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        Ok(text.to_owned())
    } else {
        Err("not a DNS name such as derp.example.org")
    }
}
