//! A configuration for commands beside `dev`, such as `check` and `machines`.
//!
//! Does: says where everything is that runs, with the ports that it got.
//! Does not: hold a secret; it names the files of those.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use derp_relay::settings::SecretFile;
use serde_json::Value;

use crate::Addresses;
use crate::published::Edition;

/// Name of the file in the state folder.
const FILE: &str = "bridge.toml";

/// Its first line.
const HEAD: &str = "# Written by `coord-bridge dev` at each start, for commands beside it.";

/// What runs.
pub(super) struct Beside<'a> {
    pub(super) folder: &'a Path,
    pub(super) addresses: &'a Addresses,
    pub(super) edition: &'a Edition,
    /// Where Headscale is, and the file of the API key.
    pub(super) headscale: Option<(&'a str, &'a SecretFile)>,
}

/// Writes the file, over that of an earlier run. Gives its path.
///
/// # Errors
///
/// What the system says.
pub(super) fn write(beside: &Beside<'_>) -> io::Result<PathBuf> {
    let path = std::path::absolute(beside.folder.join(FILE))?;
    if !is_of_dev(&path)? {
        let said =
            format!("{} is somebody's configuration; give another --state-dir", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, said));
    }
    std::fs::write(&path, text(beside)?)?;
    Ok(path)
}

/// Whether there is nothing, or what an earlier run has written.
fn is_of_dev(path: &Path) -> io::Result<bool> {
    match std::fs::read(path) {
        Ok(text) => Ok(text.starts_with(HEAD.as_bytes())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn text(beside: &Beside<'_>) -> io::Result<String> {
    let mut text = format!("{HEAD}\n");
    let mut line = |words: &str| {
        // Writing to a text does not fail.
        let written = writeln!(text, "{words}");
        debug_assert!(written.is_ok());
    };
    let folder = std::path::absolute(beside.folder)?;
    line(&format!("state_dir = {}", quoted(&folder.to_string_lossy())));
    for (key, addresses) in beside.addresses.by_key() {
        let first = addresses.first().map_or("none".to_owned(), ToString::to_string);
        if key != "provisioning.listen" {
            line(&format!("{key} = {}", quoted(&first)));
        }
    }
    let register = beside.addresses.provisioning.first().map(ToString::to_string);
    let register = quoted(register.as_deref().unwrap_or("none"));
    if let Some((url, key)) = beside.headscale {
        let key = match key {
            SecretFile::Path(path) => std::path::absolute(path)?.to_string_lossy().into_owned(),
            credential @ SecretFile::Credential(_) => credential.to_string(),
        };
        line(&format!("login_server = {}", quoted(url)));
        line(&format!("[headscale]\nurl = {}\napi_key_file = {}", quoted(url), quoted(&key)));
    }
    line(&format!("[provisioning]\nlisten = {register}"));
    for node in beside.edition.map().regions.values().flat_map(|region| &region.nodes) {
        line("[[region.nodes]]");
        for (key, value) in [
            ("hostname", &node.host_name),
            ("cert_name", &node.cert_name),
            ("ipv4", &node.ipv4),
            ("ipv6", &node.ipv6),
        ] {
            line(&format!("{key} = {}", quoted(value)));
        }
        line(&format!("derp_port = {}\nstun_port = {}", node.derp_port, node.stun_port));
    }
    Ok(text)
}

/// A text as TOML takes it, which is as JSON writes it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
