//! What the relay answers to plain HTTP requests, on either listener.
//!
//! Does: turns one request head into one answer, without waiting for anything.
//! Does not: read bodies, or keep state. Debug pages do not exist.
//!
//! | DERP listener | answer |
//! |---|---|
//! | `/derp` | becomes DERP (`door::upgrade`), or 426 |
//! | `/derp/probe`, `/derp/latency-check` | 200 for GET and HEAD, else 405 |
//! | `/generate_204` | 204, the challenge answered |
//! | `/robots.txt`, `/` | 200, or what `home` says |
//! | anything else | 404; CONNECT 403 |
//!
//! | HTTP listener | answer |
//! |---|---|
//! | `/generate_204` | 204, the challenge answered |
//! | GET and HEAD of anything else | 302 to HTTPS, 400 without a usable `Host` |
//! | anything else | 400 |
//!
//! Spec: docs/protocol/derp.md, section 9.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
    HeaderMap, HeaderName, HeaderValue, LOCATION, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::counters::Endpoint;
use super::upgrade::{self, Decision, Native};
use crate::config::Home;

/// An answer of the relay.
pub(super) type Answer = Response<Full<Bytes>>;

/// What a request to the DERP listener calls for.
pub(super) enum Route {
    /// An answer.
    Answer(Endpoint, Answer),
    /// No HTTP answer: the connection becomes DERP.
    Upgrade(Native),
    /// The answer to a `/derp` that becomes nothing.
    Refuse(Answer),
}

/// Most bytes of a challenge that is answered. Source: DERP-9.4.
const MAX_CHALLENGE_LEN: usize = 64;

/// A client sends it to find out whether it talks to us or to a captive portal.
const CHALLENGE: HeaderName = HeaderName::from_static("x-tailscale-challenge");

/// The answer to that.
const CHALLENGE_RESPONSE: HeaderName = HeaderName::from_static("x-tailscale-response");

const NO_STORE: &str = "no-cache, no-store, must-revalidate, no-transform, max-age=0";
const ROBOTS: &str = "User-agent: *\nDisallow: /\n";
const CONTENT_POLICY: &str = "default-src 'self'; frame-ancestors 'none'; form-action 'self'; \
                              base-uri 'self'; block-all-mixed-content; object-src 'none'";
const HOME_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>DERP</title></head><body>\n\
                         <h1>DERP</h1>\n<p>This is a relay for Tailscale networks: it carries \
                         their encrypted packets where no direct path exists.</p>\n\
                         </body></html>\n";

/// Answers a request to the DERP listener; `own_tls` says whether TLS ends here.
///
/// # Source
///
/// DERP-9.1 to DERP-9.7, DERP-9.9.
pub(super) fn derp(request: &Parts, home: &Home, own_tls: bool) -> Route {
    if request.method == Method::CONNECT {
        let refusal = text(StatusCode::FORBIDDEN, "CONNECT not enabled\n");
        return Route::Answer(Endpoint::Unknown, refusal);
    }
    let (endpoint, answer) = match request.uri.path() {
        "/derp" => return derp_upgrade(&request.headers, own_tls),
        "/derp/probe" | "/derp/latency-check" => (Endpoint::Probe, probe(&request.method)),
        "/generate_204" => (Endpoint::GenerateNoContent, generate_no_content(&request.headers)),
        "/robots.txt" => (Endpoint::Robots, robots()),
        "/" => (Endpoint::Home, home_page(home)),
        // Also `/derp/`: a monitor with a wrong URL must not see success.
        _ => (Endpoint::Unknown, text(StatusCode::NOT_FOUND, "404 page not found\n")),
    };
    Route::Answer(endpoint, answer)
}

/// Answers a request to the HTTP listener.
///
/// # Source
///
/// DERP-9.4, DERP-9.8.
pub(super) fn http(request: &Parts) -> (Endpoint, Answer) {
    if request.uri.path() == "/generate_204" {
        return (Endpoint::GenerateNoContent, generate_no_content(&request.headers));
    }
    let answer = if request.method != Method::GET && request.method != Method::HEAD {
        text(StatusCode::BAD_REQUEST, "Use HTTPS\n")
    } else {
        match https_url(request) {
            Some(url) => redirect(url),
            None => text(StatusCode::BAD_REQUEST, "missing or invalid Host\n"),
        }
    };
    (Endpoint::Redirect, answer)
}

fn derp_upgrade(headers: &HeaderMap, own_tls: bool) -> Route {
    match upgrade::decide(headers, own_tls) {
        Decision::Native(native) => Route::Upgrade(native),
        Decision::WebSocket | Decision::Unknown | Decision::Missing => {
            Route::Refuse(text(StatusCode::UPGRADE_REQUIRED, "DERP requires connection upgrade\n"))
        }
    }
}

fn probe(method: &Method) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "bogus probe method\n");
    }
    let mut answer = Answer::default();
    // Browsers measure too.
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

fn generate_no_content(request: &HeaderMap) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
    if let Some(response) = request.get(CHALLENGE).and_then(challenge_response) {
        headers.insert(CHALLENGE_RESPONSE, response);
    }
    answer
}

/// The answer to a challenge; `None` for one that no client sends.
fn challenge_response(challenge: &HeaderValue) -> Option<HeaderValue> {
    let challenge = challenge.to_str().ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if challenge.is_empty()
        || challenge.len() > MAX_CHALLENGE_LEN
        || !challenge.bytes().all(allowed)
    {
        return None;
    }
    HeaderValue::try_from(format!("response {challenge}")).ok()
}

fn robots() -> Answer {
    let mut answer = text(StatusCode::OK, ROBOTS);
    add_browser_headers(answer.headers_mut());
    answer
}

fn home_page(home: &Home) -> Answer {
    let mut answer = match home {
        Home::Blank => Answer::default(),
        Home::Default => Answer::new(Full::from(HOME_PAGE)),
        Home::Redirect(url) => redirect(url.clone()),
    };
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    add_browser_headers(headers);
    answer
}

/// What keeps a browser from doing more with a page than to show it. Source: DERP-9.9.
fn add_browser_headers(headers: &mut HeaderMap) {
    for (name, value) in [
        (STRICT_TRANSPORT_SECURITY, "max-age=63072000; includeSubDomains"),
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Where the same page is on HTTPS; `None` without a host that may stand in a header.
fn https_url(request: &Parts) -> Option<HeaderValue> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok()?,
        (None, None) => request.uri.authority()?.as_str(),
        _ => return None,
    };
    if !is_host(host) {
        return None;
    }
    // HTTPS is not where plain HTTP is by default; any other port is kept as it is.
    let host = host.strip_suffix(":80").unwrap_or(host);
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    // `*` would become part of the host.
    if !path.starts_with('/') {
        return None;
    }
    HeaderValue::try_from(format!("https://{host}{path}")).ok()
}

/// Whether `host` is a name or an address, with or without a port, and nothing else.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port),
            _ => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let name_fits = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let port_fits = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok() && !digits.starts_with('+'),
        None => port.is_empty(),
    };
    name_fits && port_fits
}

fn redirect(url: HeaderValue) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::FOUND;
    answer.headers_mut().insert(LOCATION, url);
    answer
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    let mut answer = Answer::new(Full::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DERP-9.8: what stands in `Location` can only be a host.
    #[test]
    fn only_a_host_may_stand_in_a_redirect() {
        for host in ["relay.example", "relay.example:8080", "192.0.2.1", "[2001:db8::1]:80", "a_b"]
        {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "",
            ":80",
            "a b",
            "a/b",
            "a@b",
            "a\\b",
            "a:b",
            "a:80:80",
            "a:+80",
            "a:99999",
            "[::1",
            "[relay]",
            "[::1]x",
            "a?b",
            "a#b",
            "a%0d%0a",
            "é.example",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }

    /// DERP-9.4, check-T11, check-T12.
    #[test]
    fn only_a_challenge_of_a_client_is_answered() {
        let longest = "a".repeat(64);
        for challenge in ["ts_127.0.0.1:80-abc", "x", &longest] {
            let response = challenge_response(&HeaderValue::from_str(challenge).unwrap()).unwrap();
            assert_eq!(response, format!("response {challenge}").as_str());
        }
        let too_long = "a".repeat(65);
        for challenge in ["", "ts bad", "ts_[::1]", "a/b", "a\tb", &too_long] {
            assert_eq!(challenge_response(&HeaderValue::from_str(challenge).unwrap()), None);
        }
        let not_ascii = HeaderValue::from_bytes(b"caf\xe9").unwrap();
        assert_eq!(challenge_response(&not_ascii), None);
    }
}
