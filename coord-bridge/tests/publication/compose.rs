//! One map out of several.

use std::collections::BTreeSet;

use coord_bridge::publication::compose::{Choice, Upstream, compose, sound};
use coord_bridge::relays::LiveNode;
use derp::map::{DerpMap, Node, Region};
use proptest::prelude::*;

use crate::{live, map, names, node, region};

#[test]
fn configured_names_win_over_those_of_a_relay() {
    let named = [region(999, Vec::new())];
    let composed = compose(&named, &[live(999, "999x"), live(998, "998x")], &[]);

    assert_eq!(composed.map.regions[&999].name, "Region 999");
    assert_eq!(composed.map.regions[&998].name, "Of relay 998x");
    assert_eq!(composed.map.validate(), Ok(()));
}

/// Ours wins, then whoever comes first; what is lost is told.
#[test]
fn a_region_of_ours_wins_over_the_same_id_upstream() {
    let theirs = map(vec![region(999, vec![node(999, "theirs")]), region(1, vec![node(1, "1a")])]);
    let others = map(vec![region(1, vec![node(1, "1z")]), region(2, vec![node(2, "2a")])]);
    let choice = Choice::default();
    let upstreams =
        [Upstream { map: &theirs, choice: &choice }, Upstream { map: &others, choice: &choice }];

    let composed = compose(&[], &[live(999, "999a")], &upstreams);

    assert_eq!(names(&composed.map), ["1a", "2a", "999a"]);
    assert_eq!(composed.overridden, [vec![999], vec![1]]);
    assert_eq!(composed.taken, [1, 1]);
}

/// An id does not change hands while none of our nodes is in.
#[test]
fn an_id_of_ours_is_ours_while_it_has_no_node() {
    let theirs = map(vec![region(999, vec![node(999, "theirs")])]);
    let choice = Choice::default();
    let upstream = [Upstream { map: &theirs, choice: &choice }];
    let composed = compose(&[region(999, Vec::new())], &[live(998, "998a")], &upstream);
    assert_eq!(names(&composed.map), ["998a"]);
    assert_eq!(composed.overridden, [vec![999]]);
}

#[test]
fn regions_are_kept_dropped_and_not_preferred() {
    let theirs = map([1, 2, 3].map(|id| region(id, vec![node(id, &format!("{id}a"))])).into());
    let own = [live(999, "999a")];
    let publish = |choice: &Choice| compose(&[], &own, &[Upstream { map: &theirs, choice }]).map;
    let keep = Choice { keep: [1, 2].into(), drop: [2].into(), ..Choice::default() };
    assert_eq!(names(&publish(&keep)), ["1a", "999a"]);

    let preferring = publish(&Choice { prefer_own: true, ..Choice::default() });
    for (id, region) in &preferring.regions {
        assert_eq!(region.no_measure_no_home, *id != 999, "{id}");
    }
    assert!(!publish(&Choice::default()).regions[&1].no_measure_no_home);
}

/// A client with no region that may be its home has none at all.
#[test]
fn own_regions_are_preferred_only_where_one_can_be_a_home() {
    let theirs = map(vec![region(1, vec![node(1, "1a")])]);
    let choice = Choice { prefer_own: true, ..Choice::default() };
    let upstream = [Upstream { map: &theirs, choice: &choice }];
    let no_home = Region { no_measure_no_home: true, ..region(999, Vec::new()) };
    let stun_only =
        LiveNode { node: Node { stun_only: true, ..node(998, "998a") }, ..live(998, "998a") };
    for (named, member) in [(vec![no_home], live(999, "999a")), (Vec::new(), stun_only)] {
        let composed = compose(&named, &[member], &upstream);
        assert!(!composed.map.regions[&1].no_measure_no_home);
    }
}

/// A node's name is the same in no two regions: clients tell nodes by it.
#[test]
fn a_node_upstream_with_the_name_of_ours_is_left_out() {
    let theirs = map(vec![
        region(1, vec![node(1, "999a"), node(1, "1b")]),
        region(2, vec![node(2, "999a")]),
    ]);
    let choice = Choice::default();
    let composed =
        compose(&[], &[live(999, "999a")], &[Upstream { map: &theirs, choice: &choice }]);

    assert_eq!(names(&composed.map), ["1b", "999a"]);
    assert_eq!(composed.overridden, [vec![2]]);
}

/// What Headscale or clients would trip over is left out, and the rest stays.
#[test]
fn what_is_faulty_in_a_map_of_others_is_left_out() {
    let mut theirs = map(vec![
        region(1, vec![node(1, "1a"), Node { ipv4: "nonsense".to_owned(), ..node(1, "1b") }]),
        region(2, vec![Node { host_name: String::new(), ..node(2, "2a") }]),
        region(3, Vec::new()),
        Region { latitude: 400.0, ..region(4, vec![node(4, "4a"), node(4, "1a")]) },
    ]);
    theirs.regions.insert(5, region(6, vec![node(5, "5a")]));
    theirs.regions.insert(0, region(0, vec![node(0, "0a")]));

    let theirs = sound(theirs);

    assert_eq!(names(&theirs), ["1a", "4a"]);
    assert_eq!(theirs.validate(), Ok(()));
}

/// Names that meet often, in and out of our own range.
fn any_node() -> impl Strategy<Value = (u64, Node)> {
    let faults = prop_oneof![4 => Just(""), 1 => Just("bad name"), 1 => Just("none")];
    (prop_oneof![Just(1_u64), Just(2), Just(998), Just(999)], 0..4_u8, faults, any::<bool>())
        .prop_map(|(id, letter, ipv4, stun_only)| {
            let name = format!("n{letter}");
            (id, Node { ipv4: ipv4.to_owned(), stun_only, ..node(id, &name) })
        })
}

fn any_map() -> impl Strategy<Value = DerpMap> {
    prop::collection::vec(any_node(), 0..8).prop_map(|nodes| {
        let mut built = DerpMap::default();
        for (id, node) in nodes {
            built.regions.entry(id).or_insert_with(|| region(id, Vec::new())).nodes.push(node);
        }
        built
    })
}

fn any_choice() -> impl Strategy<Value = Choice> {
    let ids = || prop::collection::btree_set(1..4_u64, 0..3);
    (ids(), ids(), any::<bool>()).prop_map(|(keep, drop, prefer_own)| Choice {
        keep,
        drop,
        prefer_own,
    })
}

proptest! {
    /// Whatever comes in: no fault, our regions are ours, and equal input gives equal bytes.
    #[test]
    fn composed_maps_have_no_faults(
        own in any_map(),
        theirs in prop::collection::vec((any_map(), any_choice()), 0..3),
    ) {
        let own = sound(own);
        prop_assume!(!own.regions.is_empty());
        let members: Vec<LiveNode> = own
            .regions
            .values()
            .flat_map(|region| region.nodes.iter().map(|node| LiveNode {
                region_id: region.id,
                region_code: region.code.clone(),
                region_name: region.name.clone(),
                node: node.clone(),
            }))
            .collect();
        let theirs: Vec<_> =
            theirs.into_iter().map(|(map, choice)| (sound(map), choice)).collect();
        let upstreams: Vec<_> =
            theirs.iter().map(|(map, choice)| Upstream { map, choice }).collect();

        let composed = compose(&[], &members, &upstreams);

        prop_assert_eq!(composed.map.validate(), Ok(()));
        for (id, region) in &own.regions {
            prop_assert_eq!(&composed.map.regions[id], region);
        }
        let again = compose(&[], &members, &upstreams);
        prop_assert_eq!(composed.map.to_json(), again.map.to_json());
        prop_assert_eq!(composed.map.to_yaml(), again.map.to_yaml());
        let taken: BTreeSet<u64> = composed.map.regions.keys().copied().collect();
        let count: usize = composed.taken.iter().sum();
        prop_assert_eq!(taken.len(), own.regions.len() + count);
    }
}
