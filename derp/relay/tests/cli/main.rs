//! The program `derp-relay` as its operator sees it: commands, exit codes, signals, files.
//!
//! | module | holds |
//! |---|---|
//! | `check` | `check` says what would run, and changes nothing |
//! | `dev` | `dev`, in a network of its own: its ports are fixed |
//! | `faults` | every kind of bad configuration: one line, code 2, nothing left |
//! | `keys` | every key, from file, environment and flag |
//! | `lifecycle` | ready, stop, reload, restart |
//! | `secrets` | what logs and messages never show |
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod check;
mod dev;
mod faults;
mod keys;
mod lifecycle;
mod secrets;
#[path = "../support/mod.rs"]
mod support;

use support::peer::Way;
use support::process::{PROGRAM, Program, command, serve_arguments};
use support::{HOSTS, eventually};

/// Help and version are answers, on standard output; no arguments at all are a fault.
#[test]
fn help_and_version_are_said_and_nothing_is_done() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["serve", "--help"],
        &["check", "--help"],
        &["dev", "--help"],
    ] {
        let ended = Program::run(command(arguments));

        assert_eq!(ended.status.code(), Some(0), "{arguments:?}: {ended:?}");
        assert!(ended.out.contains("derp-relay") && ended.err.is_empty(), "{ended:?}");
    }
    let ended = Program::run(command(&[""; 0]));
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.out.is_empty() && ended.err.contains("Usage: derp-relay"), "{ended:?}");
}

/// Code 1 is for what no change of the configuration repairs: here a system without descriptors,
/// at whatever step of the start they run out. The one line says which limit to raise.
#[test]
fn a_system_that_fails_is_told_apart_from_a_configuration_that_does() {
    for way in [Way::Plain, Way::Tls13] {
        let state = tempfile::tempdir().unwrap();
        let serve = serve_arguments(HOSTS[0], way, state.path());
        // The program itself is loaded with five.
        let enough = (5..100).find(|limit| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
            shell.arg(PROGRAM).args(&serve).env("DERP_RELAY_LOG_LEVEL", "warn");
            let mut relay = Program::spawn(shell);
            let started = eventually("an end or a beginning", || {
                if relay.out().contains("ready ") {
                    return Ok(true);
                }
                if relay.is_running() { Err(relay.err()) } else { Ok(false) }
            });
            if !started {
                let ended = relay.ended();
                assert_eq!(ended.status.code(), Some(1), "{limit}: {ended:?}");
                let line = ended.err.strip_suffix('\n').unwrap();
                assert!(!line.contains('\n'), "{limit}: more than one line: {line}");
                assert!(line.starts_with("derp-relay: ") && line.contains("open files"), "{line}");
                assert!(
                    line.contains("raise the limits of this process (systemd: LimitNOFILE="),
                    "{limit}: {line}"
                );
            }
            started
        });
        assert!(enough.is_some_and(|limit| limit > 12), "{enough:?} are enough");
    }
}
