//! Every key of the configuration, from each of its three sources, as `check` reports it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use derp_relay::config::Keys;
use rcgen::{CertificateParams, KeyPair};

use crate::support::HOSTS;
use crate::support::http;
use crate::support::peer::Way;
use crate::support::process::{Program, command, serve_arguments};

/// How a key is tried: what else has to be given, its value, and a line that its value alone
/// brings about. `{}` stands for the folder of the test.
struct Trial {
    with: &'static [(&'static str, &'static str)],
    value: &'static str,
    seen: &'static str,
}

/// What `check` needs beside the key that is tried, unless the trial says otherwise.
const BASE: &[(&str, &str)] = &[("tls", "off"), ("access", "open"), ("key_file", "{}/base.key")];

/// A trial for every key there is: `no_key_is_without_a_trial` holds that.
#[rustfmt::skip]
const TRIALS: &[(&str, Trial)] = &[
    ("hostname", Trial { with: FILES, value: "tried.test", seen: "no certificate is valid for tried.test" }),
    ("listen_derp", Trial { with: &[], value: "127.0.0.1:1,[::1]:2", seen: "derp 127.0.0.1:1 [::1]:2" }),
    ("listen_http", Trial { with: &[], value: "127.0.0.1:3,[::1]:4", seen: "http 127.0.0.1:3 [::1]:4" }),
    ("listen_stun", Trial { with: &[], value: "127.0.0.1:5,[::1]:6", seen: "stun 127.0.0.1:5 [::1]:6" }),
    ("listen_metrics", Trial { with: &[], value: "none", seen: "metrics none" }),
    ("tls", Trial { with: &[("hostname", "tried.test")], value: "self-signed", seen: "tls self-signed, will be made" }),
    ("tls_cert", Trial { with: FILES, value: "{}/two.crt", seen: "{}/two.crt and {}/one.key cannot be used together" }),
    ("tls_key", Trial { with: FILES, value: "{}/two.key", seen: "{}/one.crt and {}/two.key cannot be used together" }),
    ("key_file", Trial { with: &[], value: "{}/tried.key", seen: "key will be made in {}/tried.key" }),
    ("access", Trial { with: &[("verify_url", "http://127.0.0.1:1/")], value: "verify", seen: "access verify" }),
    ("verify_url", Trial { with: VERIFY, value: "http://127.0.0.1:2/tried", seen: "access verify by http://127.0.0.1:2/tried" }),
    ("verify_interval", Trial { with: VERIFY, value: "90s", seen: "asked about again within 90s" }),
    ("verify_grace", Trial { with: VERIFY, value: "2h", seen: "known nodes enter for 2h" }),
    ("verify_fail_open", Trial { with: VERIFY, value: "true", seen: "open while it cannot be reached" }),
    ("allow_list", Trial { with: &[("access", "allow-list")], value: "{}/tried", seen: "{}/tried" }),
    ("ca_file", Trial { with: VERIFY, value: "{}/tried.pem", seen: "ca_file: {}/tried.pem" }),
    ("bridge_url", Trial { with: BRIDGE, value: "http://127.0.0.1:2/tried", seen: "bridge http://127.0.0.1:2/tried, as" }),
    ("bridge_token_file", Trial { with: BRIDGE, value: "{}/tried", seen: "bridge token in {}/tried" }),
    ("bridge_region_id", Trial { with: BRIDGE, value: "901", seen: "as 901-relay.test in region 901" }),
    ("bridge_region_code", Trial { with: BRIDGE, value: "tried", seen: "in region 999 tried" }),
    ("bridge_region_name", Trial { with: BRIDGE, value: "Tried", seen: "(Tried)" }),
    ("bridge_node_name", Trial { with: BRIDGE, value: "tried", seen: "as tried in region 999" }),
    ("bridge_ipv4", Trial { with: BRIDGE, value: "192.0.2.7", seen: "IPv4 192.0.2.7" }),
    ("bridge_ipv6", Trial { with: BRIDGE, value: "none", seen: "IPv6 none" }),
    ("bridge_derp_port", Trial { with: BRIDGE, value: "8443", seen: "DERP port 8443" }),
    ("bridge_stun_port", Trial { with: BRIDGE, value: "-1", seen: "STUN port -1" }),
    ("handshakes_per_address", Trial { with: &[], value: "77", seen: "handshakes at most 77 per address" }),
    ("queue_bytes", Trial { with: &[], value: "3MiB", seen: "queue 3MiB per client" }),
    ("queue_bytes_total", Trial { with: &[], value: "64MiB", seen: "queues 64MiB together" }),
    ("queue_age", Trial { with: &[], value: "700ms", seen: "queue 2MiB per client, 700ms" }),
    ("shards", Trial { with: &[], value: "7", seen: "shards 7" }),
    ("home", Trial { with: &[], value: "https://tried.test/", seen: "home https://tried.test/" }),
    ("log_level", Trial { with: &[], value: "warn", seen: "log warn" }),
    ("log_format", Trial { with: &[], value: "json", seen: "log info, json" }),
    ("log_addresses", Trial { with: &[], value: "off", seen: "log info, text, no addresses" }),
];

/// A pair of files, to be used or replaced by the key that is tried.
const FILES: &[(&str, &str)] = &[
    ("tls", "files"),
    ("hostname", "one.test"),
    ("tls_cert", "{}/one.crt"),
    ("tls_key", "{}/one.key"),
];

const VERIFY: &[(&str, &str)] = &[("access", "verify"), ("verify_url", "http://127.0.0.1:1/")];

const BRIDGE: &[(&str, &str)] = &[
    ("hostname", "relay.test"),
    ("bridge_url", "http://127.0.0.1:1/"),
    ("bridge_token_file", "{}/token"),
];

/// Where a key is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    File,
    Variable,
    Flag,
}

/// A key that somebody adds has to be tried here.
#[test]
fn no_key_is_without_a_trial() {
    let mut tried: Vec<&str> = TRIALS.iter().map(|(key, _)| *key).collect();
    let mut keys = Keys::names();
    tried.sort_unstable();
    keys.sort_unstable();
    assert_eq!(tried, keys);
}

/// What a key does, it does from every source; and nothing else does it.
#[test]
fn every_key_counts_from_file_variable_and_flag() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        write_pair(folder.path(), name);
    }
    let at = |text: &str| text.replace("{}", folder.path().to_str().unwrap());
    for (key, Trial { with, value, seen }) in TRIALS {
        let mut keys: BTreeMap<&str, String> =
            BASE.iter().chain(*with).map(|(key, value)| (*key, at(value))).collect();
        let seen = at(seen);
        // Where the trial starts from: the key as it is by default, or of another value.
        let without = report(folder.path(), &keys, From::Flag);
        assert!(!without.contains(&seen), "{key}: {seen:?} says nothing: {without}");

        for from in [From::File, From::Variable, From::Flag] {
            keys.insert(key, at(value));
            let with = report(folder.path(), &keys, from);
            assert!(with.contains(&seen), "{key} from {from:?}: no {seen:?} in: {with}");
        }
    }
}

/// Design §5: flags weigh more than variables, and variables more than the file.
#[test]
fn flags_weigh_more_than_variables_and_those_more_than_the_file() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("relay.toml");
        fs::write(&file, "home = \"https://file.test/\"\n").unwrap();
        for (from_file, from_variable, from_flag, expected) in [
            (true, true, true, "https://flag.test/"),
            (true, true, false, "https://variable.test/"),
            (true, false, true, "https://flag.test/"),
            (true, false, false, "https://file.test/"),
            (false, true, true, "https://flag.test/"),
            (false, true, false, "https://variable.test/"),
            (false, false, true, "https://flag.test/"),
        ] {
            let mut serve = command(&serve_arguments(host, Way::Plain, state.path()));
            if from_file {
                serve.arg("--config").arg(&file);
            }
            if from_variable {
                serve.env("DERP_RELAY_HOME", "https://variable.test/");
            }
            if from_flag {
                serve.args(["--home", "https://flag.test/"]);
            }
            let relay = Program::start(serve);

            let answer = http::get(relay.address("derp"), "/");

            assert_eq!((answer.status, answer.field("location")), (302, Some(expected)));
        }
    }
}

/// Several values are repeated flags, commas in a variable, and a list in the file; one is one.
#[test]
fn the_file_may_be_named_by_a_variable_and_lists_by_repeated_flags() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("relay.toml");
    let both = r#"["127.0.0.1:0", "[::1]:0"]"#;
    fs::write(
        &file,
        format!(
            "tls = \"off\"\naccess = \"open\"\nlisten_derp = {both}\nlisten_stun = {both}\n\
             listen_metrics = \"none\"\n"
        ),
    )
    .unwrap();
    let mut serve = command(&["serve", "--key-file"]);
    serve
        .arg(state.path().join("derp.key"))
        .args(["--listen-http", "127.0.0.1:0", "--listen-http", "[::1]:0"])
        .env("DERP_RELAY_CONFIG", &file)
        .env("DERP_RELAY_LISTEN_METRICS", "127.0.0.1:0,[::1]:0");

    let relay = Program::start(serve);

    for what in ["derp", "http", "stun", "metrics"] {
        let hosts: Vec<_> = relay.addresses(what).iter().map(|address| address.ip()).collect();
        assert_eq!(hosts, HOSTS, "{what}");
    }
}

/// What `check` says, one blank between words, when all of `keys` come from one source.
fn report(folder: &Path, keys: &BTreeMap<&str, String>, from: From) -> String {
    let mut check = command(&["check"]);
    let mut file = String::new();
    for (key, value) in keys {
        match from {
            From::File => file.push_str(&format!("{key} = {}\n", as_toml(key, value))),
            From::Variable => {
                check.env(format!("DERP_RELAY_{}", key.to_uppercase()), value);
            }
            From::Flag => {
                check.arg(format!("--{}={value}", key.replace('_', "-")));
            }
        }
    }
    if from == From::File {
        let path = folder.join("relay.toml");
        fs::write(&path, file).unwrap();
        check.arg("--config").arg(path);
    }
    let ended = Program::run(check);
    let text = [ended.out, ended.err].concat();
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

fn as_toml(key: &str, value: &str) -> String {
    let quoted = |text: &str| format!("\"{text}\"");
    match key {
        _ if key.starts_with("listen_") => {
            let list: Vec<String> = value.split(',').map(quoted).collect();
            format!("[{}]", list.join(", "))
        }
        "verify_fail_open"
        | "handshakes_per_address"
        | "shards"
        | "bridge_region_id"
        | "bridge_derp_port"
        | "bridge_stun_port" => value.to_owned(),
        _ => quoted(value),
    }
}

fn write_pair(folder: &Path, name: &str) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![format!("{name}.test")]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}
