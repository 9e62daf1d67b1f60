//! What is answered to requests, on the DERP listener with and without TLS, and on port 80.

use std::io::{Read, Write};
use std::net::SocketAddr;

use derp_relay::config::Home;
use derp_relay::door::counters::Endpoint;

use crate::client::{Response, connect, open, read_to_end};
use crate::relay::{Options, Relay, on_all, on_both};

/// DERP-9.1, check-T6: the body has 33 bytes.
#[test]
fn derp_without_an_upgrade_is_426() {
    on_all(|relay| {
        for fields in ["", "Upgrade: foo\r\nConnection: Upgrade\r\n", "Upgrade: h2c\r\n"] {
            let response = get(relay, "/derp", fields);

            assert_eq!(response.status, 426, "{fields}");
            assert_eq!(response.body, "DERP requires connection upgrade\n");
            assert_eq!(response.body.len(), 33);
            assert_eq!(response.field("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(response.field("x-content-type-options"), Some("nosniff"));
        }
        assert_eq!(relay.counters.upgrades_refused.get(), 3);
    });
}

/// Until WebSocket is served; over plain DERP such a client would understand nothing.
#[test]
fn a_websocket_with_the_derp_subprotocol_is_426_for_now() {
    on_all(|relay| {
        let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: derp\r\n";

        assert_eq!(get(relay, "/derp", fields).status, 426);
    });
}

/// DERP-9.7, check-T8 corrected by fault-D27.
#[test]
fn unknown_paths_are_404() {
    on_all(|relay| {
        for path in
            ["/derp/", "/nonexist", "/derp/probe/", "/debug/", "/debugfoo", "//", "/derp%20"]
        {
            let fields = "Upgrade: DERP\r\n";
            assert_eq!(get(relay, path, fields).status, 404, "{path}");
        }
        assert_eq!(ask(relay, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status, 404);
    });
}

/// DERP-9.2, DERP-9.3, check-T9, check-T10: 19 bytes.
#[test]
fn probes_are_answered_for_get_and_head_only() {
    on_all(|relay| {
        for path in ["/derp/probe", "/derp/latency-check", "/derp/latency-check?x=1"] {
            for method in ["GET", "HEAD"] {
                let mut client = open(relay);
                write!(client, "{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                let response = Response::read(&mut client, method == "HEAD");

                assert_eq!((response.status, response.body.as_str()), (200, ""), "{method} {path}");
                assert_eq!(response.field("access-control-allow-origin"), Some("*"));
                let length = response.field("content-length");
                assert!(length == Some("0") || length.is_none() && method == "HEAD");
                assert!(!has_browser_headers(&response));
            }
            for method in ["POST", "PUT", "OPTIONS"] {
                let response = ask(relay, &format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));

                assert_eq!(response.status, 405, "{method} {path}");
                assert_eq!(response.body, "bogus probe method\n");
                assert_eq!(response.body.len(), 19);
                assert_eq!(response.field("access-control-allow-origin"), None);
            }
        }
        assert_eq!(relay.counters.requests.get(Endpoint::Probe), 15);
    });
}

/// DERP-9.4, check-T11, check-T12, check-T13: both listeners, any method.
#[test]
fn generate_204_answers_the_challenge() {
    on_all(|relay| {
        let too_long = "a".repeat(65);
        for (challenge, answer) in [
            ("ts_127.0.0.1:80-abc", Some("response ts_127.0.0.1:80-abc")),
            ("ts bad", None),
            (&too_long, None),
            ("", None),
        ] {
            for method in ["GET", "POST", "HEAD"] {
                for stream in [open(relay), Box::new(connect(relay.http))] {
                    let mut stream = stream;
                    write!(
                        stream,
                        "{method} /generate_204?t=1 HTTP/1.1\r\nHost: a\r\n\
                         X-Tailscale-Challenge: {challenge}\r\n\r\n"
                    )
                    .unwrap();
                    let response = Response::read(&mut stream, true);

                    assert_eq!(response.status, 204, "{method} {challenge}");
                    assert_eq!(response.field("x-tailscale-response"), answer);
                    let cache = "no-cache, no-store, must-revalidate, no-transform, max-age=0";
                    assert_eq!(response.field("cache-control"), Some(cache));
                    assert!(!has_browser_headers(&response));
                }
            }
        }
    });
}

/// DERP-9.5, DERP-9.9, check-T19: 26 bytes.
#[test]
fn robots_are_told_to_stay_away() {
    on_all(|relay| {
        let response = get(relay, "/robots.txt", "");

        assert_eq!(response.status, 200);
        assert_eq!(response.body, "User-agent: *\nDisallow: /\n");
        assert_eq!(response.body.len(), 26);
        assert!(response.field("content-type").unwrap().starts_with("text/plain"));
        assert!(has_browser_headers(&response));
    });
}

/// DERP-9.6, DERP-9.9.
#[test]
fn home_is_what_the_operator_says() {
    on_both(|ip| {
        let url = "https://example.org/about";
        for (home, status, location) in [
            (Home::Blank, 200, None),
            (Home::Default, 200, None),
            (Home::Redirect(url.parse().unwrap()), 302, Some(url)),
        ] {
            let shows_page = home == Home::Default;
            let relay = Relay::start(ip, Options { home, ..Options::plain() });

            let response = get(&relay, "/", "");

            assert_eq!((response.status, response.field("location")), (status, location));
            assert_eq!(response.body.is_empty(), !shows_page);
            assert_eq!(response.field("content-type"), Some("text/html; charset=utf-8"));
            assert!(has_browser_headers(&response));
        }
    });
}

/// check-T21: 20 bytes, and no tunnel.
#[test]
fn connect_is_refused() {
    on_all(|relay| {
        let request = "CONNECT controlplane.tailscale.com:443 HTTP/1.1\r\nHost: a\r\n\r\n";

        let response = ask(relay, request);

        assert_eq!((response.status, response.body.len()), (403, 20));
    });
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain());
        assert_eq!(ask_http(&relay, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n").status, 400);
    });
}

/// DERP-9.8, check-T14, check-T16, check-T17, fault-D28: never DERP, never a probe, and no debug
/// page by whatever path.
#[test]
fn port_80_sends_everything_to_https() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain());
        for (request, location) in [
            (
                "GET /derp HTTP/1.1\r\nHost: relay.example\r\nUpgrade: DERP\r\nConnection: Upgrade",
                "https://relay.example/derp",
            ),
            (
                "GET /derp/latency-check HTTP/1.1\r\nHost: relay.example",
                "https://relay.example/derp/latency-check",
            ),
            ("GET /debug/ HTTP/1.1\r\nHost: a", "https://a/debug/"),
            ("GET /debugfoo HTTP/1.1\r\nHost: a", "https://a/debugfoo"),
            ("GET / HTTP/1.1\r\nHost: relay.example:80", "https://relay.example/"),
            ("GET /a?b=c%0d HTTP/1.1\r\nHost: 192.0.2.1:8080", "https://192.0.2.1:8080/a?b=c%0d"),
            ("GET / HTTP/1.1\r\nHost: [2001:db8::1]", "https://[2001:db8::1]/"),
            ("GET //evil.example HTTP/1.1\r\nHost: a", "https://a//evil.example"),
            ("GET http://b.example/x HTTP/1.1\r\nHost: a", "https://a/x"),
        ] {
            let response = ask_http(&relay, &format!("{request}\r\n\r\n"));

            assert_eq!(response.status, 302, "{request}");
            assert_eq!(response.field("location"), Some(location), "{request}");
        }
        let mut client = connect(relay.http);
        client.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(Response::read(&mut client, true).status, 302);
        assert!(relay.has_no_handover());
    });
}

/// DERP-9.8: whatever a client writes into `Host`, no header and no other host comes of it.
#[test]
fn a_host_that_is_none_makes_no_redirect() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain());
        for host in [
            "Host: \r\n",
            "Host: a b\r\n",
            "Host: evil.example/\r\n",
            "Host: good@evil.example\r\n",
            "Host: evil.example\\good\r\n",
            "Host: evil.example?\r\n",
            "Host: evil.example#\r\n",
            "Host: a:b\r\n",
            "Host: a%0d%0aSet-Cookie:x\r\n",
            "Host: a\r\nHost: b\r\n",
            "Host: \u{e9}.example\r\n",
            "",
        ] {
            let response = ask_http(&relay, &format!("GET / HTTP/1.1\r\n{host}\r\n"));

            assert_eq!(response.status, 400, "{host:?}");
            assert_eq!(response.field("location"), None);
        }
        assert_eq!(ask_http(&relay, "GET * HTTP/1.1\r\nHost: a\r\n\r\n").status, 400);
    });
}

/// DERP-9.8, check-T15: 10 bytes.
#[test]
fn port_80_takes_no_other_method() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain());
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let request = format!("{method} /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n");

            let response = ask_http(&relay, &request);

            assert_eq!(response.status, 400, "{method}");
            assert_eq!(response.body, "Use HTTPS\n");
            assert_eq!(response.body.len(), 10);
        }
    });
}

/// Probes that come through a proxy share a connection.
#[test]
fn a_connection_serves_many_requests() {
    on_all(|relay| {
        let mut client = open(relay);
        for _ in 0..50 {
            client.write_all(b"GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!(Response::read(&mut client, false).status, 200);
        }
        client.write_all(&b"GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50)).unwrap();
        for _ in 0..50 {
            assert_eq!(Response::read(&mut client, false).status, 200);
        }
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!(Response::read(&mut client, false).status, 200);
        assert!(read_to_end(&mut client).is_empty());
        assert_eq!(relay.counters.accepts.total(), 1);
        relay.wait_for(|counters| counters.pending() == 0);
    });
}

/// A client that has said all it wants to say still listens.
#[test]
fn a_half_closed_connection_is_answered() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain());
        for address in [relay.derp, relay.http] {
            let mut client = connect(address);
            client.write_all(b"GET /generate_204 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();

            assert_eq!(Response::read(&mut client, false).status, 204);
            assert!(read_to_end(&mut client).is_empty());
        }
    });
}

#[test]
fn http_1_0_is_answered_and_closed() {
    on_all(|relay| {
        let mut client = open(relay);
        client.write_all(b"GET /derp/probe HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();

        assert_eq!(Response::read(&mut client, false).status, 200);
        assert!(read_to_end(&mut client).is_empty());
    });
}

/// A body is not ours to read: the answer comes, and the connection ends.
#[test]
fn a_request_with_a_body_is_answered_and_closed() {
    on_all(|relay| {
        for body in [
            "Content-Length: 3\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ] {
            let mut client = open(relay);
            write!(client, "POST /derp/probe HTTP/1.1\r\nHost: a\r\n{body}").unwrap();
            // It may be closed by now.
            let _sent = client.write_all(b"GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n");

            let response = Response::read(&mut client, false);

            assert_eq!(response.status, 405);
            assert_eq!(response.field("connection"), Some("close"));
            assert!(read_to_end(&mut client).is_empty());
        }
    });
}

/// What is too large is refused before it costs memory, on either listener.
#[test]
fn heads_have_a_largest_size() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain());
        let one_field = format!("Cookie: {}\r\n", "a".repeat(20_000));
        let many_fields = "A: b\r\n".repeat(65);
        let endless = "A: b\r\n".repeat(100_000);
        let long_path = format!("/{}", "a".repeat(40_000));
        for address in [relay.derp, relay.http] {
            for fields in [&one_field, &many_fields, &endless] {
                assert_eq!(
                    refused(address, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")),
                    431
                );
            }
            let status = refused(address, &format!("GET {long_path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(status == 431 || status == 414, "{status}");
        }
        let fits = "A: b\r\n".repeat(63);
        let response = ask(&relay, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fits}\r\n"));
        assert_eq!(response.status, 200);
    });
}

/// No panic, no hang, no upgrade: an error where HTTP has one, and an end.
#[test]
fn garbage_instead_of_http_is_closed() {
    let noise = vec![0xff; 200_000];
    let garbage: [&[u8]; 12] = [
        b"\0",
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /derp HTTP/1.1\r\nUpgrade DERP\r\n\r\n",
        b"GET /derp HTTP/1.1\r\nUpgrade: DERP\r\nContent-Length: x\r\n\r\n",
        b"GET /derp HTTP/1.1\r\nUpgrade: DERP\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x01\0\0\0\x28DERP",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        &noise,
    ];
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain());
        for address in [relay.derp, relay.http] {
            for bytes in garbage {
                let mut client = connect(address);
                // The relay may have closed before all of it is out.
                let _written = client.write_all(bytes);
                let _ended = client.shutdown(std::net::Shutdown::Write);

                let answer = read_to_end(&mut client);

                let text = String::from_utf8_lossy(&answer);
                assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{bytes:?}: {text}");
            }
        }
        assert!(relay.has_no_handover());
        assert_eq!(relay.counters.upgrades.get(), 0);
        relay.wait_for(|counters| counters.pending() == 0);
    });
}

fn get(relay: &Relay, path: &str, fields: &str) -> Response {
    ask(relay, &format!("GET {path} HTTP/1.1\r\nHost: relay.example\r\n{fields}\r\n"))
}

fn ask(relay: &Relay, request: &str) -> Response {
    let mut client = open(relay);
    client.write_all(request.as_bytes()).unwrap();
    Response::read(&mut client, false)
}

fn ask_http(relay: &Relay, request: &str) -> Response {
    let mut client = connect(relay.http);
    client.write_all(request.as_bytes()).unwrap();
    Response::read(&mut client, false)
}

/// The status of an answer after which the relay closes. It may come before all is written.
fn refused(address: SocketAddr, request: &str) -> u16 {
    let mut client = connect(address);
    let _written = client.write_all(request.as_bytes());
    let response = Response::read(&mut client, false);
    // Whatever follows is an end.
    let mut rest = Vec::new();
    let _ended = client.read_to_end(&mut rest);
    assert!(rest.is_empty());
    response.status
}

fn has_browser_headers(response: &Response) -> bool {
    let policy = response.field("content-security-policy").unwrap_or_default();
    let found = [
        response.field("strict-transport-security") == Some("max-age=63072000; includeSubDomains"),
        response.field("x-frame-options") == Some("DENY"),
        response.field("x-content-type-options") == Some("nosniff"),
        policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
    ];
    found == [true; 4]
}
