//! Real relays that stop and start, register and fall silent.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use coord_bridge::bridge::{Listeners, Setup};
use coord_bridge::publication::status::NodeStatus;
use coord_bridge::publication::{Live, Plan};
use coord_bridge::relays::LiveNode;
use coord_bridge::{Addresses, Bridge};
use derp::map::{DerpMap, NO_STUN, Node};
use derp_relay::{AccessConfig, Relay};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::client::get;
use crate::{any, map, names, quiet, region, wait_until};

/// Short, so that rounds follow one another.
const INTERVAL: Duration = Duration::from_millis(20);

const HOSTS: [&str; 2] = ["127.0.0.1", "[::1]"];

/// A place for a relay, which stays the same over its restarts.
struct Place {
    derp: SocketAddr,
    stun: SocketAddr,
    state: TempDir,
}

impl Place {
    fn new(host: &str) -> Self {
        let at = || format!("{host}:{}", quiet::port()).parse().unwrap();
        Self { derp: at(), stun: at(), state: TempDir::new().unwrap() }
    }

    fn start(&self) -> Relay {
        self.start_for(AccessConfig::Open)
    }

    fn start_for(&self, access: AccessConfig) -> Relay {
        Relay::builder()
            .listen_derp(self.derp)
            .listen_stun(self.stun)
            .self_signed(&self.derp.ip().to_string(), self.state.path())
            .key_file(self.state.path().join("derp.key"))
            .access(access)
            .start()
            .unwrap()
    }

    /// The node of `relay`, as a map has it.
    fn node(&self, relay: &Relay, region_id: u64, name: &str) -> Node {
        let [ipv4, ipv6] = [self.derp.is_ipv4(), self.derp.is_ipv6()]
            .map(|is_it| if is_it { self.derp.ip().to_string() } else { "none".to_owned() });
        Node {
            name: name.to_owned(),
            region_id,
            host_name: self.derp.ip().to_string(),
            cert_name: relay.certificate_pin().unwrap(),
            ipv4,
            ipv6,
            derp_port: self.derp.port().into(),
            stun_port: self.stun.port().into(),
            ..Node::default()
        }
    }
}

fn start(nodes: Vec<Node>, live: Option<Live>) -> Bridge {
    start_with(map(vec![region(999, nodes)]), live, None)
}

fn start_with(map: DerpMap, live: Option<Live>, file: Option<&std::path::Path>) -> Bridge {
    let plan = Plan { map, probe_interval: Some(INTERVAL), ..Plan::default() };
    let addresses = Addresses { map: vec![any()], ..Addresses::default() };
    let map_file = file.map(Into::into);
    let setup = Setup { plan, live, map_file, ..Setup::default() };
    Bridge::start(Listeners::open(&addresses).unwrap(), setup).unwrap()
}

fn published(bridge: &Bridge) -> DerpMap {
    let answer = get(bridge.addresses().map[0], "/derpmap.json");
    assert_eq!(answer.status, 200);
    DerpMap::parse(&answer.body).unwrap()
}

fn wait_for(bridge: &Bridge, wanted: &[&str]) {
    wait_until(&format!("{wanted:?} of {:?}", bridge.publication().nodes), || {
        names(&published(bridge)) == wanted
    });
}

fn status(bridge: &Bridge, name: &str) -> NodeStatus {
    let status = bridge.publication();
    status.nodes.iter().find(|it| it.node.name == name).unwrap().clone()
}

/// Waits for a round that has begun now or later.
fn wait_for_a_round(bridge: &Bridge) {
    for _ in 0..3 {
        let before = bridge.publication().confirmed;
        wait_until("a round", || bridge.publication().confirmed > before);
    }
}

fn is_good(bridge: &Bridge, name: &str) -> bool {
    matches!(status(bridge, name).last_probe, Some(Ok(_)))
}

#[test]
fn a_node_leaves_while_another_stays_and_returns_and_the_last_never_leaves() {
    for host in HOSTS {
        let places = [Place::new(host), Place::new(host)];
        let [one, two] = places.each_ref().map(Place::start);
        let nodes = vec![places[0].node(&one, 999, "one"), places[1].node(&two, 999, "two")];
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("derp.yaml");
        let bridge = start_with(map(vec![region(999, nodes)]), None, Some(&file));
        let first = get(bridge.addresses().map[0], "/derpmap.json");
        let first_file = fs::read(&file).unwrap();
        wait_until("both work", || is_good(&bridge, "one") && is_good(&bridge, "two"));
        wait_for_a_round(&bridge);
        let second = get(bridge.addresses().map[0], "/derpmap.json");
        assert_eq!(second.header("etag"), first.header("etag"));
        assert_eq!(second.body, first.body, "all bytes the same");
        assert_eq!(bridge.publication().changes, 0);

        two.stop();
        wait_for(&bridge, &["one"]);
        assert_ne!(fs::read(&file).unwrap(), first_file);
        assert!(!status(&bridge, "two").is_in);
        let why = status(&bridge, "two").last_probe.unwrap().unwrap_err();
        assert!(why.contains("STUN") || why.contains("TLS"), "{why}");

        one.stop();
        wait_until("it is kept", || status(&bridge, "one").is_kept);
        wait_for_a_round(&bridge);
        assert_eq!(names(&published(&bridge)), ["one"]);
        assert_eq!(get(bridge.addresses().map[0], "/ready").status, 200);

        let two = places[1].start();
        wait_for(&bridge, &["two"]);
        let one = places[0].start();
        wait_for(&bridge, &["one", "two"]);
        let last = get(bridge.addresses().map[0], "/derpmap.json");
        assert_eq!(last.header("etag"), first.header("etag"));
        assert_eq!(last.body, first.body);
        assert_eq!(fs::read(&file).unwrap(), first_file);
        bridge.stop();
        one.stop();
        two.stop();
    }
}

#[test]
fn a_relay_that_registers_enters_once_it_works_and_leaves_when_it_falls_silent() {
    for host in HOSTS {
        let places = [Place::new(host), Place::new(host)];
        let one = places[0].start();
        let (sender, live) = watch::channel(Arc::new(Vec::new()));
        let bridge = start(vec![places[0].node(&one, 999, "one")], Some(live));
        let register = |node: Node| {
            let live = LiveNode {
                region_id: node.region_id,
                region_code: "far".to_owned(),
                region_name: "Far away".to_owned(),
                node,
            };
            sender.send_replace(Arc::new(vec![live]));
        };
        let two = places[1].start();
        let node = places[1].node(&two, 998, "two");
        two.stop();
        register(node.clone());
        wait_until("it is tried", || {
            let status = bridge.publication();
            status.nodes.iter().any(|it| it.node.name == "two" && it.last_probe.is_some())
        });
        assert_eq!(names(&published(&bridge)), ["one"]);

        let two = places[1].start();
        wait_for(&bridge, &["two", "one"]);
        assert_eq!(published(&bridge).regions[&998].name, "Far away");

        sender.send_replace(Arc::new(Vec::new()));
        wait_for(&bridge, &["one"]);
        register(node);
        wait_for(&bridge, &["two", "one"]);
        bridge.stop();
        one.stop();
        two.stop();
    }
}

/// A relay that asks Headscale about everybody knows nothing of the bridge's key.
#[test]
fn a_relay_that_does_not_let_the_bridge_in_works_all_the_same() {
    let places = [Place::new(HOSTS[0]), Place::new(HOSTS[0])];
    let one = places[0].start();
    let two = places[1].start_for(AccessConfig::Nobody);
    let nodes = vec![places[0].node(&one, 999, "one"), places[1].node(&two, 999, "two")];
    let bridge = start(nodes, None);
    wait_until("it is tried", || status(&bridge, "two").last_probe.is_some());
    let seen = status(&bridge, "two").last_probe.unwrap().unwrap();
    assert!(seen.contains("without being let in"), "{seen}");
    bridge.stop();
    one.stop();
    two.stop();
}

/// Each field of a node that clients go by is what the probe goes by.
#[test]
fn a_node_that_is_not_as_the_map_says_is_taken_out_with_the_reason() {
    let places = [Place::new(HOSTS[0]), Place::new(HOSTS[0])];
    let [one, two] = places.each_ref().map(Place::start);
    let silent = TcpListener::bind(any()).unwrap();
    let wrong = |change: &dyn Fn(&mut Node), name: &str| {
        let mut node = places[1].node(&two, 999, name);
        change(&mut node);
        node
    };
    let closed = i32::from(quiet::port());
    let garbage = i32::from(silent.local_addr().unwrap().port());
    let cases = [
        ("TLS: ", wrong(&|it| it.cert_name = format!("sha256-raw:{}", "0".repeat(64)), "pin")),
        ("TLS: ", wrong(&|it| it.derp_port = closed, "port")),
        ("TLS: ", wrong(&|it| it.host_name = "derp.example.org".to_owned(), "name")),
        ("TLS: ", wrong(&|it| it.cert_name = String::new(), "authority")),
        ("STUN: ", wrong(&|it| it.stun_port = closed, "stun")),
        ("TLS: ", wrong(&|it| it.derp_port = garbage, "silent")),
    ];
    let mut nodes = vec![places[0].node(&one, 999, "one")];
    nodes.extend(cases.iter().map(|(_, node)| node.clone()));
    // What is as the map says, in other ways.
    nodes.push(wrong(&|it| it.stun_port = NO_STUN, "without-stun"));
    nodes.push(wrong(&|it| (it.stun_only, it.derp_port) = (true, closed), "stun-only"));
    nodes.push(wrong(
        &|it| (it.cert_name, it.insecure_for_tests) = (String::new(), true),
        "insecure",
    ));
    nodes.push(wrong(
        &|it| {
            (it.host_name, it.ipv4) = ("localhost".to_owned(), String::new());
            (it.cert_name, it.insecure_for_tests) = (String::new(), true);
        },
        "by-dns",
    ));
    let bridge = start(nodes, None);

    wait_for(&bridge, &["one", "without-stun", "stun-only", "insecure", "by-dns"]);
    for (said, node) in cases {
        let name = &node.name;
        let why = status(&bridge, name).last_probe.unwrap().unwrap_err();
        assert!(why.contains(said), "{name}: {why}");
    }
    bridge.stop();
    one.stop();
    two.stop();
}
