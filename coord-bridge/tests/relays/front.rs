//! What `/verify` answers, and what it costs Headscale.

use std::time::Instant;

use derp::key::NodePublic;
use serde_json::Value;

use crate::bench::{self, Bench, eventually, post};
use crate::client::{ask, get};
use crate::peer::private;

fn node(number: u32) -> NodePublic {
    private(number).public()
}

/// R-071, R-075: by the node list, which is asked for once more for who is not on it.
#[test]
fn who_is_listed_may_enter_and_others_may_not() {
    let bench = Bench::new();
    bench.tailnet.join(&node(2), None);
    assert_eq!(bench.ask(&node(1)), (200, Some(false)));
    let lists = bench.tailnet.lists();
    bench.tailnet.join(&node(1), None);
    // A no is repeated for a second.
    eventually("it gets in", || match bench.ask(&node(1)) {
        (200, Some(true)) => Ok(()),
        said => Err(said),
    });
    assert!(bench.tailnet.lists() > lists);
    let lists = bench.tailnet.lists();
    for _ in 0..20 {
        assert_eq!(bench.ask(&node(1)), (200, Some(true)));
    }
    assert_eq!(bench.tailnet.lists(), lists, "who is known costs nothing");
    assert_eq!(get(bench.verify, "/ready").status, 200);
}

/// A first list without nodes may be that of a database that is away: no yes, and no no.
#[test]
fn a_tailnet_without_nodes_is_an_outage_at_first() {
    let bench = Bench::new();
    assert_eq!(bench.ask(&node(1)), (503, None));
    bench.bridge.as_ref().unwrap().wait_for_log("Headscale lists no node", 1);
    bench.tailnet.join(&node(2), None);
    assert_eq!(bench.ask(&node(1)), (200, Some(false)));
}

/// A node that nobody has asked about before gets in the moment it is registered.
#[test]
fn a_new_node_gets_in_at_once() {
    let bench = Bench::new();
    for number in 1..4 {
        bench.tailnet.join(&node(number), None);
        assert_eq!(bench.ask(&node(number)), (200, Some(true)), "{number}");
    }
}

/// However many keys strangers make up, Headscale is looked at once a second.
#[test]
fn a_flood_of_random_keys_does_not_multiply_into_calls() {
    let bench = Bench::new();
    bench.tailnet.join(&node(1), None);
    assert_eq!(bench.ask(&node(1)), (200, Some(true)));
    let (began, before) = (Instant::now(), bench.tailnet.lists());
    std::thread::scope(|scope| {
        for thread in 0..20 {
            let at = bench.verify;
            scope.spawn(move || {
                for number in 0..10 {
                    let said = bench::ask(at, &node(1_000 + thread * 100 + number));
                    assert_eq!(said, (200, Some(false)));
                }
            });
        }
        for _ in 0..20 {
            assert_eq!(bench.ask(&node(1)), (200, Some(true)), "who is known does not wait");
        }
    });
    let most = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    let lists = bench.tailnet.lists() - before;
    assert!(lists <= most, "{lists} lists for 200 keys in {:?}", began.elapsed());
}

/// An outage is no no: the relay keeps who it knows.
#[test]
fn without_headscale_who_is_known_enters_and_others_are_no_denial() {
    let mut bench = Bench::new();
    bench.tailnet.join(&node(1), None);
    assert_eq!(bench.ask(&node(1)), (200, Some(true)));
    bench.tailnet.set_down(true);
    assert_eq!(bench.ask(&node(1)), (200, Some(true)));
    assert_eq!(bench.ask(&node(2)), (503, None));
    let ready = get(bench.verify, "/ready");
    assert!(ready.status == 503 && ready.text().contains("cannot be reached"), "{ready:?}");

    // A bridge that starts then knows nobody, and says so.
    bench.kill();
    bench.start();
    assert_eq!(bench.ask(&node(1)), (503, None));
    bench.tailnet.set_down(false);
    eventually("it is back", || match bench.ask(&node(1)) {
        (200, Some(true)) => Ok(()),
        said => Err(said),
    });
}

/// A Headscale that has lost its database for a moment cuts nobody off.
#[test]
fn an_empty_list_is_not_believed_at_once() {
    let bench = Bench::with("interval = \"1s\"");
    let relay = bench.relay(bench.relay_token_file());
    for number in 1..4 {
        bench.tailnet.join(&node(number), None);
    }
    let mut peers = [1, 2, 3].map(|number| relay.enter(number));
    relay.is_following();
    bench.tailnet.remove_all();
    bench.bridge.as_ref().unwrap().wait_for_log("lacks most of its nodes at once", 1);
    assert_eq!(bench.ask(&node(1)), (503, None), "neither yes nor no");
    assert_eq!(bench.ask(&node(9)), (200, Some(false)), "a stranger is one");
    for peer in &mut peers {
        peer.is_up();
    }
    // Known to the relay.
    drop(relay.enter(1));
    for number in 1..4 {
        bench.tailnet.join(&node(number), None);
    }
    eventually("they are back", || match bench.ask(&node(1)) {
        (200, Some(true)) => Ok(()),
        said => Err(said),
    });
}

/// One Headscale's nodes are as good as the other's; and one that is down makes strangers of
/// nobody.
#[test]
fn several_headscales_are_asked() {
    let work = crate::tailnet::Tailnet::start();
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), crate::tailnet::API_KEY).unwrap();
    let bench = Bench::with(&format!(
        "interval = \"1h\"\n[[verify.headscales]]\nname = \"work\"\nurl = \"{}\"\n\
         api_key_file = {:?}",
        work.url(),
        key.path()
    ));
    bench.tailnet.join(&node(1), None);
    work.join(&node(2), None);
    for number in [1, 2] {
        assert_eq!(bench.ask(&node(number)), (200, Some(true)), "{number}");
    }
    assert_eq!(bench.ask(&node(3)), (200, Some(false)));
    work.set_down(true);
    bench.tailnet.join(&node(4), None);
    assert_eq!(bench.ask(&node(4)), (200, Some(true)));
    assert_eq!(bench.ask(&node(5)), (503, None));
    let ready = get(bench.verify, "/ready");
    assert!(ready.text().contains("work: Headscale cannot be reached"), "{ready:?}");
}

/// Exactly these paths; everything else and everything wrong is JSON.
#[test]
fn what_makes_no_sense_is_refused_in_json() {
    let bench = Bench::new();
    bench.tailnet.join(&node(1), None);
    let (at, token) = (bench.verify, bench.relay_token());
    let long = "x".repeat(20_000);
    let deep = "[".repeat(4_000);
    let key = node(1);
    for (path, token, body, status) in [
        ("/verify", None, "", 400),
        ("/verify", None, "null", 400),
        ("/verify", None, "{\"NodePublic\":1}", 400),
        ("/verify", None, "{\"NodePublic\":\"nodekey:00\"}", 400),
        ("/verify", None, &deep, 400),
        ("/verify", None, &long, 413),
        ("/verify", None, "{}", 200),
        ("/v1/relay/register", None, "{}", 401),
        ("/v1/relay/register", Some("a-token-of-somebody-else"), "{}", 401),
        ("/v1/relay/register", Some(&*token), "{}", 400),
        ("/v1/relay/register", Some(&*token), "\u{0}", 400),
        ("/v1/relay/register", Some(&*token), &deep, 400),
        ("/v1/relay/register", Some(&*token), &long, 413),
        (
            "/v1/relay/register",
            Some(&*token),
            &format!(r#"{{"version":"1","key":"{key}","map":{{}}}}"#),
            422,
        ),
        ("/v1/relay/register", Some(&*token), r#"{"version":"1","key":"nodekey:x","map":{}}"#, 400),
        ("/v1/relay/heartbeat", None, r#"{"id":"x"}"#, 401),
        ("/v1/relay/heartbeat", Some(&*token), r#"{"id":"x"}"#, 404),
        ("/v1/relay/heartbeat", Some(&*token), "{}", 400),
        ("/register", Some(&*token), "{}", 404),
    ] {
        let answer = post(at, path, token, body);
        let shown = &body[..body.len().min(60)];
        assert_eq!(answer.status, status, "{path} {shown}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        serde_json::from_str::<Value>(answer.text()).unwrap();
    }
    let bearer = format!("Authorization: Bearer {token}\r\n");
    for (method, path, headers, status) in [
        ("GET", "/verify", "", 405),
        ("POST", "/v1/relay/events", "", 405),
        ("GET", "/v1/relay/events?relay=x&after=0", "", 401),
        ("GET", "/v1/relay/events?relay=x&after=0", &*bearer, 404),
        ("GET", "/v1/relay/events?relay=x&after=-1", &*bearer, 400),
        ("GET", "/v1/relay/events", &*bearer, 400),
        ("GET", "/derpmap.json", "", 404),
        ("GET", "/machines", "", 404),
        ("GET", "/health", "", 200),
    ] {
        let answer = ask(at, method, path, headers);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        serde_json::from_str::<Value>(answer.text()).unwrap();
    }
}
