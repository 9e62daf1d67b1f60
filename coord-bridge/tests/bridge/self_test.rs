//! The self-test of `dev` against regions that do not work.

use std::net::SocketAddr;

use coord_bridge::Addresses;
use coord_bridge::bridge::{Bridge, Listeners, Setup};
use coord_bridge::cli::ExitError;
use coord_bridge::publication::Plan;
use coord_bridge::published::Edition;
use coord_bridge::self_test::{self, Subject};
use derp::map::{DerpMap, Node, Region};
use derp_relay::{AccessConfig, Relay};
use tempfile::TempDir;

use crate::HOSTS;

/// Each fault is found, and named with what does not work and where.
#[test]
fn what_does_not_work_is_named() {
    for host in HOSTS {
        let any: SocketAddr = format!("{host}:0").parse().unwrap();
        let state = TempDir::new().unwrap();
        let start = |access| {
            Relay::builder()
                .listen_derp(any)
                .listen_stun(any)
                .listen_http(any)
                .self_signed(&any.ip().to_string(), state.path())
                .key_file(state.path().join("derp.key"))
                .access(access)
                .start()
                .unwrap()
        };
        let open = start(AccessConfig::Open);
        let closed = start(AccessConfig::Nobody);
        let good = map_of(&open);
        let with = |change: &dyn Fn(&mut Node)| {
            let mut map = good.clone();
            change(&mut map.regions.get_mut(&999).unwrap().nodes[0]);
            map
        };
        let other_pin = format!("sha256-raw:{}", "0".repeat(64));
        let http_port = i32::from(open.addresses().http[0].port());

        assert_eq!(try_map(&good, &good, any, &open), None);
        for (map, failure) in [
            (with(&|node| node.cert_name.clone_from(&other_pin)), "TLS at "),
            (with(&|node| node.host_name = "derp.example.org".to_owned()), "TLS at "),
            (with(&|node| node.derp_port = http_port), "TLS at "),
            (with(&|node| node.stun_port = 9), "STUN at "),
            (map_of(&closed), "login at "),
            (with(&|node| node.cert_name.clear()), "map at "),
        ] {
            let found = try_map(&map, &map, any, &open).unwrap();
            assert!(found.starts_with(failure), "{failure}: {found}");
        }
        let stun_port = i32::from(open.addresses().stun[0].port());
        let other = with(&|node| node.stun_port = stun_port ^ 1);
        let found = try_map(&good, &other, any, &open).unwrap();
        assert!(found.starts_with("map, json at ") && found.contains("another map"), "{found}");
        open.stop();
        closed.stop();
    }
}

/// Exit code 1: the system is at fault, not the operator.
#[test]
fn a_failed_self_test_is_no_fault_of_the_configuration() {
    let error = ExitError::SelfTest("TLS at 127.0.0.1:1: refused".to_owned());
    assert_eq!(error.code(), 1);
    assert_eq!(error.to_string(), "the self-test failed: TLS at 127.0.0.1:1: refused");
}

/// Serves `served`, and tries it as if `wanted` had to be there: the first failure.
fn try_map(served: &DerpMap, wanted: &DerpMap, any: SocketAddr, relay: &Relay) -> Option<String> {
    let listeners = Listeners::open(&Addresses { map: vec![any], ..Addresses::default() }).unwrap();
    let bridge = Bridge::start(
        listeners,
        Setup { plan: Plan { map: served.clone(), ..Plan::default() }, ..Setup::default() },
    )
    .unwrap();
    let edition = Edition::new(wanted.clone());
    let map = bridge.addresses().map[0];
    let http = relay.addresses().http.first().copied();
    let findings = self_test::run(Subject { is_open: true, edition: &edition, map, http });
    let table = findings.to_string();
    assert_eq!(table.contains("FAILED"), findings.failure().is_some(), "{table}");
    bridge.stop();
    findings.failure()
}

fn map_of(relay: &Relay) -> DerpMap {
    let derp = relay.addresses().derp[0];
    let stun = relay.addresses().stun[0].port().into();
    let [ipv4, ipv6] = [derp.is_ipv4(), derp.is_ipv6()]
        .map(|is_it| if is_it { derp.ip().to_string() } else { "none".to_owned() });
    let node = Node {
        name: "999a".to_owned(),
        region_id: 999,
        host_name: derp.ip().to_string(),
        cert_name: relay.certificate_pin().unwrap(),
        ipv4,
        ipv6,
        derp_port: derp.port().into(),
        stun_port: stun,
        ..Node::default()
    };
    let region = Region {
        id: 999,
        code: "own".to_owned(),
        name: "Own relay".to_owned(),
        nodes: vec![node],
        ..Region::default()
    };
    DerpMap { regions: [(999, region)].into(), ..DerpMap::default() }
}
