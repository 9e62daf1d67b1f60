//! `enroll` against a bridge: into the tailnet, or a clear word on why not.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coord_bridge::headscale::FailureKind;
use coord_bridge::provisioning::limits::Rate;
use serde_json::Value;

use crate::bench::Bench;
use crate::headscale::Mood;
use crate::http::{Running, until};
use crate::tailnet_client::{BRISK, TailnetClient};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn url(running: &Running) -> String {
    format!("http://{}", running.addresses[0])
}

fn assert_secret(secret: &str, client: &TailnetClient, output: &Output) {
    let seen = client.noted("seen");
    assert!(seen.contains("TMPDIR="), "the notes have the environment: {seen}");
    for place in [&seen, text(&output.stdout), text(&output.stderr)] {
        assert!(!place.contains(secret), "{place}");
    }
    client.assert_left_nothing();
}

/// Issue 5, W30: into the tailnet from the two files, and token and key are nowhere to be seen.
#[test]
fn a_machine_enrolls_and_its_secrets_are_not_seen() {
    let running = Running::of(Bench::new());
    for (n, address) in running.addresses.iter().enumerate() {
        let client = TailnetClient::new();
        let name = format!("Node-{n}");
        let token = running.bench.token();
        let mut command = client.command(
            &format!("{token}\n"),
            &format!("http://{address}/\n"),
            &["--hostname", &name],
        );
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let key = running.bench.headscale.valid_keys().pop().unwrap().secret;
        assert_eq!(client.noted("key"), key);
        assert_eq!(
            client.noted("calls"),
            format!(
                "up --login-server=https://hs.example.org --auth-key=file:/dev/stdin \
                 --hostname=node-{n}\nip -4\n"
            )
        );
        assert_eq!(
            text(&output.stdout),
            format!("node-{n} is in the tailnet of https://hs.example.org\n100.64.0.7\n")
        );
        assert!(output.stderr.is_empty(), "{output:?}");
        for secret in [&token, &key] {
            assert_secret(secret, &client, &output);
        }
    }
}

/// A machine that comes again is the same one, and has one key.
#[test]
fn a_repeat_is_recognised_and_told_to_programs() {
    let running = Running::of(Bench::new());
    let client = TailnetClient::new();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let more = ["--json", "--hostname", "one"];
        let output =
            client.command(&running.bench.token(), &url(&running), &more).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&said["enrolled"], &said["hostname"]), (&true.into(), &"one".into()));
        assert_eq!(said["login_server"], "https://hs.example.org");
        assert_eq!(said["tailscale_ip"], "100.64.0.7");
        assert!(said["expires_at"].as_str().unwrap().ends_with('Z'));
        ids.push(said["machine_id"].clone());
        assert_secret(&running.bench.headscale.valid_keys()[0].secret, &client, &output);
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(running.bench.headscale.valid_keys().len(), 1);
}

/// `provisioning.md` §6: a file that is not there is named, an empty one is not mentioned.
#[test]
fn without_token_or_url_there_is_nothing_to_do() {
    for (token, url, said) in [
        (None, Some("http://127.0.0.1:1"), "no enrollment token in "),
        (Some("secret"), None, "no provisioner URL in "),
        (None, None, "no enrollment token in "),
        (Some(" \n"), Some("http://127.0.0.1:1"), ""),
        (Some("secret"), Some("\n"), ""),
    ] {
        let client = TailnetClient::new();
        for (name, content) in [("enroll-token", token), ("provisioner-url", url)] {
            if let Some(content) = content {
                std::fs::write(client.path(name), content).unwrap();
            }
        }
        let output = client.bare_command(&[]).output().unwrap();
        let out = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(out.starts_with(said) && out.is_empty() == said.is_empty(), "{out}");
        assert!(output.stderr.is_empty(), "{output:?}");
        let output = client.bare_command(&["--json"]).output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["enrolled"], false);
        assert!(!told["reason"].as_str().unwrap().is_empty());
        assert_eq!(client.noted("calls"), "");
    }
}

/// Exit code 2, one line, nothing asked.
#[test]
fn what_cannot_be_meant_is_said() {
    let client = TailnetClient::new();
    for (token, url, more, words) in [
        ("secret", "bridge", &[][..], "no http:// or https:// URL"),
        ("secret", "http://u:geheim@b", &[], "user, password"),
        ("two words", "http://b", &[], "other things than one on one line"),
        ("secret", "http://b", &["--hostname", "a b"], "letters, digits or hyphens"),
        ("secret", "https://b", &["--ca-file", "/nowhere"], "--ca-file: /nowhere cannot be used"),
    ] {
        let output = client.command(token, url, more).output().unwrap();
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(line.contains(words) && line.lines().count() == 1, "{line}");
        assert!(!line.contains("geheim") && !line.contains("two words"), "{line}");
    }
    let both = ["--url", "http://b", "--url-file", "x"];
    assert_eq!(client.bare_command(&both).output().unwrap().status.code(), Some(2));
    assert_eq!(client.noted("calls"), "");
}

/// said at once and in words; the machine does not knock again with the same token.
#[test]
fn a_wrong_token_ends_it() {
    let running = Running::of(Bench::new());
    let client = TailnetClient::new();
    let wrong = "0".repeat(64);
    let output = client.command(&wrong, &url(&running), &[]).output().unwrap();
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(line.contains("does not know the token") && line.lines().count() == 1, "{line}");
    assert!(line.contains("coord-bridge token show") && !line.contains(&wrong), "{line}");
    assert_eq!(client.noted("calls"), "");
    assert!(running.bench.headscale.all_keys().is_empty());
}

#[test]
fn a_bridge_that_is_down_is_asked_until_it_is_up() {
    let running = Running::of(Bench::new());
    let front = Front::before(running.addresses[0]);
    let client = TailnetClient::new();
    let (done, reports) =
        client.enroll(&running.bench.token(), &format!("http://{}", front.address), BRISK, || {
            front.is_up.store(true, Ordering::SeqCst);
        });
    assert_eq!(done.unwrap().hostname, "one");
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports[0].starts_with("try 1 of 3: ") && reports[0].contains("gives no answer"));
    assert_eq!(client.noted("key"), running.bench.headscale.valid_keys()[0].secret);
}

/// Nobody listens there at all.
#[test]
fn a_bridge_that_stays_down_is_given_up() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = TailnetClient::new();
    let url = format!("http://{nobody}");
    let output = client.command("secret", &url, &["--tries", "1"]).output().unwrap();
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(line.contains("no key in 1 tries") && line.contains("is it running"), "{line}");
    assert!(!line.contains("secret"), "{line}");
    assert_eq!(client.noted("calls"), "");
}

#[test]
fn headscale_comes_back_while_it_tries() {
    let running = Running::of(Bench::new());
    running.bench.headscale.set("create_key", Mood::Loses(FailureKind::Unreachable));
    let client = TailnetClient::new();
    // The bridge asks to be left alone for a second.
    let (done, reports) = client.enroll(&running.bench.token(), &url(&running), BRISK, || {
        running.bench.headscale.set("create_key", Mood::Well);
    });
    done.unwrap();
    assert!(reports[0].contains("answers 503 (Headscale cannot be reached)"), "{reports:?}");
    assert_eq!(running.bench.headscale.valid_keys().len(), 1);
}

/// T2: it stays away as long as it is told to.
#[test]
fn a_machine_too_many_comes_when_it_is_told_to() {
    let rate = Rate { burst: 1, window: Duration::from_secs(1) };
    let running = Running::with(|settings| settings.rate = rate);
    let client = TailnetClient::new();
    let others = TailnetClient::new();
    others.enroll(&running.bench.token(), &url(&running), BRISK, || {}).0.unwrap();
    let (done, reports) = client.enroll(&running.bench.token(), &url(&running), BRISK, || {
        running.bench.clock.advance(Duration::from_secs(1));
    });
    done.unwrap();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(
        reports[0].contains("answers 429 (rate limit exceeded); again in 1.0 s"),
        "{reports:?}"
    );
}

#[test]
fn what_tailscale_says_is_passed_on_without_the_key() {
    let running = Running::of(Bench::new());
    let client = TailnetClient::new();
    client.set_mood("refuses");
    let output = client.command(&running.bench.token(), &url(&running), &[]).output().unwrap();
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(line.contains("tailscale up: exit status: 1: backend error: invalid key: …"), "{line}");
    assert_secret(&client.noted("key"), &client, &output);

    client.set_mood("no-address");
    let output = client.command(&running.bench.token(), &url(&running), &[]).output().unwrap();
    assert!(output.status.success(), "in the tailnet all the same: {output:?}");
    assert!(text(&output.stderr).contains("no current Tailscale IPs"), "{output:?}");

    std::fs::remove_file(client.path("tailscale")).unwrap();
    let output = client.command(&running.bench.token(), &url(&running), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("give its path by --tailscale"), "{output:?}");
}

#[test]
fn a_login_that_never_ends_is_ended() {
    let running = Running::of(Bench::new());
    let client = TailnetClient::new();
    client.set_mood("hangs");
    // Long enough that it has said what it has to say, also on a busy machine: else it says less.
    let schedule = coord_bridge::enroll::Schedule { join_time: Duration::from_secs(3), ..BRISK };
    let (done, _) = client.enroll(&running.bench.token(), &url(&running), schedule, || {});
    let words = done.unwrap_err().to_string();
    assert!(words.contains("not done after 3 s"), "{words}");
}

/// Killed while `tailscale up` runs, it leaves the key nowhere.
#[test]
fn a_kill_in_the_middle_leaves_no_key() {
    let running = Running::of(Bench::new());
    let client = TailnetClient::new();
    client.set_mood("hangs");
    let mut child = client.command(&running.bench.token(), &url(&running), &[]).spawn().unwrap();
    until(|| client.path("tailscale.hangs").exists());
    client.assert_left_nothing();
    child.kill().unwrap();
    child.wait().unwrap();
    client.assert_left_nothing();
    let key = &running.bench.headscale.valid_keys()[0].secret;
    assert!(!client.noted("seen").contains(key));
}

/// What stands before a bridge: cuts connections off while that is down.
struct Front {
    address: SocketAddr,
    is_up: Arc<AtomicBool>,
}

impl Front {
    fn before(bridge: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = Self { address: listener.local_addr().unwrap(), is_up: Arc::default() };
        let is_up = Arc::clone(&front.is_up);
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_up.load(Ordering::SeqCst) {
                    pass_on(&stream.unwrap(), bridge);
                }
            }
        });
        front
    }
}

/// One request and its answer.
fn pass_on(mut client: &TcpStream, bridge: SocketAddr) {
    let server = TcpStream::connect(bridge).unwrap();
    let (from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || copy(from, &mut to));
    copy(server, &mut client);
}

fn copy(mut from: TcpStream, to: &mut impl Write) {
    let mut piece = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    drop(from.shutdown(Shutdown::Both));
}
