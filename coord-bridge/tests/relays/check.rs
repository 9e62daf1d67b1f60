//! `check`: what is in order, what is not, and what to do about it.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::bench::eventually;
use crate::client::get;
use crate::peer::private;
use crate::program::{Program, command};
use crate::tailnet::{API_KEY, Tailnet};

/// A bridge with a relay, a Headscale, and Headscale's configuration that belongs to it.
struct Host {
    tailnet: Tailnet,
    folder: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { tailnet: Tailnet::start(), folder: TempDir::new().unwrap() };
        // Without nodes nobody can say for a minute who is a stranger.
        host.tailnet.join(&private(1).public(), None);
        let key = host.folder.path().join("api-key");
        std::fs::write(&key, API_KEY).unwrap();
        set_mode(&key, 0o600);
        host
    }

    fn config(&self, [map, verify, register, derp, stun]: [&str; 5]) -> String {
        let at = self.folder.path().display();
        format!(
            "map_listen = \"{map}\"\nverify_listen = \"{verify}\"\nmap_file = \"{at}/derp.yaml\"\n\
             admin_listen = \"none\"\nmetrics_listen = \"none\"\nlogin_server = \"https://hs.example.org\"\n\
             state_dir = \"{at}/state\"\n[headscale]\nurl = \"{}\"\n\
             api_key_file = \"{at}/api-key\"\n[provisioning]\nlisten = \"{register}\"\n\
             [embedded_relay]\nhostname = \"127.0.0.1\"\ntls = \"self-signed\"\n\
             listen_derp = \"{derp}\"\nlisten_stun = \"{stun}\"\nlisten_http = \"none\"\n\
             listen_metrics = \"none\"\nbridge_ipv4 = \"127.0.0.1\"\nbridge_ipv6 = \"none\"\n",
            self.tailnet.url()
        )
    }

    /// A bridge that runs, with its file rewritten to the ports that it got.
    fn serve(&self) -> Program {
        let program = Program::serve(self.folder.path(), &self.config(["127.0.0.1:0"; 5]));
        let ports = ["map", "verify", "register", "derp", "stun"];
        let ports = ports.map(|name| program.address(name).to_string());
        self.write(&self.config(ports.each_ref().map(String::as_str)));
        // Which opens the store.
        eventually("ready", || match get(program.address("register"), "/ready") {
            ready if ready.status == 200 => Ok(()),
            ready => Err(ready.text().to_owned()),
        });
        program
    }

    fn write(&self, config: &str) {
        std::fs::write(self.folder.path().join("bridge.toml"), config).unwrap();
    }

    fn headscale_config(&self, text: &str) -> String {
        let file = self.folder.path().join("config.yaml");
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Runs `check`: its exit code, and what it found.
    fn check(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let mut check = command(&["check", "--json"]);
        check.arg("--config").arg(self.folder.path().join("bridge.toml")).args(arguments);
        let done = check.output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        let log = String::from_utf8(done.stderr).unwrap();
        assert!(!said.contains(API_KEY) && !log.contains(API_KEY), "{said}\n{log}");
        let found = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}\n{log}"));
        (done.status.code(), found)
    }
}

/// All is well: exit code 0, and nothing is wrong.
#[test]
fn a_host_in_order_is_said_to_be_so() {
    let host = Host::new();
    let program = host.serve();
    let map = program.address("map");
    let theirs = host.headscale_config(&format!(
        "metrics_listen_addr: 127.0.0.1:1\nderp:\n  server: {{enabled: false}}\n  urls:\n    - \
         http://{map}/derpmap.json\n  auto_update_enabled: true\n  update_frequency: 10m\n"
    ));

    let (code, found) = host.check(&["--headscale-config", &theirs]);

    assert_eq!((code, &found["wrong"]), (Some(0), &Value::from(0)), "{found:#}");
    assert_eq!(found["serves"], true);
    for tried in [
        "store ",
        "map_listen ",
        "verify_listen ",
        "/ready",
        "/derpmap.json",
        "999a 127.0.0.1",
        "999a STUN",
        "999a TLS",
        "999a login",
        "headscale API",
        "headscale API key",
        "a random key",
        "derp.auto_update_enabled",
        "derp.update_frequency",
        "derp.urls",
        "derp.server",
        "Headscale's embedded relay",
        "metrics_listen_addr",
        "api_key_file",
        "relay_token_file",
    ] {
        is(&found, tried, "good", "");
    }
    is(&found, "999a login", "good", "refuses a stranger");
    program.stop();
}

/// Each fault is found, and the remedy stands beside it.
#[test]
fn what_is_wrong_is_named_with_its_remedy() {
    let host = Host::new();
    let program = host.serve();
    std::fs::write(host.folder.path().join("api-key"), "somebody-elses-key").unwrap();
    set_mode(&host.folder.path().join("api-key"), 0o644);
    let register = program.address("register");
    let theirs = host.headscale_config(&format!(
        "metrics_listen_addr: {register}\nderp:\n  server: {{enabled: true, region_id: 999}}\n  \
         urls: [https://controlplane.tailscale.com/derpmap/default]\n  update_frequency: 24h\n"
    ));

    let (code, found) = host.check(&["--headscale-config", &theirs]);

    assert_eq!(code, Some(1), "{found:#}");
    for (tried, state, said) in [
        ("api_key_file", "wrong", "mode 0644"),
        ("headscale API", "wrong", "the API key is not one of Headscale's"),
        ("Headscale's embedded relay", "wrong", "replaces it"),
        ("derp.auto_update_enabled", "wrong", "absent"),
        ("derp.update_frequency", "notice", "1d"),
        ("derp.urls", "wrong", "not among them"),
        ("derp.server", "notice", "region_id 999"),
        ("metrics_listen_addr", "wrong", "clashes with provisioning.listen"),
    ] {
        let finding = is(&found, tried, state, said);
        assert!(finding["remedy"].is_string(), "{finding}");
    }
    assert!(!found.to_string().contains("somebody-elses-key"));
    program.stop();
}

/// A region that a relay has brought is ours, also where the file does not name it.
#[test]
fn a_collision_with_a_region_of_the_served_map_is_found() {
    let host = Host::new();
    let program = host.serve();
    let ports = ["map", "verify", "register", "derp", "stun"];
    let ports = ports.map(|name| program.address(name).to_string());
    let config = host.config(ports.each_ref().map(String::as_str));
    host.write(&format!("{config}\n[region]\nid = 998\n"));
    let theirs = host.headscale_config("derp:\n  server: {enabled: true, region_id: 999}\n");

    let (_, found) = host.check(&["--headscale-config", &theirs]);

    is(&found, "Headscale's embedded relay", "wrong", "has the id of a region of ours");
    program.stop();
}

/// What nobody has looked at is not called good.
#[test]
fn a_collision_is_not_denied_where_nothing_can_be_seen() {
    let host = Host::new();
    let config = host.config(["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:1", "none"]);
    host.write(&config.replace(&host.tailnet.url(), "http://127.0.0.1:1"));

    let (_, found) = host.check(&[]);

    is(&found, "Headscale's embedded relay", "not-tried", "not looked at: ");
}

/// Before the first start: nothing is made, and what only a bridge can say is left open.
#[test]
fn without_a_bridge_it_says_what_it_cannot_try() {
    let host = Host::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    host.write(&host.config(["127.0.0.1:0", "127.0.0.1:0", &taken, "127.0.0.1:1", "127.0.0.1:1"]));
    drop(std::thread::spawn(move || {
        // Somebody who accepts and says nothing that a bridge says.
        while let Ok((stream, _)) = holder.accept() {
            drop(stream);
        }
    }));

    let (code, found) = host.check(&[]);

    assert_eq!((code, &found["serves"]), (Some(1), &Value::from(false)), "{found:#}");
    is(&found, "store ", "not-tried", "makes it");
    is(&found, "a random key", "not-tried", "start `serve`");
    is(&found, "the map that Headscale has", "not-tried", "tailscale debug derp-map");
    is(&found, "provisioning.listen", "wrong", "another program has it");
    is(&found, "999a TLS", "wrong", "");
    assert!(!host.folder.path().join("state").exists(), "check makes nothing");
}

/// For people it is a line each; a configuration that cannot be used is the only thing said.
#[test]
fn its_text_has_a_line_for_each_finding() {
    let host = Host::new();
    host.write(&host.config(["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:1", "none"]));
    let file = host.folder.path().join("bridge.toml");
    let done = command(&["check", "--config", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(said.starts_with("No bridge runs"), "{said}");
    assert!(said.contains("\n  WRONG     999a TLS at 127.0.0.1:1: "), "{said}");
    assert!(said.contains("\n  ok        headscale API: "), "{said}");

    host.write("map_lisen = \"127.0.0.1:0\"\n");
    let done = command(&["check", "--config", file.to_str().unwrap()]).output().unwrap();
    assert_eq!((done.status.code(), done.stdout.len()), (Some(2), 0));
}

/// The finding whose subject has `tried` in it.
fn is<'a>(found: &'a Value, tried: &str, state: &str, said: &str) -> &'a Value {
    let mut all = found["findings"].as_array().unwrap().iter();
    let finding = all.find(|it| it["tried"].as_str().unwrap().contains(tried));
    let finding = finding.unwrap_or_else(|| panic!("no {tried} in {found:#}"));
    assert_eq!(finding["state"], state, "{finding:#}");
    assert!(finding["said"].as_str().unwrap().contains(said), "{said}: {finding:#}");
    finding
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
