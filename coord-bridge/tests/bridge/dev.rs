//! `dev`: the whole region in one process.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

use derp::map::DerpMap;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{ask, get};
use crate::program::{Program, command, one_line};
use crate::{HOSTS, quiet};

const FLAGS: [&str; 6] = [
    "--listen-derp",
    "--listen-stun",
    "--listen-http",
    "--listen-metrics",
    "--map-listen",
    "--provisioning-listen",
];

/// DERP-10.4, DERP-10.5, DERP-9.3: every address answers, the self-test says so, and the map is
/// the one that is printed.
#[test]
fn dev_runs_a_whole_region_that_works() {
    for host in HOSTS {
        let state = TempDir::new().unwrap();
        let program = Program::start(dev(host, state.path()));
        let said = program.said.join("\n");

        let json = get(program.address("map"), "/derpmap.json");
        let yaml = get(program.address("map"), "/derpmap.yaml");
        assert!(said.contains(json.text().trim_end()), "{said}");
        assert!(said.contains(yaml.text().trim_end()), "{said}");
        assert_eq!(std::fs::read(state.path().join("derp.yaml")).unwrap(), yaml.body);

        let map = DerpMap::parse(&json.body).unwrap();
        assert_eq!(map.validate(), Ok(()));
        let node = &map.regions[&999].nodes[0];
        let derp = program.address("derp");
        assert_eq!(node.host_name, derp.ip().to_string());
        assert_eq!(node.derp_port, i32::from(derp.port()));
        assert_eq!(node.stun_port, i32::from(program.address("stun").port()));
        let (family, other) =
            if derp.is_ipv4() { (&node.ipv4, &node.ipv6) } else { (&node.ipv6, &node.ipv4) };
        assert_eq!((family.as_str(), other.as_str()), (node.host_name.as_str(), "none"));
        assert!(said.contains(&format!("CertName: {}", node.cert_name)), "{said}");

        for part in [
            "map, json",
            "map, yaml",
            "STUN",
            "TLS",
            "login",
            "packets",
            "fast start",
            "generate_204",
        ] {
            let mut lines = program.said.iter().filter(|line| line.trim_start().starts_with(part));
            assert!(lines.any(|line| line.contains(" ok ")), "{part}:\n{said}");
        }
        for name in ["derp", "stun", "http", "metrics", "map", "register"] {
            let mut lines = program.said.iter().filter(|line| !line.starts_with("ready "));
            let address = program.address(name).to_string();
            assert!(lines.any(|line| line.contains(&address)), "{name}:\n{said}");
        }

        assert_eq!(get(program.address("http"), "/generate_204").status, 204);
        assert!(get(program.address("metrics"), "/metrics").text().contains("derp_accepts"));
        assert_eq!(get(program.address("register"), "/health").text(), r#"{"status":"ok"}"#);
        assert_eq!(get(program.address("map"), "/ready").status, 200);
        program.stop();
    }
}

/// Installers try again upon 503.
#[test]
fn dev_answers_registrations_with_503_in_json() {
    for host in HOSTS {
        let state = TempDir::new().unwrap();
        let program = Program::start(dev(host, state.path()));
        let answer = ask(program.address("register"), "POST", "/register", "");
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(body["error"].is_string());
        program.stop();
    }
}

/// What goes into Headscale's config.yaml: region 999 by URL or by file, kept up to date, and
/// without Headscale's own relay in its place.
#[test]
fn dev_prints_what_headscale_needs() {
    for host in HOSTS {
        let state = TempDir::new().unwrap();
        let program = Program::start(dev(host, state.path()));
        let said = program.said.join("\n");
        let blocks: Vec<&str> = said
            .split("\nderp:\n")
            .skip(1)
            .map(|rest| rest.split("\n\n").next().unwrap())
            .collect();
        let [urls, paths] = blocks.as_slice() else { panic!("not two blocks:\n{said}") };
        for block in [urls, paths] {
            let lines: Vec<&str> =
                block.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
            for wanted in [
                "  server:\n    enabled: false",
                "  auto_update_enabled: true",
                "  update_frequency: ",
            ] {
                assert!(lines.join("\n").contains(wanted), "{block}");
            }
        }
        let map = program.address("map");
        assert!(urls.contains(&format!("  urls:\n    - http://{map}/derpmap.json\n  paths: []")));
        let file = state.path().join("derp.yaml");
        assert!(paths.contains(&format!("  urls: []\n  paths:\n    - '{}'", file.display())));
        program.stop();
    }
}

/// DERP-10.5: a map that was pasted somewhere stays right.
#[test]
fn dev_keeps_key_and_certificate_over_a_restart() {
    for host in HOSTS {
        let state = TempDir::new().unwrap();
        let [derp, stun] = [0; 2].map(|_| format!("{host}:{}", quiet::port()));
        let at = [("--listen-derp", derp.as_str()), ("--listen-stun", stun.as_str())];
        let program = Program::start(dev_at(host, &at, state.path()));
        let map = get(program.address("map"), "/derpmap.json");
        let relay_key = after(&program, "relay key ");
        program.kill();

        let program = Program::start(dev_at(host, &at, state.path()));

        assert_eq!(get(program.address("map"), "/derpmap.json").body, map.body);
        assert_eq!(after(&program, "relay key "), relay_key);
        program.signal(Signal::HUP);
        program.wait_for_log("reloaded", 1);
        assert_eq!(get(program.address("map"), "/derpmap.json").body, map.body);
        program.stop();
    }
}

/// The state is the user's own where no folder is given.
#[test]
fn dev_keeps_its_state_in_the_users_folder() {
    let home = TempDir::new().unwrap();
    for (variable, place) in
        [("HOME", ".local/state/coord-bridge"), ("XDG_STATE_HOME", "coord-bridge")]
    {
        let mut command = with_ports(HOSTS[0], &[]);
        command.env_remove("XDG_STATE_HOME").env(variable, home.path());
        Program::start(command).stop();
        assert!(home.path().join(place).join("derp.key").exists(), "{variable}");
    }
}

#[test]
fn dev_says_on_one_line_which_port_is_taken() {
    for host in HOSTS {
        let at = format!("{host}:0");
        let tcp = TcpListener::bind(&at).unwrap();
        let udp = UdpSocket::bind(&at).unwrap();
        for flag in FLAGS {
            let state = TempDir::new().unwrap();
            let taken = match flag {
                "--listen-stun" => udp.local_addr().unwrap(),
                _ => tcp.local_addr().unwrap(),
            };
            let at = [(flag, taken.to_string())];
            let at = at.each_ref().map(|(flag, taken)| (*flag, taken.as_str()));
            let done = dev_at(host, &at, &state.path().join("state")).output().unwrap();
            let log = String::from_utf8(done.stderr).unwrap();
            assert_eq!(done.status.code(), Some(2), "{log}");
            let log: String = log.lines().filter(|it| !it.contains(" INFO ")).collect();
            let line = one_line(&log);
            assert!(line.contains(flag) && line.contains(&taken.to_string()), "{line}");
            assert!(done.stdout.is_empty(), "nothing is announced that does not run");
            assert!(!state.path().join("state/derp.yaml").exists());
        }
    }
}

#[test]
fn dev_refuses_addresses_that_no_map_can_say() {
    for (derp, said) in [
        ("0.0.0.0:0", "--listen-derp 0.0.0.0:0: the map has to name one"),
        ("[::]:0", "--listen-derp [::]:0: the map has to name one"),
        ("[::1]:0", "--listen-stun 127.0.0.1:0: the map has one address"),
    ] {
        let state = TempDir::new().unwrap();
        let at = [("--listen-derp", derp)];
        let done = dev_at(HOSTS[0], &at, state.path()).output().unwrap();
        assert_eq!(done.status.code(), Some(2));
        let line = one_line(&String::from_utf8(done.stderr).unwrap());
        assert!(line.contains(said), "{line}");
    }
}

#[test]
fn dev_says_which_file_of_its_state_is_of_no_use() {
    let state = TempDir::new().unwrap();
    std::fs::write(state.path().join("derp.key"), "no key").unwrap();
    let done = dev(HOSTS[0], state.path()).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    let line = one_line(&String::from_utf8(done.stderr).unwrap());
    assert!(line.contains("derp.key holds no key") && line.contains("--state-dir"), "{line}");
    assert_eq!(std::fs::read(state.path().join("derp.key")).unwrap(), b"no key");
}

/// `dev` with any ports on `host`.
fn dev(host: &str, state: &Path) -> Command {
    dev_at(host, &[], state)
}

/// `dev` with any ports on `host` but for those in `at`.
fn dev_at(host: &str, at: &[(&str, &str)], state: &Path) -> Command {
    let mut command = with_ports(host, at);
    command.args(["--state-dir", state.to_str().unwrap()]);
    command
}

fn with_ports(host: &str, at: &[(&str, &str)]) -> Command {
    let mut command = command(&["dev"]);
    let any = format!("{host}:0");
    for flag in FLAGS {
        let given = at.iter().find(|(name, _)| *name == flag);
        command.args([flag, given.map_or(any.as_str(), |(_, address)| address)]);
    }
    command
}

/// The word behind `text` in what the program has said.
fn after(program: &Program, text: &str) -> String {
    let said = program.said.join("\n");
    said.split(text).nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}
