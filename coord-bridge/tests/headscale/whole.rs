//! The whole program beside a real Headscale: a machine shows its token, gets a key, joins with
//! it, is listed with its address, and is deleted.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake::Request;
use crate::program::{PATIENCE, Real, exchange};
use crate::real::programs;

/// `coord-bridge serve`, and its folder.
struct Bridge {
    child: Child,
    folder: TempDir,
    register: SocketAddr,
    verify: SocketAddr,
}

impl Bridge {
    fn start(headscale: &Real) -> Self {
        let folder = TempDir::new().unwrap();
        let at = folder.path().display();
        std::fs::write(folder.path().join("api-key"), headscale.new_api_key()).unwrap();
        let config = format!(
            "map_listen = \"127.0.0.1:0\"\n\
             verify_listen = \"127.0.0.1:0\"\n\
             admin_listen = \"none\"\nmetrics_listen = \"none\"\n\
             login_server = \"{url}\"\n\
             state_dir = \"{at}/state\"\n\
             [headscale]\nurl = \"{url}\"\napi_key_file = \"{at}/api-key\"\n\
             [[region.nodes]]\nhostname = \"derp.example.org\"\n\
             [provisioning]\nlisten = \"127.0.0.1:0\"\n",
            url = headscale.url(),
        );
        std::fs::write(folder.path().join("bridge.toml"), config).unwrap();
        let mut child = command(folder.path(), &["serve"]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).find(|line| line.starts_with("ready ")).unwrap();
        let at = |name| ready.split(' ').find_map(|field| field.strip_prefix(name)).unwrap();
        let (register, verify) = (at("register=").parse(), at("verify=").parse());
        Self { register: register.unwrap(), verify: verify.unwrap(), child, folder }
    }

    fn token(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("state").join(name)).unwrap();
        text.trim().to_owned()
    }

    /// What it answers to a request with the token in this file.
    fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (method, path) = (method.to_owned(), path.to_owned());
        let request = Request { method, path, key: Some(self.token(token)), body };
        let answered = exchange(self.register, &request).unwrap();
        (answered.status, serde_json::from_str(&answered.answer).unwrap())
    }

    /// Waits until the node with this key may use a relay, or may not.
    fn admits(&self, key: &str, wanted: bool) {
        let (method, path) = ("POST".to_owned(), "/verify".to_owned());
        let body = json!({ "NodePublic": key }).to_string();
        let request = Request { method, path, key: None, body };
        let began = Instant::now();
        loop {
            let answered = exchange(self.verify, &request).unwrap();
            let said: Value = serde_json::from_str(&answered.answer).unwrap();
            if said["Allow"] == wanted {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The only machine, once it is as `wanted` has it.
    fn machine_once(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let (status, list) = self.ask("GET", "/machines", "admin-token", &Value::Null);
            assert_eq!(status, 200, "{list}");
            let machine = &list[0];
            if wanted(machine) {
                return machine.clone();
            }
            assert!(began.elapsed() < PATIENCE, "{list:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs a command beside it: what it prints.
    fn run(&self, arguments: &[&str]) -> String {
        let output = command(self.folder.path(), arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coord-bridge"));
    command.args(arguments).env("COORD_BRIDGE_CONFIG", folder.join("bridge.toml"));
    command.stdin(Stdio::null());
    command
}

#[test]
fn real_machines_register_join_and_leave() {
    for program in programs() {
        let mut headscale = Real::start(&program);
        let bridge = Bridge::start(&headscale);
        let said = json!({ "hostname": "sovran-deploy-0123456789abcdef", "mac": "unknown" });

        let (status, answer) = bridge.ask("POST", "//register", "enroll-token", &said);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["login_server"], headscale.url());
        let key = answer["headscale_key"].as_str().unwrap();
        // An answer that got lost leads to the same key, not to a second one.
        let (status, again) = bridge.ask("POST", "/register", "enroll-token", &said);
        assert_eq!((status, again["headscale_key"].as_str()), (200, Some(key)));

        if headscale.enroll("sovran-deploy-0123456789abcdef", key) {
            let machine = bridge.machine_once(|machine| machine["state"] == "online");
            assert!(machine["tailscale_ip"].as_str().unwrap().starts_with("100.64."), "{machine}");
            let id = machine["id"].as_str().unwrap();
            let [key] = &headscale.node_keys()[..] else { panic!("one node") };
            bridge.admits(key, true);
            let told = bridge.run(&["machines", "delete", id]);
            assert!(told.contains("gone from Headscale"), "{told}");
            bridge.machine_once(|machine| *machine == Value::Null || machine["state"] == "deleted");
            assert_eq!(headscale.node_names(), Vec::<String>::new());
            bridge.admits(key, false);
        }
        let made = bridge.run(&["keys", "create", "--profile", "machine"]);
        assert!(made.trim().len() >= 40, "a key of Headscale's");
        assert_eq!(bridge.run(&["keys", "expire"]), "ended 1\n");
    }
}
