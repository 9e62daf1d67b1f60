//! The pages of administrators over HTTP: who may see them, what their forms do, and what no
//! browser may be talked into.

use std::time::Duration;

use coord_bridge::headscale::FailureKind;
use coord_bridge::store::installations::{self, Installed};
use coord_bridge::store::keys::{self, Key, KeyState};
use coord_bridge::store::machines::{self, Machine, State};
use coord_bridge::store::tokens::{self, Profile, Token};

use crate::bench::Bench;
use crate::client::Answer;
use crate::headscale::Mood;
use crate::running::{HOST, Running, json, request};

/// Every page that needs no id.
const PAGES: [&str; 12] = [
    "/",
    "/machines",
    "/machines?state=pending&query=x",
    "/tokens",
    "/tokens/new",
    "/tokens/enroll-token/rotate",
    "/tokens/enroll-token/revoke",
    "/keys",
    "/keys/end",
    "/relays",
    "/map",
    "/events?kind=admin",
];

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
    fn send(&self, path: &str, fields: &str) -> Answer {
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

/// What every page has to have: one heading, closed tags, and headers that let nothing in.
fn is_page(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    has_headers(answer);
    let text = answer.text();
    assert!(text.starts_with("<!DOCTYPE html><html lang=\"en\">") && text.ends_with("</html>"));
    assert_eq!(text.matches("<h1>").count(), 1, "{text}");
    assert!(!text.contains("<script") && !text.contains(" style="), "{text}");
    assert_eq!(text.matches("<form").count(), text.matches("</form>").count());
    balanced(text);
    let mut ids: Vec<&str> =
        text.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id is there twice: {text}");
    for wanted in text.split(" for=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(ids.contains(&wanted), "a label is for nothing: {wanted}");
    }
}

fn has_headers(answer: &Answer) {
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let policy = answer.header("content-security-policy").unwrap();
    for rule in
        ["default-src 'none'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("script"), "{policy}");
}

/// Every tag is closed by its like.
fn balanced(text: &str) {
    let mut open = Vec::new();
    for tag in text.split('<').skip(1) {
        let name: String =
            tag.chars().take_while(|it| it.is_ascii_alphanumeric() || *it == '/').collect();
        let (attributes, _) = tag.split_once('>').unwrap();
        for handler in attributes.split(" on").skip(1) {
            let rest = handler.trim_start_matches(|it: char| it.is_ascii_alphabetic());
            assert!(!rest.starts_with('='), "{tag}");
        }
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{tag}");
        } else if !["", "meta", "link", "input"].contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn every_page_is_there_for_administrators_only() {
    let running = Running::new();
    let (id, _) = running.register("one");
    let session = Session::open(&running);
    let of_machine = ["", "/delete"].map(|end| format!("/machines/{id}{end}"));
    for path in PAGES.iter().copied().chain(of_machine.iter().map(String::as_str)) {
        is_page(&session.get(path), 200);
        let headers = format!("Authorization: Bearer {}\r\n", running.bench.admin_token());
        for headers in [String::new(), headers, "Cookie: coord-bridge=x\r\n".to_owned()] {
            let answer = request(running.admin, "GET", path, &headers, b"");
            assert_eq!((answer.status, answer.header("location")), (303, Some("/login")), "{path}");
            assert!(answer.body.is_empty());
            has_headers(&answer);
        }
    }
    let guess = format!("Cookie: coord-bridge={}\r\n", "0".repeat(64));
    let answer = request(running.admin, "GET", "/tokens", &guess, b"");
    assert_eq!(answer.header("location"), Some("/login?why=ended"));
    is_page(&request(running.admin, "GET", "/login?why=ended", "", b""), 200);
    is_page(&session.get("/nothing"), 404);
    is_page(&session.get("/machines/nobody"), 404);
    is_page(&session.get("/tokens/nobody/rotate"), 404);
    is_page(&session.get("/machines?cursor=x"), 400);
    is_page(&session.get("/events?cursor=!"), 400);
    let put = request(running.admin, "PUT", "/tokens", "", b"");
    is_page(&put, 405);
    assert_eq!(put.header("allow"), Some("GET, HEAD, POST"));
    let map = session.get("/map.json");
    assert_eq!(map.header("content-type"), Some("application/json"));
    assert!(json(&map)["Regions"]["999"].is_object(), "{map:?}");
}

/// No other file is loaded than the style sheet, which may be kept for ever under its name.
#[test]
fn the_style_sheet_has_its_hash_in_its_name() {
    let running = Running::new();
    let page = request(running.admin, "GET", "/login", "", b"");
    let (_, rest) = page.text().split_once("rel=\"stylesheet\" href=\"").unwrap();
    let path = rest.split('"').next().unwrap();
    let style = request(running.admin, "GET", path, "", b"");
    assert_eq!(
        (style.status, style.header("content-type")),
        (200, Some("text/css; charset=utf-8"))
    );
    assert!(style.header("cache-control").unwrap().contains("immutable"));
    assert!(!style.text().contains("url(") && !style.text().contains("@import"));
    assert!(page.text().matches("http").count() == 0, "{}", page.text());
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

/// As over the API: made, rotated, revoked; secrets are in the answer to their form only.
#[test]
fn tokens_are_made_rotated_and_revoked() {
    let running = Running::new();
    let session = Session::open(&running);
    let secret_of = |answer: &Answer| {
        is_page(answer, 200);
        let (_, rest) = answer.text().split_once("<textarea").unwrap();
        let (_, rest) = rest.split_once('>').unwrap();
        rest.split('<').next().unwrap().to_owned()
    };
    let wanted = "name=Batch-7&profile=iso&expiry=3600&quota=2&tags=tag:a,tag:b&sources=127.0.0.1";
    let first = secret_of(&session.send("/tokens/new", wanted));
    let list = json(&running.get("/api/v1/tokens"));
    let token = &list["tokens"][0];
    assert_eq!((&token["name"], &token["quota"]), (&"batch-7".into(), &2.into()), "{token}");
    assert_eq!(token["tags"], serde_json::json!(["tag:a", "tag:b"]));
    assert_eq!(token["sources"], serde_json::json!(["127.0.0.1/32"]));
    assert_eq!(token["expires"], "2026-01-01T01:00:00Z");

    for (fields, words) in [
        (wanted, "there is a token"),
        ("name=&profile=iso", "cannot be the name"),
        ("name=x&profile=other", "profile"),
        ("name=x&profile=iso&quota=none", "Most machines: write a number"),
        ("name=x&profile=iso&sources=here", "sources"),
        ("name=x&profile=iso&tags=lab", "is no tag"),
    ] {
        let answer = session.send("/tokens/new", fields);
        assert!((400..500).contains(&answer.status), "{fields}: {answer:?}");
        is_page(&answer, answer.status);
        assert!(answer.text().contains(words), "{fields}: {}", answer.text());
    }
    let second = secret_of(&session.send("/tokens/batch-7/rotate", "grace=600"));
    assert_ne!(first, second);
    let register = |token: &str, name: &str| {
        let headers = format!("Authorization: Bearer {token}\r\n");
        let body = format!("{{\"hostname\": \"{name}\"}}");
        request(running.register, "POST", "/register", &headers, body.as_bytes()).status
    };
    assert_eq!((register(&first, "one"), register(&second, "one")), (200, 200));
    let revoked = session.send("/tokens/batch-7/revoke", "");
    assert_eq!(revoked.header("location"), Some("/tokens?done=revoked"));
    assert_eq!(register(&second, "two"), 401);
    let page = session.get("/tokens?done=revoked");
    is_page(&page, 200);
    assert!(!page.text().contains(&first) && !page.text().contains(&second));
    is_page(&session.send("/tokens/batch-7/rotate", "grace=0"), 409);
    let events = session.get("/events?kind=admin");
    for outcome in ["createToken", "rotateToken", "revokeToken", "name_taken"] {
        assert!(events.text().contains(outcome), "{outcome}");
    }
    let in_file = secret_of(&session.send("/tokens/enroll-token/rotate", "grace=0"));
    assert_eq!(in_file, running.bench.token());
}

#[test]
fn machines_are_deleted_and_keys_made_and_ended() {
    let running = Running::new();
    let session = Session::open(&running);
    let (id, key) = running.register("one");
    running.bench.headscale.join(&key, "one");
    let ask = session.get(&format!("/machines/{id}/delete"));
    assert!(ask.text().contains("Delete one?"), "{}", ask.text());
    let gone = session.send(&format!("/machines/{id}/delete"), "");
    assert_eq!(gone.header("location"), Some("/machines?done=deleted"));
    assert!(running.bench.headscale.node_ids().is_empty());
    let page = session.get(&format!("/machines/{id}"));
    assert!(page.text().contains("deleted") && !page.text().contains("/delete\""));

    let made = session.send("/keys", &format!("profile=machine&expiry=600&installs={id}"));
    is_page(&made, 200);
    let secret = running.bench.headscale.valid_keys()[0].secret.clone();
    assert!(made.text().contains(&secret));
    is_page(&session.send("/keys", "profile=machine&expiry=1"), 400);
    is_page(&session.send("/keys", "profile=machine&expiry=600&installs=nobody"), 404);
    let ended = session.send("/keys/end", "which=ours");
    assert_eq!(ended.header("location"), Some("/keys?done=ended&count=1"));
    assert!(session.get("/keys?done=ended&count=1").text().contains("1 key has ended."));
    assert!(running.bench.headscale.valid_keys().is_empty());
}

/// Whoever is at fault is named, and the pages that can be shown are.
#[test]
fn without_headscale_or_store_pages_say_so() {
    let running = Running::new();
    let session = Session::open(&running);
    let (id, _) = running.register("one");
    running.bench.headscale.set_all(Mood::Fails(FailureKind::Unreachable));
    let answer = session.send(&format!("/machines/{id}/delete"), "");
    is_page(&answer, 503);
    assert!(answer.header("retry-after").is_some());
    assert!(answer.text().contains("Headscale"), "{}", answer.text());
    is_page(&session.send("/keys", "profile=machine&expiry=600"), 503);
    is_page(&session.get("/machines"), 200);

    let store = running.bench.folder.path().join("bridge.sqlite");
    std::fs::rename(&store, running.bench.folder.path().join("away")).unwrap();
    for page in ["/machines", "/tokens", "/keys", "/events"] {
        let answer = session.get(page);
        is_page(&answer, 503);
        assert!(answer.text().contains("the store"), "{}", answer.text());
    }
    for page in ["/", "/relays", "/map"] {
        is_page(&session.get(page), 200);
    }
    let overview = session.get("/");
    assert!(overview.text().contains("need a look"), "{}", overview.text());
    assert!(overview.text().contains("the store is not available"), "{}", overview.text());
}

/// Whatever machines call themselves, and whatever is looked for, stays text.
#[test]
fn hostile_names_stay_text() {
    const HOSTILE: &str = "\"><script>alert('x')</script>&<b>";
    let running = Running::new();
    let machine = Machine {
        id: "hostile".to_owned(),
        identity: HOSTILE.to_owned(),
        hostname: HOSTILE.to_owned(),
        mac: HOSTILE.to_owned(),
        token: HOSTILE.to_owned(),
        remote_ip: HOSTILE.to_owned(),
        state: State::Online,
        registered_ms: i64::MAX,
        changed_ms: i64::MIN,
        node_id: Some(HOSTILE.to_owned()),
        machine_key: None,
        tailscale_ip: HOSTILE.to_owned(),
        last_seen_ms: Some(-1),
        replaces: Some(HOSTILE.to_owned()),
    };
    let token = Token {
        name: HOSTILE.to_owned(),
        profile: Profile::Iso,
        tags: vec!["<b>".to_owned()],
        sources: vec!["<b>".to_owned()],
        quota: None,
        uses: i64::MIN,
        created_ms: 0,
        expires_ms: Some(i64::MAX),
        revoked_ms: None,
        last_used_ms: None,
    };
    let installed = Installed {
        node_id: HOSTILE.to_owned(),
        hostname: HOSTILE.to_owned(),
        tailscale_ip: HOSTILE.to_owned(),
        found_ms: 0,
    };
    let mut key = Key {
        id: "k".to_owned(),
        machine: Some("hostile".to_owned()),
        user_id: "1".to_owned(),
        key_id: Some(HOSTILE.to_owned()),
        state: KeyState::Used,
        asked_ms: 0,
        expires_ms: 0,
    };
    running
        .bench
        .store
        .write_now(move |session| {
            machines::insert(session, &machine)?;
            tokens::insert(session, &token)?;
            keys::ask(session, &mut key)?;
            installations::begin(session, "k", "hostile")?;
            installations::finish(session, HOSTILE, &installed)
        })
        .unwrap();
    let session = Session::open(&running);
    let looked_for = "%22%3E%3Cscript%3Ealert(2)%3C/script%3E";
    for path in [
        "/machines".to_owned(),
        "/machines/hostile".to_owned(),
        "/machines/hostile/delete".to_owned(),
        "/tokens".to_owned(),
        format!("/machines?query={looked_for}&state={looked_for}"),
    ] {
        let answer = session.get(&path);
        is_page(&answer, 200);
        assert!(answer.text().contains("&lt;script&gt;"), "{path}: {}", answer.text());
        assert!(!answer.text().contains("<b>"), "{path}");
    }
    for path in [
        format!("/tokens?done={looked_for}"),
        format!("/keys?done=ended&count={looked_for}"),
        format!("/login?why={looked_for}"),
        format!("/events?kind={looked_for}"),
    ] {
        assert!(!session.get(&path).text().contains("alert(2)"), "{path}");
    }
    is_page(&session.get(&format!("/{looked_for}")), 404);
    let machine = json(&running.get("/api/v1/machines/hostile"));
    assert_eq!(machine["installed"]["hostname"], HOSTILE);
}

/// What the pages about map and relays show is in the API too.
#[test]
fn the_state_of_publication_is_in_the_api() {
    let running = Running::new();
    let map = json(&running.get("/api/v1/map"));
    let publication = &map["publication"];
    let nodes = publication["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 2, "{map}");
    for (node, [name, hostname]) in
        nodes.iter().zip([["999a", "derp.example.org"], ["998a", "relay.example.org"]])
    {
        assert_eq!((&node["name"], &node["hostname"]), (&name.into(), &hostname.into()));
        assert_eq!((&node["in_map"], &node["kept"]), (&true.into(), &false.into()));
        assert_eq!(node["configured"], name == "999a");
        assert_eq!(node["live"], name == "998a");
    }
    assert_eq!(publication["upstreams"], serde_json::json!([]));
    assert!(publication["collision"].is_null() && publication["file_error"].is_null());
    assert!(publication["age_seconds"].is_u64(), "{map}");
    let relays = json(&running.get("/api/v1/relays"));
    assert_eq!(relays["relays"][0]["name"], "998a");
    assert!(relays["relays"][0]["channel"].is_null(), "no channel to it: {relays}");
    let session = Session::open(&running);
    for page in ["/map", "/relays"] {
        let page = session.get(page);
        assert!(page.text().contains("derp.example.org") && page.text().contains("not tried"));
    }
}

/// Pages of a hundred, the same as over the API, with links that lead on.
#[test]
fn lists_lead_from_page_to_page() {
    let running = Running::of(crate::operations::many(250), None);
    let session = Session::open(&running);
    let (mut path, mut seen) = ("/machines".to_owned(), 0);
    for page in 0..3 {
        let answer = session.get(&path);
        is_page(&answer, 200);
        seen += answer.text().matches("role=\"rowheader\"").count();
        assert_eq!(answer.text().contains("rel=\"first\""), page > 0);
        let Some((_, rest)) = answer.text().split_once("rel=\"next\" href=\"") else { break };
        path = rest.split('"').next().unwrap().replace("&amp;", "&");
    }
    assert_eq!(seen, 250);
    assert!(session.get("/machines?query=none").text().contains("No machine is like that"));
    assert!(session.get("/machines?state=online").text().contains("No machine is like that"));
}

/// Without registration there is no token, and the page says what to do.
#[test]
fn without_registration_the_page_says_what_is_missing() {
    use coord_bridge::bridge::{Listeners, Setup};
    use coord_bridge::{Addresses, Bridge};
    let any = vec!["127.0.0.1:0".parse().unwrap()];
    let addresses = Addresses { admin: any, ..Addresses::default() };
    let config = "map_probe_interval = \"0\"\n[[region.nodes]]\nhostname = \"derp.example.org\"\n";
    let plan = coord_bridge::Config::parse(config).unwrap().plan;
    let setup = Setup { plan, ..Setup::default() };
    let bridge = Bridge::start(Listeners::open(&addresses).unwrap(), setup).unwrap();
    let admin = bridge.addresses().admin[0];
    for (method, path) in [("GET", "/"), ("GET", "/login"), ("POST", "/login"), ("GET", "/x")] {
        let answer = request(admin, method, path, "", b"");
        is_page(&answer, 503);
        assert!(answer.text().contains("login_server"), "{}", answer.text());
    }
    bridge.stop();
}
