//! What became of machines and keys.

use std::time::{Duration, SystemTime};

use coord_bridge::headscale::{FailureKind, KeyId};
use coord_bridge::provisioning::reconcile::MAX_LOST;
use coord_bridge::provisioning::settings::Replace;
use coord_bridge::store::events;
use coord_bridge::store::keys::KeyState;
use coord_bridge::store::machines::State;

use crate::bench::Bench;
use crate::headscale::Mood;
use crate::postgres_server;

const ROUND: Duration = Duration::from_secs(30);

/// W20, O3.2: a machine's way, from its key to its end.
#[tokio::test]
async fn a_machine_is_followed_from_its_key_to_its_end() {
    for location in [None, postgres_server::database()].into_iter().take(2) {
        let bench = Bench::at(location, |_| {});
        let machine = bench.register("one").await.unwrap();
        let state = async || bench.machine(&machine.machine_id).await.state;
        bench.advance_and_reconcile(ROUND).await;
        assert_eq!(state().await, State::Pending);

        let node = bench.headscale.join(machine.key.reveal(), "one");
        bench.advance_and_reconcile(ROUND).await;
        let seen = bench.machine(&machine.machine_id).await;
        assert_eq!(seen.state, State::Online);
        assert_eq!(seen.tailscale_ip, "100.64.0.1", "the IPv4 address");
        assert_eq!(seen.node_id.as_ref(), Some(&node));
        assert_eq!(bench.keys().await[0].state, KeyState::Used);

        let now = coord_bridge::provisioning::clock::Clock::now(&*bench.clock);
        bench.headscale.change_node(&node, |it| (it.online, it.last_seen) = (false, Some(now)));
        bench.advance_and_reconcile(ROUND).await;
        assert_eq!(state().await, State::Joined);
        // After a restart of Headscale a node may show another key, or none.
        bench.headscale.change_node(&node, |it| it.key = Some(KeyId("99".to_owned())));
        bench.advance_and_reconcile(bench.settings.stale_after).await;
        assert_eq!(state().await, State::Stale);
        bench.headscale.change_node(&node, |it| (it.online, it.key) = (true, None));
        bench.advance_and_reconcile(ROUND).await;
        assert_eq!(state().await, State::Online);
        bench.headscale.remove_node(&node);
        bench.advance_and_reconcile(ROUND).await;
        assert_eq!(state().await, State::Deleted);

        let rows = bench.store.read(|session| events::newest(session, 100)).await.unwrap();
        let mut way: Vec<String> =
            rows.into_iter().filter(|it| it.kind == "machine").map(|it| it.outcome).collect();
        way.reverse();
        assert_eq!(way, ["online", "joined", "stale", "online", "deleted"]);

        bench.advance_and_reconcile(bench.settings.record_ttl + ROUND).await;
        assert!(bench.machines().await.is_empty(), "what is over goes after its time");
        assert!(bench.keys().await.is_empty());
    }
}

/// O3.3: pending, then expired; and the machine can come again.
#[tokio::test]
async fn a_key_that_nobody_used_ends_with_its_registration() {
    let bench = Bench::new();
    let machine = bench.register("one").await.unwrap();
    // A first list without nodes is believed after a minute.
    bench.advance_and_reconcile(Duration::from_secs(3_500)).await;
    bench.advance_and_reconcile(Duration::from_secs(90)).await;
    assert_eq!(bench.machine(&machine.machine_id).await.state, State::Pending);
    bench.advance_and_reconcile(ROUND).await;
    assert_eq!(bench.machine(&machine.machine_id).await.state, State::Expired);
    assert_eq!(bench.keys().await[0].state, KeyState::Expired);
    let again = bench.register("one").await.unwrap();
    assert_ne!(again.machine_id, machine.machine_id);
    assert_ne!(again.key.reveal(), machine.key.reveal());
}

/// A machine that joined within the last second of its key.
#[tokio::test]
async fn a_machine_that_joined_late_is_found() {
    let bench = Bench::new();
    let machine = bench.register("one").await.unwrap();
    bench.headscale.join(machine.key.reveal(), "one");
    bench.advance_and_reconcile(Duration::from_secs(7_200)).await;
    assert_eq!(bench.machine(&machine.machine_id).await.state, State::Online);
}

/// Nothing is taken for gone because Headscale does not answer, and `/ready` says why.
#[tokio::test]
async fn a_headscale_that_is_away_changes_nothing() {
    let bench = Bench::new();
    assert!(!bench.provisioning.findings().await.is_empty(), "not before it was asked");
    let machine = bench.register("one").await.unwrap();
    bench.headscale.join(machine.key.reveal(), "one");
    bench.advance_and_reconcile(ROUND).await;
    assert_eq!(bench.provisioning.findings().await, Vec::<String>::new());
    for kind in [FailureKind::Unreachable, FailureKind::Unauthorized, FailureKind::Unintelligible] {
        bench.headscale.set_all(Mood::Fails(kind));
        bench.advance_and_reconcile(ROUND).await;
        assert_eq!(bench.provisioning.findings().await, [kind.to_string()]);
        bench.headscale.set_all(Mood::Well);
        bench.headscale.set("nodes", Mood::Fails(kind));
        bench.advance_and_reconcile(ROUND).await;
        assert_eq!(bench.provisioning.findings().await, [kind.to_string()]);
        assert_eq!(bench.machine(&machine.machine_id).await.state, State::Online);
        bench.headscale.set("nodes", Mood::Well);
    }
    bench.advance_and_reconcile(ROUND).await;
    assert_eq!(bench.provisioning.findings().await, Vec::<String>::new(), "and it recovers");
}

/// A Headscale whose database is away, or another one, for less than a minute ends no record.
#[tokio::test]
async fn a_list_that_lacks_most_nodes_is_doubted_for_a_minute() {
    let bench = Bench::new();
    let joined = bench.join(&["one", "two", "three", "four"]).await;
    let states = async || {
        let mut states = Vec::new();
        for (id, _) in &joined {
            states.push(bench.machine(id).await.state);
        }
        states
    };
    let all = bench.headscale.exchange_nodes(Vec::new());
    for wrong in [Vec::new(), all[..1].to_vec(), Vec::new()] {
        bench.headscale.exchange_nodes(wrong);
        bench.advance_and_reconcile(ROUND).await;
        assert_eq!(states().await, [State::Online; 4]);
        bench.headscale.exchange_nodes(all.clone());
        bench.advance_and_reconcile(ROUND).await;
        assert_eq!(states().await, [State::Online; 4]);
    }
    assert_eq!(bench.headscale.calls("delete_node"), 0);

    // It stays so: they are gone.
    bench.headscale.exchange_nodes(all[..1].to_vec());
    for _ in 0..2 {
        bench.advance_and_reconcile(ROUND).await;
        assert_eq!(states().await, [State::Online; 4]);
    }
    bench.advance_and_reconcile(ROUND).await;
    assert_eq!(states().await, [State::Online, State::Deleted, State::Deleted, State::Deleted]);
}

/// What is in the store is as good as a list before: a bridge that starts beside a Headscale
/// without its database believes it no sooner.
#[tokio::test]
async fn a_first_list_after_a_start_is_doubted_too() {
    let mut bench = Bench::new();
    let joined = bench.join(&["one", "two", "three"]).await;
    let all = bench.headscale.exchange_nodes(Vec::new());
    for wrong in [Vec::new(), all[..1].to_vec()] {
        bench.headscale.exchange_nodes(wrong);
        bench.restart();
        for _ in 0..2 {
            bench.advance_and_reconcile(ROUND).await;
            for (id, _) in &joined {
                assert_eq!(bench.machine(id).await.state, State::Online);
            }
        }
    }
}

/// Half of the nodes, or one, may well have been deleted.
#[tokio::test]
async fn what_is_at_most_half_is_gone_at_once() {
    let bench = Bench::new();
    let joined = bench.join(&["one", "two", "three", "four"]).await;
    bench.headscale.remove_node(&joined[0].1);
    bench.headscale.remove_node(&joined[1].1);
    bench.advance_and_reconcile(ROUND).await;
    for (n, (id, _)) in joined.iter().enumerate() {
        let wanted = if n < 2 { State::Deleted } else { State::Online };
        assert_eq!(bench.machine(id).await.state, wanted, "{n}");
    }
}

/// What a bridge has deleted itself is no loss.
#[tokio::test]
async fn what_the_bridge_deletes_is_not_doubted() {
    let bench = Bench::new();
    let joined = bench.join(&["one", "two", "three", "four", "five"]).await;
    for (id, _) in &joined[..3] {
        bench.provisioning.delete_machine(id).await.unwrap();
    }
    bench.headscale.remove_node(&joined[3].1);
    bench.advance_and_reconcile(ROUND).await;
    assert_eq!(bench.machine(&joined[3].0).await.state, State::Deleted);
    assert_eq!(bench.machine(&joined[4].0).await.state, State::Online);
}

/// A Headscale that was restored from a backup gives a number a second time.
#[tokio::test]
async fn a_number_that_another_machine_got_is_not_its_node() {
    let bench = Bench::with(|settings| settings.replace = Replace::OfflineOnly);
    let joined = bench.join(&["one", "two", "three", "four", "five", "six"]).await;
    for (_, node) in &joined[..2] {
        bench.headscale.change_node(node, |it| {
            (it.machine_key, it.online) = (format!("mkey:another{node}"), false);
        });
    }
    let ids = bench.headscale.node_ids();
    // Neither a deletion nor a registration that takes its place hits the other machine.
    assert_eq!(bench.provisioning.delete_machine(&joined[0].0).await.unwrap(), None);
    bench.register("two").await.unwrap();
    assert_eq!(bench.headscale.node_ids(), ids);

    bench.headscale.change_node(&joined[2].1, |it| it.machine_key = "mkey:third".to_owned());
    bench.advance_and_reconcile(ROUND).await;
    let third = bench.machine(&joined[2].0).await;
    assert_eq!((third.state, third.machine_key.as_deref()), (State::Deleted, Some("mkey:3")));
    assert_eq!(bench.machine(&joined[3].0).await.state, State::Online);
}

/// O8.5, and W3 for the token.
#[tokio::test]
async fn what_is_missing_here_is_a_finding() {
    let bench = Bench::new();
    bench.provisioning.reconcile().await;
    std::fs::write(&bench.settings.token_file, "").unwrap();
    std::fs::rename(bench.folder.path().join("bridge.sqlite"), bench.folder.path().join("x"))
        .unwrap();
    let findings = bench.provisioning.findings().await.join("; ");
    assert!(findings.contains("store") && findings.contains("token"), "{findings}");
    assert_eq!(bench.register("one").await.unwrap_err().status(), 503);
}

/// W4: made if they are missing, left if they are there, however often.
#[tokio::test]
async fn both_users_are_there_after_the_first_round() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.provisioning.reconcile().await;
        bench.restart();
    }
    let mut users = bench.headscale.users();
    users.sort();
    assert_eq!(users, ["admin", "sovran-deploy"]);
}

/// A round is few calls, however much there is to do; the next one does the rest.
#[tokio::test]
async fn a_round_is_bounded() {
    let bench = Bench::with(|settings| settings.rate.burst = 1_000);
    for n in 0..MAX_LOST + 8 {
        lose(&bench, &format!("lost{n}")).await;
        bench.register(&format!("m{n}")).await.unwrap();
    }
    let calls = || ["nodes", "keys", "expire_key"].map(|call| bench.headscale.calls(call));
    let since = |before: [usize; 3]| {
        let after = calls();
        [after[0] - before[0], after[1] - before[1], after[2] - before[2]]
    };
    let before = calls();
    bench.advance_and_reconcile(ROUND).await;
    assert_eq!(since(before), [1, 1, MAX_LOST]);
    let before = calls();
    bench.advance_and_reconcile(ROUND).await;
    assert_eq!(since(before), [1, 1, 8]);
    bench.assert_no_unknown_key("after two rounds").await;
    assert_eq!(bench.headscale.valid_keys().len(), MAX_LOST + 8);
    let before = calls();
    bench.advance_and_reconcile(ROUND).await;
    assert_eq!(since(before), [1, 0, 0], "nothing is lost, so no keys are listed");
}

/// A lost key that cannot be ended stands before the others once, not in every round.
#[tokio::test]
async fn a_round_goes_on_where_the_last_one_stopped() {
    let bench = Bench::with(|settings| settings.rate.burst = 1_000);
    for n in 0..=MAX_LOST {
        lose(&bench, &format!("lost{n}")).await;
    }
    bench.headscale.set("expire_key", Mood::Fails(FailureKind::Faulty));
    bench.advance_and_reconcile(ROUND).await;
    assert_eq!(bench.headscale.valid_keys().len(), MAX_LOST + 1);
    bench.headscale.set("expire_key", Mood::Well);
    bench.advance_and_reconcile(ROUND).await;
    let left: Vec<String> = bench.headscale.valid_keys().into_iter().map(|key| key.id).collect();
    assert_eq!(left, ["1"], "the one that failed waits for its turn");
    bench.advance_and_reconcile(ROUND).await;
    assert!(bench.headscale.valid_keys().is_empty());
}

/// Headscale makes a key for this machine, and nobody hears of it.
async fn lose(bench: &Bench, hostname: &str) {
    // Rows are in the order of their making.
    bench.clock.advance(Duration::from_millis(1));
    bench.headscale.set("create_key", Mood::Loses(FailureKind::Faulty));
    bench.register(hostname).await.unwrap_err();
    bench.headscale.set("create_key", Mood::Well);
}

#[test]
fn dates_from_before_1970_do_no_harm() {
    use coord_bridge::provisioning::clock::{date, millis};
    assert_eq!(millis(SystemTime::UNIX_EPOCH - Duration::from_secs(9)), 0);
    assert_eq!(date(-5), SystemTime::UNIX_EPOCH);
}
