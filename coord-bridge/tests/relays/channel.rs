//! Registration and events, line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;

use coord_bridge::store::{Location, Store, relays};
use derp::key::NodePublic;
use serde_json::{Value, json};

use crate::bench::{Bench, eventually, post};
use crate::client::{dial, get};
use crate::peer::private;
use crate::several;

/// What a relay says of itself, as in docs/protocol/relay-channel.md.
fn registration(number: u32, name: &str) -> String {
    json!({
        "version": "0.1.0",
        "key": private(number).public().to_string(),
        "map": { "Regions": { "999": {
            "RegionID": 999, "RegionCode": "own", "RegionName": "Own relay",
            "Nodes": [{ "Name": name, "RegionID": 999, "HostName": "derp.example.org" }],
        } } },
    })
    .to_string()
}

fn register(bench: &Bench, number: u32) -> (String, u64) {
    let name = format!("999-{number}");
    let token = bench.relay_token();
    let said = post(bench.verify, "/v1/relay/register", Some(&token), &registration(number, &name));
    assert_eq!(said.status, 200, "{}", said.text());
    let said: Value = serde_json::from_str(said.text()).unwrap();
    assert_eq!(said["heartbeat_seconds"], 10);
    (said["id"].as_str().unwrap().to_owned(), said["seq"].as_u64().unwrap())
}

/// An open stream of events.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(at: SocketAddr, token: &str, id: &str, after: u64) -> Self {
        let mut stream = dial(at);
        let request = format!(
            "GET /v1/relay/events?relay={id}&after={after} HTTP/1.1\r\nHost: x\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut events = Self(BufReader::new(stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(events.0.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("content-type: application/x-ndjson"), "{head}");
        events
    }

    /// The next line that is not empty: neither one that keeps alive nor the size of a chunk.
    fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream has ended");
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }

    /// Holds that nothing comes any more.
    fn has_ended(mut self) {
        let mut rest = Vec::new();
        drop(self.0.read_to_end(&mut rest));
        assert!(!rest.contains(&b'{'), "{}", String::from_utf8_lossy(&rest));
    }
}

fn close(seq: u64, node: &NodePublic) -> Value {
    json!({ "seq": seq, "event": "close", "key": node.to_string() })
}

#[test]
fn events_are_numbered_and_can_be_resumed() {
    let bench = Bench::new();
    let (token, [one, two]) = (bench.relay_token(), [1, 2].map(|n| private(n).public()));
    let machines = [one, two].map(|node| bench.machine(&node));
    assert_eq!(bench.ask(&one), (200, Some(true)));
    let (id, seq) = register(&bench, 100);
    assert_eq!(seq, 0);
    let mut events = Events::open(bench.verify, &token, &id, seq);
    // Whoever is new to this bridge asks about all nodes once.
    assert_eq!(events.next(), json!({ "event": "verify-changed" }));
    bench.run(&["machines", "delete", &machines[0]]);
    assert_eq!(events.next(), close(1, &one));

    // Another stream of the same relay ends this one, and hears only what it has not heard.
    let mut other = Events::open(bench.verify, &token, &id, 0);
    assert_eq!(other.next(), close(1, &one));
    events.has_ended();
    drop(other);
    bench.run(&["machines", "delete", &machines[1]]);
    eventually("it is out", || match bench.ask(&two) {
        (200, Some(false)) => Ok(()),
        said => Err(said),
    });
    let mut other = Events::open(bench.verify, &token, &id, 1);
    assert_eq!(other.next(), close(2, &two));

    // A number that there never was.
    let mut lost = Events::open(bench.verify, &token, &id, 99);
    assert_eq!(lost.next(), json!({ "seq": 2, "event": "verify-changed" }));
    let (_, seq) = register(&bench, 101);
    assert_eq!(seq, 2);
}

/// Two relays, one name; one relay, twice.
#[test]
fn a_name_belongs_to_one_relay() {
    let bench = Bench::new();
    let token = bench.relay_token();
    let at = bench.verify;
    let (first, _) = register(&bench, 1);
    let taken = post(at, "/v1/relay/register", Some(&token), &registration(2, "999-1"));
    assert_eq!(taken.status, 409, "{}", taken.text());
    let (again, _) = register(&bench, 1);
    let beat = |id: &str| {
        let body = json!({ "id": id }).to_string();
        post(at, "/v1/relay/heartbeat", Some(&token), &body).status
    };
    assert_eq!((beat(&again), beat(&first)), (200, 404));
}

/// A lone bridge that comes back publishes who is still there, before anybody registers again.
#[test]
fn a_relay_outlives_its_bridge_in_the_map() {
    let mut bench = Bench::new();
    let token = bench.relay_token();
    let said = post(bench.verify, "/v1/relay/register", Some(&token), &several::registration());
    let id = serde_json::from_str::<Value>(said.text()).unwrap()["id"].clone();
    let is_published = |bench: &Bench| {
        let map = get(bench.bridge.as_ref().unwrap().address("map"), "/derpmap.json");
        if map.text().contains("998-lab") { Ok(()) } else { Err(map.text().to_owned()) }
    };
    eventually("it is in the map", || is_published(&bench));
    let store = Store::new(Location::File(bench.folder.path().join("state/bridge.sqlite")));
    let store = store.unwrap();
    eventually("it is in the store", || match store.read_now(relays::all).unwrap().len() {
        1 => Ok(()),
        other => Err(other),
    });

    bench.kill();
    bench.start();

    eventually("it is in the map again", || is_published(&bench));
    // And its id is still its own.
    let body = json!({ "id": id }).to_string();
    assert_eq!(post(bench.verify, "/v1/relay/heartbeat", Some(&token), &body).status, 200);
}

/// Over the API, and so on the page: what the channel knows of a relay.
#[test]
fn administrators_see_relays_and_their_streams() {
    let bench = Bench::new();
    let admin = bench.bridge.as_ref().unwrap().address("admin");
    let token = std::fs::read_to_string(bench.folder.path().join("state/admin-token")).unwrap();
    let (id, seq) = register(&bench, 7);
    let _events = Events::open(bench.verify, &bench.relay_token(), &id, seq);
    let mut relay = Value::Null;
    eventually("its stream", || {
        let headers = format!("Authorization: Bearer {}\r\nHost: localhost\r\n", token.trim());
        let request = format!("GET /api/v1/relays HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        let answer = crate::client::send(admin, request.as_bytes()).unwrap();
        let list: Value = serde_json::from_str(answer.text()).unwrap();
        relay = list["relays"][0].clone();
        if relay["channel"]["stream"] == true { Ok(()) } else { Err(list) }
    });
    assert_eq!((&relay["name"], &relay["region_id"]), (&"999-7".into(), &999.into()), "{relay}");
    let channel = &relay["channel"];
    assert_eq!((&channel["id"], &channel["version"]), (&id.into(), &"0.1.0".into()));
    assert_eq!(channel["key"], private(7).public().to_string());
    assert_eq!(channel["live"], true);
    for date in ["since", "heard"] {
        assert!(channel[date].as_str().unwrap().ends_with('Z'), "{relay}");
    }
}

/// O4.1: made for its owner; overwritten, the old one ends at once.
#[test]
fn the_token_is_read_again_when_it_is_overwritten() {
    let bench = Bench::new();
    let old = bench.relay_token();
    let mode = std::fs::metadata(bench.relay_token_file()).unwrap().permissions().mode();
    assert_eq!((old.len(), mode & 0o777), (64, 0o600));
    let (id, seq) = register(&bench, 1);
    let events = Events::open(bench.verify, &old, &id, seq);
    std::fs::write(bench.relay_token_file(), "another-token-of-the-operator\n").unwrap();
    let beat = |token: &str| {
        let body = json!({ "id": id }).to_string();
        post(bench.verify, "/v1/relay/heartbeat", Some(token), &body).status
    };
    assert_eq!((beat(&old), beat("another-token-of-the-operator")), (401, 200));
    // A stream that is open does not outlive it either.
    let Events(mut stream) = events;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}

/// Streams do not keep a bridge from ending, nor strangers a stream from going on.
#[test]
fn a_stream_outlives_a_crowd_and_not_the_bridge() {
    let mut bench = Bench::new();
    let (token, node) = (bench.relay_token(), private(1).public());
    let id_of_machine = bench.machine(&node);
    assert_eq!(bench.ask(&node), (200, Some(true)));
    let (id, seq) = register(&bench, 100);
    let mut events = Events::open(bench.verify, &token, &id, seq);
    assert_eq!(events.next(), json!({ "event": "verify-changed" }));
    let crowd: Vec<TcpStream> = (0..600).map(|_| dial(bench.verify)).collect();
    bench.run(&["machines", "delete", &id_of_machine]);
    assert_eq!(events.next(), close(1, &node));
    drop(crowd);
    bench.bridge.take().unwrap().stop();
    events.has_ended();
}
