//! Running `tailscale`: into the tailnet with the key, and which address that gives.
//!
//! Does: hands the key over in a file that exists in memory only, as the program's standard
//! input, so that it is in no arguments, no variables and no file system, and is gone when
//! both processes are, however they end.
//! Does not: talk to `tailscaled` itself, whose interface is not promised to anybody.
//!
//! Why a file in memory: docs/decisions/0045-the-key-is-in-no-file-system.md.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::process::Command;
use tokio::time::timeout;

use super::EnrollError;
use super::provisioner::Grant;
use crate::headscale::{Secret, one_line};

/// Where the program finds its standard input, by name. Each opening reads it from its start.
const KEY_PLACE: &str = "file:/dev/stdin";

/// Time for `tailscale ip`, which asks the daemon beside it and nobody else.
const ADDRESS_TIME: Duration = Duration::from_secs(10);

/// Most bytes that are looked at of what the program says, from its end.
const MAX_SAID_LEN: u64 = 16 * 1024;

/// Most characters of it that are shown: what matters stands last.
const MAX_SHOWN: usize = 300;

/// What came of a run: how it ended, or nothing if it was not over in time; and what it said.
struct Run {
    status: Option<ExitStatus>,
    said: String,
}

/// Logs in with the key.
pub(super) async fn up(program: &Path, grant: &Grant, time: Duration) -> Result<(), EnrollError> {
    let mut command = Command::new(program);
    command
        .arg("up")
        .arg(format!("--login-server={}", grant.login_server))
        .arg(format!("--auth-key={KEY_PLACE}"))
        .arg(format!("--hostname={}", grant.hostname));
    let failed =
        |words: String| EnrollError::Tailscale { program: program.display().to_string(), words };
    let mut key = in_memory(c"key")?;
    key.write_all(grant.key.reveal().as_bytes())?;
    key.rewind()?;
    let run = run(command, Stdio::from(key), time)
        .await
        .map_err(|error| failed(format!("cannot be run: {error}; give its path by --tailscale")))?;
    let said = shown(&run.said, &grant.key);
    match run.status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(format!("{status}: {said}"))),
        None => Err(failed(format!(
            "not done after {} s, does the login server take the key? It said: {said}",
            time.as_secs()
        ))),
    }
}

/// The machine's address in the tailnet.
pub(super) async fn address(program: &Path) -> Result<Ipv4Addr, String> {
    let mut command = Command::new(program);
    command.args(["ip", "-4"]);
    let run = run(command, Stdio::null(), ADDRESS_TIME).await.map_err(|error| error.to_string())?;
    let address = run.said.lines().next().and_then(|line| line.trim().parse().ok());
    address.ok_or_else(|| one_line(&run.said))
}

async fn run(mut command: Command, input: Stdio, time: Duration) -> io::Result<Run> {
    // A file also for what it says: it can be read when the program has not come to an end.
    let mut output = in_memory(c"output")?;
    command.stdin(input).stdout(output.try_clone()?).stderr(output.try_clone()?).kill_on_drop(true);
    let mut child = command.spawn()?;
    let status = match timeout(time, child.wait()).await {
        Ok(status) => Some(status?),
        Err(_) => {
            child.kill().await?;
            None
        }
    };
    let len = output.metadata()?.len();
    output.seek(SeekFrom::Start(len.saturating_sub(MAX_SAID_LEN)))?;
    let mut bytes = Vec::new();
    output.take(MAX_SAID_LEN).read_to_end(&mut bytes)?;
    Ok(Run { status, said: String::from_utf8_lossy(&bytes).into_owned() })
}

/// A file without a name, that goes with its last descriptor. No program gets it but by its
/// standard streams.
fn in_memory(name: &std::ffi::CStr) -> io::Result<File> {
    Ok(memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

/// The end of what was said, without the key: before it is cut, for half a key is a secret too.
fn shown(said: &str, key: &Secret) -> String {
    let said = said.replace(key.reveal(), "…");
    let said = said.trim();
    let skipped = said.chars().count().saturating_sub(MAX_SHOWN);
    let end: String = said.chars().skip(skipped).collect();
    if end.is_empty() { "nothing".to_owned() } else { one_line(&end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_said_is_shown_without_the_key() {
        let key = Secret::new("hskey-auth-x".to_owned());
        assert_eq!(shown(" \n", &key), "nothing");
        assert_eq!(shown("key hskey-auth-x\nis\u{1b}used\n", &key), "key … is used");
        let long = format!("{}hskey-auth-x", "a".repeat(MAX_SHOWN - 4));
        assert!(shown(&long, &key).ends_with("a…"));
        assert_eq!(shown(&"ü".repeat(MAX_SHOWN + 9), &key).chars().count(), MAX_SHOWN);
    }
}
