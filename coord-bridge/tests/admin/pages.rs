//! The pages of administrators over HTTP: who may see them, what they show, and what their forms do.

use coord_bridge::headscale::FailureKind;
use coord_bridge::store::installations::{self, Installed};
use coord_bridge::store::keys::{self, Key, KeyState};
use coord_bridge::store::machines::{self, Machine, State};
use coord_bridge::store::tokens::{self, Profile, Token};

use crate::client::Answer;
use crate::headscale::Mood;
use crate::page::{has_headers, is_page};
use crate::running::{Running, json, request, without_registration};
use crate::sessions::Session;

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
    let (bridge, admin) = without_registration();
    for (method, path) in [("GET", "/"), ("GET", "/login"), ("POST", "/login"), ("GET", "/x")] {
        let answer = request(admin, method, path, "", b"");
        is_page(&answer, 503);
        assert!(answer.text().contains("login_server"), "{}", answer.text());
    }
    bridge.stop();
}
