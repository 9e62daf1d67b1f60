//! TLS after the login: records that are broken, and keys that change.

use std::io::{Read, Write};

use rustls::{AlertDescription, Error};

use crate::NOTHING;
use crate::support::peer::{Peer, Way, read_frame};
use crate::support::process::Program;
use crate::support::uninterrupted::uninterrupted;
use crate::support::{HOSTS, Noise};

/// A record that cannot be opened ends its own connection, with the alert that says why, and no
/// other one.
#[test]
fn a_broken_record_is_answered_by_an_alert_and_ends_only_its_connection() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let mut relay = Program::serve(host, Way::Tls13, state.path(), &["--shards", "2"]);
        let derp = relay.address("derp");
        for way in [Way::Tls12, Way::Tls13] {
            let mut other = Peer::connect(derp, way, 1);
            // What cannot be a record: our own layer for TLS 1.3 says what RFC 8446 does.
            let (too_long, unknown) = match way {
                Way::Tls13 => {
                    (AlertDescription::RecordOverflow, AlertDescription::UnexpectedMessage)
                }
                Way::Plain | Way::Tls12 => {
                    (AlertDescription::DecodeError, AlertDescription::DecodeError)
                }
            };
            for (record, alert) in [
                (record(23, [3, 3], 200), AlertDescription::BadRecordMac),
                (record(23, [3, 3], 20_000), too_long),
                (record(99, [3, 3], 20), unknown),
            ] {
                let mut peer = Peer::connect(derp, way, 2);
                peer.is_up();

                peer.stream.socket().write_all(&record).unwrap();

                let error = match read_frame(&mut *peer.stream) {
                    Ok(frame) => panic!("{way:?}: came instead of an alert: {frame:?}"),
                    Err(error) => error,
                };
                let said = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
                assert!(
                    matches!(said, Some(Error::AlertReceived(said)) if *said == alert),
                    "{way:?}: {error} instead of {alert:?}"
                );
                other.is_up();
            }
        }
        relay.counts("derp_current_connections", 0);
        relay.is_unharmed();
    }
}

/// A client that ends its stream properly is gone at once, and half a goodbye is one too.
#[test]
fn a_goodbye_is_understood() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let relay = Program::serve(host, Way::Tls13, state.path(), NOTHING);
        for way in [Way::Tls12, Way::Tls13] {
            let mut peer = Peer::connect(relay.address("derp"), way, 1);
            peer.is_up();
            peer.stream.tls().unwrap().send_close_notify();
            peer.stream.flush().unwrap();
            // The socket stays open: what ends it is the goodbye.
            assert_eq!(uninterrupted(|| peer.stream.read(&mut [0])).unwrap(), 0);
            relay.counts("derp_current_connections", 0);
        }
    }
}

/// Design §3.3: the keys of a TLS 1.3 client may change at any time, also while packets flow both
/// ways, and the relay changes its own when it is asked to.
#[test]
fn key_updates_are_followed() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let mut relay = Program::serve(host, Way::Tls13, state.path(), &["--shards", "2"]);
        let derp = relay.address("derp");
        let mut one = Peer::connect(derp, Way::Tls13, 1);
        let mut two = Peer::connect(derp, Way::Tls13, 2);
        let mut noise = Noise::new(3);
        for round in 0..12 {
            refresh(&mut one);
            if round % 3 == 0 {
                // Twice, with nothing in between; and the receiver at the same time.
                refresh(&mut one);
                refresh(&mut two);
            }
            let packet = noise.bytes(1 + 5_000 * round);
            one.send_packet(&two.key, &packet);
            assert_eq!(two.packet(), (one.key, packet.clone()));
            two.send_packet(&one.key, &packet);
            assert_eq!(one.packet(), (two.key, packet));
            one.is_up();
        }
        relay.is_unharmed();
    }
}

/// Changes the client's keys, and asks for other ones of the relay.
fn refresh(peer: &mut Peer) {
    peer.stream.tls().unwrap().refresh_traffic_keys().unwrap();
    peer.stream.flush().unwrap();
}

/// A record of noise.
fn record(kind: u8, version: [u8; 2], length: u16) -> Vec<u8> {
    let mut record = vec![kind, version[0], version[1]];
    record.extend(length.to_be_bytes());
    record.extend(Noise::new(u64::from(length)).bytes(usize::from(length)));
    record
}
