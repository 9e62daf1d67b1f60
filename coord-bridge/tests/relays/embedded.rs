//! The relay in the bridge's own process: `dev`, and `[embedded_relay]` under `serve`.

use std::path::Path;

use derp::map::DerpMap;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::bench::{eventually, register};
use crate::client::get;
use crate::peer::{Peer, Way, private};
use crate::program::{Program, command};
use crate::tailnet::{API_KEY, Tailnet};

const LISTENERS: [&str; 7] = [
    "--listen-derp",
    "--listen-stun",
    "--listen-http",
    "--listen-metrics",
    "--map-listen",
    "--provisioning-listen",
    "--verify-listen",
];

/// R-070 in one process: who is known enters, who is not is refused, and a machine that is deleted
/// is cut off by the push, since nobody looks for 25 s.
#[test]
fn dev_with_a_headscale_verifies_registers_and_cuts_off() {
    let (tailnet, folder) = (Tailnet::start(), TempDir::new().unwrap());
    let key_file = write_key(folder.path());
    let state = folder.path().join("state");
    let with = [
        "--state-dir",
        state.to_str().unwrap(),
        "--headscale-url",
        &tailnet.url(),
        "--headscale-api-key-file",
        &key_file,
    ];
    let mut dev = command(&["dev"]);
    for flag in LISTENERS {
        dev.args([flag, "127.0.0.1:0"]);
    }
    dev.args(with);
    let program = Program::start(dev);
    let said = program.said.join("\n");
    assert!(said.contains("Only nodes that Headscale knows may use it"), "{said}");
    assert!(said.contains("a stranger is refused"), "{said}");
    let derp = program.address("derp");

    let token = std::fs::read_to_string(state.join("enroll-token")).unwrap();
    let id = register(program.address("register"), token.trim(), &private(1).public(), &tailnet);
    tailnet.join(&private(2).public(), None);
    let mut one = Peer::connect(derp, Way::Tls13, 1);
    let mut two = Peer::connect(derp, Way::Tls13, 2);
    assert!(Peer::try_connect(derp, Way::Tls13, private(3)).is_err());
    one.is_up();
    follows(&program, "metrics");

    let beside = state.join("bridge.toml");
    let mut delete = command(&["machines", "delete", &id]);
    delete.arg("--config").arg(&beside);
    let done = delete.output().unwrap();

    assert!(done.status.success(), "{done:?}");
    one.is_closed();
    assert!(Peer::try_connect(derp, Way::Tls13, private(1)).is_err());
    two.is_up();
    let check = command(&["check", "--config", beside.to_str().unwrap()]).output().unwrap();
    let found = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(1), "{found}");
    assert!(found.contains("1 wrong") && found.contains("others may read it"), "{found}");
    program.stop();
}

/// Without a Headscale it is open, and says so.
#[test]
fn dev_without_a_headscale_says_that_it_is_open() {
    let folder = TempDir::new().unwrap();
    let mut dev = command(&["dev", "--state-dir", folder.path().to_str().unwrap()]);
    for flag in LISTENERS {
        dev.args([flag, "127.0.0.1:0"]);
    }
    let program = Program::start(dev);
    assert!(program.said.join("\n").contains("Everybody who reaches it may use it"));
    Peer::connect(program.address("derp"), Way::Tls13, 1).is_up();
    program.stop();
}

/// The same in production: the map names the relay with its pin, also after a reload, and the
/// relay ends with the process.
#[test]
fn serve_runs_the_relay_of_its_configuration() {
    let (tailnet, folder) = (Tailnet::start(), TempDir::new().unwrap());
    let program = Program::serve(folder.path(), &config(folder.path(), &tailnet, "127.0.0.1:0"));
    let derp = program.address("derp");
    let map = get(program.address("map"), "/derpmap.json");
    let node = DerpMap::parse(&map.body).unwrap().regions[&999].nodes[0].clone();
    assert_eq!((&*node.name, &*node.host_name, &*node.ipv4), ("999a", "127.0.0.1", "127.0.0.1"));
    assert_eq!(node.derp_port, i32::from(derp.port()));
    assert_eq!(node.stun_port, i32::from(program.address("stun").port()));
    assert!(node.cert_name.starts_with("sha256-raw:"), "{}", node.cert_name);

    let node_id = tailnet.join(&private(1).public(), None);
    let mut one = Peer::connect(derp, Way::Tls13, 1);
    assert!(Peer::try_connect(derp, Way::Tls13, private(2)).is_err());
    follows(&program, "relay-metrics");

    program.signal(Signal::HUP);
    program.wait_for_log("the map is the same", 1);
    assert_eq!(get(program.address("map"), "/derpmap.json").body, map.body);

    // By whatever means: the bridge sees it at its next look, a second later at most.
    tailnet.remove(&node_id);
    one.is_closed();
    assert!(!program.log().contains(API_KEY));
    tailnet.join(&private(3).public(), None);
    let mut three = Peer::connect(derp, Way::Tls13, 3);
    program.stop();
    three.is_closed();
}

/// A relay goes on saying what it was started with: what the file says of it meanwhile is taken
/// as far as that leaves it one node, with its pin.
#[test]
fn a_reload_keeps_the_pin_and_does_not_move_the_relay() {
    let (tailnet, folder) = (Tailnet::start(), TempDir::new().unwrap());
    let first = config(folder.path(), &tailnet, "127.0.0.1:0");
    let program = Program::serve(folder.path(), &first);
    follows(&program, "relay-metrics");
    let map = || DerpMap::parse(&get(program.address("map"), "/derpmap.json").body).unwrap();
    let node = map().regions[&999].nodes[0].clone();
    let reload = |more: &str| {
        std::fs::write(folder.path().join("bridge.toml"), format!("{first}{more}")).unwrap();
        program.signal(Signal::HUP);
    };

    let refused = [
        "[region]\nid = 901\n",
        "[[regions]]\nid = 901\n[[regions.nodes]]\nhostname = \"127.0.0.1\"\n",
    ];
    for (count, text) in (1..).zip(refused) {
        reload(text);
        program.wait_for_log("the map stays as it was", count);
        assert_eq!(program.log().matches("region.id: 901 instead of 999").count(), count);
        assert_eq!(get(program.address("map"), "/ready").status, 503);
        assert_eq!(map().regions[&999].nodes, std::slice::from_ref(&node));
    }

    // Named by the file since: its ports are the file's, and the pin stays the relay's.
    reload(
        "[[region.nodes]]\nhostname = \"127.0.0.1\"\nname = \"mine\"\nderp_port = 8443\nstun_port = -1\n",
    );
    program.wait_for_log("the map is another one", 1);
    let named = map().regions[&999].nodes[0].clone();
    assert_eq!((&*named.name, named.derp_port, named.stun_port), ("mine", 8_443, -1));
    assert_eq!(named.cert_name, node.cert_name);

    // And not any more: the ports are those that it has.
    reload("[region]\nname = \"Another name\"\n");
    program.wait_for_log("the map is another one", 2);
    let region = map().regions[&999].clone();
    assert_eq!((&*region.name, &region.nodes), ("Another name", &vec![node]));
    assert_eq!(get(program.address("map"), "/ready").status, 200);
    program.stop();
}

/// Headscale needs the map to start: a relay that does not come up leaves it where it is.
#[test]
fn a_relay_that_does_not_start_leaves_the_map() {
    let (tailnet, folder) = (Tailnet::start(), TempDir::new().unwrap());
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let program = Program::serve(folder.path(), &config(folder.path(), &tailnet, &taken));
    program.wait_for_log("embedded_relay: no relay until a restart", 1);
    assert!(program.log().contains(&taken), "{}", program.log());
    let map = DerpMap::parse(&get(program.address("map"), "/derpmap.json").body).unwrap();
    assert_eq!(map.regions[&999].nodes[0].host_name, "127.0.0.1");
    program.stop();
}

fn config(folder: &Path, tailnet: &Tailnet, derp: &str) -> String {
    let key_file = write_key(folder);
    let at = folder.display();
    format!(
        "map_listen = \"127.0.0.1:0\"\nverify_listen = \"127.0.0.1:0\"\n\
         admin_listen = \"none\"\nmetrics_listen = \"none\"\n\
         login_server = \"https://hs.example.org\"\nstate_dir = \"{at}/state\"\n\
         [headscale]\nurl = \"{}\"\napi_key_file = \"{key_file}\"\n\
         [verify]\ninterval = \"1s\"\n[provisioning]\nlisten = \"127.0.0.1:0\"\n\
         [embedded_relay]\nhostname = \"127.0.0.1\"\ntls = \"self-signed\"\n\
         listen_derp = \"{derp}\"\nlisten_stun = \"127.0.0.1:0\"\nlisten_http = \"none\"\n\
         listen_metrics = \"127.0.0.1:0\"\nbridge_ipv4 = \"127.0.0.1\"\nbridge_ipv6 = \"none\"\n",
        tailnet.url()
    )
}

fn write_key(folder: &Path) -> String {
    let file = folder.join("api-key");
    std::fs::write(&file, API_KEY).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Waits until the relay follows the bridge, by the relay's own word.
fn follows(program: &Program, metrics: &str) {
    eventually("the relay follows", || {
        let scrape = get(program.address(metrics), "/metrics").text().to_owned();
        if scrape.contains("derp_bridge_connected 1") { Ok(()) } else { Err(scrape) }
    });
}
