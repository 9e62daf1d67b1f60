//! `ts_derp`, a DERP client that shares no code with ours, against the relay: over plain TCP and
//! both versions of TLS, in both families.
//!
//! What is known of it, at the version that is pinned: it takes no frame with a body over 65,536
//! bytes, so that packets end at 65,504; and it fails on frames that it does not know, among them
//! `Pong`, which is why nothing here pings.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::future::Future;
use std::sync::Arc;

use derp::key::NodePublic;
use derp_relay::AccessConfig;
use derp_relay::tls::certificate::pin;
use rustls_pki_types::ServerName;
use support::peer::{PATIENCE, Peer, UPGRADE, Way, tls_config};
use support::{Fixture, HOSTS};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use ts_derp::Client;
use ts_derp::frame::NotePreferred;
use ts_keys::{NodeKeyPair, NodePublicKey};

/// Longest packet that fits in the longest frame that it takes.
const LONGEST: usize = 65_536 - 32;

/// A stream of any kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A logged-in client.
struct Second {
    key: NodeKeyPair,
    client: Client<Box<dyn Stream>>,
}

/// DERP-1.5, DERP-3.3, DERP-5.1: it logs in with names in its own letter case and a mesh key that
/// is none, and packets of all its lengths go both ways, in order.
#[test]
fn two_of_them_exchange_packets_of_all_lengths() {
    everywhere(&async |relay, way| {
        let one = Second::connect(relay, way).await;
        let two = Second::connect(relay, way).await;
        for length in [0, 1, 1_400, 16_384, 40_000, LONGEST] {
            let packet = vec![0x5a; length];
            one.send(two.key.public, &packet).await;
            two.receives(one.key.public, &packet).await;
            two.send(one.key.public, &packet).await;
            one.receives(two.key.public, &packet).await;
        }
        for number in 0..200_u32 {
            one.send(two.key.public, &number.to_be_bytes()).await;
        }
        for number in 0..200_u32 {
            two.receives(one.key.public, &number.to_be_bytes()).await;
        }
        one.send(one.key.public, b"to myself").await;
        one.receives(one.key.public, b"to myself").await;
    });
}

/// DERP-5.1: it and our own client understand each other.
#[test]
fn one_of_them_and_one_of_ours_exchange_packets() {
    everywhere(&async |relay, way| {
        let theirs = Second::connect(relay, way).await;
        let mut ours = Peer::connect(relay.derp, way, 1);
        let (their_key, our_key) = (ours_of(theirs.key.public), theirs_of(ours.key));
        for length in [0, 1_400, LONGEST] {
            let packet = vec![0xa5; length];
            theirs.send(our_key, &packet).await;
            assert_eq!(ours.packet(), (their_key, packet.clone()));
            ours.send_packet(&their_key, &packet);
            theirs.receives(our_key, &packet).await;
        }
    });
}

/// DERP-6.2: the departure of a peer is no trouble for it.
#[test]
fn it_goes_on_when_a_peer_has_left() {
    everywhere(&async |relay, way| {
        let stays = Second::connect(relay, way).await;
        let other = Second::connect(relay, way).await;
        for _ in 0..3 {
            let leaves = Second::connect(relay, way).await;
            leaves.send(stays.key.public, b"hi").await;
            stays.receives(leaves.key.public, b"hi").await;
            drop(leaves);
        }
        relay.counts("derp_current_connections", 2);
        relay.counts("derp_peer_gone_disconnected_frames", 3);
        // The notices come first, and it passes over them.
        other.send(stays.key.public, b"after them").await;
        stays.receives(other.key.public, b"after them").await;
    });
}

/// DERP-7.1, DERP-7.2: of two with one key the newest is active, until the other one speaks.
#[test]
fn duplicates_of_it_take_turns() {
    everywhere(&async |relay, way| {
        let sender = Second::connect(relay, way).await;
        let first = Second::connect(relay, way).await;
        let second = Second::connect_as(relay, way, first.key.clone()).await;
        sender.send(first.key.public, b"to the newest").await;
        second.receives(sender.key.public, b"to the newest").await;
        relay.counts("derp_current_dup_client_conns", 2);

        first.send(sender.key.public, b"my turn").await;
        sender.receives(first.key.public, b"my turn").await;
        // A packet from the first has arrived, so the relay's threads have heard it speak; with
        // one packet thread that is all it takes.
        sender.send(first.key.public, b"to the one that spoke").await;
        first.receives(sender.key.public, b"to the one that spoke").await;
        drop(first);
        relay.counts("derp_current_dup_client_conns", 0);
        sender.send(second.key.public, b"to the one left").await;
        second.receives(sender.key.public, b"to the one left").await;
    });
}

/// DERP-4.4: the relay learns which region is its home.
#[test]
fn it_can_make_the_relay_its_home() {
    everywhere(&async |relay, way| {
        let second = Second::connect(relay, way).await;
        for is_home in [1, 0] {
            second.client.send_frame(&NotePreferred { is_home }).await.unwrap();
            relay.counts("derp_current_home_connections", is_home.into());
        }
    });
}

/// check-V4: refused, it finds the end of the stream instead of an answer.
#[test]
fn it_is_refused_like_any_other() {
    for host in HOSTS {
        for way in [Way::Plain, Way::Tls13] {
            let relay = Fixture::with(host, way, |builder| builder.access(AccessConfig::Nobody));
            in_time(async {
                let stream = upgraded(&relay, way).await;
                let refused = Client::handshake(stream, &NodeKeyPair::random()).await;
                let error = refused.err().unwrap().to_string();
                assert!(!error.is_empty());
            });
            relay.counts(r#"derp_logins_failed{reason="refused"}"#, 1);
        }
    }
}

/// A packet that is too long for it ends its own connection, by its own fault, and no other one.
#[test]
fn a_packet_too_long_for_it_concerns_it_alone() {
    everywhere(&async |relay, way| {
        let theirs = Second::connect(relay, way).await;
        let mut ours = Peer::connect(relay.derp, way, 1);
        ours.send_packet(&ours_of(theirs.key.public), &vec![1; LONGEST + 1]);
        let failed = tokio::time::timeout(PATIENCE, theirs.client.recv_one()).await.unwrap();
        assert!(failed.is_err());
        drop(theirs);
        relay.counts("derp_current_connections", 1);
        ours.is_up();
    });
}

impl Second {
    async fn connect(relay: &Fixture, way: Way) -> Self {
        Self::connect_as(relay, way, NodeKeyPair::random()).await
    }

    async fn connect_as(relay: &Fixture, way: Way, key: NodeKeyPair) -> Self {
        let client = Client::handshake(upgraded(relay, way).await, &key).await.unwrap();
        Self { key, client }
    }

    async fn send(&self, to: NodePublicKey, packet: &[u8]) {
        self.client.send_one(to, packet).await.unwrap();
    }

    async fn receives(&self, from: NodePublicKey, packet: &[u8]) {
        let (source, received) = self.client.recv_one().await.unwrap();
        assert_eq!((source, received.as_ref()), (from, packet));
    }
}

/// A stream on which the relay has switched to DERP; with TLS, one with the right certificate.
async fn upgraded(relay: &Fixture, way: Way) -> Box<dyn Stream> {
    let socket = TcpStream::connect(relay.derp).await.unwrap();
    let version = match way {
        Way::Plain => return upgrade(Box::new(socket)).await,
        Way::Tls12 => &rustls::version::TLS12,
        Way::Tls13 => &rustls::version::TLS13,
    };
    let connector = TlsConnector::from(Arc::new(tls_config(version)));
    let name = ServerName::IpAddress(relay.derp.ip().into());
    let stream = connector.connect(name, socket).await.unwrap();
    let certificate = &stream.get_ref().1.peer_certificates().unwrap()[0];
    assert_eq!(Some(pin(certificate)), relay.relay.certificate_pin());
    upgrade(Box::new(stream)).await
}

async fn upgrade(mut stream: Box<dyn Stream>) -> Box<dyn Stream> {
    stream.write_all(UPGRADE).await.unwrap();
    stream.flush().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
    stream
}

/// Runs a test on every transport, in both families.
fn everywhere(test: &impl AsyncFn(&Fixture, Way)) {
    for way in [Way::Plain, Way::Tls12, Way::Tls13] {
        for host in HOSTS {
            let relay = Fixture::start(host, way, 1);
            in_time(test(&relay, way));
        }
    }
}

fn in_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.unwrap() });
}

/// The same key, in our type.
fn ours_of(key: NodePublicKey) -> NodePublic {
    key.to_string().parse().unwrap()
}

/// The same key, in theirs.
fn theirs_of(key: NodePublic) -> NodePublicKey {
    key.to_string().parse().unwrap()
}
