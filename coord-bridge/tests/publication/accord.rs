//! A bridge that does not lead publishes what the leader finds, and its own when that is old.

use std::time::{Duration, Instant};

use coord_bridge::lease::Leadership;
use coord_bridge::publication::accord::Accord;
use coord_bridge::publication::health::{Book, OUT_AFTER};
use coord_bridge::publication::{Publisher, new_probe_key};
use coord_bridge::store::{Location, Store, StoreError, verdicts};

const CONFIG: &str = "map_probe_interval = \"0\"\n\
                      [[region.nodes]]\nhostname = \"one.example.org\"\n\
                      [[region.nodes]]\nhostname = \"two.example.org\"\n";

#[tokio::test]
async fn whoever_does_not_lead_follows_while_that_is_fresh() {
    let plan = coord_bridge::Config::parse(CONFIG).unwrap().plan;
    let regions: Vec<_> = plan.map.regions.values().cloned().collect();
    let publisher = Publisher::start(plan, None, None, new_probe_key().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(Location::File(folder.path().join("bridge.sqlite"))).unwrap();
    let accord = Accord { store: store.clone(), leadership: Leadership::new(|| false) };
    let keeping = tokio::spawn(accord.keep(publisher.clone()));
    let nodes = || publisher.published().edition().map().regions[&999].nodes.len();
    assert_eq!(nodes(), 2);

    // The leader has lost the second node.
    let mut book = Book::default();
    let (interval, began) = (Duration::from_secs(15), Instant::now());
    book.set(&regions, &[], Some(interval), began);
    for count in 1..=OUT_AFTER {
        let mut round: Vec<_> =
            book.to_probe().into_iter().map(|it| (it, Ok("works".to_owned()))).collect();
        round[1].1 = Err("down".to_owned());
        book.judge(&round, began + count * interval);
    }
    assert_eq!(book.members().len(), 1);
    let body = serde_json::to_string(&book.verdicts()).unwrap();
    store.write(move |session| verdicts::put(session, &body)).await.unwrap();
    until(|| nodes() == 1).await;
    let out: Vec<bool> = publisher.status().nodes.iter().map(|node| node.is_in).collect();
    assert_eq!(out, [true, false], "the status says what is published");

    // Without a word of the leader each has its own.
    let age = |session: &mut dyn coord_bridge::store::Session| {
        session.execute("UPDATE verdicts SET at_ms = at_ms - 60000", &[])
    };
    store.write(age).await.unwrap();
    until(|| nodes() == 2).await;

    // A leader that finds nothing good is not followed into an empty map, nor nonsense anywhere.
    let none: std::collections::BTreeMap<String, bool> =
        book.verdicts().into_keys().map(|node| (node, false)).collect();
    let bodies = [serde_json::to_string(&none).unwrap(), "nonsense".to_owned()];
    for body in bodies {
        store.write(move |session| verdicts::put(session, &body)).await.unwrap();
        // It has looked at least once when another row is known to have been read.
        for _ in 0..3 {
            store.read(|_| Ok::<_, StoreError>(())).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(nodes(), 2);
        }
    }
    keeping.abort();
}

/// Whoever leads publishes its own, and says so.
#[tokio::test]
async fn whoever_leads_says_what_it_finds() {
    let plan = coord_bridge::Config::parse(CONFIG).unwrap().plan;
    let publisher = Publisher::start(plan, None, None, new_probe_key().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(Location::File(folder.path().join("bridge.sqlite"))).unwrap();
    let accord = Accord { store: store.clone(), leadership: Leadership::all() };
    let keeping = tokio::spawn(accord.keep(publisher.clone()));
    let began = Instant::now();
    let body = loop {
        if let Some((body, _)) = store.read(verdicts::current).await.unwrap() {
            break body;
        }
        assert!(began.elapsed() < crate::program::PATIENCE, "nothing is said");
        tokio::task::yield_now().await;
    };
    assert_eq!(body, serde_json::to_string(&publisher.verdicts()).unwrap());
    assert_eq!(publisher.verdicts().into_values().collect::<Vec<_>>(), [true, true]);
    keeping.abort();
}

async fn until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < crate::program::PATIENCE, "in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
