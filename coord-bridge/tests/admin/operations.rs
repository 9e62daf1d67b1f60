//! What administrators do, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use coord_bridge::headscale::FailureKind;
use coord_bridge::store::machines::{self, Machine, State};
use serde_json::Value;

use crate::bench::Bench;
use crate::headscale::Mood;
use crate::running::{JSON, Running, is_problem, json, request, until};

/// O4.1, O4.2: made, used, rotated with grace, revoked.
#[test]
fn a_token_lives_and_ends() {
    let running = Running::new();
    let wanted = r#"{"name": "Batch-7", "profile": "iso", "tags": ["tag:lab"], "quota": 2,
                     "sources": ["127.0.0.0/8"], "expires_in_seconds": 3600}"#;
    let made = running.post("/api/v1/tokens", wanted);
    assert_eq!(made.status, 201, "{made:?}");
    let made = json(&made);
    assert_eq!(made["name"], "batch-7");
    let first = made["secret"].as_str().unwrap().to_owned();
    is_problem(&running.post("/api/v1/tokens", wanted), 409, "name_taken");
    let register = |token: &str, name: &str| {
        let headers = format!("Authorization: Bearer {token}\r\n");
        let body = format!("{{\"hostname\": \"{name}\"}}");
        request(running.register, "POST", "/register", &headers, body.as_bytes()).status
    };
    assert_eq!(register(&first, "one"), 200);

    let rotated = running.post("/api/v1/tokens/batch-7/rotate", r#"{"grace_seconds": 60}"#);
    let second = json(&rotated)["secret"].as_str().unwrap().to_owned();
    assert_eq!((register(&first, "one"), register(&second, "two")), (200, 200));
    running.bench.clock.advance(Duration::from_secs(61));
    assert_eq!((register(&first, "one"), register(&second, "two")), (401, 200));

    let list = json(&running.get("/api/v1/tokens"));
    assert!(!list.to_string().contains(&second), "no list tells a secret");
    let token = list["tokens"].as_array().unwrap().iter().find(|it| it["name"] == "batch-7");
    let token = token.unwrap();
    assert_eq!((&token["uses"], &token["quota"]), (&2.into(), &2.into()));
    assert_eq!(token["expires"], "2026-01-01T01:00:00Z");

    assert_eq!(running.delete("/api/v1/tokens/batch-7").status, 204);
    assert_eq!(register(&second, "two"), 401);
    is_problem(&running.delete("/api/v1/tokens/batch-7"), 404, "not_found");
    is_problem(&running.post("/api/v1/tokens/batch-7/rotate", ""), 409, "token_revoked");
    is_problem(&running.post("/api/v1/tokens/none/rotate", ""), 404, "not_found");
    let outcomes = |kind: &str| -> Vec<String> {
        let events = json(&running.get(&format!("/api/v1/events?kind={kind}")));
        let events = events["events"].as_array().unwrap().clone();
        events.iter().map(|it| it["outcome"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(outcomes("token"), ["revoked", "rotated", "created"]);
    let done = outcomes("admin");
    assert_eq!(done[3], "revokeToken", "{done:?}");
    assert_eq!(done[2], "not_found", "{done:?}");
}

/// R-053: also the token in the file.
#[test]
fn the_token_in_the_file_is_rotated_in_the_file() {
    let running = Running::new();
    let old = running.bench.token();
    let body = r#"{"grace_seconds": 0}"#;
    let rotated = json(&running.post("/api/v1/tokens/enroll-token/rotate", body));
    assert_eq!(rotated["secret"], running.bench.token());
    assert_ne!(rotated["secret"], old);
}

/// R-069: one key for an installer; and one request ends those that nobody used.
#[test]
fn keys_are_made_and_ended() {
    let running = Running::new();
    let made = running.post("/api/v1/keys", r#"{"profile": "iso", "expires_in_seconds": 600}"#);
    assert_eq!(made.status, 201);
    let key = &running.bench.headscale.all_keys()[0];
    assert_eq!(json(&made)["key"], key.secret);
    assert!(key.ephemeral);
    assert_eq!(running.ask("POST", "/api/v1/keys", "", "").status, 201, "a body is not needed");
    assert!(!running.bench.headscale.all_keys()[1].ephemeral);
    let ended = running.post("/api/v1/keys/expire", r#"{"all": true}"#);
    assert_eq!(json(&ended)["ended"], 2);
    assert_eq!(json(&running.post("/api/v1/keys/expire", ""))["ended"], 0);
    assert!(running.bench.headscale.valid_keys().is_empty());
}

/// Sent twice, done once; also where the first is not done yet.
#[test]
fn a_repeated_request_makes_one_key() {
    let running = Arc::new(Running::new());
    let headers = format!("{JSON}Idempotency-Key: abc\r\n");
    let make = |body: &str| running.ask("POST", "/api/v1/keys", &headers, body);
    let first = make("{}");
    assert_eq!((first.status, &make("{}")), (201, &first));
    assert_eq!(running.bench.headscale.all_keys().len(), 1);
    let other = r#"{"profile": "iso"}"#;
    is_problem(&make(other), 422, "idempotency_key_reused");
    assert_ne!(running.post("/api/v1/keys", "{}").body, first.body);

    running.bench.headscale.set("create_key", Mood::Slow(Duration::from_millis(1_500)));
    let slow = Arc::clone(&running);
    let headers = format!("{JSON}Idempotency-Key: def\r\n");
    let also = headers.clone();
    let waiting = std::thread::spawn(move || slow.ask("POST", "/api/v1/keys", &also, "{}"));
    until("the first request", || running.bench.headscale.calls("create_key") == 3);
    is_problem(&running.ask("POST", "/api/v1/keys", &headers, "{}"), 409, "under_way");
    let first = waiting.join().unwrap();
    assert_eq!(running.ask("POST", "/api/v1/keys", &headers, "{}"), first);
    assert_eq!(running.bench.headscale.all_keys().len(), 3);
}

/// What is begun is done, though nobody waits for it any more: the key is known, and told to
/// whoever repeats the request.
#[test]
fn who_hangs_up_and_repeats_gets_the_key() {
    let running = Running::new();
    running.bench.headscale.set("create_key", Mood::Slow(Duration::from_millis(500)));
    let head = format!(
        "POST /api/v1/keys HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Idempotency-Key: gone\r\nContent-Length: 0\r\n\r\n",
        running.bench.admin_token()
    );
    let mut stream = crate::client::dial(running.admin);
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    until("the request", || running.bench.headscale.calls("create_key") == 1);
    drop(stream);
    let again = || running.ask("POST", "/api/v1/keys", "Idempotency-Key: gone\r\n", "");
    until("the key", || again().status == 201);
    assert_eq!(json(&again())["key"], running.bench.headscale.all_keys()[0].secret);
    assert_eq!(running.bench.headscale.calls("create_key"), 1);
}

/// W29, R-070, R-066.
#[test]
fn a_machine_is_found_logged_out_and_deleted() {
    let running = Running::new();
    let (id, key) = running.register("one");
    let (waiting, _) = running.register("two");
    is_problem(&running.post(&format!("/api/v1/machines/{id}/expire"), ""), 409, "no_node");
    running.bench.headscale.join(&key, "one");
    let expired = running.post(&format!("/api/v1/machines/{id}/expire"), "");
    assert_eq!((expired.status, &json(&expired)["id"]), (200, &Value::from(id.clone())));
    assert_eq!(running.bench.headscale.calls("expire_node"), 1);
    assert_eq!(running.delete(&format!("/api/v1/machines/{id}")).status, 200);
    assert_eq!(running.bench.headscale.node_ids(), Vec::<String>::new());
    let machine = json(&running.get(&format!("/api/v1/machines/{id}")));
    assert_eq!((&machine["state"], &machine["hostname"]), (&"deleted".into(), &"one".into()));
    is_problem(&running.delete("/api/v1/machines/nobody"), 404, "not_found");
    is_problem(&running.get("/api/v1/machines/nobody"), 404, "not_found");
    let pending = json(&running.get("/api/v1/machines?state=pending"));
    assert_eq!(pending["machines"].as_array().unwrap().len(), 1);
    assert_eq!(pending["machines"][0]["id"], waiting);
    let events = json(&running.get("/api/v1/events?kind=admin"));
    let of_deletion = events["events"].as_array().unwrap().iter();
    let mut of_deletion = of_deletion.filter(|it| it["outcome"] == "deleteMachine");
    assert_eq!(of_deletion.next().unwrap()["machine"], id);
}

/// The side at fault, and when to come again.
#[test]
fn failures_of_headscale_and_of_the_store_are_told_apart() {
    let running = Running::new();
    let (id, _) = running.register("one");
    for (kind, status, code) in [
        (FailureKind::Unreachable, 503, "headscale_unreachable"),
        (FailureKind::Paused, 503, "headscale_unreachable"),
        (FailureKind::Unauthorized, 502, "headscale_unauthorized"),
        (FailureKind::Refused, 502, "headscale_refused"),
        (FailureKind::Faulty, 502, "headscale_failed"),
        (FailureKind::Unintelligible, 502, "headscale_failed"),
    ] {
        running.bench.headscale.set_all(Mood::Fails(kind));
        let answer = running.post("/api/v1/keys", "{}");
        is_problem(&answer, status, code);
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
        is_problem(&running.delete(&format!("/api/v1/machines/{id}")), status, code);
    }
    assert_eq!(json(&running.get(&format!("/api/v1/machines/{id}")))["state"], "pending");
    let file = running.bench.folder.path().join("bridge.sqlite");
    std::fs::rename(&file, running.bench.folder.path().join("away")).unwrap();
    let answer = running.get("/api/v1/machines");
    is_problem(&answer, 503, "store_unavailable");
    assert!(answer.header("retry-after").is_some());
    is_problem(&running.post("/api/v1/tokens", r#"{"name": "x"}"#), 503, "store_unavailable");
    let status = json(&running.get("/api/v1/status"));
    assert_eq!(status["store"]["up"], false);
    assert!(status["findings"].to_string().contains("the store is not available"), "{status}");
}

/// Every machine once, whatever comes and goes between the pages.
#[test]
fn pages_of_ten_thousand_machines_neither_repeat_nor_leave_out() {
    let running = Running::of(many(10_000), None);
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = json(&running.get(&format!("/api/v1/machines?limit=999{cursor}")));
        let machines = page["machines"].as_array().unwrap().clone();
        seen.extend(machines.iter().map(|it| it["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        if seen.len() == 999 {
            // Gone, and one that is on a page before.
            change(&running, |session| {
                session.execute("DELETE FROM machines WHERE id = $1", &["00005".into()])?;
                session.execute("DELETE FROM machines WHERE id = $1", &["09000".into()])?;
                machines::insert(session, &row(20_000, 0))
            });
        }
    }
    let mut wanted: Vec<String> = (0..10_000).map(|n| format!("{n:05}")).collect();
    wanted.retain(|id| id != "09000");
    assert_eq!(seen, wanted);
    let found = json(&running.get("/api/v1/machines?query=HOST-0777"));
    let found: Vec<&str> =
        found["machines"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(found.len(), 10, "{found:?}");
}

/// Also where an event is written later than others that happened after it.
#[test]
fn pages_of_events_neither_repeat_nor_leave_out() {
    let running = Running::new();
    for n in 0..25 {
        running.post("/api/v1/tokens", &format!("{{\"name\": \"t-{n}\"}}"));
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = json(&running.get(&format!("/api/v1/events?kind=token&limit=4{cursor}")));
        for event in page["events"].as_array().unwrap() {
            seen.push(event["token"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        running.post("/api/v1/tokens", &format!("{{\"name\": \"later-{}\"}}", seen.len()));
    }
    let wanted: Vec<String> = (0..25).rev().map(|n| format!("t-{n}")).collect();
    assert_eq!(seen, wanted);
}

/// A bench with so many machines, of which ten share each moment.
pub(crate) fn many(count: usize) -> Bench {
    let bench = Bench::new();
    let store = bench.store.clone();
    store
        .write_now(move |session| {
            for n in 0..count {
                machines::insert(session, &row(n, n / 10))?;
            }
            Ok(())
        })
        .unwrap();
    bench
}

fn change(
    running: &Running,
    work: impl FnOnce(
        &mut dyn coord_bridge::store::Session,
    ) -> Result<(), coord_bridge::store::StoreError>
    + Send
    + 'static,
) {
    running.bench.store.write_now(work).unwrap();
}

fn row(n: usize, moment: usize) -> Machine {
    Machine {
        id: format!("{n:05}"),
        identity: n.to_string(),
        hostname: format!("host-{n:05}"),
        mac: "unknown".to_owned(),
        token: "enroll-token".to_owned(),
        remote_ip: "192.0.2.1".to_owned(),
        // No round asks Headscale about those.
        state: State::Deleted,
        registered_ms: i64::try_from(moment).unwrap() + 1_767_225_600_000,
        changed_ms: 1_767_225_600_000,
        node_id: None,
        machine_key: None,
        tailscale_ip: "100.64.0.1".to_owned(),
        last_seen_ms: None,
        replaces: None,
    }
}
