//! The file of events, and the kinds of events in the documents.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use coord_bridge::events::webhook::Pace;
use coord_bridge::events::{EventsConfig, Leadership, Outlets};
use coord_bridge::store::events::KINDS;
use serde_json::Value;

use crate::bench::Bench;
use crate::running::{Running, until};

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn outlets(bench: &Bench, path: &Path) -> Arc<Outlets> {
    let config = EventsConfig {
        file: Some(path.to_owned()),
        state_dir: bench.folder.path().to_owned(),
        ..EventsConfig::default()
    };
    let pace = Pace { poll: std::time::Duration::from_millis(5), ..Pace::default() };
    let outlets = Outlets::start(&config, &bench.store, &Leadership::all(), pace);
    let outlets = Arc::new(outlets.unwrap().unwrap());
    until("a position", || outlets.channels()[0].position().is_some());
    outlets
}

/// O5.4: who, what, when, with which token and key; one line each, for its owner and group.
#[test]
fn every_event_is_a_line_of_the_file_that_logrotate_may_take_away() {
    let bench = Bench::new();
    let path = bench.folder.path().join("log/events.jsonl");
    let outlets = outlets(&bench, &path);
    let running = Running::of(bench, Some(Arc::clone(&outlets)));
    running.register("one");
    until("the line", || lines(&path).len() == 1);
    let line = &lines(&path)[0];
    assert_eq!((&line["kind"], &line["outcome"]), (&"register".into(), &"ok".into()));
    assert_eq!((&line["token"], &line["key_id"]), (&"enroll-token".into(), &"1".into()));
    assert_eq!(line["time"], "2026-01-01T00:00:00Z");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");

    let away = path.with_extension("1");
    std::fs::rename(&path, &away).unwrap();
    running.register("two");
    until("the line", || lines(&away).len() == 2);
    outlets.reopen();
    running.register("three");
    until("the new file", || lines(&path).len() == 1);
    assert_eq!(lines(&path)[0]["hostname"], "three");
    let text = std::fs::read_to_string(&path).unwrap() + &std::fs::read_to_string(&away).unwrap();
    assert!(!text.contains(&running.bench.token()) && !text.contains("hskey"), "{text}");
}

/// What a full disk or the end of a process has cut stays a line of its own.
#[test]
fn a_line_that_was_cut_does_not_spoil_the_next() {
    let bench = Bench::new();
    let path = bench.folder.path().join("events.jsonl");
    std::fs::write(&path, "{\"kind\":\"machine\"}\n{\"kind\":\"ma").unwrap();
    let outlets = outlets(&bench, &path);
    let running = Running::of(bench, Some(outlets));
    running.register("one");
    let text = || std::fs::read_to_string(&path).unwrap();
    until("the line", || text().lines().count() == 3 && text().ends_with('\n'));
    let last: Value = serde_json::from_str(text().lines().last().unwrap()).unwrap();
    assert_eq!(last["kind"], "register");
}

/// At least once: what was being written when the bridge ended may come again, nothing is lost, and
/// nothing comes before what was before it.
#[test]
fn the_file_goes_on_after_a_restart() {
    let bench = Bench::new();
    let path = bench.folder.path().join("events.jsonl");
    let mut running = outlets(&bench, &path);
    let token = |n: usize| {
        let wanted = coord_bridge::provisioning::tokens::NewToken {
            name: format!("t{n}"),
            profile: coord_bridge::store::tokens::Profile::Machine,
            tags: Vec::new(),
            sources: Vec::new(),
            quota: None,
            expiry: None,
        };
        coord_bridge::provisioning::tokens::create(&bench.store, &wanted, 1_000).unwrap();
    };
    for n in 0..30 {
        if n % 10 == 5 {
            drop(running);
            token(n);
            running = outlets(&bench, &path);
        } else {
            token(n);
        }
    }
    until("the last line", || lines(&path).iter().any(|it| it["token"] == "t29"));
    let mut tokens: Vec<String> = Vec::new();
    for line in lines(&path) {
        let token = line["token"].as_str().unwrap().to_owned();
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    let wanted: Vec<String> = (0..30).map(|n| format!("t{n}")).collect();
    assert_eq!(tokens, wanted);
}

/// The document has the kinds that there are.
#[test]
fn the_kinds_of_events_are_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows = Vec::new();
    for line in text.lines().skip_while(|line| *line != "| kind | is written when |").skip(2) {
        let Some(row) = line.strip_prefix("| `") else { break };
        let (kind, meaning) = row.split_once("` | ").unwrap();
        rows.push((kind.to_owned(), meaning.trim_end_matches(" |").to_owned()));
    }
    let known: Vec<_> =
        KINDS.iter().map(|(kind, help)| ((*kind).to_owned(), (*help).to_owned())).collect();
    assert_eq!(rows, known);
}
