//! One registration: what is answered, what is kept, and what is never twice.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use coord_bridge::headscale::FailureKind;
use coord_bridge::provisioning::Provisioning;
use coord_bridge::provisioning::refusal::Refusal;
use coord_bridge::provisioning::settings::Replace;
use coord_bridge::provisioning::token_file;
use coord_bridge::provisioning::tokens::{self, FILE_TOKEN, NewToken, TokenError};
use coord_bridge::store::Store;
use coord_bridge::store::events;
use coord_bridge::store::machines::State;
use coord_bridge::store::tokens::Profile;

use crate::bench::Bench;
use crate::headscale::Mood;
use crate::postgres_server;

/// Runs `test` with a store of each kind.
macro_rules! on_both {
    ($test:expr) => {
        $test(Bench::new()).await;
        if let Some(location) = postgres_server::database() {
            $test(Bench::at(Some(location), |_| {})).await;
        }
    };
}

/// R-064, W7, D-1: single use, ephemeral for live systems, for an hour.
#[tokio::test]
async fn a_machine_gets_a_key() {
    on_both!(|bench: Bench| async move {
        let machine = bench.register("sovran-deploy-0123456789abcdef").await.unwrap();
        assert_eq!(machine.login_server, "https://hs.example.org");
        assert_eq!(machine.hostname, "sovran-deploy-0123456789abcdef");
        assert_eq!(machine.expires_at, "2026-01-01T01:00:01Z");
        let key = bench.headscale.all_keys().pop().unwrap();
        assert_eq!(machine.key.reveal(), key.secret);
        assert!(key.ephemeral && key.tags.is_empty());
        let listed = bench.machines().await.pop().unwrap();
        assert_eq!((listed.state, listed.mac.as_str()), (State::Pending, "unknown"));
        assert_eq!(listed.id, machine.machine_id);
    });
}

/// W9, W8, T3: all are listed, although every mac is `unknown`.
#[tokio::test(flavor = "multi_thread")]
async fn forty_at_once_are_forty() {
    on_both!(|mut bench: Bench| async move {
        bench.settings.rate.burst = 100;
        bench.restart();
        bench.headscale.set("create_key", Mood::Slow(Duration::from_millis(20)));
        let mut running = tokio::task::JoinSet::new();
        let bench = Arc::new(bench);
        for n in 0..40 {
            let bench = Arc::clone(&bench);
            running.spawn(async move { bench.register(&format!("m{n}")).await.unwrap() });
        }
        let mut keys: Vec<String> = running
            .join_all()
            .await
            .into_iter()
            .map(|machine| machine.key.reveal().to_owned())
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 40);
        assert_eq!(bench.machines().await.len(), 40);
        bench.assert_no_unknown_key("after forty").await;
    });
}

/// W19, D-9, O3.4.
#[tokio::test]
async fn a_repeat_is_the_same_registration_with_the_same_key() {
    let mut bench = Bench::new();
    let first = bench.register("one").await.unwrap();
    let again = bench.register("ONE").await.unwrap();
    assert_eq!(again.machine_id, first.machine_id);
    assert_eq!(again.key.reveal(), first.key.reveal());
    assert_eq!(bench.headscale.calls("create_key"), 1);

    // Keys are in memory only. After a restart the old one is ended before another is made.
    bench.restart();
    let renewed = bench.register("one").await.unwrap();
    assert_eq!(renewed.machine_id, first.machine_id);
    assert_ne!(renewed.key.reveal(), first.key.reveal());
    let valid = bench.headscale.valid_keys();
    assert_eq!(valid.len(), 1);
    assert_eq!(valid[0].secret, renewed.key.reveal());
    assert_eq!(bench.machines().await.len(), 1);
}

/// W19: the answer is lost after Headscale has made the key.
#[tokio::test]
async fn a_lost_answer_does_not_leave_a_second_valid_key() {
    let bench = Bench::new();
    for kind in [FailureKind::Unreachable, FailureKind::Faulty, FailureKind::Unintelligible] {
        bench.headscale.set("create_key", Mood::Loses(kind));
        bench.register("one").await.unwrap_err();
        // While the old key cannot be ended, no other is made.
        bench.headscale.set("create_key", Mood::Well);
        bench.headscale.set("expire_key", Mood::Fails(FailureKind::Unreachable));
        assert_eq!(bench.register("one").await.unwrap_err(), Refusal::HeadscaleAway);
        assert_eq!(bench.headscale.valid_keys().len(), 1, "only the lost one");
        bench.headscale.set("expire_key", Mood::Well);
    }
    let machine = bench.register("one").await.unwrap();
    let valid = bench.headscale.valid_keys();
    assert_eq!(valid.len(), 1);
    assert_eq!(valid[0].secret, machine.key.reveal());
    assert_eq!(bench.machines().await.len(), 1);
}

/// Two requests of the same machine at the same time: one key.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_machine_twice_at_once_gets_one_key() {
    let bench = Bench::new();
    bench.headscale.set("create_key", Mood::Slow(Duration::from_millis(200)));
    let (one, other) = tokio::join!(bench.register("one"), bench.register("one"));
    let refused = [one, other].into_iter().find_map(Result::err).unwrap();
    assert!(matches!(refused, Refusal::UnderWay(_)), "{refused:?}");
    assert_eq!(bench.headscale.all_keys().len(), 1);
}

/// Two bridges on one server, and a machine that asks both.
#[tokio::test(flavor = "multi_thread")]
async fn two_bridges_on_one_store_give_one_key() {
    let Some(location) = postgres_server::database() else { return };
    let one = Bench::at(Some(location.clone()), |_| {});
    let other = Provisioning::with_clock(
        one.settings.clone(),
        Store::new(location).unwrap(),
        Arc::clone(&one.headscale) as _,
        Arc::clone(&one.clock) as _,
    );
    let other = other.unwrap();
    one.headscale.set("create_key", Mood::Slow(Duration::from_millis(200)));
    let at_other = || {
        let caller = one.caller(&one.token(), "192.0.2.1");
        other.register(caller, br#"{"hostname": "one"}"#.to_vec())
    };
    let (first, second) = tokio::join!(one.register("one"), at_other());
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    assert_eq!(one.headscale.all_keys().len(), 1);
    // Keys are in the memory of one: the other ends that and makes another.
    let first = one.register("one").await.unwrap();
    let second = at_other().await.unwrap();
    assert_eq!(first.machine_id, second.machine_id);
    assert_eq!(one.headscale.valid_keys().len(), 1);
}

#[tokio::test]
async fn a_machine_is_known_by_its_id_whatever_its_name() {
    let bench = Bench::new();
    let token = bench.token();
    let send = async |body: &str| bench.send(&token, "192.0.2.1", body).await.unwrap();
    let first = send(r#"{"hostname": "a", "machine_id": "x-1"}"#).await;
    let same = send(r#"{"hostname": "b", "machine_id": "x-1"}"#).await;
    assert_eq!(same.machine_id, first.machine_id);
    // By the id that it was given, too.
    let body = format!(r#"{{"hostname": "c", "machine_id": "{}"}}"#, first.machine_id);
    assert_eq!(send(&body).await.machine_id, first.machine_id);
    let other = send(r#"{"hostname": "a", "machine_id": "x-2"}"#).await;
    assert_ne!(other.machine_id, first.machine_id);
}

/// Whoever has another token must not end this machine's key.
#[tokio::test]
async fn another_token_is_another_machine() {
    let bench = Bench::new();
    let first = bench.register("one").await.unwrap();
    let token = create(&bench, named("other")).await;
    let body = format!(r#"{{"hostname": "one", "machine_id": "{}"}}"#, first.machine_id);
    let other = bench.send(&token, "192.0.2.1", &body).await.unwrap();
    assert_ne!(other.machine_id, first.machine_id);
    assert_eq!(bench.headscale.valid_keys().len(), 2);
    // Made for machines that stay.
    assert!(!bench.headscale.all_keys()[1].ephemeral);
}

/// O5, `replace`: the old node goes only if it is offline, and only if that is wanted.
#[tokio::test]
async fn a_machine_that_comes_again_takes_the_place_of_the_old_one() {
    for (replace, online, stays) in [
        (Replace::Never, false, true),
        (Replace::OfflineOnly, true, true),
        (Replace::OfflineOnly, false, false),
    ] {
        let bench = Bench::with(|settings| settings.replace = replace);
        let first = bench.register("one").await.unwrap();
        let node = bench.headscale.join(first.key.reveal(), "one");
        bench.advance_and_reconcile(Duration::from_secs(30)).await;
        assert_eq!(bench.machine(&first.machine_id).await.state, State::Online);
        bench.headscale.change_node(&node, |it| it.online = online);

        let second = bench.register("one").await.unwrap();
        assert_ne!(second.machine_id, first.machine_id);
        assert_eq!(second.replaces_node.as_deref(), Some(node.as_str()));
        assert_eq!(bench.machine(&first.machine_id).await.state, State::Replaced);
        assert_eq!(!bench.headscale.node_ids().is_empty(), stays, "{replace:?} {online}");
    }
}

/// W18, O3.6: away is 503, failing is 502, and no key is left.
#[tokio::test]
async fn each_failure_of_headscale_has_its_answer() {
    use FailureKind::{Faulty, Paused, Refused, Unauthorized, Unintelligible, Unreachable};
    for (kind, in_user, in_key) in [
        (Unreachable, 503, 503),
        (Paused, 503, 503),
        (Unauthorized, 502, 502),
        (Refused, 502, 502),
        (Faulty, 502, 502),
        (Unintelligible, 502, 502),
    ] {
        let bench = Bench::new();
        bench.headscale.set("ensure_user", Mood::Fails(kind));
        assert_eq!(bench.register("one").await.unwrap_err().status(), in_user, "{kind:?}");
        assert!(bench.machines().await.is_empty(), "nothing was begun");
        bench.headscale.set("ensure_user", Mood::Well);
        bench.headscale.set("create_key", Mood::Fails(kind));
        assert_eq!(bench.register("one").await.unwrap_err().status(), in_key, "{kind:?}");
        bench.headscale.set("create_key", Mood::Well);
        bench.register("one").await.unwrap();
        assert_eq!(bench.machines().await.len(), 1);
        assert_eq!(bench.headscale.valid_keys().len(), 1);
    }
}

/// W18: less than the 15 s that the client waits, whatever hangs.
#[tokio::test]
async fn a_headscale_that_hangs_is_given_up_in_time() {
    let bench = Bench::new();
    bench.headscale.set("create_key", Mood::HangsAfter);
    let done = tokio::time::timeout(Duration::from_secs(9), bench.register("one")).await;
    assert_eq!(done.unwrap().unwrap_err(), Refusal::HeadscaleAway);
    bench.headscale.set("create_key", Mood::Well);
    bench.register("one").await.unwrap();
    assert_eq!(bench.headscale.valid_keys().len(), 1);
}

/// W10, R-052.
#[tokio::test]
async fn the_token_file_is_made_for_its_owner_only() {
    let bench = Bench::new();
    for path in [&bench.settings.token_file, &bench.settings.admin_token_file] {
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.len(), 65);
        assert!(text.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_ne!(bench.token(), bench.admin_token());
    let before = bench.token();
    assert!(!token_file::ensure(&bench.settings.token_file).unwrap());
    assert_eq!(bench.token(), before, "a token that is there stays");
    assert_eq!(
        std::fs::read_dir(bench.folder.path())
            .unwrap()
            .filter(|file| {
                file.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')
            })
            .count(),
        0,
        "no draft stays"
    );
}

/// R-068, T12, O4.1: seed 000's procedure, and no restart.
#[tokio::test]
async fn overwriting_the_file_ends_the_old_token_at_once() {
    let bench = Bench::new();
    let old = bench.token();
    bench.register("one").await.unwrap();
    std::fs::write(&bench.settings.token_file, "  my-own-long-token-of-some-kind \n").unwrap();
    let refused = bench.register_as(&old, "192.0.2.1", "two").await.unwrap_err();
    assert_eq!(refused, Refusal::Unauthorized);
    bench.register_as("my-own-long-token-of-some-kind", "192.0.2.1", "two").await.unwrap();
    // What anybody could guess is no token, and neither is nothing.
    for text in ["", "\n", "short"] {
        std::fs::write(&bench.settings.token_file, text).unwrap();
        let refused = bench.register_as(text.trim(), "192.0.2.1", "two").await.unwrap_err();
        assert_eq!(refused, Refusal::Unauthorized, "{text:?}");
    }
    std::fs::remove_file(&bench.settings.token_file).unwrap();
    let refused = bench.register_as(&old, "192.0.2.1", "two").await.unwrap_err();
    assert_eq!(refused, Refusal::Unauthorized);
}

/// O4.1, W22: two tokens hold at once, for as long as was said.
#[tokio::test]
async fn rotation_gives_the_old_token_its_grace() {
    on_both!(|bench: Bench| async move {
        let old = bench.token();
        let grace = Duration::from_secs(86_400);
        let new = rotate(&bench, FILE_TOKEN, grace).await;
        assert_eq!(bench.token(), new);
        for token in [&old, &new] {
            bench.register_as(token, "192.0.2.1", "one").await.unwrap();
        }
        bench.clock.advance(grace);
        let refused = bench.register_as(&old, "192.0.2.1", "one").await.unwrap_err();
        assert_eq!(refused, Refusal::Unauthorized);
        bench.register_as(&new, "192.0.2.1", "one").await.unwrap();
        // No grace, and those before get none either.
        let newest = rotate(&bench, FILE_TOKEN, grace).await;
        let last = rotate(&bench, FILE_TOKEN, Duration::ZERO).await;
        for token in [&new, &newest] {
            let refused = bench.register_as(token, "192.0.2.9", "one").await.unwrap_err();
            assert_eq!(refused, Refusal::Unauthorized);
        }
        bench.register_as(&last, "192.0.2.1", "one").await.unwrap();
    });
}

/// W22, R-081, O4.2, O5.1.
#[tokio::test]
async fn a_named_token_holds_within_its_bounds() {
    on_both!(|bench: Bench| async move {
        let token = create(
            &bench,
            NewToken {
                quota: Some(2),
                expiry: Some(Duration::from_secs(3_600)),
                sources: vec!["192.0.2.0/24".parse().unwrap()],
                tags: vec!["tag:deploy".to_owned()],
                ..named("batch-7")
            },
        )
        .await;
        let register = async |address: &str, name: &str| {
            bench.register_as(&token, address, name).await.map(|_| ())
        };
        assert_eq!(register("198.51.100.1", "one").await, Err(Refusal::Source));
        register("192.0.2.1", "one").await.unwrap();
        assert_eq!(bench.headscale.all_keys()[0].tags, ["tag:deploy"]);
        register("192.0.2.1", "one").await.unwrap();
        register("192.0.2.1", "two").await.unwrap();
        assert_eq!(register("192.0.2.1", "three").await, Err(Refusal::Quota));
        register("192.0.2.1", "two").await.unwrap();
        let row = bench
            .store
            .read(|session| coord_bridge::store::tokens::by_name(session, "batch-7"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.uses, 2, "a repeat counts once");
        bench.clock.advance(Duration::from_secs(3_600));
        assert_eq!(register("192.0.2.1", "one").await, Err(Refusal::Unauthorized));
    });
}

#[tokio::test]
async fn a_token_that_is_revoked_ends_at_once() {
    let bench = Bench::new();
    let token = create(&bench, named("lost-iso")).await;
    bench.register_as(&token, "192.0.2.1", "one").await.unwrap();
    for name in ["lost-iso", FILE_TOKEN] {
        let (store, now) = (bench.store.clone(), now(&bench));
        tokio::task::spawn_blocking(move || tokens::revoke(&store, name, now))
            .await
            .unwrap()
            .unwrap();
    }
    for token in [token, bench.token()] {
        let refused = bench.register_as(&token, "192.0.2.1", "one").await.unwrap_err();
        assert_eq!(refused, Refusal::Unauthorized);
    }
    // Whoever wants the token in the file back makes another. A grace is not for what has leaked.
    let leaked = bench.token();
    rotate(&bench, FILE_TOKEN, Duration::from_secs(86_400)).await;
    let refused = bench.register_as(&leaked, "192.0.2.1", "one").await.unwrap_err();
    assert_eq!(refused, Refusal::Unauthorized);
    bench.register("one").await.unwrap();
}

/// Another secret of a token whose time is over would be of no use.
#[tokio::test]
async fn a_token_that_has_ended_is_not_rotated() {
    let bench = Bench::new();
    create(&bench, NewToken { expiry: Some(Duration::from_secs(60)), ..named("short") }).await;
    rotate(&bench, "short", Duration::ZERO).await;
    bench.clock.advance(Duration::from_secs(60));
    let (store, now) = (bench.store.clone(), now(&bench));
    let file = bench.settings.token_file.clone();
    let rotated = tokio::task::spawn_blocking(move || {
        tokens::rotate(&store, "short", Duration::ZERO, &file, now)
    });
    assert!(matches!(rotated.await.unwrap(), Err(TokenError::Ended(name)) if name == "short"));
}

#[tokio::test]
async fn what_cannot_be_a_token_is_not_made() {
    let bench = Bench::new();
    create(&bench, named("one")).await;
    let tag = |tag: &str| NewToken { tags: vec![tag.to_owned()], ..named("two") };
    for (wanted, is_name) in [
        (named("one"), true),
        (named(FILE_TOKEN), true),
        (named("no such name"), true),
        (named(""), true),
        (tag("deploy"), false),
        (tag("tag:"), false),
        (tag("tag:a,tag:b"), false),
    ] {
        let (store, now) = (bench.store.clone(), now(&bench));
        let refused = tokio::task::spawn_blocking(move || tokens::create(&store, &wanted, now));
        let refused = refused.await.unwrap().unwrap_err();
        let is_as_wanted = if is_name {
            matches!(refused, TokenError::Name(_) | TokenError::Taken(_))
        } else {
            matches!(refused, TokenError::Tag(_))
        };
        assert!(is_as_wanted, "{refused}");
    }
}

/// O5.4, W26: who, what, when, from where and which key; and no secret, anywhere.
#[tokio::test]
async fn every_request_is_in_the_audit_and_no_secret_is() {
    let bench = Bench::new();
    let machine = bench.register("one").await.unwrap();
    bench.send(&bench.token(), "192.0.2.1", "rubbish").await.unwrap_err();
    bench.register_as("not-a-token-at-all", "192.0.2.7", "two").await.unwrap_err();
    bench.headscale.set("create_key", Mood::Fails(FailureKind::Unreachable));
    bench.register("three").await.unwrap_err();
    bench.provisioning.machines(&bench.caller(&bench.admin_token(), "::1")).await.unwrap();

    let rows = bench.store.read(|session| events::newest(session, 100)).await.unwrap();
    let mut seen: Vec<_> = rows.iter().map(|it| (it.kind.as_str(), it.outcome.as_str())).collect();
    seen.reverse();
    seen.sort_unstable();
    let mut wanted = [
        ("register", "ok"),
        ("register", "body_required"),
        ("register", "unauthorized"),
        ("register", "headscale_unreachable"),
        ("machines", "ok"),
    ];
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
    let done = rows.iter().find(|it| (it.kind.as_str(), it.outcome.as_str()) == ("register", "ok"));
    let done = done.unwrap();
    assert_eq!(done.machine.as_ref(), Some(&machine.machine_id));
    assert_eq!(done.token.as_deref(), Some(FILE_TOKEN));
    assert_eq!(done.key_id.as_deref(), Some("1"));
    assert_eq!(done.remote_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(done.hostname.as_deref(), Some("one"));

    drop(bench.store.write(|s| s.query("PRAGMA wal_checkpoint", &[])).await);
    for file in std::fs::read_dir(bench.folder.path()).unwrap() {
        let path = file.unwrap().path();
        if path == bench.settings.token_file || path == bench.settings.admin_token_file {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for secret in [bench.token(), bench.admin_token(), machine.key.reveal().to_owned()] {
            let has = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!has, "{} has a secret in it", path.display());
        }
    }
    assert!(!format!("{machine:?} {:?}", bench.provisioning).contains(machine.key.reveal()));
}

/// W21.
#[tokio::test]
async fn machines_are_listed_for_administrators() {
    let mut bench = Bench::new();
    bench.register("one").await.unwrap();
    let list = async |bench: &Bench, token: &str| {
        bench.provisioning.machines(&bench.caller(token, "192.0.2.1")).await.map(|it| it.len())
    };
    assert_eq!(list(&bench, &bench.admin_token()).await, Ok(1));
    assert_eq!(list(&bench, &bench.token()).await, Err(Refusal::AdminRequired));
    assert_eq!(list(&bench, "no-such-token-here").await, Err(Refusal::Unauthorized));
    let admin = bench.admin_token();
    let refused = bench.register_as(&admin, "192.0.2.1", "two").await.unwrap_err();
    assert_eq!(refused, Refusal::Unauthorized, "an administrator's token registers nothing");
    bench.settings.enroll_token_lists = true;
    bench.restart();
    assert_eq!(list(&bench, &bench.token()).await, Ok(1));
}

fn named(name: &str) -> NewToken {
    NewToken {
        name: name.to_owned(),
        profile: Profile::Machine,
        tags: Vec::new(),
        sources: Vec::new(),
        quota: None,
        expiry: None,
    }
}

fn now(bench: &Bench) -> i64 {
    use coord_bridge::provisioning::clock::{Clock, millis};
    millis(bench.clock.now())
}

async fn create(bench: &Bench, wanted: NewToken) -> String {
    let (store, now) = (bench.store.clone(), now(bench));
    let made = tokio::task::spawn_blocking(move || tokens::create(&store, &wanted, now));
    made.await.unwrap().unwrap().reveal().to_owned()
}

async fn rotate(bench: &Bench, name: &'static str, grace: Duration) -> String {
    let (store, now) = (bench.store.clone(), now(bench));
    let file = bench.settings.token_file.clone();
    let made = tokio::task::spawn_blocking(move || tokens::rotate(&store, name, grace, &file, now));
    made.await.unwrap().unwrap().reveal().to_owned()
}
