//! `enroll` against what is no provisioner, or does not behave like one.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coord_bridge::enroll::{EnrollError, Schedule};

use crate::program::PATIENCE;
use crate::tailnet_client::{BRISK, TailnetClient};

const TOKEN: &str = "secret-of-the-token";

const GOOD: &str = r#"{"headscale_key": "hskey-auth-x", "login_server": "https://hs"}"#;

/// A server that answers each connection as a test wants it to.
struct Odd {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Odd {
    /// `answer` gets the connection, after its request was read, and which one it is.
    fn new(answer: impl Fn(&mut TcpStream, usize) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let odd = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&odd.asked);
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                read_request(&mut stream);
                answer(&mut stream, asked.fetch_add(1, Ordering::SeqCst));
            }
        });
        odd
    }

    /// The same bytes to everybody.
    fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::new(move |stream, _| send(stream, &bytes))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn read_request(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut came = Vec::new();
    let mut piece = [0; 1_024];
    while !came.ends_with(b"}") {
        match stream.read(&mut piece) {
            Ok(count @ 1..) => came.extend_from_slice(&piece[..count]),
            Ok(0) | Err(_) => return,
        }
    }
}

/// The client may have had enough before all is sent.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    if let Err(error) = stream.write_all(bytes) {
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock), "the client waits for ever");
    }
}

fn answer(status: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\n\r\n{body}")
}

/// What comes of asking a server, without having got a key; and its reports.
fn refusal(odd: &Odd, schedule: Schedule) -> (EnrollError, Vec<String>) {
    let client = TailnetClient::new();
    let url = format!("http://{}", odd.address);
    let (done, reports) = client.enroll(TOKEN, &url, schedule, || {});
    assert_eq!(client.noted("calls"), "", "tailscale is not run without a key");
    let error = done.unwrap_err();
    for line in reports.iter().chain([&error.to_string(), &format!("{error:?}")]) {
        assert!(!line.contains("secret-of") && !line.contains('\u{1b}'), "{line}");
        assert!(line.lines().count() == 1 && line.len() < 1_000, "{line}");
    }
    (error, reports)
}

/// These heal, so they are tried as often as agreed.
#[test]
fn what_may_pass_is_tried_again() {
    let long_head = format!("X: {}\r\n", "x".repeat(200_000));
    for (bytes, words) in [
        (String::new(), "gives no answer"),
        ("220 mail.example.org\r\n".to_owned(), "does not speak HTTP"),
        ("\0\u{1}\u{2}".repeat(9_999), "does not speak HTTP"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{".to_owned(), "gives no answer"),
        (answer("200 OK", &long_head, GOOD), "longer than 65536 bytes"),
        (answer("200 OK", "", &"x".repeat(3_000_000)), "longer than 16384 bytes"),
        (answer("200 OK", "", "<html>Log in to this network</html>"), "is it a provisioner?"),
        (answer("200 OK", "", "[]"), "is it a provisioner?"),
        (answer("200 OK", "", ""), "is it a provisioner?"),
        (answer("200 OK", "", r#"{"headscale_key": "k", "login_server": null}"#), "is it a"),
        (answer("500 Oh", "", "<html>"), "answers 500 (Internal Server Error)"),
        (answer("502 Oh", "", r#"{"error": 7}"#), "answers 502"),
        (answer("503 Oh", "", r#"{"error": "a\u001b[31m\nb"}"#), "answers 503 (a [31m b)"),
        (answer("503 Oh", "", &format!(r#"{{"error": "no {TOKEN}"}}"#)), "answers 503 (no …)"),
        (answer("429 Oh", "Retry-After: soon\r\n", ""), "answers 429"),
        (answer("408 Oh", "", ""), "answers 408"),
    ] {
        let odd = Odd::saying(bytes);
        let (error, reports) = refusal(&odd, BRISK);
        assert!(matches!(error, EnrollError::GaveUp { tries: 3, .. }), "{words}: {error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(reports.iter().all(|line| line.contains(words)), "{words}: {reports:?}");
        assert_eq!((odd.asked(), reports.len()), (3, 2));
    }
}

/// These do not.
#[test]
fn what_does_not_pass_ends_it() {
    let error = |text: &str| format!(r#"{{"error": "{text}"}}"#);
    for (status, body, words) in [
        ("400 Oh", error("hostname must be"), "fault in the request (hostname must be)"),
        ("401 Oh", error("unauthorized"), "does not know the token (unauthorized)"),
        ("401 Oh", "<html>".to_owned(), "does not know the token (Unauthorized)"),
        ("403 Oh", error("quota used up"), "does not take the token for this (quota used up)"),
        ("403 Oh", error(TOKEN), "for this (…)"),
        ("404 Oh", error(&"ü".repeat(5_000)), "has no /register there (üü"),
        ("405 Oh", String::new(), "has no /register there"),
        ("413 Oh", String::new(), "answers 413"),
        ("201 Oh", GOOD.to_owned(), "answers 201"),
        ("204 Oh", String::new(), "answers 204"),
    ] {
        let odd = Odd::saying(answer(status, "", &body));
        let (error, reports) = refusal(&odd, BRISK);
        assert!(matches!(error, EnrollError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert_eq!((odd.asked(), reports.len()), (1, 0));
    }
}

/// The token goes nowhere but where it was meant to.
#[test]
fn redirects_are_not_followed() {
    let elsewhere = Odd::saying(answer("200 OK", "", GOOD));
    for status in ["301 Oh", "302 Oh", "303 Oh", "307 Oh", "308 Oh"] {
        let location = format!("Location: http://{}/register?{TOKEN}\r\n", elsewhere.address);
        let odd = Odd::saying(answer(status, &location, GOOD));
        let (error, _) = refusal(&odd, BRISK);
        let words = error.to_string();
        assert!(words.contains("redirects are not followed"), "{words}");
        assert!(words.contains(&elsewhere.address.to_string()), "{words}");
        assert_eq!(odd.asked(), 1);
    }
    assert_eq!(elsewhere.asked(), 0);
}

/// One that takes the request and falls silent, or never comes to an end.
#[test]
fn a_try_has_an_end() {
    let schedule = Schedule { tries: 1, try_time: Duration::from_millis(200), ..BRISK };
    let silent = Odd::new(|stream, _| {
        // Until the client has gone.
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
    });
    let (error, _) = refusal(&silent, schedule);
    assert!(error.to_string().contains("does not answer within"), "{error}");

    let endless = Odd::new(|stream, _| {
        send(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let piece = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
        while stream.write_all(piece.as_bytes()).is_ok() {}
    });
    let (error, _) = refusal(&endless, Schedule { tries: 1, ..BRISK });
    assert!(error.to_string().contains("longer than 16384 bytes"), "{error}");
}

/// A wait that is asked for is kept to, and the next answer counts.
#[test]
fn retry_after_is_honoured() {
    let odd = Odd::new(|stream, n| {
        let bytes = match n {
            0 => answer("503 Oh", "Retry-After: 1\r\n", ""),
            _ => answer("200 OK", "", GOOD),
        };
        send(stream, bytes.as_bytes());
    });
    let client = TailnetClient::new();
    let url = format!("http://{}", odd.address);
    let (done, reports) = client.enroll(TOKEN, &url, BRISK, || {});
    assert!(reports.len() == 1 && reports[0].ends_with("again in 1.0 s"), "{reports:?}");
    // What only an old provisioner leaves out is left out.
    let enrolled = done.unwrap();
    assert_eq!((enrolled.hostname.as_str(), enrolled.machine_id), ("one", None));
    assert_eq!(client.noted("key"), "hskey-auth-x");
}
