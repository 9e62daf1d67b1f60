//! The listener, with real sockets: routes, errors, and strangers.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coord_bridge::bridge::{Listeners, Setup};
use coord_bridge::headscale::FailureKind;
use coord_bridge::http::listener::MAX_HEADERS;
use coord_bridge::http::provisioning::MAX_BODY_LEN;
use coord_bridge::provisioning::Settings;
use coord_bridge::publication::Plan;
use coord_bridge::{Addresses, Bridge};
use serde_json::Value;

use crate::bench::Bench;
use crate::client::{Answer, ask, dial, get, read_to_end, send};
use crate::headscale::Mood;

/// A bridge that registers machines, on both address families.
pub(crate) struct Running {
    pub(crate) bench: Bench,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) map: SocketAddr,
    _bridge: Bridge,
}

impl Running {
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::of(Bench::with(change))
    }

    pub(crate) fn of(bench: Bench) -> Self {
        let any = ["127.0.0.1:0", "[::1]:0"].map(|text| text.parse().unwrap());
        let wanted = Addresses {
            map: any[..1].to_vec(),
            provisioning: any.to_vec(),
            ..Addresses::default()
        };
        let listeners = Listeners::open(&wanted).unwrap();
        let config = "[[region.nodes]]\nhostname = \"derp.example.org\"\n";
        let plan =
            Plan { map: coord_bridge::Config::parse(config).unwrap().plan.map, ..Plan::default() };
        let provisioning = Some(Arc::clone(&bench.provisioning));
        let setup = Setup { plan, provisioning, ..Setup::default() };
        let bridge = Bridge::start(listeners, setup).unwrap();
        let addresses = bridge.addresses().provisioning.clone();
        let map = bridge.addresses().map[0];
        Self { bench, addresses, map, _bridge: bridge }
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        post(self.addresses[0], path, headers, body.as_bytes()).unwrap()
    }

    fn authorized(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.bench.token())
    }
}

fn post(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Option<Answer> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    send(address, &request)
}

fn json(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("server"), None);
    serde_json::from_slice(&answer.body).unwrap()
}

const GOOD: &str = r#"{"hostname": "one", "mac": "unknown"}"#;

/// R-002, R-064, W30; with a double slash, a slash at the end, and any scheme's case.
#[test]
fn a_machine_registers_and_is_listed() {
    let running = Running::with(|settings| {
        settings.map_url = Some("https://derp.example.org/derpmap.json".to_owned());
    });
    for (n, path) in ["/register", "//register", "/register/", "///register//"].iter().enumerate() {
        let headers = running.authorized().replace("Bearer", ["Bearer", "bearer", "BEARER"][n % 3]);
        for address in &running.addresses {
            let body = format!(r#" {{"hostname": " M{n}-{} ", "x": [1]}}"#, address.is_ipv4());
            let answer = post(*address, path, &headers, body.as_bytes()).unwrap();
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            let body = json(&answer);
            assert_eq!(body["hostname"], format!("m{n}-{}", address.is_ipv4()));
            assert_eq!(body["login_server"], "https://hs.example.org");
            assert_eq!(body["derp_map_url"], "https://derp.example.org/derpmap.json");
            assert_eq!(body["region_id"], 999);
            assert!(body["headscale_key"].as_str().unwrap().starts_with("hskey-auth-"));
            assert!(body["expires_at"].as_str().unwrap().ends_with('Z'));
        }
    }
    let admin = format!("Authorization: Bearer {}\r\n", running.bench.admin_token());
    let answer = ask(running.addresses[0], "GET", "//machines", &admin);
    assert_eq!(answer.status, 200);
    let list = json(&answer);
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 8);
    assert!(list.iter().all(|it| it["mac"] == "unknown" && it["state"] == "pending"));
    assert!(list.iter().all(|it| it["registered_at"].is_f64() && it["tailscale_ip"] == ""));
    assert_eq!(list.iter().filter(|it| it["remote_ip"] == "127.0.0.1").count(), 4);
    assert_eq!(list.iter().filter(|it| it["remote_ip"] == "::1").count(), 4);
    assert!(!answer.text().contains("hskey"), "no key is ever listed");
}

/// R-103, W24, D-7.
#[test]
fn health_is_what_it_was_and_ready_says_more() {
    let running = Running::of(Bench::new());
    for address in &running.addresses {
        let health = get(*address, "/health");
        assert_eq!((health.status, health.text()), (200, r#"{"status":"ok"}"#));
    }
    let ready = || get(running.addresses[0], "/ready");
    until(|| ready().status == 200);
    assert_eq!(ready().text(), r#"{"status":"ready"}"#);
    running.bench.headscale.set_all(Mood::Fails(FailureKind::Unauthorized));
    runtime().block_on(running.bench.provisioning.reconcile());
    let answer = ready();
    assert_eq!(answer.status, 503);
    assert_eq!(json(&answer)["reasons"][0], "Headscale refuses the API key");
    assert_eq!(get(running.addresses[0], "/health").status, 200, "it lives all the same");
}

/// `provisioning.md` §5.5, W16, W17, W23: JSON always, and the words that were there before.
#[test]
fn whatever_is_wrong_is_said_in_json() {
    let running = Running::with(|settings| settings.rate.burst = 10_000);
    let long = "a".repeat(64);
    for (body, status, code) in [
        ("", 400, "body_required"),
        ("{", 400, "body_required"),
        ("{}", 400, "body_required"),
        ("[]", 400, "body_required"),
        ("null", 400, "body_required"),
        ("0", 400, "body_required"),
        ("[{\"hostname\": \"a\", \"mac\": \"unknown\"}]", 400, "body_required"),
        (r#"{"mac": "unknown"}"#, 400, "fields_required"),
        (r#"{"hostname": "  ", "mac": "unknown"}"#, 400, "fields_required"),
        (r#"{"hostname": 7, "mac": "unknown"}"#, 400, "fields_required"),
        (r#"{"hostname": null, "mac": "unknown"}"#, 400, "fields_required"),
        (r#"{"hostname": "a", "mac": 7}"#, 400, "fields_required"),
        (r#"{"hostname": "a", "mac": ""}"#, 400, "fields_required"),
        (r#"{"hostname": "a b", "mac": "unknown"}"#, 400, "bad_hostname"),
        (r#"{"hostname": "a\u001b[31m", "mac": "unknown"}"#, 400, "bad_hostname"),
        (r#"{"hostname": "a\nb", "mac": "unknown"}"#, 400, "bad_hostname"),
        (r#"{"hostname": "<script>", "mac": "unknown"}"#, 400, "bad_hostname"),
        (&format!(r#"{{"hostname": "{long}", "mac": "unknown"}}"#), 400, "bad_hostname"),
        (r#"{"hostname": "a", "mac": "aa:bb"}"#, 400, "bad_mac"),
        (r#"{"hostname": "a", "machine_id": 7}"#, 400, "bad_machine_id"),
        (r#"{"hostname": "a", "machine_id": "a b"}"#, 400, "bad_machine_id"),
        (&"[".repeat(4_000), 400, "body_required"),
    ] {
        let answer = running.post("/register", &running.authorized(), body);
        let said = json(&answer);
        assert_eq!((answer.status, said["code"].as_str()), (status, Some(code)), "{body}");
        assert!(said["request_id"].as_str().unwrap().len() == 26);
        let words = match code {
            "body_required" => Some("JSON body required"),
            "fields_required" => Some("hostname and mac are required"),
            _ => None,
        };
        assert!(words.is_none_or(|words| said["error"] == words));
    }
    let answer = running.post("/register", "", GOOD);
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(json(&answer)["error"], "unauthorized");
    let answer = running.post("/register", &running.authorized(), &" ".repeat(MAX_BODY_LEN + 1));
    assert_eq!((answer.status, json(&answer)["code"].as_str()), (413, Some("body_too_long")));
    running.bench.headscale.set_all(Mood::Fails(FailureKind::Unreachable));
    let answer = running.post("/register", &running.authorized(), GOOD);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("10")));
    json(&answer);
}

#[test]
fn a_limit_says_when_to_come_again() {
    let running = Running::with(|settings| settings.rate.burst = 1);
    assert_eq!(running.post("/register", &running.authorized(), GOOD).status, 200);
    let answer = running.post("/register", &running.authorized(), GOOD);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("60")));
    assert_eq!(json(&answer)["error"], "rate limit exceeded");
}

/// A proxy may expose the listener whole.
#[test]
fn there_are_four_paths_and_nothing_else() {
    let running = Running::of(Bench::new());
    let admin = format!("Authorization: Bearer {}\r\n", running.bench.admin_token());
    for path in [
        "/",
        "/metrics",
        "/verify",
        "/derpmap.json",
        "/derpmap.yaml",
        "/api/v1/machines",
        "/admin",
        "/machines/1",
        "/register/..",
        "/v1/relay/register",
        "/registerx",
        "/%72egister",
        "*",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = ask(running.addresses[0], method, path, &admin);
            // What is no path at all is refused before anybody looks for it.
            if answer.status != 400 {
                assert_eq!(answer.status, 404, "{method} {path}");
                json(&answer);
            }
        }
    }
    for (method, path, allowed) in [
        ("GET", "/register", "POST"),
        ("PUT", "/register", "POST"),
        ("POST", "/machines", "GET, HEAD"),
        ("DELETE", "/machines", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("OPTIONS", "/ready", "GET, HEAD"),
    ] {
        let answer = ask(running.addresses[0], method, path, "");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allowed)),
            "{method} {path}"
        );
        json(&answer);
    }
}

/// W11: behind a trusted proxy each machine has its own bucket, and nobody else can say so.
#[test]
fn a_trusted_proxy_says_who_asks() {
    let register = |running: &Running, n: usize| {
        let headers = format!("{}X-Forwarded-For: 203.0.113.{n}\r\n", running.authorized());
        running.post("/register", &headers, &GOOD.replace("one", &format!("m{n}"))).status
    };
    let running = Running::with(|settings| {
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    assert!((0..12).all(|n| register(&running, n) == 200));
    let running = Running::of(Bench::new());
    assert_eq!((0..12).filter(|n| register(&running, *n) == 200).count(), 10);
}

/// W18, T11. Whatever comes is answered in JSON or cut, and the others are served.
#[test]
fn strangers_are_answered_or_cut() {
    let running = Running::of(Bench::new());
    let address = running.addresses[0];
    let many = "X: y\r\n".repeat(MAX_HEADERS + 1);
    let long = format!("Authorization: Bearer {}\r\n", "a".repeat(12_000));
    let odd = "Authorization: Bearer \u{7f}\u{80}\u{ff}\r\n";
    for headers in
        [many.as_str(), long.as_str(), odd, "Authorization: \r\n", "X-Forwarded-For: ,,,\r\n"]
    {
        if let Some(answer) = post(address, "/register", headers, GOOD.as_bytes()) {
            assert!([400, 401, 429, 431].contains(&answer.status), "{headers:.40}: {answer:?}");
        }
    }
    for body in [&b"\x00\xff\xfe"[..], &[b'{'; 4_096], &[0xc3, 0x28]] {
        let answer = post(address, "/register", &running.authorized(), body).unwrap();
        assert_eq!(answer.status, 400);
        json(&answer);
    }
    // A body that never comes, one of which only the beginning comes, and one without end.
    let head = format!("POST /register HTTP/1.1\r\nHost: x\r\n{}", running.authorized());
    let mut slow = dial(address);
    slow.write_all(format!("{head}Content-Length: 100\r\n\r\n{{").as_bytes()).unwrap();
    let mut endless = dial(address);
    endless.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let piece = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
    let mut sent = 0;
    while endless.write_all(piece.as_bytes()).is_ok() {
        sent += piece.len();
        assert!(sent < 500_000_000, "taken without end");
    }
    assert_eq!(get(address, "/health").status, 200);
    let came = read_to_end(&mut slow);
    assert!(came.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&came));
    assert_eq!(running.post("/register", &running.authorized(), GOOD).status, 200);
}

/// O8.5: the store is damaged, the map is served.
#[test]
fn a_damaged_store_is_503_and_the_map_is_served() {
    let bench = Bench::new();
    let rubbish = b"no database".repeat(1_000);
    std::fs::write(bench.folder.path().join("bridge.sqlite"), &rubbish).unwrap();
    let running = Running::of(bench);
    let answer = running.post("/register", &running.authorized(), GOOD);
    assert_eq!((answer.status, json(&answer)["code"].as_str()), (503, Some("store_unavailable")));
    assert_eq!(get(running.addresses[0], "/ready").status, 503);
    assert_eq!(get(running.addresses[0], "/health").status, 200);
    assert_eq!(get(running.map, "/derpmap.json").status, 200);
    let left = std::fs::read(running.bench.folder.path().join("bridge.sqlite")).unwrap();
    assert_eq!(left, rubbish);
}

/// A client that goes before its answer: its next try has the same key.
#[test]
fn a_client_that_goes_is_registered_all_the_same() {
    let running = Running::with(|settings| settings.rate.burst = 10_000);
    running.bench.headscale.set("create_key", Mood::Slow(Duration::from_millis(300)));
    let mut client = dial(running.addresses[0]);
    let head = format!("POST /register HTTP/1.1\r\nHost: x\r\n{}", running.authorized());
    let length = GOOD.len();
    client.write_all(format!("{head}Content-Length: {length}\r\n\r\n{GOOD}").as_bytes()).unwrap();
    until(|| running.bench.headscale.calls("create_key") == 1);
    drop(client);
    let mut answer = running.post("/register", &running.authorized(), GOOD);
    until(|| {
        if answer.status == 503 {
            answer = running.post("/register", &running.authorized(), GOOD);
        }
        answer.status != 503
    });
    assert_eq!(answer.status, 200);
    assert_eq!(running.bench.headscale.calls("create_key"), 1);
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits for something that comes, for a bounded time.
pub(crate) fn until(mut is_there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < crate::program::PATIENCE, "does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}
