//! What a relay and its bridge say to each other.

use derp_relay::bridge::wire::{Line, Registration};

/// A registration is none, or can be written and read again: that is how bridges pass it on.
///
/// # Panics
///
/// If that is not so.
pub fn relay_registration(data: &[u8]) {
    let Ok(said) = Registration::parse(data) else { return };
    if said.map.validate().is_ok() {
        assert_eq!(Registration::parse(said.to_json().as_bytes()).unwrap(), said);
    }
}

/// A line of events is none, or can be written on one line and read again.
///
/// # Panics
///
/// If that is not so.
pub fn relay_event(data: &[u8]) {
    let Ok(line) = Line::parse(data) else { return };
    let text = line.to_json();
    assert_eq!(text.find('\n'), Some(text.len() - 1));
    assert_eq!(Line::parse(text.as_bytes()).unwrap(), line);
}
