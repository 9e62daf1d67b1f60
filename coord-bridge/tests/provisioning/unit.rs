//! The unit of `enroll` against systemd and against the program.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

fn unit() -> String {
    let path = "systemd/coord-bridge-enroll.service";
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The one line that starts with this.
fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(key));
    let value = values.next().unwrap();
    assert_eq!(values.next(), None, "{key} twice");
    value
}

#[test]
fn what_the_unit_runs_is_taken() {
    let unit = unit();
    let mut words = value(&unit, "ExecStart=").split(' ');
    assert!(words.next().unwrap().ends_with("/coord-bridge"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_coord-bridge"));
    // Arguments are read up to this one, and nothing is done.
    let done = command.args(words).arg("--help").output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(value(&unit, "Restart="), "on-failure");
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn systemd_has_nothing_to_say_against_the_unit() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("coord-bridge-enroll.service");
    // systemd also looks whether the program is there.
    let unit = unit().replace("/usr/bin/coord-bridge", env!("CARGO_BIN_EXE_coord-bridge"));
    fs::write(&path, unit).unwrap();
    let done = match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(done) => done,
        Err(error) => {
            eprintln!("the unit is not verified: systemd-analyze cannot be run: {error}");
            return;
        }
    };
    let said = String::from_utf8_lossy(&done.stderr);
    let of_ours: Vec<&str> =
        said.lines().filter(|line| line.contains("coord-bridge-enroll")).collect();
    assert!(done.status.success() && of_ours.is_empty(), "{said}");
}
