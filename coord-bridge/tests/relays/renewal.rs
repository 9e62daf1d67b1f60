//! A relay whose certificate is renewed while it runs.

use coord_bridge::config::SecretFile;
use derp::map::DerpMap;
use derp_relay::Relay;
use tempfile::TempDir;

use crate::bench::{Bench, bridge_config, eventually};
use crate::client::get;

/// Clients go by the pin in the map: until it has the new one, they refuse the relay.
#[test]
fn another_pin_is_told_at_once() {
    let (bench, state) = (Bench::new(), TempDir::new().unwrap());
    let url = format!("http://{}", bench.verify);
    let relay = Relay::builder()
        .listen_derp(([127, 0, 0, 1], 0).into())
        .self_signed("derp.example.org", state.path())
        .key_file(state.path().join("derp.key"))
        .bridge(bridge_config(&url, SecretFile::Path(bench.relay_token_file())))
        .start()
        .unwrap();
    let is_in_the_map = |pin: &str| {
        let answer = get(bench.bridge.as_ref().unwrap().address("map"), "/derpmap.json");
        let map = DerpMap::parse(&answer.body).unwrap();
        let pins: Vec<_> = map.regions.get(&998).into_iter().flat_map(|it| &it.nodes).collect();
        if pins.len() == 1 && pins[0].cert_name == pin { Ok(()) } else { Err(format!("{pins:?}")) }
    };
    let first = relay.certificate_pin().unwrap();
    eventually("it is in the map", || is_in_the_map(&first));
    // The same again is no news.
    relay.reload();

    std::fs::remove_file(state.path().join("self-signed.pem")).unwrap();
    relay.reload();

    let second = relay.certificate_pin().unwrap();
    assert_ne!(second, first);
    eventually("the new pin is in the map", || is_in_the_map(&second));
    let log = bench.bridge.as_ref().unwrap().log();
    assert_eq!(log.matches("a relay has registered").count(), 1, "it is the same relay: {log}");
    relay.stop();
}
