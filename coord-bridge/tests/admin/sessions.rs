//! Sessions of administrators: how they begin and end, and what no browser may be talked into.

use std::time::Duration;

use crate::bench::Bench;
use crate::client::Answer;
use crate::page::is_page;
use crate::running::{HOST, Running, request};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// A browser that has logged in.
pub(crate) struct Session<'a> {
    running: &'a Running,
    cookie: String,
}

impl<'a> Session<'a> {
    pub(crate) fn open(running: &'a Running) -> Self {
        let token = running.bench.admin_token();
        let answer = log_in(running, &token, "");
        assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{answer:?}");
        Self { running, cookie: cookie_of(&answer) }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        let headers = format!("Cookie: {}\r\n", self.cookie);
        request(self.running.admin, "GET", path, &headers, b"")
    }

    /// Sends the form on the page at `path`, with these fields beside the hidden ones.
    pub(crate) fn send(&self, path: &str, fields: &str) -> Answer {
        self.send_from(path, path, fields)
    }

    fn send_from(&self, page: &str, path: &str, fields: &str) -> Answer {
        let seal = seal(&self.get(page));
        self.post(path, &format!("{seal}&{fields}"))
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        let origin = self.running.admin;
        let headers = format!(
            "Cookie: {}\r\nOrigin: http://{origin}\r\nSec-Fetch-Site: same-origin\r\n{FORM}",
            self.cookie
        );
        request(origin, "POST", path, &headers, body.as_bytes())
    }
}

fn log_in(running: &Running, token: &str, headers: &str) -> Answer {
    let headers = format!("Origin: http://{}\r\n{FORM}{headers}", running.admin);
    request(running.admin, "POST", "/login", &headers, format!("token={token}").as_bytes())
}

fn cookie_of(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

/// The hidden fields of the last form on a page.
fn seal(page: &Answer) -> String {
    let field = |name: &str| {
        let mark = format!("name=\"{name}\" value=\"");
        let (_, rest) = page.text().rsplit_once(&mark).unwrap_or_else(|| panic!("{page:?}"));
        format!("{name}={}", rest.split('"').next().unwrap())
    };
    format!("{}&{}", field("session_word"), field("once"))
}

#[test]
fn a_cookie_is_for_this_host_and_no_script() {
    let running = Running::of(
        Bench::with(|settings| settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]),
        None,
    );
    let token = running.bench.admin_token();
    let set = |headers: &str| {
        let answer = log_in(&running, &token, headers);
        assert_eq!(answer.status, 303, "{answer:?}");
        answer.header("set-cookie").unwrap().to_owned()
    };
    let plain = set("");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Max-Age=43200"] {
        assert!(plain.contains(part), "{plain}");
    }
    assert!(plain.starts_with("coord-bridge=") && !plain.contains("Secure"), "{plain}");
    let by_tls = set("X-Forwarded-Proto: https\r\n");
    assert!(by_tls.starts_with("__Host-coord-bridge=") && by_tls.ends_with("; Secure"), "{by_tls}");
    let value = |cookie: &str| cookie.split([';', '=']).nth(1).unwrap().to_owned();
    assert_eq!(value(&plain).len(), 64);
    assert_ne!(value(&plain), value(&by_tls));
    // One that came over TLS is none without, whatever it is called.
    let cookie = format!("Cookie: __Host-coord-bridge={}\r\n", value(&by_tls));
    assert_eq!(request(running.admin, "GET", "/", &cookie, b"").status, 303);
    let by_tls = format!("{cookie}X-Forwarded-Proto: https\r\n");
    assert_eq!(request(running.admin, "GET", "/", &by_tls, b"").status, 200);

    let stranger = Running::new();
    let told = log_in(&stranger, &stranger.bench.admin_token(), "X-Forwarded-Proto: https\r\n");
    assert!(!told.header("set-cookie").unwrap().contains("Secure"), "no proxy is trusted there");
}

/// Decision 0038 holds here too; and an enrollment token is not the administrator's.
#[test]
fn wrong_tokens_are_slowed_down_and_a_right_one_gets_in() {
    let running = Running::new();
    let enrollment = running.bench.token();
    let answer = log_in(&running, &enrollment, "");
    is_page(&answer, 403);
    assert!(answer.text().contains("That is an enrollment token"), "{}", answer.text());
    let statuses: Vec<u16> = (0..12).map(|_| log_in(&running, "wrong", "").status).collect();
    assert_eq!(statuses[..10], [403; 10]);
    assert_eq!(statuses[10..], [429; 2]);
    let answer = log_in(&running, "wrong", "");
    assert!(answer.header("retry-after").is_some() && answer.header("set-cookie").is_none());
    is_page(&answer, 429);
    is_page(&log_in(&running, "", ""), 429);
    let session = Session::open(&running);
    let events = session.get("/events?kind=admin");
    for outcome in ["logIn", "unauthorized", "too_many_failures", "admin_token_required"] {
        assert!(events.text().contains(outcome), "{outcome}");
    }
}

#[test]
fn a_session_ends_idle_with_its_token_and_when_left() {
    let running = Running::new();
    let session = Session::open(&running);
    let minutes = |count: u64| running.bench.clock.advance(Duration::from_secs(60 * count));
    minutes(29);
    assert_eq!(session.get("/").status, 200);
    minutes(31);
    assert_eq!(session.get("/").header("location"), Some("/login?why=ended"));

    let session = Session::open(&running);
    for _ in 0..35 {
        minutes(20);
        assert_eq!(session.get("/").status, 200);
    }
    minutes(21);
    assert_eq!(session.get("/").status, 303, "twelve hours are over");

    let session = Session::open(&running);
    let other = Session::open(&running);
    let left = session.send_from("/", "/logout", "");
    assert_eq!(left.header("location"), Some("/login?why=left"));
    assert!(left.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!((session.get("/").status, other.get("/").status), (303, 200));

    let file = &running.bench.settings.admin_token_file;
    std::fs::write(file, "another-token-of-the-administrator").unwrap();
    assert_eq!(other.get("/").status, 303, "the token is another one");
    Session::open(&running);
}

/// Forms of other pages and of other sessions do nothing, each by one thing alone.
#[test]
fn forms_of_others_do_nothing() {
    let running = Running::new();
    let (mine, other) = (Session::open(&running), Session::open(&running));
    let ours = format!("Origin: http://{}\r\n", running.admin);
    let send = |headers: &str, body: &str| {
        let headers = format!("Cookie: {}\r\n{headers}", mine.cookie);
        let answer = request(running.admin, "POST", "/tokens/new", &headers, body.as_bytes());
        (answer.status, answer.text().contains("The form was not taken"))
    };
    let fields = "name=forged&profile=machine";
    let body = || format!("{}&{fields}", seal(&mine.get("/tokens/new")));
    let same = "Sec-Fetch-Site: same-origin\r\n";
    for headers in [
        String::new(),
        same.to_owned(),
        "Origin: null\r\n".to_owned(),
        "Origin: https://evil.example\r\n".to_owned(),
        format!("Origin: https://evil.example\r\n{same}"),
        format!("{ours}Sec-Fetch-Site: cross-site\r\n"),
        format!("{ours}Sec-Fetch-Site: same-site\r\n"),
    ] {
        assert_eq!(send(&format!("{headers}{FORM}"), &body()), (403, true), "{headers}");
        let token = format!("token={}", running.bench.admin_token());
        let headers = format!("{headers}{FORM}");
        let login = request(running.admin, "POST", "/login", &headers, token.as_bytes());
        assert_eq!((login.status, login.header("set-cookie")), (403, None), "{headers}");
    }
    let from_us = format!("{ours}{FORM}");
    assert_eq!(send(&from_us, fields), (403, true), "without a word");
    let foreign = format!("{}&{fields}", seal(&other.get("/tokens/new")));
    assert_eq!(send(&from_us, &foreign), (403, true), "with the word of another session");
    assert_eq!(send(&format!("{ours}Content-Type: text/plain\r\n"), &body()).0, 400);
    let long = "x".repeat(20_000);
    assert_eq!(send(&from_us, &format!("{}&{long}", body())).0, 413);
    assert!(!running.get("/api/v1/tokens").text().contains("forged"), "nothing was done");

    let body = body();
    assert_eq!(send(&from_us, &body).0, 200);
    assert_eq!(send(&from_us, &body).0, 409, "sent twice");
    let behind_proxy = format!("Origin: https://{HOST}\r\n{same}{FORM}");
    let answer = seal(&mine.get("/tokens/new"));
    assert_eq!(send(&behind_proxy, &format!("{answer}&name=by-proxy&profile=iso")).0, 200);
}
