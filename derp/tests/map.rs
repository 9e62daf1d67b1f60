//! The DERP map, through the public API only. Spec: docs/protocol/derp.md, section 10.
//!
//! After a wanted change of a rendering: `BLESS=1 cargo test -p derp --test map`, and read the
//! difference.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::collections::BTreeMap;

use derp::map::{
    DerpMap, HomeParams, MAX_MAP_LEN, NO_ADDRESS, NO_STUN, Node, ParseMapError, Region,
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[path = "map/faults.rs"]
mod faults;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");

/// DERP-10.2, DERP-10.3: the map that Go's json.MarshalIndent wrote from tailcfg.DERPMap with
/// every field set (tailscale.com v1.102.4) is read as what it was made from.
#[test]
fn a_map_that_go_wrote_is_read() {
    let map = DerpMap::parse(include_bytes!("golden/map_from_go.json")).unwrap();
    assert_eq!(map, full_map());
    assert_eq!(map.validate(), Ok(()));
}

/// DERP-10.3, DERP-10.5: JSON of a map with every field, and of the usual one.
#[test]
fn json_is_the_golden_one() {
    is_golden("map_full.json", &full_map().to_json());
    is_golden("map_own.json", &own_map().to_json());
}

/// DERP-10.5, DERP-10.6: YAML of both maps, and of one with every text that could be misread.
/// Go's gopkg.in/yaml.v3, which Headscale uses, read the three files into tailcfg.DERPMap with
/// every field as it is here when this was tried.
#[test]
fn yaml_is_the_golden_one() {
    is_golden("map_full.yaml", &full_map().to_yaml());
    is_golden("map_own.yaml", &own_map().to_yaml());
    is_golden("map_odd_texts.yaml", &odd_texts().to_yaml());
}

/// DERP-10.3: what differs between our JSON and Go's is spelling, not meaning.
#[test]
fn our_json_means_what_go_writes() {
    let go: Value = serde_json::from_slice(include_bytes!("golden/map_from_go.json")).unwrap();
    let ours: Value = serde_json::from_str(&full_map().to_json()).unwrap();
    let as_float = |value: &Value| value.pointer("/HomeParams/RegionScore/1").unwrap().as_f64();
    assert_eq!(as_float(&ours), as_float(&go));
    assert_eq!(ours["Regions"], go["Regions"]);
    assert_eq!(ours["omitDefaultRegions"], json!(true));
}

/// DERP-10.5: a map made in another order renders to the same bytes.
#[test]
fn regions_come_by_rising_id() {
    let mut map = DerpMap::default();
    for id in [999, 5, 10] {
        map.regions.insert(id, Region { id, ..own_map().regions.remove(&999).unwrap() });
    }
    let text = map.to_yaml();
    let places: Vec<_> = [5, 10, 999].map(|id| text.find(&format!("\n  {id}:\n"))).into();
    assert!(places.iter().all(Option::is_some));
    assert!(places.is_sorted(), "{places:?}");
    let json = map.to_json();
    let places: Vec<_> = [5, 10, 999].map(|id| json.find(&format!("\n    \"{id}\": {{"))).into();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
}

/// DERP-10.7: nothing that a map can hold renders to `null`, whatever is missing or no number.
#[test]
fn nothing_renders_to_null() {
    let mut broken = full_map();
    let region = broken.regions.get_mut(&999).unwrap();
    (region.latitude, region.longitude) = (f64::NAN, f64::INFINITY);
    let scores = BTreeMap::from([(1, f64::NAN), (2, f64::NEG_INFINITY)]);
    broken.home_params = Some(HomeParams { region_score: scores });
    let bare = DerpMap {
        home_params: Some(HomeParams::default()),
        regions: BTreeMap::from([(1, Region::default())]),
        omit_default_regions: false,
    };
    for map in [broken, bare, DerpMap::default()] {
        let (json, yaml) = (map.to_json(), map.to_yaml());
        assert!(!json.contains("null") && !yaml.contains("null"), "{json}{yaml}");
        assert!(!json.contains("HomeParams") && !yaml.contains("homeparams"), "{json}{yaml}");
        assert!(json.ends_with("}\n") && yaml.ends_with('\n'));
        DerpMap::parse(json.as_bytes()).unwrap();
        read_yaml(&yaml);
    }
    assert_eq!(DerpMap::default().to_yaml(), "regions: {}\n");
}

/// DERP-10.2: letter case, unknown names, `null` and doubles, as Go has them.
#[test]
fn maps_of_others_are_read_with_tolerance() {
    let text = br#"{
        "More": {"deep": [[[1, {"a": null}]]]},
        "REGIONS": {
            "999": {"regionid": 1, "nodes": []},
            "7": null,
            "999": {"RegionID": 999, "REGIONCODE": "own", "Nodes": [
                null,
                {"name": "999a", "REGIONID": 999, "hostNAME": "derp.example.org",
                 "canport80": true, "StunPort": null, "News": 5}
            ]}
        },
        "OmitDefaultRegions": true,
        "homeparams": null
    }"#;
    let map = DerpMap::parse(text).unwrap();

    let node = Node {
        name: "999a".into(),
        region_id: 999,
        host_name: "derp.example.org".into(),
        can_port_80: true,
        ..Node::default()
    };
    let region = Region { id: 999, code: "own".into(), nodes: vec![node], ..Region::default() };
    let regions = BTreeMap::from([(999, region)]);
    assert_eq!(map, DerpMap { regions, omit_default_regions: true, home_params: None });
    for nothing in ["null", "{}", r#"{"Regions":null}"#, r#"{"error":"boom"}"#] {
        assert_eq!(DerpMap::parse(nothing.as_bytes()), Ok(DerpMap::default()), "{nothing}");
    }
}

/// DERP-10.2: what is no map, with its fault.
#[test]
fn what_is_no_map_is_refused() {
    for text in ["", "<html>", "{", "{}{}", r#"{"Regions":{"1":{"RegionName":"a<TAB>b"}}}"#] {
        let text = text.replace("<TAB>", "\t");
        assert_eq!(DerpMap::parse(text.as_bytes()), Err(ParseMapError::Syntax), "{text}");
    }
    let shapes = [
        "[]",
        "5",
        r#"{"Regions":[]}"#,
        r#"{"Regions":{"own":{}}}"#,
        r#"{"Regions":{"-1":{}}}"#,
        r#"{"Regions":{"1":5}}"#,
        r#"{"Regions":{"1":{"RegionID":-1}}}"#,
        r#"{"Regions":{"1":{"RegionID":1.0}}}"#,
        r#"{"Regions":{"1":{"RegionID":"1"}}}"#,
        r#"{"Regions":{"1":{"Nodes":{}}}}"#,
        r#"{"Regions":{"1":{"Nodes":[5]}}}"#,
        r#"{"Regions":{"1":{"Nodes":[{"DERPPort":4294967296}]}}}"#,
        r#"{"Regions":{"1":{"Nodes":[{"IPv4":5}]}}}"#,
        r#"{"HomeParams":{"RegionScore":{"x":1}}}"#,
    ];
    for text in shapes {
        assert_eq!(DerpMap::parse(text.as_bytes()), Err(ParseMapError::Shape), "{text}");
    }
    let deep = format!(r#"{{"x":{}"#, "[".repeat(200_000));
    assert_eq!(DerpMap::parse(deep.as_bytes()), Err(ParseMapError::Syntax));
    let len = MAX_MAP_LEN + 1;
    assert_eq!(DerpMap::parse(&vec![b' '; len]), Err(ParseMapError::TooLong { len }));
}

/// DERP-10.6: plain where it is safe, so that people can read the file, and never where some
/// reader could see a number, a date, a truth value, nothing, or YAML.
#[test]
fn yaml_quotes_what_could_be_misread() {
    let plain = [
        "own",
        "Own relay",
        "999a",
        "12b",
        "none",
        "derp.example.org",
        "203.0.113.7",
        "a-b_c/d",
        "nob",
        "truest",
        "Null1",
    ];
    let quoted = [
        "null",
        "NULL",
        "~",
        "true",
        "False",
        "yes",
        "No",
        "on",
        "OFF",
        "y",
        "N",
        "123",
        "1e3",
        "0x1f",
        "0b1",
        "0o17",
        "017",
        "1_000",
        "1.5",
        ".5",
        "-1",
        "+1",
        ".inf",
        ".NaN",
        "nan",
        "2020-01-01",
        "1:30",
        "12:30:45",
        "2001:db8::7",
        "::1",
        " lead",
        "trail ",
        "two  blanks",
        "a: b",
        "a:",
        "a #b",
        "#a",
        "- a",
        "-",
        "?",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "[a]",
        "{a}",
        "a,b",
        "'a'",
        "\"a\"",
        "a\\b",
        "a\tb",
        "a\nb",
        "a\rb",
        "a\0b",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{fffe}",
        "\u{1ffff}",
        "é",
        "日本",
        "<<",
        "=",
        "---",
        "...",
        "1.2.3",
        "256.0.0.1",
        "1e",
        "5E3",
    ];
    for (texts, quotes) in [(&plain[..], false), (&quoted[..], true)] {
        for text in texts {
            let region = Region { name: (*text).to_owned(), ..region_of(1, Vec::new()) };
            let map = DerpMap { regions: BTreeMap::from([(1, region)]), ..DerpMap::default() };
            let yaml = map.to_yaml();
            let line = yaml.lines().find(|line| line.contains("regionname")).unwrap();
            assert_eq!(line.contains(": \""), quotes, "{line}");
            assert!(yaml.chars().all(|c| c == '\n' || !c.is_control()), "{yaml:?}");
            assert_eq!(read_yaml(&yaml), map, "{yaml}");
        }
    }
}

proptest! {
    /// DERP-10.2, DERP-10.3, DERP-10.6: every map comes back from both of its forms.
    #[test]
    fn maps_round_trip_through_json_and_yaml(map in maps()) {
        let from_json = DerpMap::parse(map.to_json().as_bytes());
        prop_assert_eq!(from_json.as_ref(), Ok(&map));
        let yaml = map.to_yaml();
        prop_assert_eq!(read_yaml(&yaml), map, "{}", yaml);
    }

    /// DERP-10.5: rendering depends on nothing but the map.
    #[test]
    fn equal_maps_have_equal_bytes(map in maps()) {
        let again = DerpMap::parse(map.to_json().as_bytes()).unwrap();
        prop_assert_eq!(again.to_json(), map.to_json());
        prop_assert_eq!(again.to_yaml(), map.to_yaml());
    }

    /// DERP-10.2: no bytes make the reader panic.
    #[test]
    fn any_bytes_are_a_map_or_not(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _either = DerpMap::parse(&bytes);
        let text = [b"{\"Regions\":{\"1\":{\"Nodes\":[", &bytes[..], b"]}}}"].concat();
        let _either = DerpMap::parse(&text);
    }
}

/// Compares with a golden file, or rewrites it where `BLESS` is set.
fn is_golden(name: &str, text: &str) {
    let path = format!("{GOLDEN}{name}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
}

/// The usual map: one region, one node.
fn own_map() -> DerpMap {
    let node = Node {
        name: "999a".into(),
        region_id: 999,
        host_name: "derp.example.org".into(),
        ipv4: "203.0.113.7".into(),
        ipv6: "2001:db8::7".into(),
        derp_port: 443,
        stun_port: 3478,
        can_port_80: true,
        ..Node::default()
    };
    let region = Region {
        id: 999,
        code: "own".into(),
        name: "Own relay".into(),
        nodes: vec![node],
        ..Region::default()
    };
    DerpMap { regions: BTreeMap::from([(999, region)]), ..DerpMap::default() }
}

/// What `golden/map_from_go.json` was made from: every field of every type.
fn full_map() -> DerpMap {
    let first = Node {
        name: "999a".into(),
        region_id: 999,
        host_name: "derp.example.org".into(),
        cert_name: "cert.example.org".into(),
        ipv4: "203.0.113.7".into(),
        ipv6: "2001:db8::7".into(),
        stun_port: 3479,
        stun_only: false,
        derp_port: 8443,
        insecure_for_tests: true,
        stun_test_ip: "192.0.2.1".into(),
        can_port_80: true,
    };
    let second = Node {
        name: "999b".into(),
        region_id: 999,
        host_name: "stun.example.org".into(),
        ipv6: NO_ADDRESS.into(),
        stun_port: NO_STUN,
        stun_only: true,
        ..Node::default()
    };
    let own = Region {
        id: 999,
        code: "own".into(),
        name: "Own relay".into(),
        latitude: 48.25,
        longitude: -16.5,
        avoid: true,
        no_measure_no_home: true,
        nodes: vec![first, second],
    };
    let pinned = Node {
        name: "1a".into(),
        region_id: 1,
        host_name: "192.0.2.9".into(),
        cert_name: format!("sha256-raw:{}", "ab".repeat(32)),
        ..Node::default()
    };
    let one = Region {
        id: 1,
        code: "one".into(),
        name: "<One>".into(),
        nodes: vec![pinned],
        ..Region::default()
    };
    DerpMap {
        home_params: Some(HomeParams { region_score: BTreeMap::from([(1, 2.0), (999, 0.5)]) }),
        regions: BTreeMap::from([(1, one), (999, own)]),
        omit_default_regions: true,
    }
}

/// A map whose region names are hard to write in YAML.
fn odd_texts() -> DerpMap {
    let texts = [
        "null",
        "no",
        "1e3",
        "123",
        "a: b #c",
        "- \"x\"\\",
        "tab\tnewline\nbell\u{7}",
        "Zürich 日本 \u{1f511}",
    ];
    let region = |(id, text): (u64, &str)| {
        (id, Region { name: text.into(), ..region_of(id, vec![node_of(id)]) })
    };
    DerpMap { regions: (1..).zip(texts).map(region).collect(), ..DerpMap::default() }
}

fn region_of(id: u64, nodes: Vec<Node>) -> Region {
    Region { id, nodes, ..Region::default() }
}

fn node_of(region_id: u64) -> Node {
    Node {
        name: format!("{region_id}a"),
        region_id,
        host_name: "derp.example.org".into(),
        ..Node::default()
    }
}

/// What a YAML reader that is not ours makes of `yaml`: it decides for itself what is text, what
/// a number and what nothing, and must take every region key for a bare integer.
fn read_yaml(yaml: &str) -> DerpMap {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Top {
        #[serde(default)]
        homeparams: BTreeMap<String, BTreeMap<u64, Value>>,
        regions: BTreeMap<u64, Value>,
        #[serde(default)]
        omitdefaultregions: bool,
    }
    let top: Top = serde_saphyr::from_str(yaml).unwrap();
    let known = [
        "regionid",
        "regioncode",
        "regionname",
        "latitude",
        "longitude",
        "avoid",
        "nomeasurenohome",
        "nodes",
    ];
    for region in top.regions.values() {
        assert!(region.as_object().unwrap().keys().all(|name| known.contains(&name.as_str())));
    }
    let mut json = json!({
        "regions": top.regions,
        "omitdefaultregions": top.omitdefaultregions,
    });
    if !top.homeparams.is_empty() {
        json["homeparams"] = json!(top.homeparams);
    }
    DerpMap::parse(json.to_string().as_bytes()).unwrap()
}

/// Maps of any content that both forms can say.
fn maps() -> impl Strategy<Value = DerpMap> {
    let score = (1..10_000_u32).prop_map(|n| f64::from(n) / 100.0);
    let scores = prop::collection::btree_map(any::<u64>().prop_map(|id| id >> 11), score, 1..4);
    let regions =
        prop::collection::btree_map(any::<u64>().prop_map(|id| id >> 11), regions(), 0..4);
    (prop::option::of(scores), regions, any::<bool>()).prop_map(
        |(scores, regions, omit_default_regions)| DerpMap {
            home_params: scores.map(|region_score| HomeParams { region_score }),
            regions,
            omit_default_regions,
        },
    )
}

fn regions() -> impl Strategy<Value = Region> {
    let degrees = || (-180_000..180_000_i32).prop_map(|n| f64::from(n) / 1000.0);
    let flags = (any::<bool>(), any::<bool>());
    let nodes = prop::collection::vec(nodes(), 0..3);
    (0..1_u64 << 53, texts(), texts(), degrees(), degrees(), flags, nodes).prop_map(
        |(id, code, name, latitude, longitude, (avoid, no_measure_no_home), nodes)| Region {
            id,
            code,
            name,
            latitude,
            longitude,
            avoid,
            no_measure_no_home,
            nodes,
        },
    )
}

fn nodes() -> impl Strategy<Value = Node> {
    let words = prop::collection::vec(texts(), 6);
    let flags = any::<[bool; 3]>();
    (words, 0..1_u64 << 53, any::<[i32; 2]>(), flags).prop_map(
        |(
            words,
            region_id,
            [stun_port, derp_port],
            [stun_only, insecure_for_tests, can_port_80],
        )| {
            let [name, host_name, cert_name, ipv4, ipv6, stun_test_ip] = words.try_into().unwrap();
            Node {
                name,
                region_id,
                host_name,
                cert_name,
                ipv4,
                ipv6,
                stun_port,
                stun_only,
                derp_port,
                insecure_for_tests,
                stun_test_ip,
                can_port_80,
            }
        },
    )
}

/// Texts of any characters, many of them short words of the kind that YAML readers misread.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|text| text.chars().take(20).collect()),
        "[0-9a-fx._:+-]{0,6}",
        "[ -~]{0,12}",
        "(?i)(null|yes|no|on|off|true|false|y|n|~|nan|\\.inf)",
    ]
}
