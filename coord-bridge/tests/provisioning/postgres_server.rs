//! A PostgreSQL server of our own, where one is installed.
#![expect(
    clippy::unwrap_in_result,
    reason = "what is not there skips a test; what is there and fails must not"
)]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use coord_bridge::store::Location;

/// Makes a cluster in `$1`, runs a server on a socket in it, and ends it and removes everything
/// when its input ends, which is when the tests do, in whatever way.
const SCRIPT: &str = r#"
set -e
# Whoever ends the tests by a signal to all of them must not end this first.
trap '' HUP INT TERM
folder=$1 bin=$2
"$bin/initdb" -D "$folder/data" -U bridge -A trust -E UTF8 --no-sync >"$folder/initdb.log" 2>&1
"$bin/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c fsync=off \
  -c max_connections=100 >"$folder/server.log" 2>&1 </dev/null &
server=$!
trap 'kill -INT $server; wait $server || true; rm -rf "$folder"' EXIT
until "$bin/pg_isready" -q -h "$folder" -U bridge -d postgres; do
  kill -0 $server
  sleep 0.1
done
echo ready
cat >/dev/null
"#;

/// A running server.
struct Server {
    folder: PathBuf,
    bin: PathBuf,
    _process: Child,
    _input: Mutex<ChildStdin>,
}

/// A database of its own on the server; `None`, with the reason printed, where there is none.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub(crate) fn database() -> Option<Location> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = match SERVER.get_or_init(start) {
        Ok(server) => server,
        Err(reason) => {
            eprintln!("not run on PostgreSQL: {reason}");
            return None;
        }
    };
    let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let created = Command::new(server.bin.join("createdb"))
        .args(["-U", "bridge", "-h"])
        .arg(&server.folder)
        .arg(&name)
        .status()
        .unwrap();
    assert!(created.success());
    let host = server.folder.to_str().unwrap().replace('/', "%2F");
    let url = format!("postgres://bridge@{host}/{name}");
    Some(Location::Server(Box::new(url.parse().unwrap())))
}

fn start() -> Result<Server, String> {
    let bin = programs().ok_or("neither postgres nor initdb is installed")?;
    let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap().keep();
    let mut command = if rustix::process::geteuid().is_root() {
        // The server refuses to run as root.
        let owned = Command::new("chown").arg("postgres").arg(&folder).status().unwrap();
        if !owned.success() {
            std::fs::remove_dir_all(&folder).unwrap();
            return Err("it does not run as root, and there is no user postgres".to_owned());
        }
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]);
        command.arg("sh");
        command
    } else {
        Command::new("sh")
    };
    let mut process = command
        .args(["-c", SCRIPT, "sh"])
        .args([&folder, &bin])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line.trim() != "ready" {
        let log = |name| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        panic!("PostgreSQL does not start: {} {}", log("initdb.log"), log("server.log"));
    }
    let input = process.stdin.take().unwrap();
    Ok(Server { folder, bin, _process: process, _input: Mutex::new(input) })
}

/// The folder of the programs: of the newest release as Debian has it, or wherever they are.
fn programs() -> Option<PathBuf> {
    let of_debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = of_debian.map(|release| release.path().join("bin")).collect();
    folders.sort();
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&in_path).collect::<Vec<_>>();
    let has_all = |folder: &PathBuf| {
        ["initdb", "postgres", "createdb", "pg_isready"].iter().all(|name| is_program(folder, name))
    };
    folders.into_iter().rev().chain(in_path).find(has_all)
}

fn is_program(folder: &Path, name: &str) -> bool {
    folder.join(name).exists()
}
