//! Other people's maps, from servers that work and servers that do not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coord_bridge::bridge::{Listeners, Setup};
use coord_bridge::publication::compose::Choice;
use coord_bridge::publication::status::UpstreamStatus;
use coord_bridge::publication::upstream::{MAX_UPSTREAM_LEN, Source, UpstreamSettings};
use coord_bridge::publication::{Plan, copy};
use coord_bridge::{Addresses, Bridge};
use derp::map::DerpMap;
use tempfile::TempDir;

use crate::client::get;
use crate::server::{Mood, Server};
use crate::{any, map, names, node, region, wait_until};

const OK: &str = "200 OK";

/// A map of others with two regions, one with an id of ours.
fn theirs() -> DerpMap {
    map(vec![region(1, vec![node(1, "1a")]), region(999, vec![node(999, "theirs")])])
}

fn own() -> DerpMap {
    map(vec![region(999, vec![node(999, "999a")])])
}

fn good() -> Mood {
    Mood::Say(OK, theirs().to_json().into_bytes())
}

fn settings(server: &Server) -> UpstreamSettings {
    UpstreamSettings {
        source: Source::Url {
            url: format!("http://{}/derpmap/default?a=b", server.address).parse().unwrap(),
            ca_file: None,
            login: None,
        },
        file: None,
        interval: Duration::from_millis(20),
        choice: Choice::default(),
    }
}

fn plan(state: &Path, upstreams: Vec<UpstreamSettings>) -> Plan {
    Plan { map: own(), upstreams, state_dir: Some(state.to_owned()), ..Plan::default() }
}

fn start(plan: Plan) -> Bridge {
    let addresses = Addresses { map: vec![any()], ..Addresses::default() };
    let setup = Setup { plan, ..Setup::default() };
    Bridge::start(Listeners::open(&addresses).unwrap(), setup).unwrap()
}

fn published(bridge: &Bridge) -> DerpMap {
    let answer = get(bridge.addresses().map[0], "/derpmap.json");
    assert_eq!(answer.status, 200);
    DerpMap::parse(&answer.body).unwrap()
}

fn status(bridge: &Bridge) -> UpstreamStatus {
    bridge.publication().upstreams[0].clone()
}

fn wait_for(bridge: &Bridge, wanted: &[&str]) {
    wait_until(&format!("{wanted:?}"), || names(&published(bridge)) == wanted);
}

/// The file of the only copy.
fn copy_of(state: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(state.join("upstreams")).unwrap().collect();
    assert_eq!(files.len(), 1);
    files.into_iter().next().unwrap().unwrap().path()
}

#[test]
fn regions_of_others_are_published_beside_ours() {
    let state = TempDir::new().unwrap();
    let server = Server::start(good());
    let bridge = start(plan(state.path(), vec![settings(&server)]));
    wait_for(&bridge, &["1a", "999a"]);

    let status = status(&bridge);
    assert_eq!((status.regions, status.overridden, status.last_error), (1, vec![999], None));
    assert!(status.fetched.is_some());
    let head = server.heads().remove(0);
    assert!(head.starts_with("GET /derpmap/default?a=b HTTP/1.1\r\n"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("authorization"), "{head}");
    bridge.stop();
}

/// Headscale takes such things for a map. We do not.
#[test]
fn what_is_no_map_changes_nothing() {
    let state = TempDir::new().unwrap();
    let server = Server::start(good());
    let bridge = start(plan(state.path(), vec![settings(&server)]));
    wait_for(&bridge, &["1a", "999a"]);
    let kept = fs::read(copy_of(state.path())).unwrap();
    let json = published(&bridge).to_json();

    let other = map(vec![region(2, vec![node(2, "2a")])]).to_json().into_bytes();
    let faulty = br#"{"Regions":{"1":{"RegionID":2,"Nodes":[{"Name":"x"}]}}}"#;
    for (mood, said) in [
        (Mood::Say(OK, b"{}".to_vec()), "without a region"),
        (Mood::Say(OK, b"null".to_vec()), "without a region"),
        (Mood::Say(OK, faulty.to_vec()), "without a region"),
        (Mood::Say(OK, b"<html>".to_vec()), "not JSON"),
        (Mood::Say(OK, b"[1]".to_vec()), "no DERP map"),
        (Mood::Say("500 Oops", other.clone()), "answers 500"),
        (Mood::Say("503 Oops", br#"{"error":"boom"}"#.to_vec()), "answers 503"),
        (Mood::Say("302 Found\r\nLocation: /else", other), "to /else"),
        (Mood::Say(OK, vec![b' '; MAX_UPSTREAM_LEN + 1]), "longer than"),
        (Mood::Flood, "longer than"),
        (Mood::HangUp, "connection"),
    ] {
        server.say(mood);
        wait_until(said, || status(&bridge).last_error.is_some_and(|it| it.contains(said)));
        assert_eq!(published(&bridge).to_json(), json, "{said}");
        assert_eq!(fs::read(copy_of(state.path())).unwrap().len(), kept.len(), "{said}");
        server.say(good());
        wait_until("it is good again", || status(&bridge).last_error.is_none());
    }
    assert!(status(&bridge).failures >= 11);
    bridge.stop();
}

#[test]
fn a_dead_server_leaves_the_last_good_map_also_over_a_restart() {
    let state = TempDir::new().unwrap();
    let server = Server::start(good());
    let plan = plan(state.path(), vec![settings(&server)]);
    let bridge = start(plan.clone());
    wait_for(&bridge, &["1a", "999a"]);
    let json = published(&bridge).to_json();

    drop(server);
    wait_until("a fetch fails", || status(&bridge).last_error.is_some());
    assert_eq!(published(&bridge).to_json(), json);
    bridge.stop();

    let bridge = start(plan);
    assert_eq!(bridge.edition().map().to_json(), json, "before anything is fetched");
    let age = status(&bridge).age().unwrap();
    assert!(age < Duration::from_secs(3_600), "{age:?}");
    bridge.stop();
}

#[test]
fn a_copy_that_is_not_whole_is_not_used() {
    let state = TempDir::new().unwrap();
    let server = Server::start(good());
    let upstream = settings(&server);
    let bridge = start(plan(state.path(), vec![upstream.clone()]));
    wait_for(&bridge, &["1a", "999a"]);
    bridge.stop();
    drop(server);
    let file = copy_of(state.path());
    assert_eq!(file, copy::path(state.path(), &upstream.name()));
    let whole = fs::read(&file).unwrap();
    let start = || {
        let bridge = start(plan(state.path(), vec![upstream.clone()]));
        let found: Vec<String> =
            names(bridge.edition().map()).into_iter().map(str::to_owned).collect();
        bridge.stop();
        found
    };
    assert_eq!(start(), ["1a", "999a"]);

    let at = whole.windows(2).position(|window| window == b"1a").unwrap();
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    for broken in [&flipped[..], &whole[..whole.len() - 1], b"", b"{}", &[0xff; 9]] {
        fs::write(&file, broken).unwrap();
        assert_eq!(start(), ["999a"]);
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(start(), ["999a"], "no file at all");
}

#[test]
fn a_file_stands_in_for_what_was_never_fetched() {
    let state = TempDir::new().unwrap();
    let file = state.path().join("offline.json");
    fs::write(&file, theirs().to_json()).unwrap();
    let server = Server::start(Mood::HangUp);
    let with_url = UpstreamSettings { file: Some(file.clone()), ..settings(&server) };
    let only_file = UpstreamSettings { source: Source::File, ..with_url.clone() };
    for upstream in [with_url, only_file] {
        let bridge = start(plan(state.path(), vec![upstream]));
        assert_eq!(names(bridge.edition().map()), ["1a", "999a"]);
        bridge.stop();
    }

    fs::write(&file, "{").unwrap();
    let bridge =
        start(plan(state.path(), vec![UpstreamSettings { file: Some(file), ..settings(&server) }]));
    assert_eq!(names(bridge.edition().map()), ["999a"]);
    bridge.stop();
}

/// A bridge may take the map of a bridge that asks for a password.
#[test]
fn a_password_is_sent_and_stays_out_of_sight() {
    let state = TempDir::new().unwrap();
    let password = state.path().join("password");
    fs::write(&password, "geheim\n").unwrap();
    let server = Server::start(good());
    let mut upstream = settings(&server);
    let Source::Url { login, .. } = &mut upstream.source else { unreachable!() };
    *login = Some(("me".to_owned(), password.to_str().unwrap().parse().unwrap()));
    let bridge = start(plan(state.path(), vec![upstream]));
    wait_for(&bridge, &["1a", "999a"]);

    let head = server.heads().remove(0);
    assert!(head.contains("authorization: Basic bWU6Z2VoZWlt\r\n"), "{head}");
    assert!(!format!("{:?}", bridge.publication()).contains("geheim"));
    bridge.stop();
}

/// What was fetched is kept; what is not wanted any more goes at once.
#[test]
fn another_plan_takes_effect_without_another_fetch() {
    let state = TempDir::new().unwrap();
    let server = Server::start(good());
    let upstream = settings(&server);
    let bridge = start(plan(state.path(), vec![upstream.clone()]));
    wait_for(&bridge, &["1a", "999a"]);
    drop(server);

    let choice = Choice { prefer_own: true, ..Choice::default() };
    let other = UpstreamSettings { choice, ..upstream };
    bridge.publisher().adopt(plan(state.path(), vec![other])).unwrap();
    assert!(bridge.edition().map().regions[&1].no_measure_no_home);

    bridge.publisher().adopt(plan(state.path(), Vec::new())).unwrap();
    assert_eq!(names(bridge.edition().map()), ["999a"]);
    assert!(bridge.publication().upstreams.is_empty());
    bridge.stop();
}
