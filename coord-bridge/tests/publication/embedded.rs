//! Headscale's embedded relay on an id of ours: seen, told, and no reason not to publish.

use std::collections::BTreeSet;
use std::fs;

use coord_bridge::bridge::{Listeners, Setup};
use coord_bridge::publication::Plan;
use coord_bridge::publication::embedded::{
    self, Collision, Configured, EmbeddedSettings, judge, parse,
};
use coord_bridge::{Addresses, Bridge};
use tempfile::TempDir;

use crate::client::get;
use crate::server::{Mood, Server};
use crate::{any, map, node, region, wait_until};

/// What Headscale answers at `/derp`, of which a test with the real program holds that it is so.
const WORDS: &[u8] = b"DERP requires connection upgrade";

fn ours() -> BTreeSet<u64> {
    [999].into()
}

#[test]
fn the_configuration_of_headscale_is_read_for_what_matters() {
    let server = |text: &str| format!("server_url: http://x\nderp:\n  server:\n{text}  urls: []\n");
    for (text, found) in [
        ("", Configured::Off),
        ("derp:\n", Configured::Off),
        ("derp:\n  server: {}\n", Configured::Off),
        (&server("    enabled: false\n    region_id: 999\n"), Configured::Off),
        (&server("    enabled: true\n    region_id: 999\n"), Configured::On(999)),
        (&server("    enabled: \"true\"\n    region_id: 7\n"), Configured::On(7)),
        (&server("    enabled: true\n"), Configured::On(0)),
        (
            &server(
                "    enabled: true\n    region_id: 999\n    \
                 automatically_add_embedded_derp_region: false\n",
            ),
            Configured::NotAdded,
        ),
    ] {
        assert_eq!(parse(text), Ok(found), "{text}");
    }
    for text in ["derp: [", "derp: 7\n", "derp:\n  server:\n    region_id: many\n", "\u{0}"] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn what_is_seen_is_told_as_far_as_it_is_known() {
    let other: BTreeSet<u64> = [900].into();
    for (configured, answers, ours, found) in [
        (Some(Configured::On(999)), true, ours(), Some(Collision::Sure(999))),
        (Some(Configured::On(999)), false, ours(), Some(Collision::Sure(999))),
        (Some(Configured::On(999)), true, other.clone(), None),
        (Some(Configured::NotAdded), true, ours(), None),
        (Some(Configured::Off), true, ours(), Some(Collision::AgainstConfig)),
        (Some(Configured::Off), false, ours(), None),
        (None, true, ours(), Some(Collision::Suspected)),
        (None, true, other, None),
        (None, false, ours(), None),
    ] {
        assert_eq!(judge(configured, answers, &ours), found, "{configured:?} {answers}");
    }
}

/// Others say the same with a line end, our relay among them.
#[test]
fn only_headscales_own_words_count() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let with_line_end = [WORDS, b"\n"].concat();
    for (mood, found) in [
        (Mood::Say("426 Upgrade Required", WORDS.to_vec()), Some(Collision::Suspected)),
        (Mood::Say("426 Upgrade Required", with_line_end), None),
        (Mood::Say("200 OK", WORDS.to_vec()), None),
        (Mood::Say("404 Not Found", b"404 page not found\n".to_vec()), None),
        (Mood::Flood, None),
        (Mood::HangUp, None),
    ] {
        let server = Server::start(mood.clone());
        let url = format!("http://{}", server.address).parse().unwrap();
        let settings = EmbeddedSettings { config_file: None, url: Some((url, None)) };
        let (seen, error) = runtime.block_on(embedded::look(&settings, &ours()));
        assert_eq!(seen, found, "{mood:?}");
        assert!(error.is_none());
        assert!(server.heads()[0].starts_with("GET /derp HTTP/1.1\r\n"));
    }
}

#[test]
fn a_collision_is_at_ready_and_the_map_is_published_all_the_same() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yaml");
    let write = |id: u64| {
        let text = format!("derp:\n  server:\n    enabled: true\n    region_id: {id}\n");
        fs::write(&file, text).unwrap();
    };
    write(999);
    let embedded = EmbeddedSettings { config_file: Some(file.clone()), url: None };
    let own = map(vec![region(999, vec![node(999, "999a")])]);
    let plan = Plan { map: own, embedded, ..Plan::default() };
    let addresses = Addresses { map: vec![any()], ..Addresses::default() };
    let setup = Setup { plan: plan.clone(), ..Setup::default() };
    let bridge = Bridge::start(Listeners::open(&addresses).unwrap(), setup).unwrap();
    let address = bridge.addresses().map[0];
    let collision = || bridge.publication().collision.clone();

    wait_until("it is seen", || collision() == Some(Collision::Sure(999)));
    let ready = get(address, "/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("embedded relay has the id of a region of ours"));
    assert!(!ready.text().contains("config.yaml"));
    assert_eq!(get(address, "/derpmap.json").status, 200);

    write(900);
    bridge.publisher().adopt(plan).unwrap();
    wait_until("it is gone", || collision().is_none());
    assert_eq!(get(address, "/ready").status, 200);
    bridge.stop();
}

/// A file that cannot be read says nothing either way, and that is told.
#[test]
fn a_configuration_that_cannot_be_read_is_told() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yaml");
    let settings = EmbeddedSettings { config_file: Some(file.clone()), url: None };
    let look = || {
        let (seen, error) = runtime.block_on(embedded::look(&settings, &ours()));
        assert_eq!(seen, None);
        error.unwrap().to_string()
    };
    assert!(look().starts_with("headscale.config_file: cannot use "));
    fs::write(&file, "derp: [").unwrap();
    assert!(look().contains("a copy of its `derp:` block"));
}
