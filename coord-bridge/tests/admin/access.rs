//! Who is let in: token, host, source.

use serde_json::Value;

use crate::bench::Bench;
use crate::running::{JSON, Running, is_problem, json, request, without_registration};

/// Every operation of the document, with something in place of what stands in braces.
pub(crate) fn operations() -> Vec<(String, String, Value)> {
    let document: Value =
        serde_json::from_str(&coord_bridge::http::api::openapi::document()).unwrap();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

fn plain(path: &str) -> String {
    path.replace("{id}", "nobody").replace("{name}", "nothing")
}

/// W26: every operation wants the administrator's token, but for the document itself.
#[test]
fn nobody_gets_in_without_the_administrators_token() {
    let running = Running::of(
        Bench::with(|settings| {
            settings.enroll_token_lists = true;
            settings.rate.burst = 1_000;
        }),
        None,
    );
    let enrollment = running.bench.token();
    for (method, path, operation) in operations() {
        let path = plain(&path);
        let ask = |headers: &str| request(running.admin, &method, &path, headers, b"");
        if operation["operationId"] == "getOpenapi" {
            assert_eq!(ask("").status, 200);
            continue;
        }
        for (headers, status, code) in [
            (String::new(), 401, "unauthorized"),
            ("Authorization: Bearer wrong\r\n".to_owned(), 401, "unauthorized"),
            ("Authorization: Basic YTpi\r\n".to_owned(), 401, "unauthorized"),
            (format!("X-Token: {}\r\n", running.bench.admin_token()), 401, "unauthorized"),
            (format!("Authorization: Bearer {enrollment}\r\n"), 403, "admin_token_required"),
        ] {
            let answer = ask(&headers);
            let body = is_problem(&answer, status, code);
            assert_eq!(body["request_id"].as_str().unwrap().len(), 26, "{body}");
            assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
        }
    }
    assert!(running.bench.headscale.all_keys().is_empty(), "nothing was done");
    let asked = running.get("/api/v1/events?kind=admin&limit=1");
    let event = &json(&asked)["events"][0];
    assert_eq!(event["outcome"], "admin_token_required");
    assert_eq!(event["remote_ip"], "127.0.0.1");
}

/// Decision 0038: wrong tokens are slowed down, and never shut out a right one.
#[test]
fn a_flood_of_wrong_tokens_is_slowed_down_and_a_right_one_gets_in() {
    let running = Running::new();
    let wrong = "Authorization: Bearer wrong\r\n";
    let ask = || request(running.admin, "GET", "/api/v1/status", wrong, b"");
    let refused: Vec<u16> = (0..12).map(|_| ask().status).collect();
    assert_eq!(refused[..10], [401; 10]);
    assert_eq!(refused[10..], [429; 2]);
    let answer = ask();
    is_problem(&answer, 429, "too_many_failures");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(running.get("/api/v1/status").status, 200);
    assert_eq!(ask().status, 429, "the right one has not changed that");
}

/// Overwriting the file ends the old token at once.
#[test]
fn the_token_can_be_replaced_while_the_bridge_runs() {
    let running = Running::new();
    let old = running.bench.admin_token();
    let new = "a-token-that-somebody-wrote-by-hand";
    std::fs::write(&running.bench.settings.admin_token_file, new).unwrap();
    let ask = |token: &str| {
        let headers = format!("Authorization: Bearer {token}\r\n");
        request(running.admin, "GET", "/api/v1/tokens", &headers, b"").status
    };
    assert_eq!((ask(new), ask(&old)), (200, 401));
}

/// DNS rebinding: a page of somebody else's, under a name that leads here.
#[test]
fn a_name_of_somebody_else_is_turned_away_even_with_the_token() {
    let running = Running::new();
    let token = running.bench.admin_token();
    let ask = |host: &str, target: &str| {
        let head = format!(
            "GET {target} HTTP/1.1\r\n{host}Connection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        crate::client::send(running.admin, head.as_bytes()).unwrap()
    };
    let path = "/api/v1/status";
    let port = running.admin.port();
    for host in ["127.0.0.1", "[::1]", "localhost", crate::running::HOST, "Bridge.Example.Org"] {
        assert_eq!(ask(&format!("Host: {host}:{port}\r\n"), path).status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
        for path in [path, "/api/v1/openapi.json", "/", "/nothing"] {
            let answer = ask(&format!("Host: {host}\r\n"), path);
            is_problem(&answer, 421, "misdirected");
        }
    }
    is_problem(&ask("Host: localhost\r\nHost: evil.example\r\n", path), 421, "misdirected");
    is_problem(
        &ask("Host: localhost\r\n", &format!("http://evil.example{path}")),
        421,
        "misdirected",
    );
    assert!(ask("", path).status >= 400, "HTTP/1.1 without a host");
}

/// No browser may read an answer for a page of somebody else's, nor ask beforehand.
#[test]
fn pages_of_others_are_told_nothing() {
    let running = Running::new();
    let origin = "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    is_problem(&running.ask("OPTIONS", "/api/v1/keys", origin, ""), 405, "method_not_allowed");
    let answer = running.ask("GET", "/api/v1/status", origin, "");
    assert_eq!(answer.status, 200);
    assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control-")));
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    is_problem(&running.ask("POST", "/api/v1/keys", form, "a=b"), 415, "not_json");
    let text = "Content-Type: text/plain\r\n";
    is_problem(&running.ask("POST", "/api/v1/keys", text, "{}"), 415, "not_json");
    assert_eq!(running.ask("POST", "/api/v1/keys", JSON, "{}").status, 201);
}

/// Where nobody registers there is no token either, and nothing is open.
#[test]
fn without_registration_every_operation_says_so() {
    let (bridge, admin) = without_registration();
    for (method, path, operation) in operations() {
        let answer = request(admin, &method, &plain(&path), "Authorization: Bearer x\r\n", b"");
        if operation["operationId"] == "getOpenapi" {
            assert_eq!(answer.status, 200);
        } else {
            is_problem(&answer, 503, "unavailable");
        }
    }
    bridge.stop();
}
