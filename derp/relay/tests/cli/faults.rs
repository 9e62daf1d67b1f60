//! Every kind of bad configuration: one line that names what is wrong and what to do, exit code
//! 2, and nothing left behind.

use std::fs;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};

use crate::support::peer::Way;
use crate::support::process::{Program, command, key_file, serve_arguments};
use crate::support::{HOSTS, eventually, quiet_address};

/// A way to go wrong: arguments after `serve`, variables, and what the line has to name.
struct Fault {
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    named: Vec<String>,
}

/// Flags and variables that do not exist, and values that are none.
#[test]
fn what_cannot_be_read_is_named_with_what_was_meant() {
    let place = Place::new();
    let base = place.good();
    for fault in [
        flags(&base, &["--listen-derpp", "127.0.0.1:0"], &["--listen-derpp", "'--listen-derp'"]),
        flags(&base, &["--frobnicate"], &["--frobnicate", "--help"]),
        flags(&base, &["surplus"], &["'surplus'"]),
        flags(&[], &["sevre"], &["'sevre'", "'serve'"]),
        flags(&base, &["--listen-http", ":80"], &["--listen-http", "[::]:443"]),
        flags(&base, &["--listen-http", "localhost:80"], &["--listen-http", "IP:PORT"]),
        flags(&base, &["--listen-http", "127.0.0.1:65536"], &["--listen-http", "127.0.0.1:65536"]),
        flags(&base, &["--shards", "many"], &["--shards", "'many'"]),
        flags(&base, &["--shards", "65536"], &["--shards", "65536"]),
        flags(&base, &["--handshakes-per-address", "-1"], &["-1"]),
        flags(&base, &["--queue-age", "soon"], &["--queue-age", "30s"]),
        flags(&base, &["--queue-bytes", "2MB"], &["--queue-bytes", "2MiB"]),
        flags(&base, &["--verify-fail-open=perhaps"], &["--verify-fail-open", "true, false"]),
        flags(&base, &["--log-level", "loud"], &["--log-level", "trace", "warn"]),
        flags(&base, &["--log-format", "xml"], &["--log-format", "text, json"]),
        flags(&[], &["serve", "--tls", "maybe"], &["--tls", "self-signed"]),
        flags(&[], &["serve", "--access", "all"], &["--access", "allow-list"]),
        flags(&[], &["serve", "--shards", "1", "--shards", "1"], &["--shards", "multiple"]),
        variable(&base, "DERP_RELAY_SHARD", "1", &["DERP_RELAY_SHARD", "`DERP_RELAY_SHARDS`"]),
        variable(&base, "DERP_RELAY_X", "1", &["environment variable DERP_RELAY_X"]),
        variable(&base, "DERP_RELAY_SHARDS", "many", &["--shards", "DERP_RELAY_SHARDS"]),
        variable(&base, "DERP_RELAY_QUEUE_AGE", "", &["--queue-age", "DERP_RELAY_QUEUE_AGE"]),
    ] {
        place.refuses(fault);
    }
}

/// Values that can be read and cannot work, alone or together.
#[test]
fn what_cannot_work_is_named_with_what_to_do() {
    let place = Place::new();
    let base = place.good();
    let list = place.write("allowed", "");
    for fault in [
        flags(&base, &["--shards", "0"], &["shards: 0", "from 1 to 256"]),
        flags(&base, &["--shards", "257"], &["shards: 257", "from 1 to 256"]),
        flags(&base, &["--queue-bytes", "64KiB"], &["queue_bytes: 64KiB", "128KiB"]),
        flags(&base, &["--queue-age", "1ms"], &["queue_age: 1ms", "10ms"]),
        flags(&base, &["--queue-age", "2m"], &["queue_age: 2m", "1m"]),
        flags(&base, &["--home", "nowhere"], &["home: `nowhere`", "`blank`"]),
        flags(&base, &["--home", "http://a\nb"], &["home: `http://a b`"]),
        flags(&base, &["--allow-list", &list], &["allow_list", "access = \"allow-list\""]),
        flags(&base, &["--verify-url", "http://x/"], &["verify_url", "access = \"verify\""]),
        flags(&base, &["--verify-interval", "1m"], &["verify_interval", "access = \"verify\""]),
        flags(&base, &["--verify-grace", "1m"], &["verify_grace", "access = \"verify\""]),
        flags(
            &place.except("--access"),
            &["--verify-url", "a b=http://x/", "--verify-interval", "10ms", "--verify-grace", "0"],
            &["verify_url: `a b`", "verify_interval: 10ms", "0 for never", "verify_grace: 0s"],
        ),
        flags(
            &place.except("--access"),
            &["--verify-url", "http://user:hunter2@x/"],
            &["verify_url", "password", "remove it"],
        ),
        flags(&base, &["--verify-fail-open"], &["verify_fail_open", "access = \"verify\""]),
        flags(&base, &["--ca-file", &list], &["ca_file", "access = \"verify\""]),
        flags(&base, &["--tls-cert", &list, "--tls-key", &list], &["tls_cert", "tls = \"files\""]),
        flags(
            &place.except("--listen-derp"),
            &["--listen-derp", "none"],
            &["listen_derp", "DERP listener"],
        ),
        flags(&place.except("--access"), &[], &["verify_url", "--verify-url", "--access open"]),
        flags(
            &place.except("--access"),
            &["--verify-url", "headscale.example.org"],
            &["verify_url: `headscale.example.org`", "https://"],
        ),
        flags(
            &place.except("--access"),
            &["--verify-url", "https:///verify"],
            &["verify_url: `https:///verify`", "with a host"],
        ),
        flags(&place.except("--access"), &["--access", "allow-list"], &["allow_list", "--allow-"]),
        flags(&place.except("--tls"), &[], &["hostname", "--tls off", "--tls self-signed"]),
        flags(&place.except("--tls"), &["--tls", "self-signed"], &["hostname", "--tls off"]),
        flags(
            &place.except("--tls"),
            &["--tls", "self-signed", "--hostname", "two words"],
            &["`two words`", "--hostname"],
        ),
        flags(
            &place.except("--tls"),
            &["--hostname", "a.test", "--tls-cert", &list],
            &["tls_cert, tls_key: 1 and 0", "one key per certificate"],
        ),
    ] {
        place.refuses(fault);
    }
}

/// All faults of one configuration come at once: nobody wants to find them one by one.
#[test]
fn several_faults_are_named_together() {
    let place = Place::new();
    let wrong = ["serve", "--shards", "0", "--queue-bytes", "1", "--queue-age", "0"];
    let more = ["--home", "x", "--verify-grace", "31d", "--listen-derp", "none"];
    let named = [
        "shards: 0",
        "queue_bytes: 1",
        "queue_age: 0s",
        "home: `x`",
        "verify_grace:",
        "listen_derp:",
        "hostname:",
        "tls_cert, tls_key:",
        "verify_url:",
    ];
    place.refuses(flags(&[], &[&wrong[..], &more].concat(), &named));
}

/// Files of settings: what is unknown, what is no value, what cannot be read.
#[test]
fn a_bad_file_of_settings_is_named_with_line_and_key() {
    let place = Place::new();
    let huge = format!("# {}\nshards = 1\n", "x".repeat(1 << 20));
    for (text, named) in [
        ("queue_aeg = \"1s\"\n", &[":1:", "`queue_aeg`", "`queue_age`"][..]),
        ("# one\n\nshards = 1\n[listen]\nderp = 1\n", &[":4:", "`listen`"]),
        ("shards = \"many\"\n", &[":1: shards:", "string"]),
        ("\nqueue_bytes = \"2MB\"\n", &[":2: queue_bytes:", "2MiB"]),
        ("queue_bytes = -1\n", &[":1: queue_bytes:"]),
        ("queue_age = true\n", &[":1: queue_age:", "duration"]),
        ("listen_derp = 443\n", &[":1: listen_derp:", "443"]),
        ("listen_derp = [\"127.0.0.1\"]\n", &[":1: listen_derp:", "IP:PORT"]),
        ("tls = \"on\"\n", &[":1: tls:", "self-signed"]),
        ("access = \"nobody\"\n", &[":1: access:", "allow-list"]),
        ("verify_fail_open = \"yes\"\n", &[":1: verify_fail_open:", "boolean"]),
        ("shards = 0\n", &["shards: 0"]),
        ("shards = 1\nshards = 1\n", &[":2:", "duplicate"]),
        ("shards = \n", &[":1: shards:"]),
        ("shards\n", &[":1:"]),
        ("[[[\n", &[":1:"]),
        ("home = \"\u{0}\"\n", &[":1:"]),
        (&huge, &["1048", "at most 1048576"]),
    ] {
        let file = place.write("relay.toml", text);
        let named = [&[file.as_str()][..], named].concat();
        // The value of `shards` is wrong, not the file.
        let named = if text == "shards = 0\n" { named[1..].to_vec() } else { named };
        place.refuses(flags(&place.good(), &["--config", &file], &named));
    }
    let not_text = place.file("relay.toml");
    fs::write(&not_text, b"home = \"caf\xe9\"\n").unwrap();
    let folder = place.folder.path().to_str().unwrap().to_owned();
    let missing = place.file("missing.toml").display().to_string();
    for (file, named) in [
        (not_text.to_str().unwrap(), "UTF-8"),
        (&missing, "--config"),
        (&folder, "--config"),
        ("/proc/self/mem", "--config"),
    ] {
        place.refuses(flags(&place.good(), &["--config", file], &[file, named]));
        place.refuses(variable(&place.good(), "DERP_RELAY_CONFIG", file, &[file, named]));
    }
}

/// DERP-3.7: a key file that is there and cannot be used stops the start, and stays as it is.
#[test]
fn a_key_file_that_cannot_be_used_is_named_and_kept() {
    let private = "privkey:0894c89a14f1ba7d86de9d12a1ba7d86de9d12a1ba7d86de9d12a1ba7d86de5d";
    for text in ["", "{}", "junk", "\u{0}\u{1}", &private[..40], &format!("{private}00")] {
        let place = Place::new();
        let file = key_file(place.folder.path());
        fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap();

        let line = place.refuses(flags(&place.good(), &[], &[path, "holds no key", "backup"]));

        assert!(!line.contains("0894c89a"), "{line}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    let place = Place::new();
    fs::create_dir(key_file(place.folder.path())).unwrap();
    let path = key_file(place.folder.path()).display().to_string();
    place.refuses(flags(&place.good(), &[], &["cannot read the key file", &path, "--key-file"]));
    let place = Place::new();
    let path = "/proc/derp-relay/derp.key";
    let arguments = [&place.except("--key-file")[..], &["--key-file".into(), path.into()]].concat();
    place.refuses(flags(&arguments, &[], &["cannot create the key file", path, "--key-file"]));
    if !rustix::process::geteuid().is_root() {
        let place = Place::new();
        let file = key_file(place.folder.path());
        fs::write(&file, private).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        let path = file.to_str().unwrap();
        place.refuses(flags(&place.good(), &[], &["cannot read the key file", path, "readable"]));
    }
}

/// DERP-1.2: certificates that are missing, junk, or belong to another key.
#[test]
fn certificates_that_cannot_be_used_are_named() {
    let place = Place::new();
    let (certificate, key) = place.pair("one");
    let (_, other_key) = place.pair("other");
    let junk = place.write("junk.pem", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n");
    let missing = place.file("missing.pem").display().to_string();
    for (certificate, key, named) in [
        (&missing, &key, &[missing.as_str(), "--tls-cert"][..]),
        (&certificate, &missing, &[&missing, "--tls-key"]),
        (&junk, &key, &[&junk, "no certificate"]),
        (&key, &key, &[&key, "no certificate"]),
        (&certificate, &junk, &[&junk, "no private key"]),
        (&certificate, &certificate, &[&certificate, "no private key"]),
        (&certificate, &other_key, &[&certificate, &other_key, "together"]),
    ] {
        let pair = ["--hostname", "one.test", "--tls-cert", certificate, "--tls-key", key];
        let line = place.refuses(flags(&place.except("--tls"), &pair, named));
        assert!(!line.contains("c2VjcmV0"), "{line}");
    }
}

/// DERP-8.3: an allow-list or a verifier that cannot be used lets nobody in, and says so at once.
#[test]
fn access_rules_that_cannot_be_used_are_named() {
    let place = Place::new();
    let good = format!("nodekey:{}", "01".repeat(32));
    let missing = place.file("missing").display().to_string();
    let listed = |file: &str, named: &[&str]| {
        let arguments = ["--access", "allow-list", "--allow-list", file];
        place.refuses(flags(&place.except("--access"), &arguments, named));
    };
    listed(&missing, &[&missing, "--allow-list"]);
    listed(place.folder.path().to_str().unwrap(), &["--allow-list"]);
    for bad in ["nodekey:12", &good.replace("nodekey", "mkey"), &format!("{good},{good}")] {
        let list = place.write("allowed", &format!("# fleet\n{good}\n{bad}\n"));
        listed(&list, &[&format!("{list}:3:"), "64 hex digits"]);
    }
    let list = place.file("allowed");
    fs::write(&list, b"nodekey:\xff\n").unwrap();
    listed(list.to_str().unwrap(), &[list.to_str().unwrap(), "UTF-8"]);

    let verified = |file: &str, named: &[&str]| {
        let arguments = ["--verify-url", "https://127.0.0.1:1/verify", "--ca-file", file];
        place.refuses(flags(&place.except("--access"), &arguments, named));
    };
    verified(&missing, &["ca_file", &missing, "No such file"]);
    verified(&place.write("empty.pem", ""), &["ca_file", "empty.pem", "PEM form"]);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    verified(&place.write("broken.pem", broken), &["ca_file", "broken.pem"]);
}

/// What it warns of, it warns of once it runs: a start that fails has one line to read.
#[test]
fn a_warning_does_not_come_before_a_refusal() {
    let place = Place::new();
    let file = key_file(place.folder.path());
    fs::write(&file, "junk").unwrap();
    let fail_open = ["--verify-url", "http://127.0.0.1:1/verify", "--verify-fail-open"];
    place.refuses(flags(&place.except("--access"), &fail_open, &["holds no key"]));

    fs::remove_file(&file).unwrap();
    let mut serve = command(&place.except("--access"));
    serve.args(fail_open);
    let relay = Program::start(serve);
    eventually("the warning", || {
        let log = relay.err();
        log.contains("everybody may enter").then_some(()).ok_or(log)
    });
}

/// A port that somebody else has: TCP for each listener, UDP for STUN, in both families.
#[test]
fn a_taken_port_is_named_with_its_flag() {
    for host in HOSTS {
        let (tcp, udp) = (tcp(host), udp(host));
        let taken_tcp = tcp.local_addr().unwrap().to_string();
        let taken_udp = udp.local_addr().unwrap().to_string();
        for (flag, taken, remedy) in [
            ("--listen-derp", &taken_tcp, "choose another port"),
            ("--listen-http", &taken_tcp, "choose another port"),
            ("--listen-metrics", &taken_tcp, "choose another port"),
            ("--listen-stun", &taken_udp, "listen on another port"),
        ] {
            let place = Place::new();
            let arguments = place.except(flag);
            place.refuses(flags(&arguments, &[flag, taken], &[taken, flag, remedy]));
        }
        // The same port twice within one relay is no better.
        let place = Place::new();
        let free = quiet_address(host).to_string();
        let arguments = ["--listen-derp", &free, "--listen-derp", &free];
        place.refuses(flags(&place.except("--listen-derp"), &arguments, &[&free, "--listen-derp"]));
    }
    let place = Place::new();
    let foreign = "192.0.2.1:0";
    for (flag, remedy) in [("--listen-derp", "[::]"), ("--listen-stun", "0.0.0.0")] {
        place.refuses(flags(&place.except(flag), &[flag, foreign], &["192.0.2.1", flag, remedy]));
    }
}

/// A folder for one relay, and what it may not leave there.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.file(name), text).unwrap();
        self.file(name).display().to_string()
    }

    /// A certificate and its key in files of their own.
    fn pair(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![format!("{name}.test")]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let certificate = self.write(&format!("{name}.crt"), &certificate.pem());
        (certificate, self.write(&format!("{name}.key"), &key.serialize_pem()))
    }

    /// Arguments with which a relay starts: without TLS, for everybody, on any ports.
    fn good(&self) -> Vec<String> {
        serve_arguments(HOSTS[0], Way::Plain, self.folder.path())
    }

    /// The same without a flag and its value.
    fn except(&self, flag: &str) -> Vec<String> {
        let mut arguments = self.good();
        let at = arguments.iter().position(|argument| argument == flag).unwrap();
        arguments.drain(at..at + 2);
        arguments
    }

    /// Holds that a start is refused: on one line, with code 2, and without a trace.
    #[track_caller]
    fn refuses(&self, fault: Fault) -> String {
        let before = files(self.folder.path());
        let mut run = command(&fault.arguments);
        run.envs(fault.variables);
        let ended = Program::run(run);

        assert_eq!(ended.status.code(), Some(2), "{:?}: {ended:?}", fault.arguments);
        assert_eq!(ended.out, "", "{ended:?}");
        let line = ended.err.strip_suffix('\n').unwrap_or_default().to_owned();
        assert!(!line.contains(['\n', '\r']), "more than one line: {}", ended.err);
        let text = line.strip_prefix("derp-relay: ");
        let text = text.unwrap_or_else(|| panic!("not the program's last word: {line}"));
        for name in &fault.named {
            assert!(text.contains(name.as_str()), "no {name:?} in: {text}");
        }
        assert_eq!(files(self.folder.path()), before, "left behind, after: {text}");
        line
    }
}

fn flags(base: &[String], more: &[&str], named: &[&str]) -> Fault {
    let mut arguments = base.to_vec();
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    let named = named.iter().map(|name| (*name).to_owned()).collect();
    Fault { arguments, variables: Vec::new(), named }
}

fn variable(base: &[String], name: &'static str, value: &str, named: &[&str]) -> Fault {
    Fault { variables: vec![(name, value.to_owned())], ..flags(base, &[], named) }
}

/// Names and content of everything in a folder.
fn files(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).ok()))
        .collect();
    files.sort();
    files
}

fn tcp(host: IpAddr) -> TcpListener {
    TcpListener::bind((host, 0)).unwrap()
}

fn udp(host: IpAddr) -> UdpSocket {
    UdpSocket::bind((host, 0)).unwrap()
}
