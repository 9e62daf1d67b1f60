//! Machines that are deleted while something else happens to them.

use std::sync::Arc;

use coord_bridge::provisioning::refusal::Refusal;
use coord_bridge::provisioning::registration::Registered;
use coord_bridge::store::events;
use coord_bridge::store::keys::KeyState;
use coord_bridge::store::machines::State;
use tokio::task::JoinHandle;

use crate::bench::Bench;
use crate::headscale::Place;

/// Deleted while Headscale makes the key, or has made it: the key is neither told nor valid.
#[tokio::test]
async fn a_key_for_a_machine_that_was_deleted_meanwhile_ends() {
    for place in [Place::Before, Place::After] {
        let bench = Arc::new(Bench::new());
        let gate = bench.headscale.hold("create_key", place);
        let registration = register(&bench);
        gate.arrived().await;
        let id = bench.machines().await[0].id.clone();
        bench.provisioning.delete_machine(&id).await.unwrap();
        gate.open();

        let refused = registration.await.unwrap().unwrap_err();

        assert_eq!(refused, Refusal::Ended, "{place:?}");
        assert_eq!((refused.status(), refused.retry_after()), (503, Some(10)));
        assert_eq!(bench.headscale.all_keys().len(), 1);
        assert!(bench.headscale.valid_keys().is_empty(), "{place:?}");
        let key = &bench.keys().await[0];
        assert_eq!((key.state, key.key_id.is_some()), (KeyState::Expired, true), "{place:?}");
        assert_eq!(bench.machine(&id).await.state, State::Deleted);
        // Whoever comes again is another registration.
        gate.open();
        let again = bench.register("one").await.unwrap();
        assert_ne!(again.machine_id, id);
        bench.assert_no_unknown_key("after it came again").await;
    }
}

/// The key is written down while the deletion looks for it among those without a number.
#[tokio::test]
async fn a_deletion_ends_a_key_that_came_while_it_was_looked_for() {
    let bench = Arc::new(Bench::new());
    let making = bench.headscale.hold("create_key", Place::Before);
    let registration = register(&bench);
    making.arrived().await;
    let looking = bench.headscale.hold("keys", Place::Before);
    let deletion = delete(&bench, &bench.machines().await[0].id);
    looking.arrived().await;
    making.open();
    registration.await.unwrap().unwrap();
    looking.open();
    deletion.await.unwrap();
    assert!(bench.headscale.valid_keys().is_empty(), "no round is needed");
    assert_eq!(bench.keys().await[0].state, KeyState::Expired);
}

/// The machine comes again between the look at its keys and the end of its record.
#[tokio::test]
async fn a_deletion_ends_a_key_that_was_made_while_it_went_on() {
    let bench = Arc::new(Bench::new());
    let id = bench.register("one").await.unwrap().machine_id;
    let listing = bench.headscale.hold("nodes", Place::Before);
    let deletion = delete(&bench, &id);
    listing.arrived().await;
    assert!(bench.headscale.valid_keys().is_empty());
    assert_eq!(bench.register("one").await.unwrap().machine_id, id);
    assert_eq!(bench.headscale.valid_keys().len(), 1);
    listing.open();
    deletion.await.unwrap();
    assert!(bench.headscale.valid_keys().is_empty(), "no round is needed");
    assert_eq!(bench.machine(&id).await.state, State::Deleted);
}

/// Two administrators, one deletion; and one whose machine has changed meanwhile.
#[tokio::test]
async fn a_deletion_is_an_event_once() {
    let bench = Arc::new(Bench::new());
    let joined = bench.join(&["one"]).await;
    let (id, node) = &joined[0];
    let gate = bench.headscale.hold("nodes", Place::After);
    let deletions = [delete(&bench, id), delete(&bench, id)];
    gate.arrived().await;
    gate.arrived().await;
    // A round has seen it meanwhile.
    let mut offline = bench.machine(id).await;
    offline.state = State::Joined;
    let update = move |session: &mut dyn coord_bridge::store::Session| {
        coord_bridge::store::machines::update(session, &offline, State::Online)
    };
    assert!(bench.store.write(update).await.unwrap());
    gate.open();
    gate.open();
    for deletion in deletions {
        deletion.await.unwrap();
    }
    assert!(!bench.headscale.node_ids().contains(node));
    assert_eq!(bench.machine(id).await.state, State::Deleted);
    assert_eq!(deleted(&bench).await, 1);

    // What is over already is not deleted again.
    gate.open();
    delete(&bench, id).await.unwrap();
    assert_eq!(deleted(&bench).await, 1);
}

/// As a request that goes on by itself.
fn register(bench: &Arc<Bench>) -> JoinHandle<Result<Registered, Refusal>> {
    let bench = Arc::clone(bench);
    tokio::spawn(async move { bench.register("one").await })
}

fn delete(bench: &Arc<Bench>, id: &str) -> JoinHandle<()> {
    let (bench, id) = (Arc::clone(bench), id.to_owned());
    tokio::spawn(async move {
        bench.provisioning.delete_machine(&id).await.unwrap();
    })
}

/// How many deletions the events have.
async fn deleted(bench: &Bench) -> usize {
    let rows = bench.store.read(|session| events::newest(session, 100)).await.unwrap();
    rows.iter()
        .filter(|it| (it.kind.as_str(), it.outcome.as_str()) == ("machine", "deleted"))
        .count()
}
