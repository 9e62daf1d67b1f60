//! A map file on a disk that is full, or can only be read: real ones, in a mount namespace that
//! the test makes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::client::get;
use crate::config_on;
use crate::map_file::with_file;
use crate::program::{PATIENCE, Program, command, one_line};

/// Ways to make a namespace: as root, and as anybody.
const WAYS: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];

/// Mounts a small disk, does something to it, and becomes the bridge.
const SCRIPT: &str = r#"
mount -t tmpfs -o size=64k none "$1/disk" || exit 99
cd "$1/disk" || exit 99
eval "$2"
echo $$ >"$1/pid"
exec "$0" serve --config "$1/bridge.toml"
"#;

/// Leaves no room. The error of `cat` is the wanted one.
const FILL: &str = "cat /dev/zero >fill 2>/dev/null";

/// A disk of the test's own, and a bridge with its map file there.
struct Case {
    folder: TempDir,
    way: &'static [&'static str],
}

impl Case {
    /// `None`, said past the capture of the test harness, where no namespace can be made.
    fn new(name: &str, config: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        let Some(way) = WAYS.into_iter().find(|way| can_mount(way, folder.path())) else {
            let why = "not run: no mount namespace with `unshare` and `mount` here";
            std::io::stderr().write_all(format!("{name}: {why}\n").as_bytes()).unwrap();
            return None;
        };
        let file = folder.path().join("disk/derp.yaml");
        fs::write(folder.path().join("bridge.toml"), with_file(&file, config)).unwrap();
        Some(Self { folder, way })
    }

    /// The bridge, after `before` was done in the folder of the map's file.
    fn command(&self, before: &str) -> Command {
        let bridge = command(&[]);
        let mut inside = Command::new("unshare");
        inside.args(self.way).args(["sh", "-c", SCRIPT]).arg(bridge.get_program());
        inside.arg(self.folder.path()).arg(before).stdin(std::process::Stdio::null());
        inside.envs(bridge.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    }

    fn start(&self, before: &str) -> Program {
        Program::start(self.command(before))
    }

    /// The one line of a bridge that does not start.
    fn refusal(&self, before: &str) -> String {
        let done = self.command(before).output().unwrap();
        let log = String::from_utf8(done.stderr).unwrap();
        assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(2), &b""[..]), "{log}");
        one_line(&log)
    }

    /// Where the disk is from outside, while the bridge runs.
    fn disk(&self) -> PathBuf {
        let pid = fs::read_to_string(self.folder.path().join("pid")).unwrap();
        let root = PathBuf::from(format!("/proc/{}/root", pid.trim()));
        root.join(self.folder.path().strip_prefix("/").unwrap()).join("disk")
    }
}

fn can_mount(way: &[&str], folder: &Path) -> bool {
    let mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none"];
    let tried = Command::new("unshare").args(way).args(mount).arg(folder.join("disk")).output();
    tried.is_ok_and(|tried| tried.status.success())
}

/// Without the map Headscale may not even start: what can be served is served, everybody is told
/// that the file lacks, and it is there as soon as there is room.
#[test]
fn a_full_disk_keeps_nobody_from_the_map_and_the_file_follows() {
    let Some(case) = Case::new("full disk", &config_on("127.0.0.1")) else { return };
    let program = case.start(FILL);
    let map = program.address("map");

    assert!(program.log().contains("make room"), "{}", program.log());
    let yaml = get(map, "/derpmap.yaml");
    assert!(yaml.text().contains("derp.example.org"));
    let ready = get(map, "/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("cannot be written to its file"), "{}", ready.text());
    let metrics = || get(program.address("metrics"), "/metrics").text().to_owned();
    assert!(metrics().contains("coord_bridge_map_file_failing 1\n"), "{}", metrics());
    assert!(!case.disk().join("derp.yaml").exists());

    fs::remove_file(case.disk().join("fill")).unwrap();
    let began = Instant::now();
    while get(map, "/ready").status != 200 {
        assert!(began.elapsed() < PATIENCE, "{}", program.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(fs::read(case.disk().join("derp.yaml")).unwrap(), yaml.body);
    assert!(metrics().contains("coord_bridge_map_file_failing 0\n"), "{}", metrics());
    program.stop();
}

/// Where nobody gets the map by any other way, a bridge that is ready without it would be a lie,
/// unless Headscale has one of before.
#[test]
fn a_full_disk_ends_a_bridge_that_has_no_other_way_and_no_older_map() {
    let config = config_on("127.0.0.1").replacen("127.0.0.1:0", "none", 1);
    let Some(case) = Case::new("full disk", &config) else { return };
    for nothing in ["true", "echo 'regions: {}' >derp.yaml", "echo rubbish >derp.yaml"] {
        let line = case.refusal(&format!("{nothing}; {FILL}"));
        assert!(
            line.contains("disk/derp.yaml: No space left") && line.contains("make room"),
            "{line}"
        );
    }

    let older = "regions: {900: {regionid: 900}}\n";
    let program = case.start(&format!("printf '{older}' >derp.yaml; {FILL}"));
    let file = case.disk().join("derp.yaml");
    assert_eq!(fs::read_to_string(&file).unwrap(), older);
    fs::remove_file(case.disk().join("fill")).unwrap();
    program.wait_for_log("the map is in its file again", 1);
    assert!(fs::read_to_string(&file).unwrap().contains("derp.example.org"));
    program.stop();
}

/// That is no want of room: somebody has configured it, and it stays so.
#[test]
fn a_disk_that_can_only_be_read_ends_the_bridge() {
    let Some(case) = Case::new("read-only disk", &config_on("127.0.0.1")) else { return };
    let line = case.refusal("mount -o remount,ro \"$1/disk\"");
    assert!(line.contains("Read-only") && line.contains("writable"), "{line}");
}
