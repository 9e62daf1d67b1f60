//! Several bridges on one PostgreSQL store, as programs.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coord_bridge::store::events::{self, Event};
use coord_bridge::store::keys::{self, KeyState};
use coord_bridge::store::{Location, Store, leases, machines};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{eventually, follow, post};
use crate::client::{get, send};
use crate::peer::private;
use crate::postgres_server;
use crate::program::{PATIENCE, Program};
use crate::receiver::{Receiver, status};
use crate::tailnet::{API_KEY, Tailnet};

/// Longer than it takes another bridge to lead, and a key to be nobody's that is under way: 12 and
/// 15 s, and a round.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(120);

/// Bridges that share everything but their listeners and folders.
struct Several {
    tailnet: Tailnet,
    receiver: Receiver,
    folder: TempDir,
    location: Location,
    store: Store,
    /// The first one leads.
    bridges: Vec<Program>,
}

impl Several {
    /// Two bridges; `None` where no PostgreSQL is installed.
    fn new() -> Option<Self> {
        let location = postgres_server::database()?;
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("api-key"), API_KEY).unwrap();
        std::fs::write(folder.path().join("secret"), format!("whsec_{}\n", "MDEy".repeat(11)))
            .unwrap();
        let store = Store::new(location.clone()).unwrap();
        let receiver = Receiver::start(|_| Some(status("204 No Content", "")));
        let tailnet = Tailnet::start();
        let mut several = Self { tailnet, receiver, folder, location, store, bridges: Vec::new() };
        several.start();
        eventually("the first one leads", || match several.leader() {
            Some(_) => Ok(()),
            None => Err("nobody does"),
        });
        several.start();
        Some(several)
    }

    fn start(&mut self) {
        let (at, number) = (self.folder.path().display(), self.bridges.len());
        let config = format!(
            "map_listen = \"127.0.0.1:0\"\nverify_listen = \"127.0.0.1:0\"\n\
             admin_listen = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\n\
             login_server = \"https://hs.example.org\"\nstate_dir = \"{at}/state{number}\"\n\
             store = \"{}\"\nrelay_token_file = \"{at}/relay-token\"\n\
             [headscale]\nurl = \"{}\"\napi_key_file = \"{at}/api-key\"\n\
             [[region.nodes]]\nhostname = \"derp.example.org\"\n\
             [verify]\ninterval = \"1h\"\n\
             [[webhooks]]\nname = \"test\"\nurl = \"{}\"\nsecret_file = \"{at}/secret\"\n\
             [provisioning]\nlisten = \"127.0.0.1:0\"\nrate_limit_max = 1000\n\
             token_file = \"{at}/enroll-token\"\nadmin_token_file = \"{at}/admin-token\"\n",
            self.location,
            self.tailnet.url(),
            self.receiver.url(),
        );
        self.bridges.push(Program::serve(self.folder.path(), &config));
    }

    fn token(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap().trim().to_owned()
    }

    fn leader(&self) -> Option<String> {
        self.store.read_now(leases::current).unwrap().map(|claim| claim.holder)
    }

    /// Keys of Headscale's that are valid and that no row knows.
    fn unknown_keys(&self) -> Vec<String> {
        let known = self.store.read_now(|session| {
            keys::in_states(session, &[KeyState::Issued, KeyState::Used, KeyState::Expired])
        });
        let known: BTreeSet<String> =
            known.unwrap().into_iter().filter_map(|key| key.key_id).collect();
        self.tailnet.valid_keys().into_iter().filter(|key| !known.contains(key)).collect()
    }

    fn all_events(&self) -> Vec<Event> {
        self.store.read_now(|session| events::after(session, "", 10_000)).unwrap()
    }
}

#[test]
fn forty_machines_at_two_bridges_are_forty_machines() {
    let Some(several) = Several::new() else { return };
    let at: Vec<SocketAddr> = several.bridges.iter().map(|it| it.address("register")).collect();
    let token = &several.token("enroll-token");
    std::thread::scope(|scope| {
        for number in 0..40 {
            let at = at[number % 2];
            scope.spawn(move || register(at, token, &format!("m{number}")).unwrap());
        }
    });
    let listed = several.store.read_now(machines::all).unwrap();
    let names: BTreeSet<&str> = listed.iter().map(|machine| machine.hostname.as_str()).collect();
    assert_eq!((listed.len(), names.len()), (40, 40));
    assert_eq!(several.tailnet.valid_keys().len(), 40);
    assert_eq!(several.unknown_keys(), Vec::<String>::new());
}

/// Issue 5: no key is unknown, and no event is lost, whoever dies.
#[test]
fn a_leader_that_is_killed_is_followed_and_nothing_is_lost() {
    let Some(mut several) = Several::new() else { return };
    let first = several.leader().unwrap();
    let is_over = AtomicBool::new(false);
    let leading = several.bridges.remove(0);
    let token = &several.token("enroll-token");
    std::thread::scope(|scope| {
        for bridge in [&leading, &several.bridges[0]] {
            for thread in 0..2 {
                let (at, is_over) = (bridge.address("register"), &is_over);
                scope.spawn(move || {
                    for number in 0..100 {
                        if is_over.load(Ordering::SeqCst) {
                            return;
                        }
                        // Whoever is killed answers nobody.
                        let name = format!("m{}-{thread}-{number}", at.port());
                        drop(register(at, token, &name));
                    }
                });
            }
        }
        eventually("registrations", || match several.tailnet.valid_keys().len() {
            20.. => Ok(()),
            few => Err(few),
        });
        leading.kill();
        is_over.store(true, Ordering::SeqCst);
    });

    let began = Instant::now();
    loop {
        let leader = several.leader().unwrap();
        let unknown = several.unknown_keys();
        let delivered: BTreeSet<String> =
            several.receiver.received().iter().map(|it| it.header("webhook-id").into()).collect();
        let missing = several.all_events().iter().filter(|it| !delivered.contains(&it.id)).count();
        if leader != first && unknown.is_empty() && missing == 0 {
            break;
        }
        assert!(
            began.elapsed() < TAKEOVER_PATIENCE,
            "{leader} follows {first}, {unknown:?} unknown, {missing} missing\n{}",
            several.bridges[0].log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    several.bridges[0].wait_for_log("leads=true", 1);
    assert!(register(several.bridges[0].address("register"), token, "after").is_some());
}

/// An orderly stop: whoever is left leads soon, not after twelve seconds of silence.
#[test]
fn a_leader_that_stops_gives_the_lead_up() {
    let Some(mut several) = Several::new() else { return };
    let first = several.leader().unwrap();
    several.bridges.remove(0).stop();
    assert_ne!(several.leader().as_ref(), Some(&first), "given up before the process has ended");
    // No line in its log: where it came after the first one was gone, it knows of no other.
    eventually("the other one leads", || match several.leader() {
        Some(leader) if leader != first => Ok(()),
        other => Err(other),
    });
}

/// R-070 over two bridges.
#[test]
fn a_node_that_is_deleted_at_one_bridge_is_cut_off_at_a_relay_of_the_other() {
    let Some(several) = Several::new() else { return };
    let [a, b] = &several.bridges[..] else { panic!("two") };
    let url = format!("http://{}", b.address("verify"));
    let relay_token = several.folder.path().join("relay-token");
    let relay = follow(&url, &[&format!("{url}/verify")], relay_token);
    let node = private(1).public();
    let machine = register(a.address("register"), &several.token("enroll-token"), "one").unwrap();
    let key = machine["headscale_key"].as_str().unwrap().rsplit('-').next().unwrap().to_owned();
    several.tailnet.join(&node, Some(key.parse().unwrap()));
    let mut one = relay.enter(1);
    relay.is_following();

    let request = format!(
        "DELETE /api/v1/machines/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\n\r\n",
        machine["machine_id"].as_str().unwrap(),
        several.token("admin-token"),
    );
    let answer = send(a.address("admin"), request.as_bytes()).unwrap();
    assert!((200..300).contains(&answer.status), "{}", answer.text());

    one.is_closed();
    relay.refuses(1);
    assert_eq!(relay.metric(r#"derp_access_cut_offs{cause="revoked"}"#), 1.0);
}

/// A relay is known by all bridges, and goes on with any of them.
#[test]
fn a_relay_of_one_bridge_is_in_the_map_of_both() {
    let Some(several) = Several::new() else { return };
    let [a, b] = &several.bridges[..] else { panic!("two") };
    let token = several.token("relay-token");
    let said = post(a.address("verify"), "/v1/relay/register", Some(&token), &registration());
    let id = serde_json::from_str::<Value>(said.text()).unwrap()["id"].clone();
    // Behind one name, the next request may come to the other bridge.
    let body = json!({ "id": id }).to_string();
    eventually("a heartbeat", || {
        let said = post(b.address("verify"), "/v1/relay/heartbeat", Some(&token), &body);
        if said.status == 200 { Ok(()) } else { Err(said.status) }
    });
    eventually("the same map", || {
        let [one, other] = [a, b].map(|it| get(it.address("map"), "/derpmap.json"));
        if one.body == other.body && one.text().contains("998-lab") {
            Ok(())
        } else {
            Err((one.text().to_owned(), other.text().to_owned()))
        }
    });
}

/// A machine registers at this bridge; `None` if that does not answer, or refuses.
fn register(at: SocketAddr, token: &str, hostname: &str) -> Option<Value> {
    let body = json!({ "hostname": hostname, "mac": "unknown" }).to_string();
    let request = format!(
        "POST /register HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| serde_json::from_str(body).unwrap())
}

/// What a relay says of itself, as in docs/protocol/relay-channel.md.
pub(crate) fn registration() -> String {
    json!({
        "version": "0.1.0",
        "key": private(100).public().to_string(),
        "map": { "Regions": { "998": {
            "RegionID": 998, "RegionCode": "lab", "RegionName": "Laboratory",
            "Nodes": [{ "Name": "998-lab", "RegionID": 998, "HostName": "lab.example.org" }],
        } } },
    })
    .to_string()
}
