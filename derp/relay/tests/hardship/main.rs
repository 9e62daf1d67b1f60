//! The relay among clients that are slow, silent, too many, or mad: they cost little, hurt
//! nobody else, and leave nothing behind.
//!
//! | module | holds |
//! |---|---|
//! | `churn` | clients that come and go all the time |
//! | `floods` | more connections than there may be |
//! | `garbage` | random bytes on every port |
//! | `records` | TLS after the login: broken records, key updates |
//! | `stalled` | a receiver that does not read |
//! | `strangers` | connections that never come to a login |
//!
//! What takes longer than twenty seconds is called `stress` and run by itself:
//! `cargo test -p derp-relay --test hardship -- --ignored stress`.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod churn;
mod floods;
mod garbage;
mod records;
mod stalled;
mod strangers;
#[path = "../support/mod.rs"]
mod support;

use support::peer::{Peer, Way};
use support::process::Program;

/// No arguments beside the usual ones.
const NOTHING: &[&str] = &[];

/// Holds that two new clients reach each other.
fn relays(relay: &Program, way: Way) {
    for derp in relay.addresses("derp") {
        let mut one = Peer::connect(*derp, way, 901);
        let mut two = Peer::connect(*derp, way, 902);
        one.send_packet(&two.key, b"still here");
        assert_eq!(two.packet(), (one.key, b"still here".to_vec()));
    }
}
