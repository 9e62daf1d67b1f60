//! The live system's client, as it is: bash, curl and jq, no awk, and what it makes of answers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use coord_bridge::headscale::FailureKind;
use serde_json::Value;

use crate::bench::Bench;
use crate::client::ask;
use crate::headscale::Mood;
use crate::http::Running;

/// What the client does, step by step, in words of ours. Source: provisioning.md §6. Pauses are
/// calls of `sleep`, which only notes them here.
const SCRIPT: &str = r#"
set -e
sleep 10
for item in enroll-token provisioner-url; do
  if [ ! -f "$ETC/$item" ]; then echo "no $item: nothing to do"; exit 0; fi
done
token=$(cat "$ETC/enroll-token") url=$(cat "$ETC/provisioner-url")
if [ -z "$token" ] || [ -z "$url" ]; then exit 0; fi
name="sovran-deploy-$(head -c 8 /dev/urandom | od -An -tx1 | tr -d ' \n')"
mac=$(ip link show 2>/dev/null | awk '/ether/ {print $2; exit}' 2>/dev/null) || true
mac=${mac:-unknown}
answer=
for try in 1 2 3 4 5 6; do
  answer=$(curl -sf --max-time 15 -X POST "$url/register" \
    -H "Authorization: Bearer $token" -H "Content-Type: application/json" \
    -d "{\"hostname\": \"$name\", \"mac\": \"$mac\"}" 2>/dev/null) && break
  sleep 10
done
key=$(echo "$answer" | jq -r '.headscale_key')
login=$(echo "$answer" | jq -r '.login_server')
if [ -z "$key" ] || [ "$key" = null ]; then echo "$answer"; exit 1; fi
tailscale up --login-server="$login" --authkey="$key" --hostname="$name"
"#;

/// Programs that the client's unit has in its path.
const PROGRAMS: [&str; 8] = ["cat", "head", "od", "tr", "echo", "curl", "jq", "grep"];

struct Client {
    folder: PathBuf,
}

impl Client {
    /// `None`, with the reason printed, where the programs are not installed.
    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn new(folder: &Path, token: &str, url: &str) -> Option<Self> {
        let (bin, etc) = (folder.join("bin"), folder.join("etc"));
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&etc).unwrap();
        for name in PROGRAMS {
            let Some(program) = find(name) else {
                eprintln!("the client is not replayed: {name} is not installed");
                return None;
            };
            let link = bin.join(name);
            if !link.exists() {
                symlink(program, link).unwrap();
            }
        }
        for (name, text) in [
            ("sleep", "#!/bin/sh\necho slept >>\"$NOTES\"\n"),
            ("tailscale", "#!/bin/sh\necho \"$*\" >>\"$NOTES\"\n"),
            ("ip", "#!/bin/sh\necho '    link/ether aa:bb:cc:00:11:22 brd ff:ff:ff:ff:ff:ff'\n"),
        ] {
            fs::write(bin.join(name), text).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(etc.join("enroll-token"), token).unwrap();
        fs::write(etc.join("provisioner-url"), url).unwrap();
        Some(Self { folder: folder.to_owned() })
    }

    /// Runs it to its end, and says what it printed and what it noted.
    fn run(&self) -> (Output, String) {
        let notes = self.folder.join("notes");
        let output = Command::new("/bin/bash")
            .args(["-c", SCRIPT])
            .env_clear()
            .env("PATH", self.folder.join("bin"))
            .env("ETC", self.folder.join("etc"))
            .env("NOTES", &notes)
            .output()
            .unwrap();
        (output, fs::read_to_string(notes).unwrap_or_default())
    }
}

fn find(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|it| it.exists())
}

/// R-008, R-062, T1, W8: also with a slash at the end of the URL, which makes two.
#[test]
fn the_live_system_gets_its_key() {
    let running = Running::of(Bench::new());
    let folder = running.bench.folder.path();
    for (n, (address, end)) in
        running.addresses.iter().flat_map(|it| [(it, ""), (it, "/")]).enumerate()
    {
        let place = folder.join(format!("client{n}"));
        let url = format!("http://{address}{end}");
        let Some(client) = Client::new(&place, &running.bench.token(), &url) else { return };
        let (output, notes) = client.run();
        assert!(output.status.success(), "{output:?}");
        let key = running.bench.headscale.valid_keys().pop().unwrap();
        let up = notes.lines().last().unwrap();
        let wanted = format!(
            "up --login-server=https://hs.example.org --authkey={} --hostname=sovran-deploy-",
            key.secret
        );
        assert!(up.starts_with(&wanted), "{notes}");
        assert_eq!(notes.matches("slept").count(), 1, "at the first try");
    }
    let admin = format!("Authorization: Bearer {}\r\n", running.bench.admin_token());
    let list: Value =
        serde_json::from_slice(&ask(running.addresses[0], "GET", "/machines", &admin).body)
            .unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 4, "although each has the same mac");
    assert!(list.iter().all(|machine| machine["mac"] == "unknown"));
}

/// R-068: an old token is 401, six times, and then it gives up.
#[test]
fn an_old_token_gets_nothing_and_leaves_nothing() {
    let running = Running::of(Bench::new());
    let url = format!("http://{}", running.addresses[0]);
    let place = running.bench.folder.path().join("client");
    let old = "0".repeat(64);
    let Some(client) = Client::new(&place, &old, &url) else { return };
    let (output, notes) = client.run();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(notes.matches("slept").count(), 7);
    assert!(!notes.contains("up "));
    assert!(running.bench.headscale.all_keys().is_empty());
}

/// O3.6: it comes again until Headscale is back, and has one key then.
#[test]
fn headscale_comes_back_while_it_tries() {
    let running = Running::of(Bench::new());
    running.bench.headscale.set("create_key", Mood::Loses(FailureKind::Unreachable));
    let url = format!("http://{}", running.addresses[0]);
    let place = running.bench.folder.path().join("client");
    let Some(client) = Client::new(&place, &running.bench.token(), &url) else { return };
    std::thread::scope(|scope| {
        let replay = scope.spawn(|| client.run());
        crate::http::until(|| running.bench.headscale.calls("create_key") >= 1);
        running.bench.headscale.set("create_key", Mood::Well);
        let (output, notes) = replay.join().unwrap();
        assert!(output.status.success(), "{output:?} {notes}");
    });
    assert_eq!(running.bench.headscale.valid_keys().len(), 1);
}
