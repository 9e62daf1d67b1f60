//! DERP maps of other people.

use derp::map::DerpMap;

/// A map that is read renders to one that reads as the same, and its YAML holds neither control
/// characters nor null.
///
/// # Panics
///
/// If it does not.
pub fn derp_map(data: &[u8]) {
    let Ok(map) = DerpMap::parse(data) else { return };
    let again = DerpMap::parse(map.to_json().as_bytes()).unwrap();
    assert_eq!(again.regions.len(), map.regions.len());
    for (one, other) in map.regions.values().zip(again.regions.values()) {
        assert_eq!(
            (one.id, &one.code, &one.name, &one.nodes),
            (other.id, &other.code, &other.name, &other.nodes)
        );
    }
    assert_eq!(map.validate().is_ok(), map.faults().is_empty());
    for line in map.to_yaml().lines() {
        assert!(!line.chars().any(char::is_control) && !line.ends_with(": null"));
    }
}
