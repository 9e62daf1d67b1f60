//! A Headscale, or whatever stands in its place, that misbehaves.
//!
//! Answers here are made up: what a real one says is in `recorded`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coord_bridge::headscale::{
    Client, FailureKind, Headscale, Limits, NewKey, NodeId, Outcome, UserId,
};
use tempfile::NamedTempFile;

use crate::fake::{Fake, Reply, Request};
use crate::scenario::far_off;
use crate::{key_file, url};

const KEY: &str = "hskey-api-geheim";

/// Long enough for loopback on a busy machine where no time-out is wanted.
const PATIENT: Limits = Limits {
    call_time: Duration::from_secs(60),
    turn_time: Duration::from_secs(60),
    max_calls: 4,
    max_failures: 1_000,
    pause_time: Duration::from_secs(3_600),
};

/// Does not wait for an answer that does not come.
const HASTY: Limits = Limits { call_time: Duration::from_millis(300), ..PATIENT };

/// The limits under which a misbehaviour is told so.
fn limits_for(said: &str) -> Limits {
    if said == "no answer within" { HASTY } else { PATIENT }
}

/// A 0.30 by its voice, which otherwise answers as told.
fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Fake, NamedTempFile) {
    let fake = Fake::start(move |request| match request.key {
        None => Reply::answer(401, "application/problem+json", r#"{"detail":"no key"}"#),
        Some(_) => answer(request),
    });
    (fake, key_file(KEY))
}

fn client(fake: &Fake, key_file: &NamedTempFile, limits: Limits) -> Client {
    Client::new(&url(&fake.url(), key_file.path()), limits).unwrap()
}

fn wanted() -> NewKey {
    NewKey {
        user: UserId("1".to_owned()),
        ephemeral: false,
        expiration: far_off(),
        tags: Vec::new(),
    }
}

fn no_users() -> Reply {
    Reply::json(r#"{"users":[]}"#)
}

fn problem(detail: &str) -> Reply {
    let body = format!(r#"{{"detail":"{detail}"}}"#);
    Reply::answer(400, "application/problem+json", &body)
}

fn html(status: u16) -> Reply {
    Reply::answer(status, "text/html", "<h1>Oops</h1>\n")
}

/// Every way in which an answer can be none, with what is said of it.
fn misbehaviours() -> Vec<(&'static str, Reply, FailureKind, &'static str)> {
    use FailureKind::{Faulty, Unintelligible, Unreachable};
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec();
    let big_head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1_000_000));
    let redirect = b"HTTP/1.1 307 X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".to_vec();
    vec![
        ("silence", Reply::Silence, Unreachable, "no answer within"),
        ("slow", Reply::Dribble, Unreachable, "no answer within"),
        ("closes", Reply::HangUp, Unreachable, "the connection ended"),
        ("half an answer", Reply::Raw(half), Unreachable, "the connection ended"),
        ("garbage", Reply::Raw(vec![0x16, 3, 1, 0]), Unintelligible, "does not speak HTTP"),
        ("a huge head", Reply::Raw(big_head.into_bytes()), Unintelligible, "longer than"),
        ("an HTML page", html(200), Unintelligible, "cannot be read at line 1"),
        ("an empty object", Reply::json("{}"), Unintelligible, "cannot be read"),
        ("no JSON", Reply::json("{\"users\":"), Unintelligible, "cannot be read"),
        (
            "a redirect",
            Reply::Raw(redirect),
            Unintelligible,
            "to /elsewhere, which is not followed",
        ),
        ("a fault", html(500), Faulty, "500"),
        ("a proxy", html(502), Unreachable, "a proxy answers 502"),
        ("another page", html(404), Unintelligible, "headscale.url"),
    ]
}

#[tokio::test]
async fn each_misbehaviour_is_told_on_one_line_that_names_the_place() {
    for (what, reply, kind, said) in misbehaviours() {
        let (fake, key) = start(move |_| reply.clone());

        let failure = client(&fake, &key, limits_for(said)).check().await.unwrap_err();

        assert_eq!(failure.kind, kind, "{what}: {failure}");
        assert!(failure.detail.contains(said), "{what}: {said:?} in {failure}");
        assert!(failure.detail.starts_with(&fake.url()), "{what}: {failure}");
        assert!(!failure.to_string().contains('\n'), "{what}: {failure}");
        assert_eq!(fake.count("GET", "/elsewhere"), 0);
    }
}

/// Must hold: no key that nobody knows of because a request was sent again.
#[tokio::test]
async fn a_key_is_asked_for_once_whatever_comes_back() {
    for (what, reply, kind, said) in misbehaviours() {
        let (fake, key) = start(move |_| reply.clone());

        let client = client(&fake, &key, limits_for(said));
        let failure = client.create_key(&wanted()).await.unwrap_err();

        assert_eq!(failure.kind, kind, "{what}: {failure}");
        assert!(failure.detail.contains("may have been done"), "{what}: {failure}");
        assert_eq!(fake.count("POST", "/api/v1/preauthkey"), 1, "{what}");
    }
}

/// A server may close a kept connection just when the next request goes out. What may be
/// repeated is; a key is never asked for over such a connection.
#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_nothing() {
    let (fake, key) = start(|request| match request.method.as_str() {
        "POST" => Reply::json(r#"{"preAuthKey":{"id":"1","key":"text"}}"#),
        // Says nothing of closing, and closes.
        _ => Reply::Raw(b"HTTP/1.1 200 X\r\nContent-Length: 12\r\n\r\n{\"users\":[]}".to_vec()),
    });
    let client = client(&fake, &key, PATIENT);

    for _ in 0..5 {
        client.check().await.unwrap();
        client.create_key(&wanted()).await.unwrap();
    }

    assert_eq!(fake.count("POST", "/api/v1/preauthkey"), 5);
}

#[tokio::test]
async fn connections_are_kept_where_that_does_no_harm() {
    let (fake, key) = start(|request| match request.method.as_str() {
        "POST" => Reply::json(r#"{"preAuthKey":{"id":"1","key":"text"}}"#),
        _ => no_users(),
    });
    let client = client(&fake, &key, PATIENT);
    for _ in 0..10 {
        client.check().await.unwrap();
    }
    assert_eq!(fake.connections(), 1);
    assert_eq!(client.counters().calls.get(Outcome::Done), 10);
    assert_eq!(client.counters().detections.get(), 1);
    assert_eq!(client.counters().requests.get(), 11);

    for _ in 0..3 {
        client.create_key(&wanted()).await.unwrap();
    }
    assert_eq!(fake.connections(), 4, "each key has one of its own");
}

#[tokio::test]
async fn nobody_there_is_said_so_and_tried_three_times() {
    let (fake, key) = start(|_| no_users());
    let client = client(&fake, &key, PATIENT);
    drop(fake);

    let failure = client.check().await.unwrap_err();

    assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
    assert!(failure.detail.contains("is Headscale running"), "{failure}");
    assert_eq!(client.counters().requests.get(), 3);
    let failure = client.create_key(&wanted()).await.unwrap_err();
    assert!(!failure.detail.contains("may have been done"), "nothing was sent: {failure}");
}

/// Hostile input: bounded memory. What the other side gets rid of is what was read, and what the
/// system buffers.
#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    const BUFFERS: usize = 16 << 20;
    let heads = [
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n",
        "HTTP/1.1 500 X\r\n\r\n",
    ];
    for head in heads {
        let (fake, key) = start(move |_| Reply::Endless(head));
        let client = client(&fake, &key, PATIENT);

        let failure = client.check().await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unintelligible, "{failure}");
        assert!(failure.detail.contains("longer than 262144 bytes"), "{failure}");
        assert!(fake.sent() < BUFFERS, "{}", fake.sent());

        let failure = client.nodes().await.unwrap_err();
        assert!(failure.detail.contains("longer than 33554432 bytes"), "{failure}");
        assert!(fake.sent() < 2 * BUFFERS + (32 << 20), "{}", fake.sent());
    }
}

#[tokio::test]
async fn a_request_too_long_is_not_sent() {
    let (fake, key) = start(|_| no_users());
    let client = client(&fake, &key, PATIENT);
    let tags = vec!["tag:x".repeat(1_000); 10];

    let failure = client.create_key(&NewKey { tags, ..wanted() }).await.unwrap_err();

    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert_eq!(fake.count("POST", "/api/v1/preauthkey"), 0);
    let failure = client.delete_node(&NodeId("1/../../user/1".to_owned())).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(fake.asked().iter().all(|request| !request.path.contains("..")));
}

#[tokio::test]
async fn after_failures_in_a_row_headscale_is_left_alone_and_found_again() {
    let is_well = Arc::new(AtomicBool::new(false));
    let (fake, key) = start({
        let is_well = Arc::clone(&is_well);
        move |_| if is_well.load(Ordering::Relaxed) { no_users() } else { html(500) }
    });
    let limits = Limits { max_failures: 3, ..PATIENT };
    let client_of = |pause_time| client(&fake, &key, Limits { pause_time, ..limits });

    let paused = client_of(Duration::from_secs(3_600));
    for _ in 0..3 {
        assert_eq!(paused.check().await.unwrap_err().kind, FailureKind::Faulty);
    }
    let asked = fake.asked().len();
    let failure = paused.create_key(&wanted()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Paused, "{failure}");
    assert!(failure.detail.contains("500"), "the last failure is told: {failure}");
    assert_eq!(fake.asked().len(), asked, "nothing is sent");
    assert_eq!(paused.counters().calls.get(Outcome::Failed(FailureKind::Faulty)), 3);
    assert_eq!(paused.counters().calls.get(Outcome::Failed(FailureKind::Paused)), 1);
    assert_eq!(paused.counters().pauses.get(), 1);

    let tried_again = client_of(Duration::ZERO);
    for _ in 0..5 {
        assert_eq!(tried_again.check().await.unwrap_err().kind, FailureKind::Faulty);
    }
    is_well.store(true, Ordering::Relaxed);
    tried_again.check().await.unwrap();
    tried_again.check().await.unwrap();
}

/// A caller who goes away in the middle of the call that decides must not block all others.
#[tokio::test]
async fn a_call_that_is_given_up_does_not_keep_the_pause() {
    let reply = Arc::new(Mutex::new(html(500)));
    let (fake, key) = start({
        let reply = Arc::clone(&reply);
        move |_| reply.lock().unwrap().clone()
    });
    let limits = Limits { max_failures: 1, pause_time: Duration::ZERO, ..PATIENT };
    let client = client(&fake, &key, limits);
    assert_eq!(client.check().await.unwrap_err().kind, FailureKind::Faulty);

    *reply.lock().unwrap() = Reply::Silence;
    let given_up = tokio::time::timeout(Duration::from_millis(100), client.check()).await;
    assert!(given_up.is_err());

    *reply.lock().unwrap() = no_users();
    client.check().await.unwrap();
}

/// Refusals are answers: no number of them makes a pause.
#[tokio::test]
async fn refusals_make_no_pause() {
    let (fake, key) =
        start(|_| Reply::answer(404, "application/problem+json", r#"{"title":"Not Found"}"#));
    let client = client(&fake, &key, Limits { max_failures: 1, ..PATIENT });
    for _ in 0..3 {
        let failure = client.expire_node(&NodeId("1".to_owned())).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_calls_than_allowed_are_under_way() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (fake, key) = start({
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(10));
            now.fetch_sub(1, Ordering::SeqCst);
            no_users()
        }
    });
    let client = Arc::new(client(&fake, &key, Limits { max_calls: 3, ..PATIENT }));

    let calls: Vec<_> = (0..40)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.check().await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }

    let most = most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most}");
}

#[tokio::test]
async fn a_call_does_not_wait_for_its_turn_for_ever() {
    let (fake, key) = start(|_| Reply::Silence);
    let turn_time = Duration::from_millis(50);
    let client =
        client(&fake, &key, Limits { max_calls: 1, turn_time, max_failures: 1, ..PATIENT });
    let mut first = client.check();

    let failure = tokio::select! {
        failed = &mut first => failed.unwrap_err(),
        failed = client.check() => failed.unwrap_err(),
    };

    assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
    assert!(failure.detail.contains("not asked: it was not its turn"), "{failure}");
}

/// Must hold: API key revoked: clear message, recovery without restart, also in the middle of a
/// call, and for a key that is made.
#[tokio::test]
async fn a_key_that_is_replaced_is_taken_at_once() {
    let file = Arc::new(key_file("old"));
    let (fake, _) = start({
        let file = Arc::clone(&file);
        move |request| match request.key.as_deref() {
            Some("new") => Reply::json(r#"{"preAuthKey":{"id":1,"key":"text"}}"#),
            _ => {
                // Somebody replaces it just now.
                if request.method == "POST" {
                    std::fs::write(file.path(), "new\n").unwrap();
                }
                Reply::answer(401, "application/problem+json", r#"{"title":"Unauthorized"}"#)
            }
        }
    });
    let client = client(&fake, &file, PATIENT);

    let failure = client.check().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unauthorized, "{failure}");
    assert!(failure.detail.contains(file.path().to_str().unwrap()), "{failure}");
    let made = client.create_key(&wanted()).await.unwrap();

    assert_eq!((made.id.0.as_str(), made.secret.reveal()), ("1", "text"));
    let keys: Vec<_> = fake.asked().into_iter().filter(|it| it.method == "POST").collect();
    assert_eq!(keys.len(), 2, "one refused, one taken");
}

#[tokio::test]
async fn without_a_file_of_the_key_nothing_is_asked_with_one() {
    let (fake, key) = start(|_| no_users());
    let client = client(&fake, &key, PATIENT);
    std::fs::write(key.path(), "").unwrap();

    let failure = client.check().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unauthorized, "{failure}");
    assert!(failure.detail.contains("the file of the API key is empty"), "{failure}");
    assert!(fake.asked().iter().all(|request| request.key.is_none()));

    std::fs::write(key.path(), KEY).unwrap();
    client.check().await.unwrap();
}

/// Secrets are in no failure and no `Debug`, not even where the other side sends them back.
#[tokio::test]
async fn secrets_are_not_told() {
    for reply in [
        problem(KEY),
        Reply::answer(401, "application/problem+json", &format!(r#"{{"detail":"{KEY}"}}"#)),
        // Where it would be cut.
        problem(&format!("{}{KEY}", "x".repeat(290))),
        Reply::Raw(format!("HTTP/1.1 307 X\r\nLocation: /{KEY}\r\n\r\n").into_bytes()),
        Reply::json(&format!(r#"{{"preAuthKey":"{KEY}"}}"#)),
        Reply::json(&format!(r#"{{"preAuthKey":{{"id":"{KEY}"}}}}"#)),
    ] {
        let (fake, key) = start(move |_| reply.clone());
        let client = client(&fake, &key, PATIENT);
        let failure = client.create_key(&wanted()).await.unwrap_err();
        let told = format!("{failure} {failure:?} {client:?}");
        assert!(!told.contains("geheim") && !told.contains("hskey"), "{told}");
    }
    let (fake, key) = start(|_| Reply::json(r#"{"preAuthKey":{"id":"1","key":"geheim"}}"#));
    let issued = client(&fake, &key, PATIENT).create_key(&wanted()).await.unwrap();
    assert!(!format!("{issued:?}").contains("geheim"), "{issued:?}");
}
