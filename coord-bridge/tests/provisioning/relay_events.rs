//! The numbered list of what relays have to hear.

use coord_bridge::store::{Store, relay_events};
use derp::key::NodePublic;

use crate::store::on_both;

/// What relays have to hear: numbered without a gap, and whoever missed too much is told so.
#[test]
fn relay_events_are_numbered_and_a_gap_is_seen() {
    on_both(|location| {
        let store = Store::new(location).unwrap();
        let after = |seq| store.read_now(move |s| relay_events::after(s, seq, 10)).unwrap();
        let numbers =
            |seq| after(seq).map(|events| events.iter().map(|it| it.seq).collect::<Vec<_>>());
        assert_eq!((numbers(0), numbers(3)), (Some(vec![]), None));
        for number in 1..=4 {
            let at_ms = i64::from(number) * 1_000;
            store.write_now(move |s| relay_events::insert_close(s, &node(number), at_ms)).unwrap();
        }
        assert_eq!(numbers(0), Some(vec![1, 2, 3, 4]));
        assert_eq!((numbers(2), numbers(4), numbers(5)), (Some(vec![3, 4]), Some(vec![]), None));
        assert_eq!(after(3).unwrap()[0].close, Some(node(4)));
        let few = store.read_now(|s| relay_events::after(s, 0, 2)).unwrap().unwrap();
        assert_eq!(few.len(), 2);

        // Another bridge has found the same.
        let again = |since_ms| {
            store.write_now(move |s| {
                relay_events::insert_close_once(s, &node(4), 5_000, since_ms)?;
                relay_events::newest(s)
            })
        };
        assert_eq!((again(4_000), again(4_001)), (Ok(4), Ok(5)));

        // The newest stays, however old, so that no number comes twice.
        assert_eq!(store.write_now(|s| relay_events::prune(s, 3_000)), Ok(2));
        assert_eq!((numbers(0), numbers(2), numbers(3)), (None, None, Some(vec![4, 5])));
        store.write_now(|s| relay_events::prune(s, i64::MAX)).unwrap();
        assert_eq!((numbers(4), numbers(5)), (None, Some(vec![])));
        store.write_now(|s| relay_events::insert_close(s, &node(6), 6_000)).unwrap();
        assert_eq!(numbers(5), Some(vec![6]));
    });
}

/// Two bridges write, and the clock of one is an hour behind: what goes by its date is the
/// beginning, and no event between others.
#[test]
fn relay_events_lose_no_number_between_others() {
    on_both(|location| {
        let store = Store::new(location).unwrap();
        for (number, at_ms) in [(1, 1_000), (2, 9_000), (3, 2_000), (4, 9_000)] {
            store.write_now(move |s| relay_events::insert_close(s, &node(number), at_ms)).unwrap();
        }
        assert_eq!(store.write_now(|s| relay_events::prune(s, 5_000)), Ok(1));
        let rest = store.read_now(|s| relay_events::after(s, 2, 10)).unwrap().unwrap();
        assert_eq!(rest.iter().map(|it| it.seq).collect::<Vec<_>>(), [3, 4]);
    });
}

fn node(number: u8) -> NodePublic {
    NodePublic::from_bytes([number; 32])
}
