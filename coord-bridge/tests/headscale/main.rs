//! The client of Headscale: against recorded answers of every release, against a server that
//! misbehaves, and, with `HEADSCALE_BIN` set, against real programs; see `real`.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::io::Write;
use std::path::Path;

use coord_bridge::config::{HeadscaleConfig, Reach, SecretFile};
use tempfile::NamedTempFile;

mod contract;
mod fake;
mod fault;
mod first_setup;
mod map;
mod program;
mod real;
mod recorded;
mod release;
mod scenario;
mod socket;
mod trust;
mod whole;

/// A Headscale at `url`, with the API key in `key_file`.
fn url(url: &str, key_file: &Path) -> HeadscaleConfig {
    let api_key = SecretFile::Path(key_file.to_owned());
    HeadscaleConfig { reach: Reach::Url { url: url.parse().unwrap(), api_key, ca_file: None } }
}

/// A file with this API key.
fn key_file(key: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(key.as_bytes()).unwrap();
    file
}

/// Prints a line past the capture of the test harness.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}
