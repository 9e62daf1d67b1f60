//! Commands on the store of a bridge that runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::Duration;

use coord_bridge::http::api::openapi;
use coord_bridge::provisioning::Caller;
use coord_bridge::provisioning::refusal::Refusal;
use coord_bridge::store::{Location, Store, machines};
use serde_json::Value;

use crate::bench::Bench;

/// Runs the program on the state of `bench`.
fn run(bench: &Bench, arguments: &[&str]) -> Output {
    let config = bench.folder.path().join("bridge.toml");
    let text = format!(
        "login_server = \"https://hs.example.org\"\nstate_dir = {:?}\n\
         [[region.nodes]]\nhostname = \"derp.example.org\"\n",
        bench.folder.path()
    );
    fs::write(&config, text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_coord-bridge"))
        .args(arguments)
        .env("COORD_BRIDGE_CONFIG", config)
        .output()
        .unwrap()
}

/// What it printed, if it went well.
fn said(bench: &Bench, arguments: &[&str]) -> String {
    let done = run(bench, arguments);
    assert!(done.status.success(), "{arguments:?}: {done:?}");
    assert!(done.stderr.is_empty(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// O4.1, O4.2, R-053: without a restart.
#[tokio::test]
async fn tokens_are_made_rotated_and_revoked_while_the_bridge_runs() {
    let bench = Bench::new();
    let register =
        async |token: &str| bench.register_as(token.trim(), "192.0.2.1", "one").await.map(|_| ());
    assert_eq!(said(&bench, &["token", "show"]).trim(), bench.token());
    let first = said(&bench, &["token", "create", "batch-7", "--quota", "1", "--expiry", "1d"]);
    // The clock of the bench is that of 2026; the program's is today's.
    assert_eq!(register(&first).await, Ok(()));
    let second = said(&bench, &["token", "rotate", "batch-7", "--grace", "0s"]);
    assert_ne!(first, second);
    assert_eq!(register(&second).await, Ok(()));
    let old = bench.token();
    let new = said(&bench, &["token", "rotate", "--grace", "0s"]);
    assert_eq!(new.trim(), bench.token());
    assert_eq!(register(&old).await, Err(Refusal::Unauthorized));
    assert_eq!(register(&new).await, Ok(()));

    let list: Value = serde_json::from_str(&said(&bench, &["token", "list", "--json"])).unwrap();
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["batch-7", "enroll-token"]);
    assert_eq!((&list[0]["uses"], &list[0]["quota"]), (&1.into(), &1.into()));
    let table = said(&bench, &["token", "list"]);
    assert!(table.starts_with("NAME ") && table.contains("1/1"), "{table}");
    for secret in [&first, &second, &old, &new] {
        assert!(!table.contains(secret.trim()) && !list.to_string().contains(secret.trim()));
    }
    said(&bench, &["token", "revoke", "batch-7"]);
    assert_eq!(register(&second).await, Err(Refusal::Unauthorized));
}

#[tokio::test]
async fn what_cannot_be_done_is_said_on_one_line() {
    let bench = Bench::new();
    said(&bench, &["token", "create", "one"]);
    for (arguments, code, words) in [
        (&["token", "create", "one"][..], 2, "there is a token \"one\" already"),
        (&["token", "create", "two", "--tag", "deploy"], 2, "is no tag"),
        (&["token", "create", "two", "--source", "lan"], 2, "not a network"),
        (&["token", "create", "two", "--quota", "0"], 2, "quota"),
        (&["token", "rotate", "nobody"], 2, "there is no token"),
        (&["token", "revoke", "nobody"], 2, "there is no token"),
        (&["backup", "/proc/nowhere/file"], 1, "cannot write the backup"),
    ] {
        let done = run(&bench, arguments);
        let line = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {line}");
        assert!(line.contains(words), "{arguments:?}: {line}");
    }
    // Pages that are still in the log would be taken from there.
    for rest in ["bridge.sqlite-wal", "bridge.sqlite-shm"] {
        drop(fs::remove_file(bench.folder.path().join(rest)));
    }
    fs::write(bench.folder.path().join("bridge.sqlite"), b"no database".repeat(99)).unwrap();
    let done = run(&bench, &["machines", "list"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8(done.stderr).unwrap().contains("the store is damaged"));
}

/// One description for both: a program that reads the API's machines and tokens reads these too.
#[tokio::test]
async fn lists_for_programs_are_in_the_form_of_the_api() {
    let bench = Bench::new();
    bench.register("one").await.unwrap();
    let document: Value = serde_json::from_str(&openapi::document()).unwrap();
    for (command, schema) in [("machines", "Machine"), ("token", "Token")] {
        let text = said(&bench, &[command, "list", "--json"]);
        assert!(text.starts_with("[\n") && text.ends_with("\n]\n"), "{text}");
        let list: Value = serde_json::from_str(&text).unwrap();
        let wanted = document["components"]["schemas"][schema]["properties"].as_object().unwrap();
        let found = list[0].as_object().unwrap();
        assert!(found.keys().eq(wanted.keys()), "{found:?}\n{wanted:?}");
    }
}

/// O7.3, O8.1.
#[tokio::test]
async fn machines_are_listed_exported_and_backed_up_while_the_bridge_runs() {
    let bench = Bench::new();
    assert_eq!(said(&bench, &["machines", "list", "--json"]), "[]\n");
    let machine = bench.register("one").await.unwrap();
    let list: Value = serde_json::from_str(&said(&bench, &["machines", "list", "--json"])).unwrap();
    assert_eq!(list[0]["id"], machine.machine_id);
    assert_eq!(list[0]["state"], "pending");
    let table = said(&bench, &["machines", "list"]);
    assert!(table.contains(" one ") && table.contains("pending"), "{table}");
    let export: Value = serde_json::from_str(&said(&bench, &["machines", "export"])).unwrap();
    assert_eq!(export.as_object().unwrap().len(), 1);

    let copy = bench.folder.path().join("copy");
    said(&bench, &["backup", copy.to_str().unwrap()]);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(run(&bench, &["backup", copy.to_str().unwrap()]).status.code(), Some(1));
    bench.clock.advance(Duration::from_secs(1));
    bench.register("two").await.unwrap();
    let restored = Store::new(Location::File(copy)).unwrap();
    let restored = restored.read(machines::all).await.unwrap();
    assert_eq!(restored.len(), 1);
    assert_eq!(restored[0].id, machine.machine_id);
    let admin = Caller { token: None, ..bench.caller("x", "192.0.2.1") };
    assert_eq!(bench.provisioning.machines(&admin).await, Err(Refusal::Unauthorized));
}
