//! A bridge whose listeners of administrators and metrics are open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coord_bridge::bridge::{Listeners, Setup};
use coord_bridge::events::Outlets;
use coord_bridge::publication::Plan;
use coord_bridge::relays::LiveNode;
use coord_bridge::{Addresses, Bridge};
use derp::map::Node;
use serde_json::Value;
use tokio::sync::watch;

use crate::bench::Bench;
use crate::client::{Answer, send};
use crate::program::PATIENCE;

/// Name that the bridge of the tests goes by.
pub(crate) const HOST: &str = "bridge.example.org";

pub(crate) struct Running {
    pub(crate) bench: Bench,
    pub(crate) admin: SocketAddr,
    pub(crate) register: SocketAddr,
    pub(crate) metrics: SocketAddr,
    /// Held so that the relays stay known.
    _relays: watch::Sender<Arc<Vec<LiveNode>>>,
    _bridge: Bridge,
}

impl Running {
    pub(crate) fn new() -> Self {
        Self::of(Bench::new(), None)
    }

    pub(crate) fn of(bench: Bench, outlets: Option<Arc<Outlets>>) -> Self {
        let any = vec!["127.0.0.1:0".parse().unwrap()];
        let addresses = Addresses {
            map: any.clone(),
            provisioning: any.clone(),
            verify: Vec::new(),
            admin: any.clone(),
            metrics: any,
        };
        let (sender, relays) = watch::channel(Arc::new(vec![relay()]));
        let setup = Setup {
            plan: plan(),
            provisioning: Some(Arc::clone(&bench.provisioning)),
            live: Some(relays),
            admin_hosts: vec![HOST.to_owned()],
            outlets,
            ..Setup::default()
        };
        let bridge = Bridge::start(Listeners::open(&addresses).unwrap(), setup).unwrap();
        let first = |addresses: &[SocketAddr]| addresses[0];
        let found = bridge.addresses();
        Self {
            admin: first(&found.admin),
            register: first(&found.provisioning),
            metrics: first(&found.metrics),
            bench,
            _relays: sender,
            _bridge: bridge,
        }
    }

    /// Asks as the administrator, with `headers` more.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let token = self.bench.admin_token();
        let headers = format!("Authorization: Bearer {token}\r\n{headers}");
        request(self.admin, method, path, &headers, body.as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    /// As a program asks that sends JSON.
    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, JSON, body)
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, "", "")
    }

    /// A machine registers. Gives the id of its record and its key.
    pub(crate) fn register(&self, hostname: &str) -> (String, String) {
        let headers = format!("Authorization: Bearer {}\r\n", self.bench.token());
        let body = format!("{{\"hostname\": \"{hostname}\"}}");
        let answer = request(self.register, "POST", "/register", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        let body = json(&answer);
        let text = |field: &str| body[field].as_str().unwrap().to_owned();
        (text("machine_id"), text("headscale_key"))
    }
}

/// A bridge where nobody can register, with the listener of administrators alone, and its address.
pub(crate) fn without_registration() -> (Bridge, SocketAddr) {
    let any = vec!["127.0.0.1:0".parse().unwrap()];
    let addresses = Addresses { admin: any, ..Addresses::default() };
    let setup = Setup { plan: plan(), ..Setup::default() };
    let bridge = Bridge::start(Listeners::open(&addresses).unwrap(), setup).unwrap();
    let admin = bridge.addresses().admin[0];
    (bridge, admin)
}

pub(crate) const JSON: &str = "Content-Type: application/json\r\n";

/// One request on a connection of its own.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let bytes = [head.as_bytes(), body].concat();
    send(address, &bytes).unwrap_or_else(|| panic!("no answer to {method} {path}"))
}

pub(crate) fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// That `answer` is a problem of this status and kind, in the form that all have.
pub(crate) fn is_problem(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let body = json(answer);
    assert_eq!(body["type"], format!("urn:coord-bridge:problem:{code}"), "{body}");
    assert_eq!(body["status"], status);
    assert!(!body["title"].as_str().unwrap().is_empty(), "{body}");
    assert!(!body["detail"].as_str().unwrap().is_empty(), "{body}");
    body
}

/// Waits for something that has to happen.
pub(crate) fn until(what: &str, mut happens: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !happens() {
        assert!(Instant::now() < end, "{what} has not happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A map of one relay, which nobody tries.
fn plan() -> Plan {
    let config = "map_probe_interval = \"0\"\n[[region.nodes]]\nhostname = \"derp.example.org\"\n";
    coord_bridge::Config::parse(config).unwrap().plan
}

fn relay() -> LiveNode {
    LiveNode {
        region_id: 998,
        region_code: "lab".to_owned(),
        region_name: "Laboratory".to_owned(),
        node: Node {
            name: "998a".to_owned(),
            region_id: 998,
            host_name: "relay.example.org".to_owned(),
            ..Node::default()
        },
    }
}
