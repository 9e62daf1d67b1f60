//! A bridge as a program, before a Headscale, and relays that follow it.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use coord_bridge::config::SecretFile;
use derp::key::NodePublic;
use derp_relay::{AccessConfig, BridgeConfig, Relay, VerifyConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{self, Answer};
use crate::peer::{PATIENCE, Peer, Way, private};
use crate::program::{Program, command};
use crate::tailnet::{API_KEY, Tailnet};

/// Everything.
pub(crate) struct Bench {
    pub(crate) tailnet: Tailnet,
    pub(crate) folder: TempDir,
    /// None while it is down.
    pub(crate) bridge: Option<Program>,
    pub(crate) verify: SocketAddr,
    settings: String,
}

impl Bench {
    /// A bridge that looks at its Headscale once an hour, unless somebody wants to know.
    pub(crate) fn new() -> Self {
        Self::with("interval = \"1h\"")
    }

    /// One with these settings in its table `verify`.
    pub(crate) fn with(settings: &str) -> Self {
        let (tailnet, folder) = (Tailnet::start(), TempDir::new().unwrap());
        std::fs::write(folder.path().join("api-key"), API_KEY).unwrap();
        let mut bench = Self {
            tailnet,
            folder,
            bridge: None,
            verify: ([127, 0, 0, 1], 0).into(),
            settings: settings.to_owned(),
        };
        bench.start();
        bench
    }

    /// Starts the bridge, at the place where it was before.
    pub(crate) fn start(&mut self) {
        let (at, verify, settings) = (self.folder.path().display(), self.verify, &self.settings);
        let config = format!(
            "map_listen = \"127.0.0.1:0\"\nverify_listen = \"{verify}\"\n\
             admin_listen = \"127.0.0.1:0\"\nmetrics_listen = \"none\"\n\
             login_server = \"https://hs.example.org\"\nstate_dir = \"{at}/state\"\n\
             [headscale]\nurl = \"{}\"\napi_key_file = \"{at}/api-key\"\n\
             [[region.nodes]]\nhostname = \"derp.example.org\"\n\
             [verify]\n{settings}\n\
             [provisioning]\nlisten = \"127.0.0.1:0\"\n",
            self.tailnet.url()
        );
        let bridge = Program::serve(self.folder.path(), &config);
        self.verify = bridge.address("verify");
        self.bridge = Some(bridge);
    }

    /// Ends the bridge as a power cut does.
    pub(crate) fn kill(&mut self) {
        self.bridge.take().unwrap().kill();
    }

    /// Runs a command beside the bridge, in a process of its own.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let mut command = command(arguments);
        command.env("COORD_BRIDGE_CONFIG", self.folder.path().join("bridge.toml"));
        let done = command.output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// A machine registers and comes in as the node with this key; gives the machine's id.
    pub(crate) fn machine(&self, node: &NodePublic) -> String {
        let register_at = self.bridge.as_ref().unwrap().address("register");
        let token = std::fs::read_to_string(self.folder.path().join("state/enroll-token")).unwrap();
        register(register_at, token.trim(), node, &self.tailnet)
    }

    /// What `/verify` says of a node: the status, and whether it may enter.
    pub(crate) fn ask(&self, node: &NodePublic) -> (u16, Option<bool>) {
        ask(self.verify, node)
    }

    pub(crate) fn relay_token_file(&self) -> PathBuf {
        self.folder.path().join("state/relay-token")
    }

    pub(crate) fn relay_token(&self) -> String {
        std::fs::read_to_string(self.relay_token_file()).unwrap().trim().to_owned()
    }

    /// A relay that follows the bridge, and two nodes that have come in; `first` has the first of
    /// them join.
    pub(crate) fn pair(&self, first: impl FnOnce(&NodePublic) -> String) -> Pair {
        let relay = self.relay(self.relay_token_file());
        let id = first(&private(1).public());
        self.tailnet.join(&private(2).public(), None);
        let (one, two) = (relay.enter(1), relay.enter(2));
        relay.is_following();
        Pair { relay, id, one, two }
    }

    /// A relay that asks the bridge and follows it, with the token in `token_file`.
    pub(crate) fn relay(&self, token_file: PathBuf) -> Following {
        let url = format!("http://{}", self.verify);
        follow(&url, &[&format!("{url}/verify")], token_file)
    }
}

/// A machine registers there and comes in as the node with this key; gives the machine's id.
pub(crate) fn register(
    at: SocketAddr,
    token: &str,
    node: &NodePublic,
    tailnet: &Tailnet,
) -> String {
    // Each its own, as two boots of one name are one machine.
    let hostname = format!("m{}", &node.to_hex()[..8]);
    let body = json!({ "hostname": hostname, "mac": "unknown" }).to_string();
    let answer = post(at, "/register", Some(token), &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: Value = serde_json::from_str(answer.text()).unwrap();
    let key = answer["headscale_key"].as_str().unwrap();
    tailnet.join(node, Some(key.rsplit('-').next().unwrap().parse().unwrap()));
    answer["machine_id"].as_str().unwrap().to_owned()
}

/// Two nodes at a relay that follows a bridge.
pub(crate) struct Pair {
    pub(crate) relay: Following,
    /// What `first` gave.
    pub(crate) id: String,
    pub(crate) one: Peer,
    pub(crate) two: Peer,
}

/// A relay that follows a bridge.
pub(crate) struct Following {
    pub(crate) relay: Relay,
    pub(crate) derp: SocketAddr,
    _state: TempDir,
}

/// A relay that asks `verifiers`, and nobody again, and follows the bridge at `url`.
pub(crate) fn follow(url: &str, verifiers: &[&str], token_file: PathBuf) -> Following {
    let state = TempDir::new().unwrap();
    let urls = verifiers.iter().map(|url| url.parse().unwrap()).collect();
    let access = VerifyConfig { interval: Duration::ZERO, ..VerifyConfig::new(urls) };
    let bridge = bridge_config(url, SecretFile::Path(token_file));
    let relay = Relay::builder()
        .listen_derp(([127, 0, 0, 1], 0).into())
        .key_file(state.path().join("derp.key"))
        .access(AccessConfig::Verify(access))
        .bridge(bridge)
        .start()
        .unwrap();
    let derp = relay.addresses().derp[0];
    Following { relay, derp, _state: state }
}

/// How a relay of ours follows the bridge at `url`.
pub(crate) fn bridge_config(url: &str, token_file: SecretFile) -> BridgeConfig {
    BridgeConfig {
        url: url.parse().unwrap(),
        token_file,
        ca_file: None,
        hostname: "derp.example.org".to_owned(),
        region_id: 998,
        region_code: "lab".to_owned(),
        region_name: "Laboratory".to_owned(),
        node_name: "998-lab".to_owned(),
        ipv4: "192.0.2.7".to_owned(),
        ipv6: "none".to_owned(),
        derp_port: None,
        stun_port: None,
    }
}

impl Following {
    /// A node that has come in.
    pub(crate) fn enter(&self, number: u32) -> Peer {
        Peer::connect(self.derp, Way::Plain, number)
    }

    /// Holds that a node is refused.
    pub(crate) fn refuses(&self, number: u32) {
        assert!(Peer::try_connect(self.derp, Way::Plain, private(number)).is_err());
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let scrape = self.relay.metrics();
        let line = scrape.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    /// Waits until a metric is `value`.
    pub(crate) fn counts(&self, name: &str, value: u32) {
        eventually(name, || {
            let now = self.metric(name);
            if now == f64::from(value) { Ok(()) } else { Err(now) }
        });
    }

    /// Waits until it follows the bridge.
    pub(crate) fn is_following(&self) {
        self.counts("derp_bridge_connected", 1);
    }
}

/// What `/verify` at this address says of a node.
pub(crate) fn ask(verify: SocketAddr, node: &NodePublic) -> (u16, Option<bool>) {
    let body = json!({ "NodePublic": node.to_string(), "Source": "192.0.2.1" }).to_string();
    let answer = post(verify, "/verify", None, &body);
    let said: Value = serde_json::from_str(answer.text()).unwrap();
    (answer.status, said["Allow"].as_bool())
}

/// Waits until something holds.
pub(crate) fn eventually<E: Debug>(what: &str, mut holds: impl FnMut() -> Result<(), E>) {
    let began = Instant::now();
    while let Err(obstacle) = holds() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}: {obstacle:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One request with a body.
pub(crate) fn post(address: SocketAddr, path: &str, token: Option<&str>, body: &str) -> Answer {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{body}",
        token.unwrap_or_default(),
        body.len()
    );
    client::send(address, request.as_bytes()).unwrap()
}
