//! Faults of maps. Spec: docs/protocol/derp.md, DERP-10.1 and DERP-10.4.

use std::collections::BTreeMap;

use derp::map::{
    DerpMap, HomeParams, MAX_REGION_ID, MapError, NO_ADDRESS, NO_STUN, Node, NodeFault, Region,
};

use super::{node_of, own_map, region_of};

/// DERP-10.1, DERP-10.4: each fault of a map, of a region, and of a score.
#[test]
fn faults_of_maps_and_regions_are_found() {
    assert_eq!(DerpMap::default().validate(), Err(MapError::Empty));
    assert_eq!(own_map().faults(), []);

    let filed_under = |id: u64| DerpMap {
        regions: BTreeMap::from([(id, region_of(id, vec![node_of(id)]))]),
        ..DerpMap::default()
    };
    assert_eq!(filed_under(0).faults(), [MapError::RegionId { region: 0 }]);
    assert_eq!(filed_under(1).faults(), []);
    assert_eq!(filed_under(MAX_REGION_ID).faults(), []);
    assert_eq!(MAX_REGION_ID, 9_007_199_254_740_991);
    let beyond = MAX_REGION_ID + 1;
    assert_eq!(filed_under(beyond).faults(), [MapError::RegionId { region: beyond }]);

    let region_fault = |change: fn(&mut Region)| {
        let mut map = own_map();
        change(map.regions.get_mut(&999).unwrap());
        map.faults()
    };
    let mismatch = MapError::RegionMismatch { region: 999, id: 998 };
    assert_eq!(region_fault(|region| region.id = 998), [mismatch]);
    assert_eq!(region_fault(|region| region.nodes.clear()), [MapError::NoNodes { region: 999 }]);
    let nowhere = [MapError::Coordinates { region: 999 }];
    assert_eq!(region_fault(|region| region.latitude = 90.5), nowhere);
    assert_eq!(region_fault(|region| region.longitude = -180.5), nowhere);
    assert_eq!(region_fault(|region| region.latitude = f64::NAN), nowhere);

    for (score, fine) in [(0.5, true), (3.0, true), (0.0, false), (-1.0, false), (f64::NAN, false)]
    {
        let mut map = own_map();
        let region_score = BTreeMap::from([(999, score)]);
        map.home_params = Some(HomeParams { region_score });
        assert_eq!(map.validate().is_ok(), fine, "{score}");
    }
}

/// DERP-10.4: each fault of a node, alone and with its place.
#[test]
fn faults_of_nodes_are_found() {
    let faults = |change: &dyn Fn(&mut Node)| {
        let mut map = own_map();
        change(&mut map.regions.get_mut(&999).unwrap().nodes[0]);
        let of_node = |found| {
            let MapError::Node { region: 999, node: 0, fault } = found else { panic!("{found}") };
            fault
        };
        map.faults().into_iter().map(of_node).collect::<Vec<_>>()
    };
    assert_eq!(faults(&|node| node.name.clear()), [NodeFault::NoName]);
    assert_eq!(faults(&|node| node.region_id = 1), [NodeFault::RegionMismatch { id: 1 }]);
    assert_eq!(faults(&|node| node.host_name.clear()), [NodeFault::NoHostName]);
    let long_label = "x".repeat(64);
    let long_name = "x.".repeat(127) + "xx";
    for bad in
        ["derp example", "derp/", "https://derp", ".org", "a..b", "a.", &long_label, &long_name]
    {
        assert_eq!(faults(&|node| node.host_name = bad.into()), [NodeFault::HostName], "{bad}");
    }
    let name_of_253 = "x.".repeat(126) + "x";
    for good in ["derp", "192.0.2.1", "2001:db8::1", "a_b.example.org", &name_of_253] {
        assert_eq!(faults(&|node| node.host_name = good.into()), [], "{good}");
    }

    let pin = "0123456789abcdef".repeat(4);
    let good_pin = format!("sha256-raw:{pin}");
    for good in ["", "other.example.org", &good_pin] {
        assert_eq!(faults(&|node| node.cert_name = good.into()), [], "{good}");
    }
    let upper = format!("sha256-raw:{}", pin.to_uppercase());
    let short = format!("sha256-raw:{}", &pin[1..]);
    let long = format!("{good_pin}0");
    for bad in ["sha256-raw:", &upper, &short, &long, "sha256:00", "a b"] {
        assert_eq!(faults(&|node| node.cert_name = bad.into()), [NodeFault::CertName], "{bad}");
    }

    for good in ["", NO_ADDRESS, "203.0.113.7"] {
        assert_eq!(faults(&|node| node.ipv4 = good.into()), [], "{good}");
    }
    for bad in ["None", "203.0.113", "203.0.113.07", "2001:db8::7", "derp.example.org", " "] {
        assert_eq!(faults(&|node| node.ipv4 = bad.into()), [NodeFault::Ipv4], "{bad}");
    }
    for good in ["", NO_ADDRESS, "2001:db8::7", "::1"] {
        assert_eq!(faults(&|node| node.ipv6 = good.into()), [], "{good}");
    }
    for bad in ["::ffff:203.0.113.7", "203.0.113.7", "[2001:db8::7]", "fe80::1%eth0"] {
        assert_eq!(faults(&|node| node.ipv6 = bad.into()), [NodeFault::Ipv6], "{bad}");
    }
    let neither = |node: &mut Node| {
        (node.ipv4, node.ipv6) = (NO_ADDRESS.into(), NO_ADDRESS.into());
    };
    assert_eq!(faults(&neither), [NodeFault::NoAddress]);

    for port in [0, 443, 65_535] {
        assert_eq!(faults(&|node| (node.derp_port, node.stun_port) = (port, port)), []);
    }
    assert_eq!(faults(&|node| node.stun_port = NO_STUN), []);
    for port in [-1, 65_536, i32::MAX] {
        assert_eq!(faults(&|node| node.derp_port = port), [NodeFault::DerpPort { port }]);
    }
    for port in [-2, 65_536, i32::MIN] {
        assert_eq!(faults(&|node| node.stun_port = port), [NodeFault::StunPort { port }]);
    }
    assert_eq!(faults(&|node| node.stun_test_ip = "x".into()), [NodeFault::StunTestIp]);
    assert_eq!(faults(&|node| node.stun_test_ip = "192.0.2.1".into()), []);
}

/// DERP-10.4: a node name that comes twice is found wherever its double is, once per double.
#[test]
fn node_names_are_unique_over_all_regions() {
    let mut map = own_map();
    let twin = Node { region_id: 998, ..map.regions[&999].nodes[0].clone() };
    map.regions.insert(998, region_of(998, vec![twin.clone(), twin]));

    let fault = NodeFault::DuplicateName;
    let expected = [
        MapError::Node { region: 998, node: 1, fault },
        MapError::Node { region: 999, node: 0, fault },
    ];
    assert_eq!(map.faults(), expected);
    assert_eq!(map.validate(), Err(expected[0]));
    assert_eq!(expected[0].to_string(), "region 998, node 1: name is taken by another node");
}
