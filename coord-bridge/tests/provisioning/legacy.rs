//! The files of the provisioner before this one.

use coord_bridge::provisioning::legacy::{export, parse};
use coord_bridge::store::machines::State;

use crate::bench::Bench;
use crate::store::machine;

/// As the present provisioner writes it.
const MACHINES: &str = r#"{
  "unknown": {
    "hostname": "sovran-deploy-0123456789abcdef",
    "mac": "unknown",
    "registered_at": 1767225600.25,
    "tailscale_ip": ""
  },
  "AA-BB-CC-00-11-22": {
    "hostname": "Two",
    "mac": "AA-BB-CC-00-11-22",
    "registered_at": 1767225601,
    "tailscale_ip": "100.64.0.9"
  },
  "x": {"hostname": "<script>", "mac": "x", "registered_at": 1767225602.0, "tailscale_ip": ""}
}"#;

/// As the first one did.
const REGISTRATIONS: &str = r#"[
  {"hostname": "old-one", "mac": "aa:bb:cc:00:11:22", "ip": "192.0.2.7",
   "registered_at": "2025-12-31T23:00:00.5+00:00", "key_prefix": "abc"},
  {"hostname": "older", "mac": "unknown", "ip": "x", "registered_at": "2025-12-31T22:00:00Z"},
  {"hostname": 7}, null, "x"
]"#;

/// O7.3, T9: once, in order, and the files stay.
#[tokio::test]
async fn both_files_are_taken_over_once_and_left_as_they_are() {
    let mut bench = Bench::new();
    let path = |name: &str| bench.folder.path().join(name);
    let (machines, registrations) = (path("machines.json"), path("registrations.json"));
    std::fs::write(&machines, MACHINES).unwrap();
    std::fs::write(&registrations, REGISTRATIONS).unwrap();
    for _ in 0..2 {
        let running = tokio::spawn(std::sync::Arc::clone(&bench.provisioning).run());
        // The first round comes after the import.
        while bench.provisioning.findings().await.iter().any(|it| it.contains("not been asked")) {
            tokio::task::yield_now().await;
        }
        running.abort();
        let names: Vec<String> = bench
            .machines()
            .await
            .into_iter()
            .map(|it| format!("{} {} {:?} {}", it.hostname, it.mac, it.state, it.registered_ms))
            .collect();
        assert_eq!(
            names,
            [
                "older unknown Expired 1767218400000",
                "old-one aa:bb:cc:00:11:22 Expired 1767222000500",
                "sovran-deploy-0123456789abcdef unknown Expired 1767225600250",
                "two aa:bb:cc:00:11:22 Expired 1767225601000",
            ]
        );
        bench.restart();
    }
    assert_eq!(std::fs::read_to_string(&machines).unwrap(), MACHINES);
    assert_eq!(std::fs::read_to_string(&registrations).unwrap(), REGISTRATIONS);
}

/// W9: a damaged file stops nothing, is left, and is taken over once it is whole.
#[tokio::test]
async fn a_damaged_file_is_left_and_stops_nothing() {
    let bench = Bench::new();
    let path = bench.folder.path().join("machines.json");
    let half = &MACHINES[..MACHINES.len() / 2];
    std::fs::write(&path, half).unwrap();
    let running = tokio::spawn(std::sync::Arc::clone(&bench.provisioning).run());
    while bench.provisioning.findings().await.iter().any(|it| it.contains("not been asked")) {
        tokio::task::yield_now().await;
    }
    running.abort();
    assert!(bench.machines().await.is_empty());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), half);
    bench.register("one").await.unwrap();
}

#[test]
fn what_is_neither_form_is_refused() {
    for text in ["", "7", "null", "\"x\"", "{", "[1", "\u{0}"] {
        assert!(parse(text.as_bytes(), 0).is_err(), "{text:?}");
    }
    for text in ["{}", "[]", "[7]", r#"{"a": {"hostname": "x", "registered_at": -1}}"#] {
        assert!(parse(text.as_bytes(), 0).unwrap().machines.is_empty(), "{text:?}");
    }
}

/// The way back: the provisioner before this one reads a JSON object whose values have its fields.
#[test]
fn what_is_exported_can_be_read_by_the_old_one_and_by_us() {
    let mut machines = vec![
        machine("01", "a", State::Online),
        machine("02", "b", State::Pending),
        machine("03", "c", State::Online),
    ];
    machines[0].mac = "aa:bb:cc:00:11:22".to_owned();
    machines[0].tailscale_ip = "100.64.0.1".to_owned();
    let text = export(&machines);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value.as_object().unwrap().len(), 3, "machines without a MAC do not collide");
    let first = &value["aa:bb:cc:00:11:22"];
    assert_eq!(first["tailscale_ip"], "100.64.0.1");
    assert_eq!(first["registered_at"], 1.0);
    assert_eq!(parse(text.as_bytes(), 0).unwrap().machines.len(), 3);
}
