//! Handshakes, good and bad.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use derp_relay::door::counters::{Reject, TlsVersion};
use derp_relay::tls::FailureReason;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CipherSuite, NamedGroup, ProtocolVersion, version};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::client::{
    BOTH_VERSIONS, TlsStream, config, config_for, config_with, connect, connect_tls, login, read,
    read_to_end, request, tls,
};
use crate::relay::{NAME, Options, Relay, on_both};
use crate::shard::Layer;
use crate::uninterrupted::uninterrupted;

/// DERP-1.2, DERP-1.3, check-T2, check-T4: both versions, with the meta certificate last, all
/// the way to the hand-over.
#[test]
fn both_versions_log_in_and_see_the_meta_certificate_last() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        for (spoken, expected, label) in [
            (&version::TLS12, ProtocolVersion::TLSv1_2, TlsVersion::Tls12),
            (&version::TLS13, ProtocolVersion::TLSv1_3, TlsVersion::Tls13),
        ] {
            let mut client = connect_tls(&relay, config_for(&relay, &[spoken]));
            let (client_info, state) = login(&relay);

            client.write_all(&request("Derp-Fast-Start: 1\r\n")).unwrap();
            client.write_all(&client_info).unwrap();

            assert_eq!(read(&mut client, 45)[..5], [1, 0, 0, 0, 40]);
            relay.shard().greet(&mut client, state);
            assert_eq!(client.conn.protocol_version(), Some(expected));
            assert_eq!(relay.counters.tls_versions.get(label), 1);
            let chain = client.conn.peer_certificates().unwrap();
            assert_eq!(chain.len(), 2);
            let (_, meta) = X509Certificate::from_der(&chain[1]).unwrap();
            let name = meta.subject().iter_common_name().next().unwrap().as_str().unwrap();
            assert_eq!(name, format!("derpkey{}", relay.key.to_hex()));
        }
    });
}

/// DERP-1.1, check-T3, corrected by fault-D26: never `h2`.
#[test]
fn only_http_1_1_is_agreed_on() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        let refused = Some("an alert");
        let offers: [(&[&str], Option<&str>); 5] = [
            (&[], None),
            (&["http/1.1"], Some("http/1.1")),
            (&["h2", "http/1.1"], Some("http/1.1")),
            (&["h2"], refused),
            (&["foo"], refused),
        ];
        for spoken in [&version::TLS12, &version::TLS13] {
            for (offer, expected) in offers {
                let mut config = config_for(&relay, &[spoken]);
                config.alpn_protocols = offer.iter().map(|name| name.as_bytes().to_vec()).collect();
                let mut client = connect_tls(&relay, config);

                let shaken = client.conn.complete_io(&mut client.sock);

                if expected == refused {
                    let alert = AlertDescription::NoApplicationProtocol;
                    assert_eq!(tls_error(shaken), rustls::Error::AlertReceived(alert));
                } else {
                    shaken.unwrap();
                    assert_eq!(client.conn.alpn_protocol(), expected.map(str::as_bytes));
                }
            }
        }
        relay.wait_for(|counters| {
            counters.tls_failures.get(FailureReason::NoApplicationProtocol) == 4
        });
    });
}

/// DERP-1.2, check-T1: by a hand-made `ClientHello`, since no library of today can say it.
#[test]
fn versions_before_1_2_are_refused() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        for minor in [0, 1, 2] {
            let mut client = connect(relay.derp);

            client.write_all(&old_client_hello(minor)).unwrap();

            // A fatal alert: handshake_failure, since such a client names no signatures either.
            let answer = read_to_end(&mut client);
            assert_eq!(answer.len(), 7, "{answer:?}");
            assert_eq!((answer[0], &answer[3..]), (21, &[0, 2, 2, 40][..]));
        }
        relay.wait_for(|counters| counters.tls_failures.get(FailureReason::Incompatible) == 3);
    });
}

#[test]
fn aes_128_is_taken_even_if_the_client_would_rather_not() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        for (spoken, expected) in [
            (&version::TLS13, CipherSuite::TLS13_AES_128_GCM_SHA256),
            (&version::TLS12, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ] {
            let mut provider = aws_lc_rs::default_provider();
            provider.cipher_suites = vec![
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ];
            let config = config_with(provider, &[spoken], relay.certificates.pin());
            let mut client = connect_tls(&relay, config);

            client.conn.complete_io(&mut client.sock).unwrap();

            let suite = client.conn.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(suite, expected);
        }
    });
}

/// Go's clients also send a key share that a relay without ML-KEM could not use; ours takes
/// X25519 without another round trip.
#[test]
fn a_client_with_post_quantum_keys_is_served() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        for group in [aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519] {
            let mut provider = aws_lc_rs::default_provider();
            provider.kx_groups = vec![group];
            let config = config_with(provider, &BOTH_VERSIONS, relay.certificates.pin());
            let mut client = connect_tls(&relay, config);

            client.conn.complete_io(&mut client.sock).unwrap();

            let agreed = client.conn.negotiated_key_exchange_group().unwrap().name();
            assert!(
                matches!(agreed, NamedGroup::X25519MLKEM768 | NamedGroup::X25519),
                "{agreed:?}"
            );
        }
    });
}

/// DERP-1.2: no client comes back for a ticket.
#[test]
fn no_session_is_ever_offered() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        for spoken in [&version::TLS12, &version::TLS13] {
            let offered = Arc::new(Offered::default());
            let mut config = config_for(&relay, &[spoken]);
            config.resumption = rustls::client::Resumption::store(offered.clone());
            let mut client = connect_tls(&relay, config);

            client.write_all(b"GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let mut answer = [0; 100];
            assert_ne!(uninterrupted(|| client.read(&mut answer)).unwrap(), 0);

            assert!(!offered.0.load(Ordering::Relaxed));
        }
    });
}

/// DERP-1.6: nothing is lost when everything comes at once, behind the end of the handshake.
#[test]
fn request_and_login_may_come_in_one_segment_with_the_end_of_the_handshake() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        for spoken in [&version::TLS12, &version::TLS13] {
            let (client_info, state) = login(&relay);
            let mut client = tls(config_for(&relay, &[spoken]));
            let mut socket = connect(relay.derp);
            client.writer().write_all(&request("Derp-Fast-Start: 1\r\n")).unwrap();
            client.writer().write_all(&client_info).unwrap();
            client.writer().write_all(b"and more").unwrap();

            while client.is_handshaking() || client.wants_write() {
                let mut flight = Vec::new();
                while client.wants_write() {
                    client.write_tls(&mut flight).unwrap();
                }
                socket.write_all(&flight).unwrap();
                if client.is_handshaking() {
                    uninterrupted(|| client.read_tls(&mut socket)).unwrap();
                    client.process_new_packets().unwrap();
                }
            }

            let mut client = TlsStream::new(client, socket);
            let mut shard = relay.shard();
            assert_eq!(shard.receive(8), b"and more");
            read(&mut client, 45);
            shard.greet(&mut client, state);
        }
    });
}

/// DERP-1.6: a network may cut a stream anywhere.
#[test]
fn a_handshake_and_a_login_byte_by_byte() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        for spoken in [&version::TLS12, &version::TLS13] {
            let (client_info, state) = login(&relay);
            let client = tls(config_for(&relay, &[spoken]));
            let mut client = rustls::StreamOwned::new(client, ByteByByte(connect(relay.derp)));

            client.write_all(&request("Derp-Fast-Start: 1\r\n")).unwrap();
            client.write_all(&client_info).unwrap();

            read(&mut client, 45);
            relay.shard().greet(&mut client, state);
        }
    });
}

/// Design §3.3: TLS 1.3 leaves the front door with our own record layer, TLS 1.2 with rustls'.
#[test]
fn the_version_decides_on_the_record_layer_behind_the_door() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        for spoken in [&version::TLS12, &version::TLS13] {
            let mut client = connect_tls(&relay, config_for(&relay, &[spoken]));
            let (client_info, state) = login(&relay);
            client.write_all(&request("Derp-Fast-Start: 1\r\n")).unwrap();
            client.write_all(&client_info).unwrap();
            read(&mut client, 45);

            let mut shard = relay.shard();

            let own = matches!(shard.layer, Layer::Record(_));
            assert_eq!(own, client.conn.protocol_version() == Some(ProtocolVersion::TLSv1_3));
            shard.greet(&mut client, state);
        }
    });
}

/// Design §3.3: keys that change during a login are followed, and an answer that rustls still
/// has to give is not lost: then the connection stays with rustls.
#[test]
fn keys_may_change_during_a_login() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        for (before_the_greeting, own) in [(true, true), (false, false)] {
            let mut client = connect_tls(&relay, config_for(&relay, &[&version::TLS13]));
            let (client_info, state) = login(&relay);
            client.conn.complete_io(&mut client.sock).unwrap();
            if before_the_greeting {
                client.conn.refresh_traffic_keys().unwrap();
            }
            client.write_all(&request("Derp-Fast-Start: 1\r\n")).unwrap();
            read(&mut client, 45);
            if !before_the_greeting {
                client.conn.refresh_traffic_keys().unwrap();
            }
            client.write_all(&client_info).unwrap();

            let mut shard = relay.shard();

            assert_eq!(matches!(shard.layer, Layer::Record(_)), own);
            shard.greet(&mut client, state);
        }
    });
}

#[test]
fn a_client_that_asks_for_an_address_or_an_unknown_name_gets_the_first_certificate() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        for name in [ip.to_string(), "unknown.example".to_owned()] {
            let name = ServerName::try_from(name).unwrap();
            let client = rustls::ClientConnection::new(Arc::new(config(&relay)), name).unwrap();
            let mut client = TlsStream::new(client, connect(relay.derp));

            client.conn.complete_io(&mut client.sock).unwrap();
        }
    });
}

#[test]
fn a_client_with_another_pin_says_so_and_is_counted() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        let other = format!("sha256-raw:{}", "00".repeat(32));
        let config = config_with(aws_lc_rs::default_provider(), &BOTH_VERSIONS, other);
        let mut client = connect_tls(&relay, config);

        let shaken = client.conn.complete_io(&mut client.sock);

        assert!(matches!(tls_error(shaken), rustls::Error::InvalidCertificate(_)));
        relay.wait_for(|counters| counters.tls_failures.get(FailureReason::Alert) == 1);
    });
}

#[test]
fn a_new_certificate_is_shown_after_a_reload_and_old_connections_stay() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        let (client_info, state) = login(&relay);
        let mut old = connect_tls(&relay, config(&relay));
        old.write_all(&request("Derp-Fast-Start: 1\r\n")).unwrap();

        std::fs::write(relay.folder().join("self-signed.pem"), "broken").unwrap();
        let old_pin = relay.certificates.pin();
        relay.certificates.reload().unwrap();

        assert_ne!(relay.certificates.pin(), old_pin);
        let mut new = connect_tls(&relay, config(&relay));
        new.conn.complete_io(&mut new.sock).unwrap();
        assert_eq!(NAME, "relay.example");
        old.write_all(&client_info).unwrap();
        read(&mut old, 45);
        relay.shard().greet(&mut old, state);
    });
}

/// Whatever is no TLS gets an alert at most, and an end.
#[test]
fn garbage_instead_of_tls_is_closed() {
    let hello = client_hello();
    let mut cut = hello;
    cut[5] ^= 0xff;
    let (noise, records) = (vec![0xff; 100_000], vec![0x16; 100_000]);
    let garbage: [&[u8]; 8] = [
        b"GET /derp HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\0",
        &noise,
        &records,
        &[0x16, 3, 1, 0, 1, 0xff],
        &[0x16, 3, 1, 0x40, 0],
        &[0x15, 3, 1, 0, 2, 2, 80],
        &cut,
    ];
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        for (n, bytes) in garbage.iter().enumerate() {
            let mut client = connect(relay.derp);
            // The relay may have closed before all of it is out.
            let _written = client.write_all(bytes);
            let _ended = client.shutdown(std::net::Shutdown::Write);

            let answer = read_to_end(&mut client);

            assert!(answer.is_empty() || answer[0] == 0x15, "{n}: {answer:?}");
        }
        relay.wait_for(|counters| counters.tls_failures.total() == garbage.len() as u64);
        assert_eq!(relay.counters.tls_failures.get(FailureReason::Internal), 0);
        assert_eq!(relay.counters.rejects.get(Reject::Total), 0);
        relay.wait_for(|counters| counters.pending() == 0);
    });
}

/// A handshake that ends anywhere takes nothing with it.
#[test]
fn a_client_that_leaves_in_its_handshake_is_forgotten() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        let hello = client_hello();
        let cuts = (0..hello.len()).step_by(17).chain([hello.len()]);

        let mut left = 0;
        for cut in cuts {
            connect(relay.derp).write_all(&hello[..cut]).unwrap();
            left += 1;
        }

        relay.wait_for(|counters| {
            counters.tls_failures.get(FailureReason::Closed) == left && counters.pending() == 0
        });
        let counters = &relay.counters;
        assert_eq!(counters.handshakes_started.get(), counters.handshakes_ended.get());
    });
}

/// Takes note of every session that a server offers.
#[derive(Debug, Default)]
struct Offered(AtomicBool);

impl ClientSessionStore for Offered {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// Sends every byte in a segment of its own, and reads them one by one.
struct ByteByByte(std::net::TcpStream);

impl Read for ByteByByte {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out.len().min(1);
        self.0.read(&mut out[..len])
    }
}

impl Write for ByteByByte {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The first flight of a client of today.
fn client_hello() -> Vec<u8> {
    let pin = String::new();
    let mut client = tls(config_with(aws_lc_rs::default_provider(), &BOTH_VERSIONS, pin));
    let mut flight = Vec::new();
    client.write_tls(&mut flight).unwrap();
    flight
}

/// The first flight of a client of old, of which SSL 3.0 has `minor` 0, TLS 1.0 has 1, TLS 1.1
/// has 2: no extensions, suites of its time.
fn old_client_hello(minor: u8) -> Vec<u8> {
    let suites = [0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f];
    let body = [&[3, minor][..], &[7; 32], &[0], &[0, 6], &suites, &[1, 0]].concat();
    let len = u8::try_from(body.len()).unwrap();
    [&[0x16, 3, minor, 0, len + 4, 1, 0, 0, len][..], &body].concat()
}

fn tls_error<T: std::fmt::Debug>(result: io::Result<T>) -> rustls::Error {
    let error = result.unwrap_err();
    error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()).unwrap().clone()
}
