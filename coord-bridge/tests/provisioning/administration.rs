//! What administrators do to machines and keys.

use std::time::Duration;

use coord_bridge::headscale::{FailureKind, Headscale};
use coord_bridge::provisioning::administration::{AdministrationError, Keys};
use coord_bridge::store::installations;
use coord_bridge::store::keys::KeyState;
use coord_bridge::store::machines::State;
use coord_bridge::store::tokens::Profile;

use crate::bench::Bench;
use crate::headscale::Mood;
use crate::postgres_server;

const ROUND: Duration = Duration::from_secs(30);

/// R-069, O5.1: the key of an installer; and one command ends what is unused.
#[tokio::test]
async fn keys_are_made_for_installers_and_ended() {
    let bench = Bench::new();
    let made = bench.provisioning.create_key(Profile::Machine, ROUND * 240, None).await.unwrap();
    assert_eq!(made.expires_at, "2026-01-01T02:00:01Z");
    let machine = bench.register("one").await.unwrap();
    let joined = bench.register("two").await.unwrap();
    bench.headscale.join(joined.key.reveal(), "two");
    let all = bench.headscale.all_keys();
    assert_eq!(all.iter().map(|key| key.ephemeral).collect::<Vec<_>>(), [false, true, true]);
    bench.advance_and_reconcile(ROUND).await;
    assert_eq!(bench.headscale.valid_keys().len(), 2, "nobody ends a key that is waited for");

    assert_eq!(bench.provisioning.expire_keys(Keys::Ours).await.unwrap(), 2);
    assert!(bench.headscale.valid_keys().is_empty());
    assert_eq!(bench.provisioning.expire_keys(Keys::Ours).await.unwrap(), 0);
    // A repeat does not tell a key that has ended.
    let again = bench.register("one").await.unwrap();
    assert_ne!(again.key.reveal(), machine.key.reveal());
    assert_eq!(again.machine_id, machine.machine_id);
}

#[tokio::test]
async fn keys_of_others_end_only_with_all() {
    use coord_bridge::headscale::NewKey;
    use coord_bridge::provisioning::clock::Clock;
    let bench = Bench::new();
    let user = bench.headscale.ensure_user("sovran-deploy").await.unwrap().id;
    let expiration = bench.clock.now() + ROUND;
    let wanted = NewKey { user, ephemeral: false, expiration, tags: Vec::new() };
    bench.headscale.create_key(&wanted).await.unwrap();
    assert_eq!(bench.provisioning.expire_keys(Keys::Ours).await.unwrap(), 0);
    assert_eq!(bench.provisioning.expire_keys(Keys::All).await.unwrap(), 1);
    assert!(bench.headscale.valid_keys().is_empty());
}

/// An installer's key whose answer is lost is ended like a machine's.
#[tokio::test]
async fn an_installers_key_is_never_unknown() {
    let bench = Bench::new();
    bench.headscale.set("create_key", Mood::Loses(FailureKind::Unreachable));
    bench.provisioning.create_key(Profile::Machine, ROUND * 240, None).await.unwrap_err();
    assert_eq!(bench.headscale.valid_keys().len(), 1);
    bench.advance_and_reconcile(ROUND).await;
    assert!(bench.headscale.valid_keys().is_empty());
}

/// W29, R-070.
#[tokio::test]
async fn a_machine_is_deleted_with_its_node_and_its_keys() {
    let bench = Bench::new();
    let waiting = bench.register("waiting").await.unwrap();
    let joined = bench.register("joined").await.unwrap();
    let node = bench.headscale.join(joined.key.reveal(), "joined");
    let other = bench.register("other").await.unwrap();
    bench.headscale.join(other.key.reveal(), "other");

    bench.headscale.set("delete_node", Mood::Fails(FailureKind::Faulty));
    bench.provisioning.delete_machine(&joined.machine_id).await.unwrap_err();
    assert_eq!(bench.machine(&joined.machine_id).await.state, State::Pending);
    bench.headscale.set("delete_node", Mood::Well);
    // Before a round has seen it, too: its key leads to its node.
    bench.provisioning.delete_machine(&joined.machine_id).await.unwrap();
    bench.provisioning.delete_machine(&waiting.machine_id).await.unwrap();
    assert!(!bench.headscale.node_ids().contains(&node));
    assert_eq!(bench.headscale.node_ids().len(), 1, "the other's stays");
    assert!(bench.headscale.valid_keys().is_empty());
    for machine in [&joined, &waiting] {
        assert_eq!(bench.machine(&machine.machine_id).await.state, State::Deleted);
    }
    let unknown = bench.provisioning.delete_machine("nobody").await.unwrap_err();
    assert!(matches!(unknown, AdministrationError::UnknownMachine(_)));
}

#[tokio::test]
async fn a_machine_is_logged_out_and_stays() {
    let bench = Bench::new();
    let machine = bench.register("one").await.unwrap();
    let nothing = bench.provisioning.expire_machine(&machine.machine_id).await.unwrap_err();
    assert!(matches!(nothing, AdministrationError::NoNode(_)));
    bench.headscale.join(machine.key.reveal(), "one");
    bench.advance_and_reconcile(ROUND).await;
    bench.provisioning.expire_machine(&machine.machine_id).await.unwrap();
    assert_eq!(bench.headscale.calls("expire_node"), 1);
    assert_eq!(bench.headscale.node_ids().len(), 1);
    assert_eq!(bench.machine(&machine.machine_id).await.state, State::Online);
}

/// A clock that was set back by an hour does not keep a machine out for an hour.
#[tokio::test]
async fn a_clock_that_was_set_back_keeps_nobody_out() {
    let bench = Bench::new();
    bench.clock.advance(ROUND * 120);
    bench.headscale.set("create_key", Mood::HangsAfter);
    let cut = tokio::time::timeout(Duration::from_millis(300), bench.register("one")).await;
    assert!(cut.is_err());
    assert_eq!(bench.keys().await[0].state, KeyState::Asked);
    bench.headscale.set("create_key", Mood::Well);
    bench.clock.set_back(ROUND * 120);
    bench.register("one").await.unwrap();
    assert_eq!(bench.headscale.valid_keys().len(), 1);
}

/// The numbers that the bridge is to bear: a thousand registrations, ten thousand machines.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_register_and_ten_thousand_are_listed() {
    let mut bench = Bench::with(|settings| settings.rate.burst = 1_000_000);
    bench
        .store
        .write(|session| {
            for n in 0..9_000 {
                let row = crate::store::machine(&format!("{n:05}"), &n.to_string(), State::Joined);
                coord_bridge::store::machines::insert(session, &row)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    bench.restart();
    let bench = std::sync::Arc::new(bench);
    let mut running = tokio::task::JoinSet::new();
    for worker in 0..20 {
        let bench = std::sync::Arc::clone(&bench);
        running.spawn(async move {
            for n in 0..50 {
                bench.register(&format!("w{worker}-{n}")).await.unwrap();
            }
        });
    }
    running.join_all().await;
    let caller = bench.caller(&bench.admin_token(), "192.0.2.1");
    assert_eq!(bench.provisioning.machines(&caller).await.unwrap().len(), 10_000);
    bench.assert_no_unknown_key("after a thousand").await;
}

/// the list says what was installed from a live system.
#[tokio::test]
async fn a_live_system_leads_to_the_machine_that_was_installed_from_it() {
    for location in [None, postgres_server::database()].into_iter().take(2) {
        let bench = Bench::at(location, |_| {});
        let live = bench.register("sovran-deploy-0123456789abcdef").await.unwrap();
        let node = bench.headscale.join(live.key.reveal(), "sovran-deploy-0123456789abcdef");
        bench.advance_and_reconcile(ROUND).await;

        let installs = Some(live.machine_id.as_str());
        let create = async |installs| {
            bench.provisioning.create_key(Profile::Machine, ROUND * 240, installs).await
        };
        create(Some("nobody")).await.unwrap_err();
        assert_eq!(bench.headscale.all_keys().len(), 1, "Headscale is not asked");
        let made = create(installs).await.unwrap();
        create(installs).await.unwrap();
        // The live system goes before what it has installed comes.
        bench.headscale.remove_node(&node);
        bench.advance_and_reconcile(ROUND).await;
        assert_eq!(bench.machine(&live.machine_id).await.state, State::Deleted);
        let found = async || bench.store.read(installations::all).await.unwrap();
        assert!(found().await.iter().all(|it| it.installed.is_none()));

        bench.headscale.join(made.key.reveal(), "sovran-node");
        bench.advance_and_reconcile(ROUND).await;
        let all = found().await;
        assert!(all.len() == 2 && all.iter().all(|it| it.machine == live.machine_id));
        let installed: Vec<_> = all.iter().filter_map(|it| it.installed.as_ref()).collect();
        let [installed] = installed[..] else { panic!("{installed:?}") };
        assert_eq!(installed.hostname, "sovran-node");
        assert_eq!(installed.tailscale_ip, "100.64.0.1");

        bench.advance_and_reconcile(bench.settings.record_ttl + ROUND).await;
        assert!(found().await.is_empty(), "it goes with the registration");
    }
}

/// Only those that are away for long go, and only where that is wanted.
#[tokio::test]
async fn stale_machines_are_deleted_where_that_is_wanted() {
    let bench = Bench::with(|settings| settings.delete_stale_after = Some(ROUND * 10_000));
    let mut machines = Vec::new();
    for name in ["away", "there"] {
        let machine = bench.register(name).await.unwrap();
        let node = bench.headscale.join(machine.key.reveal(), name);
        machines.push((machine.machine_id, node));
    }
    bench.advance_and_reconcile(ROUND).await;
    let now = coord_bridge::provisioning::clock::Clock::now(&*bench.clock);
    bench.headscale.change_node(&machines[0].1, |it| {
        (it.online, it.last_seen) = (false, Some(now));
    });
    bench.advance_and_reconcile(bench.settings.stale_after + ROUND).await;
    assert_eq!(bench.machine(&machines[0].0).await.state, State::Stale);
    assert_eq!(bench.headscale.nodes().await.unwrap().len(), 2);
    // A list that may be wrong lets nobody go.
    let all = bench.headscale.exchange_nodes(Vec::new());
    bench.advance_and_reconcile(ROUND * 10_000).await;
    assert_eq!(bench.machine(&machines[0].0).await.state, State::Stale);
    bench.headscale.exchange_nodes(all);
    bench.advance_and_reconcile(ROUND).await;
    assert_eq!(bench.machine(&machines[0].0).await.state, State::Deleted);
    assert_eq!(bench.machine(&machines[1].0).await.state, State::Online);
    assert_eq!(bench.headscale.nodes().await.unwrap().len(), 1);
}
