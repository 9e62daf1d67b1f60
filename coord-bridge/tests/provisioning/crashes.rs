//! The end of the bridge at every step: no key is left that nobody knows.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coord_bridge::provisioning::{Provisioning, Settings};
use coord_bridge::store::keys::KeyState;
use coord_bridge::store::machines::State;
use coord_bridge::store::{Location, Store};

use crate::bench::{Bench, ManualClock};
use crate::headscale::{FakeHeadscale, Mood};
use crate::postgres_server;

/// Longer than a registration can be under way.
const SETTLED: Duration = Duration::from_secs(20);

/// O3.7: in the middle of every call, before and after Headscale has done it.
#[test]
fn the_end_at_any_step_leaves_no_unknown_key() {
    for call in ["ensure_user", "create_key", "expire_key", "keys"] {
        for mood in [Mood::HangsBefore, Mood::HangsAfter] {
            for location in [None, postgres_server::database()].into_iter().take(2) {
                end_within(call, mood, location);
            }
        }
    }
}

fn end_within(call: &'static str, mood: Mood, location: Option<Location>) {
    let when = format!("{call} {mood:?} {location:?}");
    let mut bench = Bench::at(location, |_| {});
    let first = tokio::runtime::Runtime::new().unwrap();
    first.block_on(async {
        if call != "ensure_user" {
            // One key that is known, and one whose answer is lost: both are to be ended.
            bench.register("one").await.unwrap();
            bench.headscale.set("create_key", Mood::Loses(LOST));
            bench.register("two").await.unwrap_err();
            bench.headscale.set("create_key", Mood::Well);
        }
    });
    bench.restart();
    bench.headscale.set(call, mood);
    // The process ends while Headscale is being asked.
    let asked = bench.headscale.calls(call);
    for name in ["one", "two"] {
        let caller = bench.caller(&bench.token(), "192.0.2.1");
        let body = format!(r#"{{"hostname": "{name}"}}"#).into_bytes();
        let provisioning = Arc::clone(&bench.provisioning);
        first.spawn(async move { drop(provisioning.register(caller, body).await) });
    }
    let began = Instant::now();
    while bench.headscale.calls(call) == asked {
        assert!(began.elapsed() < Duration::from_secs(10), "{when}: never asked");
        std::thread::yield_now();
    }
    first.shutdown_timeout(Duration::from_secs(10));
    // Its thread lives on here, as it would not: what it was given is done before the rest.
    bench.store.read_now(|_| Ok(())).unwrap();

    bench.headscale.set(call, Mood::Well);
    bench.restart();
    let second = tokio::runtime::Runtime::new().unwrap();
    second.block_on(async {
        bench.advance_and_reconcile(SETTLED).await;
        bench.assert_no_unknown_key(&when).await;
        assert!(bench.keys().await.iter().all(|key| key.state != KeyState::Asked), "{when}");
        // And the machines get in.
        for name in ["one", "two"] {
            bench.register(name).await.unwrap();
        }
        bench.assert_no_unknown_key(&when).await;
        let live = bench.machines().await.into_iter().filter(|it| it.state == State::Pending);
        assert_eq!(live.count(), 2, "{when}");
        assert_eq!(bench.headscale.valid_keys().len(), 2, "{when}");
    });
}

const LOST: coord_bridge::headscale::FailureKind =
    coord_bridge::headscale::FailureKind::Unreachable;

/// The store goes between the key and its record: the key is ended at once.
#[tokio::test]
async fn a_key_that_cannot_be_written_down_is_ended() {
    let bench = Bench::new();
    bench.headscale.set("create_key", Mood::Slow(Duration::from_millis(200)));
    let path = bench.folder.path().join("bridge.sqlite");
    let registering = bench.register("one");
    let losing = async {
        while bench.headscale.calls("create_key") == 0 {
            tokio::task::yield_now().await;
        }
        std::fs::rename(&path, bench.folder.path().join("elsewhere")).unwrap();
    };
    let (refused, ()) = tokio::join!(registering, losing);
    assert_eq!(refused.unwrap_err().status(), 503);
    assert_eq!(bench.headscale.all_keys().len(), 1);
    assert!(bench.headscale.valid_keys().is_empty());
}

/// A key that Headscale makes only after it was looked for in vain.
#[tokio::test]
async fn a_key_that_is_born_late_is_ended_too() {
    let bench = Bench::new();
    bench.headscale.set("create_key", Mood::Fails(LOST));
    bench.register("one").await.unwrap_err();
    bench.advance_and_reconcile(SETTLED).await;
    let asked = bench.keys().await.pop().unwrap();
    assert_eq!(asked.state, KeyState::Void);
    bench.headscale.set("create_key", Mood::Well);
    let late = coord_bridge::headscale::NewKey {
        user: coord_bridge::headscale::UserId(asked.user_id),
        ephemeral: true,
        expiration: coord_bridge::provisioning::clock::date(asked.expires_ms),
        tags: Vec::new(),
    };
    use coord_bridge::headscale::Headscale;
    bench.headscale.create_key(&late).await.unwrap();
    bench.advance_and_reconcile(SETTLED).await;
    assert!(bench.headscale.valid_keys().is_empty());
}

/// An operator's own keys are nobody's business.
#[tokio::test]
async fn keys_of_others_are_left_alone() {
    use coord_bridge::headscale::{Headscale, NewKey};
    use coord_bridge::provisioning::clock::Clock;
    let bench = Bench::new();
    let user = bench.headscale.ensure_user("sovran-deploy").await.unwrap();
    for seconds in [60, 3_600, 3_602, 7_200] {
        let expiration = bench.clock.now() + Duration::from_secs(seconds);
        let wanted =
            NewKey { user: user.id.clone(), ephemeral: false, expiration, tags: Vec::new() };
        bench.headscale.create_key(&wanted).await.unwrap();
    }
    bench.headscale.set("create_key", Mood::Loses(LOST));
    bench.register("one").await.unwrap_err();
    bench.headscale.set("create_key", Mood::Well);
    bench.advance_and_reconcile(SETTLED).await;
    let valid: Vec<String> = bench.headscale.valid_keys().into_iter().map(|key| key.id).collect();
    assert_eq!(valid, ["1", "2", "3", "4"]);
}

/// Folder of the child that is killed, in its environment.
const CHILD: &str = "PROVISIONING_CHILD";

/// Registrations that the child begins.
const REGISTRATIONS: usize = 100;

/// O3.7, T3: `kill -9` in the middle of a hundred registrations, at several moments.
#[test]
fn kill_in_a_hundred_registrations_leaves_every_key_known_or_ended() {
    for made in [1, 20, 50, 90] {
        let folder = tempfile::TempDir::new().unwrap();
        let journal = folder.path().join("headscale");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crashes::child_that_is_killed", "--ignored"])
            .env(CHILD, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let lines = || std::fs::read_to_string(&journal).unwrap_or_default().lines().count();
        while lines() < made {
            assert!(began.elapsed() < Duration::from_secs(60), "the child does nothing");
            assert!(child.try_wait().unwrap().is_none(), "the child has ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let headscale = Arc::new(FakeHeadscale::with_journal(&journal));
        assert!(headscale.all_keys().len() < REGISTRATIONS, "killed too late to tell");
        let store = Store::new(Location::File(folder.path().join("bridge.sqlite"))).unwrap();
        let clock = Arc::new(ManualClock::default());
        clock.advance(SETTLED);
        let settings = Settings::new("https://hs.example.org", folder.path());
        let provisioning = Provisioning::with_clock(
            settings,
            store.clone(),
            Arc::clone(&headscale) as _,
            Arc::clone(&clock) as _,
        );
        let provisioning = provisioning.unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(provisioning.reconcile());
        let known = store
            .read_now(|session| coord_bridge::store::keys::in_states(session, &[KeyState::Issued]))
            .unwrap();
        for key in headscale.valid_keys() {
            let is_known = known.iter().any(|row| row.key_id.as_ref() == Some(&key.id));
            assert!(is_known, "after {made}: {key:?} is valid and unknown");
        }
    }
}

#[test]
#[ignore = "is started, and killed, by the test above"]
fn child_that_is_killed() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let headscale = Arc::new(FakeHeadscale::with_journal(&folder.join("headscale")));
    headscale.set("create_key", Mood::Slow(Duration::from_millis(5)));
    let store = Store::new(Location::File(folder.join("bridge.sqlite"))).unwrap();
    let mut settings = Settings::new("https://hs.example.org", &folder);
    settings.rate.burst = 1_000;
    let token = {
        let clock = Arc::new(ManualClock::default());
        let provisioning = Provisioning::with_clock(settings, store, headscale, clock).unwrap();
        let token = std::fs::read_to_string(folder.join("enroll-token")).unwrap();
        (provisioning, token.trim().to_owned())
    };
    let (provisioning, token) = token;
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for chunk in 0..REGISTRATIONS / 10 {
            let mut running = tokio::task::JoinSet::new();
            for n in 0..10 {
                let caller = coord_bridge::provisioning::Caller {
                    address: "192.0.2.1".parse().unwrap(),
                    token: Some(coord_bridge::headscale::Secret::new(token.clone())),
                    request_id: provisioning.request_id(),
                };
                let body = format!(r#"{{"hostname": "m{chunk}-{n}"}}"#).into_bytes();
                let provisioning = Arc::clone(&provisioning);
                running.spawn(async move { provisioning.register(caller, body).await.unwrap() });
            }
            running.join_all().await;
        }
        // Whoever kills must not find it gone.
        std::future::pending::<()>().await;
    });
}
