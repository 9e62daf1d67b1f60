//! What strangers and broken programs send.

use std::io::Write;
use std::net::TcpStream;

use coord_bridge::http::api::MAX_BODY_LEN;
use coord_bridge::http::listener::MAX_HEADERS;

use crate::client::{dial, read_to_end, send};
use crate::running::{JSON, Running, is_problem, json};

#[test]
fn bodies_that_cannot_be_are_refused_with_the_reason() {
    let running = Running::new();
    for (path, body, said) in [
        ("/keys", "[]", "the body: "),
        ("/keys", "{", "the body: "),
        ("/keys", "\"x\"", "the body: "),
        ("/keys", "{} {}", "the body: "),
        ("/keys", r#"{"profil": "iso"}"#, "unknown field `profil`"),
        ("/keys", r#"{"profile": "laptop"}"#, "laptop"),
        ("/keys", r#"{"profile": 7}"#, "the body: "),
        ("/keys", r#"{"expires_in_seconds": -1}"#, "the body: "),
        ("/keys", r#"{"expires_in_seconds": 1}"#, "expires_in_seconds: from 1m to 7d"),
        ("/keys", r#"{"expires_in_seconds": 999999999}"#, "expires_in_seconds: from 1m to 7d"),
        ("/keys", r#"{"expires_in_seconds": 1e3}"#, "the body: "),
        ("/tokens", "{}", "missing field `name`"),
        ("/tokens", r#"{"name": "one", "secret": "mine"}"#, "unknown field `secret`"),
        ("/tokens", r#"{"name": "a b"}"#, "cannot be the name"),
        ("/tokens", r#"{"name": "a\u0000\u001b[31m"}"#, "cannot be the name"),
        ("/tokens", r#"{"name": "one", "quota": 0}"#, "the body: "),
        ("/tokens", r#"{"name": "one", "tags": ["x"]}"#, "is no tag"),
        ("/tokens", r#"{"name": "one", "sources": ["x"]}"#, "sources: "),
        ("/tokens", r#"{"name": "one", "expires_in_seconds": 18446744073709551615}"#, "at most"),
        ("/tokens/x/rotate", r#"{"grace_seconds": 18446744073709551615}"#, "at most"),
        ("/keys/expire", r#"{"all": "yes"}"#, "the body: "),
        ("/machines/x/expire", "{}", "takes none"),
    ] {
        let answer = running.post(&format!("/api/v1{path}"), body);
        let problem = is_problem(&answer, 400, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{body}: {problem}");
    }
    assert!(running.bench.headscale.all_keys().is_empty());
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    is_problem(&running.post("/api/v1/keys", &deep), 400, "invalid");
    let broken = [b"{\"name\": \"".as_slice(), &[0xff, 0xfe], b"\"}"].concat();
    let headers = format!("Authorization: Bearer {}\r\n{JSON}", running.bench.admin_token());
    let answer =
        crate::running::request(running.admin, "POST", "/api/v1/tokens", &headers, &broken);
    is_problem(&answer, 400, "invalid");
}

#[test]
fn queries_that_cannot_be_are_refused_with_the_reason() {
    let running = Running::new();
    for (query, said) in [
        ("machines?limit=0", "limit: a number from 1 to 1000"),
        ("machines?limit=1001", "limit: "),
        ("machines?limit=-1", "limit: "),
        ("machines?limit=x", "limit: "),
        ("machines?state=asleep", "state: one of pending"),
        ("machines?cursor=x", "cursor: "),
        ("machines?cursor=1.a%00b", "cursor: "),
        ("machines?query=%00", "query: "),
        ("machines?colour=red", "unknown parameter \"colour\""),
        ("machines?limit=1&limit=2", "limit: twice"),
        ("events?kind=party", "kind: one of register"),
        ("events?cursor='%20OR%201=1", "cursor: "),
        ("status?verbose", "unknown parameter"),
    ] {
        let problem = is_problem(&running.get(&format!("/api/v1/{query}")), 400, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{query}: {problem}");
    }
    let long = format!("/api/v1/machines?query={}", "x".repeat(101));
    is_problem(&running.get(&long), 400, "invalid");
    // A text is a text, whatever it looks like.
    running.register("one");
    for query in ["%25", "_", "!", "'%20OR%20'1'='1", "%3B%20DROP%20TABLE%20machines"] {
        let answer = running.get(&format!("/api/v1/machines?query={query}"));
        assert_eq!(json(&answer)["machines"].as_array().unwrap().len(), 0, "{query}");
    }
    for key in ["", "a b", "ä"] {
        let headers = format!("{JSON}Idempotency-Key: {key}\r\n");
        is_problem(&running.ask("POST", "/api/v1/keys", &headers, "{}"), 400, "invalid");
    }
    let long = format!("{JSON}Idempotency-Key: {}\r\n", "k".repeat(256));
    is_problem(&running.ask("POST", "/api/v1/keys", &long, "{}"), 400, "invalid");
}

#[test]
fn a_body_that_is_too_long_is_refused_however_its_length_is_told() {
    let running = Running::new();
    let long = " ".repeat(MAX_BODY_LEN + 1);
    is_problem(&running.post("/api/v1/keys", &long), 413, "body_too_long");
    let padded = format!("{{}}{}", " ".repeat(MAX_BODY_LEN - 2));
    assert_eq!(running.post("/api/v1/keys", &padded).status, 201);
    // By pieces, without an end.
    let mut stream = begin(&running, "Transfer-Encoding: chunked\r\n");
    let piece = [b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat();
    for _ in 0..64 {
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    let came = read_to_end(&mut stream);
    assert!(came.is_empty() || came.starts_with(b"HTTP/1.1 413 "), "{came:?}");
    // By a length that nobody sends.
    let mut stream = begin(&running, "Content-Length: 99999999999\r\n");
    // The other side may close before it has read everything.
    drop(stream.write_all(" ".repeat(65_536).as_bytes()));
    let came = read_to_end(&mut stream);
    assert!(came.is_empty() || came.starts_with(b"HTTP/1.1 413 "), "{came:?}");
    assert_eq!(running.get("/api/v1/status").status, 200);
}

/// It ends by itself, with a problem, and holds nobody else up.
#[test]
fn a_body_that_does_not_come_is_given_up() {
    let running = Running::new();
    let mut slow: Vec<TcpStream> =
        (0..20).map(|_| begin(&running, "Content-Length: 10\r\n")).collect();
    for stream in &mut slow {
        stream.write_all(b"{").unwrap();
    }
    assert_eq!(running.post("/api/v1/keys", "{}").status, 201);
    for mut stream in slow {
        let came = read_to_end(&mut stream);
        let text = String::from_utf8_lossy(&came);
        assert!(text.starts_with("HTTP/1.1 408 ") && text.contains(":body_too_slow"), "{text}");
    }
}

#[test]
fn floods_of_header_fields_end_in_a_refusal() {
    let running = Running::new();
    for headers in
        ["X-Flood: x\r\n".repeat(MAX_HEADERS + 1), format!("X-Long: {}\r\n", "x".repeat(64 * 1024))]
    {
        let request = format!("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        if let Some(answer) = send(running.admin, request.as_bytes()) {
            assert_eq!(answer.status, 431, "{answer:?}");
        }
    }
    assert_eq!(running.get("/api/v1/status").status, 200);
}

#[test]
fn what_is_not_there_is_not_found_whoever_asks() {
    let running = Running::new();
    for path in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v2/status",
        "/api/v1/status/",
        "/api/v1//status",
        "/api/v1/machines/",
        "/api/v1/machines/a/b",
        "/api/v1/tokens/a/revoke",
        "/api/v1/../v1/status",
    ] {
        is_problem(&running.get(path), 404, "not_found");
    }
    for path in ["/register", "/metrics", "/derpmap.json", "/favicon.ico", "/machinesx"] {
        assert_eq!(running.get(path).status, 404, "{path}");
    }
}

fn begin(running: &Running, headers: &str) -> TcpStream {
    let mut stream = dial(running.admin);
    let head = format!(
        "POST /api/v1/keys HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{JSON}{headers}\r\n",
        running.bench.admin_token()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}
