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

use support::process::{Program, command};

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

/// Code 1 is for what no change of the configuration repairs: here a system without descriptors.
#[test]
fn a_system_that_fails_is_told_apart_from_a_configuration_that_does() {
    let state = tempfile::tempdir().unwrap();
    let starved = |limit: u32| {
        let host = support::HOSTS[0];
        let serve =
            support::process::serve_arguments(host, support::peer::Way::Plain, state.path());
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")])
            .arg(support::process::PROGRAM)
            .args(serve);
        Program::run(shell)
    };

    for limit in [5, 8, 12, 16] {
        let ended = starved(limit);

        assert_eq!(ended.status.code(), Some(1), "{limit}: {ended:?}");
        let last = ended.err.lines().last().unwrap();
        assert!(last.starts_with("derp-relay: ") && last.contains("open files"), "{limit}: {last}");
    }
}
