//! What each listener answers, and that a taken port stops everything.

use std::net::{SocketAddr, TcpListener};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Answer, ask, get, send};
use crate::program::{Program, refusal};
use crate::{HOSTS, config_on};

const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"];

const MAP_PATHS: [&str; 4] = ["/derpmap.json", "/derpmap.yaml", "/health", "/ready"];

/// DERP-10.1: Headscale takes every JSON object, and `null`, for a map, whatever the status.
#[test]
fn no_error_of_the_map_listener_can_be_taken_for_a_map() {
    let paths = [
        "/",
        "//",
        "/derpmap",
        "/derpmap.json/",
        "//derpmap.json",
        "/DERPMAP.JSON",
        "/health/",
        "/register",
        "/machines",
        "/derpmap.json%00",
        "/%7b%7d",
        "/{}",
        "/null",
        "/derpmap.json?x",
        "http://x/derpmap.yml",
        "*",
        "/../derpmap.json",
        "/.",
        "/favicon.ico",
        "/robots.txt",
    ];
    for_each_host(|program| {
        let address = program.address("map");
        for method in METHODS {
            for path in paths.iter().chain(&MAP_PATHS) {
                let answer = ask(address, method, path, "");
                let allowed = matches!(method, "GET" | "HEAD");
                let known = MAP_PATHS.contains(&path.split('?').next().unwrap());
                let expected = match (known, allowed) {
                    (true, true) => 200,
                    (true, false) => 405,
                    (false, _) => 404,
                };
                assert_eq!(answer.status, expected, "{method} {path}");
                if answer.status != 200 {
                    is_text_that_is_no_json(&answer);
                }
                if answer.status == 405 {
                    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
                }
            }
        }
    });
}

/// DERP-10.1: bytes that are no HTTP at all are not answered in JSON either.
#[test]
fn garbage_is_never_answered_with_a_map() {
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
    let wide = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(40_000));
    let pieces: [&[u8]; 12] = [
        b"{}\r\n\r\n",
        b"null\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /derpmap.json\r\n\r\n",
        b"GET /derpmap.json HTTP/9.9\r\n\r\n",
        b"GET /derpmap.json HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /derpmap.json HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
        wide.as_bytes(),
    ];
    for_each_host(|program| {
        for listener in ["map", "register"] {
            for piece in pieces {
                let answer = send(program.address(listener), piece);
                if let Some(answer) = answer
                    && listener == "map"
                {
                    assert!((400..500).contains(&answer.status), "{answer:?}");
                    assert!(!is_json(&answer.body), "{answer:?}");
                }
            }
            assert_eq!(get(program.address(listener), "/health").status, 200);
        }
        assert_eq!(program.log(), "", "no stranger fills the log");
    });
}

/// Monitors compare it byte for byte (D-7 of the requirements).
#[test]
fn health_is_the_same_exact_body_on_both_listeners() {
    for_each_host(|program| {
        for listener in ["map", "register"] {
            let answer = get(program.address(listener), "/health");
            assert_eq!((answer.status, answer.text()), (200, r#"{"status":"ok"}"#));
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            let head = ask(program.address(listener), "HEAD", "/health", "");
            assert_eq!((head.status, head.text()), (200, ""));
            assert_eq!(head.header("content-length"), Some("15"));
        }
    });
}

/// HEAD has the fields of GET and no body.
#[test]
fn head_answers_what_get_does_without_the_body() {
    for_each_host(|program| {
        for path in MAP_PATHS {
            let mut whole = get(program.address("map"), path);
            let mut head = ask(program.address("map"), "HEAD", path, "");
            for answer in [&mut whole, &mut head] {
                answer.headers.retain(|(name, _)| name != "date");
            }
            assert_eq!(head.headers, whole.headers);
            assert_eq!(head.body, b"");
            assert!(!whole.body.is_empty());
        }
    });
}

#[test]
fn ready_says_so_in_plain_text() {
    for_each_host(|program| {
        let answer = get(program.address("map"), "/ready");
        assert_eq!((answer.status, answer.text()), (200, "ok\n"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    });
}

/// D-8 of the requirements: this listener says everything in JSON. Installers join a base URL
/// and a path as they come, so slashes double, and try again upon 503.
#[test]
fn the_provisioning_listener_answers_json_always() {
    for_each_host(|program| {
        let address = program.address("register");
        for (method, path, status, code) in [
            ("POST", "/register", 503, "unavailable"),
            ("POST", "//register", 503, "unavailable"),
            ("POST", "/register/", 503, "unavailable"),
            ("POST", "/register?x=1", 503, "unavailable"),
            ("GET", "/register", 405, "method_not_allowed"),
            ("GET", "/machines", 503, "unavailable"),
            ("GET", "/machines//", 503, "unavailable"),
            ("POST", "/machines", 405, "method_not_allowed"),
            ("GET", "/ready", 503, "unavailable"),
            ("POST", "/health", 405, "method_not_allowed"),
            ("GET", "/", 404, "not_found"),
            ("GET", "/derpmap.json", 404, "not_found"),
            ("POST", "/registers", 404, "not_found"),
            ("BREW", "/tea", 404, "not_found"),
        ] {
            let answer = ask(address, method, path, "");
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["code"], code, "{method} {path}");
            assert!(body["error"].as_str().is_some_and(|words| !words.is_empty()));
            assert_eq!(answer.header("allow").is_some(), status == 405);
        }
        assert_eq!(get(address, "//health/").text(), r#"{"status":"ok"}"#);
    });
}

/// What clients send to register is read to its end before it is refused.
#[test]
fn a_registration_is_refused_after_its_body() {
    for_each_host(|program| {
        let address = program.address("register");
        for (length, statuses) in [(0, [503]), (100, [503]), (4_096, [503]), (4_097, [413])] {
            let request = format!(
                "POST /register HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Content-Length: {length}\r\n\r\n{}",
                "x".repeat(length)
            );
            let answer = send(address, request.as_bytes()).unwrap();
            assert!(statuses.contains(&answer.status), "{length}: {answer:?}");
        }
        let chunked = "POST /register HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                       Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        assert_eq!(send(address, chunked.as_bytes()).unwrap().status, 503);
    });
}

/// No answer tells which program in which version this is, or can be taken for a page.
#[test]
fn answers_tell_nothing_of_the_program() {
    for_each_host(|program| {
        for listener in ["map", "register"] {
            for path in ["/health", "/ready", "/derpmap.json", "/register", "/nothing"] {
                let answer = get(program.address(listener), path);
                assert_eq!(answer.header("server"), None);
                assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
                assert!(!answer.header("content-type").unwrap().contains("html"));
            }
        }
    });
}

#[test]
fn a_taken_port_is_named_with_its_key_and_nothing_is_left_behind() {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let taken = TcpListener::bind(format!("{host}:0")).unwrap();
        let at = taken.local_addr().unwrap();
        let file = folder.path().join("made").join("derp.yaml");
        let map_file = format!("map_file = {:?}\n", file.to_str().unwrap());
        let any = config_on(host);
        let [map, admin, metrics, registration] = [0, 1, 2, 3].map(|skip| {
            let place = any.match_indices(&format!("{host}:0")).nth(skip).unwrap().0;
            let rest = &any[place + host.len() + 2..];
            format!("{map_file}{}{at}{rest}", &any[..place])
        });

        for (config, names) in [
            (&map, ["map_listen", "--map-listen"]),
            (&admin, ["admin_listen", "--admin-listen"]),
            (&metrics, ["metrics_listen", "--metrics-listen"]),
            (&registration, ["provisioning.listen", "--provisioning-listen"]),
        ] {
            let line = refusal(folder.path(), config);
            for said in names.iter().chain(&[at.to_string().as_str(), "choose another port"]) {
                assert!(line.contains(said), "{said}: {line}");
            }
            assert!(!line.contains("metrics_listen_addr"), "that is about port 9090: {line}");
        }
        assert!(
            !folder.path().join("made").exists(),
            "nothing is written before all ports are ours"
        );
    }
}

/// One listener for both cannot be: that is told before a port is tried.
#[test]
fn one_address_for_both_listeners_is_refused() {
    let folder = TempDir::new().unwrap();
    let config = config_on("127.0.0.1").replace("127.0.0.1:0", "127.0.0.1:8091");
    let line = refusal(folder.path(), &config);
    assert!(line.contains("provisioning.listen: map_listen has 127.0.0.1:8091"), "{line}");
}

fn for_each_host(test: impl Fn(&Program)) {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let program = Program::serve(folder.path(), &config_on(host));
        let listeners: Vec<SocketAddr> = [program.addresses("map"), program.addresses("register")]
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(listeners.len(), 2);
        test(&program);
        program.stop();
    }
}

fn is_text_that_is_no_json(answer: &Answer) {
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(!is_json(&answer.body), "{answer:?}");
}

/// Whether any JSON can be read from the front of `bytes`, as a lenient reader would.
fn is_json(bytes: &[u8]) -> bool {
    serde_json::Deserializer::from_slice(bytes)
        .into_iter::<Value>()
        .next()
        .is_some_and(|it| it.is_ok())
}
