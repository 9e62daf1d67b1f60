//! A network of a test's own: loopback and nothing else, no route to anywhere.

use std::io::Write;
use std::process::{Command, Stdio};

/// Set in the environment of the process that is inside.
const INSIDE: &str = "DERP_TEST_NAMESPACE";

/// Brings loopback up and becomes the program that follows.
const ENTER: &str = "ip link set lo up 2>/dev/null || ifconfig lo up || exit 99; exec \"$@\"";

/// Runs `test`, the body of the test called `name`, in a network namespace of its own: starts
/// this program once more for that test alone. Where the system allows none, one line says why,
/// past the capture of the test harness; with `CI=true` that is a failure.
pub(crate) fn run(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let Some(unshare) = ["-n", "-rn"].into_iter().find(|form| works(form)) else {
        let reason = "neither `unshare -n` nor `unshare -rn` can make a network namespace here";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{name}: {reason}");
        let line = format!("{name}: not run: {reason}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    };
    let output = enter(unshare)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(INSIDE, unshare)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "inside of the namespace:\n{text}\n{errors}");
    assert!(text.contains("1 passed"), "{name} is not the name of a test:\n{text}");
}

fn works(form: &str) -> bool {
    let status = enter(form).arg("true").stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A command inside of a new namespace; its program and arguments are still to be given.
fn enter(form: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args([form, "sh", "-c", ENTER, "sh"]);
    command
}
