//! `check`: what would run, and not a byte changed on disk.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use crate::support::HOSTS;
use crate::support::peer::Way;
use crate::support::process::{Ended, Program, command, key_file, serve_arguments};

/// Before anything was made, after it was made, and when it would be made anew.
#[test]
fn check_changes_nothing_on_disk() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("not-there-yet");
        let serve = |more: &[&str]| {
            let mut arguments = serve_arguments(host, Way::Tls13, &folder);
            arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
            arguments
        };

        let report = unchanged(state.path(), &serve(&[]));
        assert!(report.out.contains("key          will be made in "), "{report:?}");
        assert!(report.out.contains("self-signed, will be made"), "{report:?}");

        let relay = Program::start(command(&serve(&[])));
        let out = relay.out();
        let pin = out.lines().find_map(|line| line.strip_prefix("CertName: ")).unwrap();
        relay.stop();
        let report = unchanged(state.path(), &serve(&[]));
        assert!(report.out.contains(pin), "no {pin} in {report:?}");
        assert!(report.out.contains(" from ") && !report.out.contains("will be"), "{report:?}");

        // A certificate for another name, or one that is broken, would be made anew.
        let at = serve(&[]).iter().position(|argument| argument == "--hostname").unwrap();
        let mut renamed = serve(&[]);
        renamed[at + 1] = "renamed.test".to_owned();
        let report = unchanged(state.path(), &renamed);
        assert!(report.out.contains("self-signed, will be made"), "{report:?}");
        fs::write(folder.join("self-signed.pem"), "broken").unwrap();
        let report = unchanged(state.path(), &serve(&[]));
        assert!(report.out.contains("self-signed, will be made"), "{report:?}");
    }
}

/// What `serve` would refuse, `check` refuses with the same words and the same code.
#[test]
fn check_refuses_what_serve_refuses() {
    let state = tempfile::tempdir().unwrap();
    let broken = state.path().join("broken");
    fs::write(&broken, "nodekey:12\n").unwrap();
    let broken = broken.to_str().unwrap();
    fs::write(key_file(state.path()), "{}").unwrap();
    for more in [
        &["--shards", "0"][..],
        &["--listen-http", "nowhere"],
        &["--config", "/nonexistent/relay.toml"],
        // The broken key file.
        &[],
        &["--key-file", "/dev/null"],
    ] {
        let mut serve = serve_arguments(HOSTS[0], Way::Plain, state.path());
        if more.first() == Some(&"--key-file") {
            let at = serve.iter().position(|argument| argument == "--key-file").unwrap();
            serve.drain(at..at + 2);
        }
        serve.extend(more.iter().map(|argument| (*argument).to_owned()));
        same_refusal(&serve);
    }
    fs::remove_file(key_file(state.path())).unwrap();
    let key_file = key_file(state.path()).display().to_string();
    for more in [
        ["--tls", "self-signed", "--hostname", "two words", "--access", "open"],
        ["--tls", "off", "--access", "allow-list", "--allow-list", broken],
        ["--tls", "off", "--access", "verify", "--verify-url", "https:///"],
    ] {
        let serve = ["serve", "--key-file", &key_file, "--listen-derp", "127.0.0.1:0"];
        let none = ["--listen-http=none", "--listen-stun=none", "--listen-metrics=none"];
        let serve: Vec<String> =
            serve.iter().chain(&none).chain(&more).map(|&argument| argument.to_owned()).collect();
        same_refusal(&serve);
    }
}

/// Holds that `check` says no to what `serve` says no to.
fn same_refusal(serve: &[String]) {
    let served = Program::run(command(serve));
    let checked = Program::run(command(&as_check(serve)));

    assert_eq!(served.status.code(), Some(2), "{serve:?}: {served:?}");
    assert_eq!(checked.status.code(), Some(2), "{serve:?}: {checked:?}");
    assert_eq!(last_line(&checked), last_line(&served), "{serve:?}");
}

/// Runs `check`, and holds that everything below `folder` is as it was.
fn unchanged(folder: &Path, serve: &[String]) -> Ended {
    let before = everything_in(folder);

    let ended = Program::run(command(&as_check(serve)));

    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(everything_in(folder), before, "{ended:?}");
    ended
}

fn as_check(serve: &[String]) -> Vec<String> {
    let mut check = serve.to_vec();
    "check".clone_into(&mut check[0]);
    check
}

fn last_line(ended: &Ended) -> &str {
    ended.err.lines().last().unwrap_or_default()
}

/// Names, times and content of all that is below a folder.
fn everything_in(folder: &Path) -> Vec<(String, SystemTime, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let changed = fs::symlink_metadata(&path).unwrap().modified().unwrap();
        let content = fs::read(&path).unwrap_or_default();
        found.push((path.display().to_string(), changed, content));
        if path.is_dir() {
            found.extend(everything_in(&path));
        }
    }
    found.sort();
    found
}
