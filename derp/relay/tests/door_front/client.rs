//! The other end: blocking sockets, a TLS client that trusts a pin, a DERP client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use derp::key::{NodePrivate, NodePublic};
use derp::login::{ClientInfo, ClientLogin};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion, version};

use crate::relay::{NAME, PATIENCE, Relay};
use crate::trust::Trust;

pub(crate) static BOTH_VERSIONS: [&SupportedProtocolVersion; 2] =
    [&version::TLS12, &version::TLS13];

/// Bytes of the 101 head and the greeting behind it.
pub(crate) const OPENING_LEN: usize = 172 + 45;

/// A byte stream of a client.
pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A TLS stream of a client.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A TCP connection that does not wait for ever.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// A connection to the relay's DERP listener, in whatever form it listens.
pub(crate) fn open(relay: &Relay) -> Box<dyn Stream> {
    if relay.tls {
        Box::new(connect_tls(relay, config(relay)))
    } else {
        Box::new(connect(relay.derp))
    }
}

/// A TLS connection; its handshake runs with the first read or write.
pub(crate) fn connect_tls(relay: &Relay, config: ClientConfig) -> TlsStream {
    StreamOwned::new(tls(config), connect(relay.derp))
}

/// A TLS connection without a socket.
pub(crate) fn tls(config: ClientConfig) -> ClientConnection {
    ClientConnection::new(Arc::new(config), ServerName::try_from(NAME).unwrap()).unwrap()
}

/// How a Tailscale client shakes hands: both versions, no application protocol, a pin.
pub(crate) fn config(relay: &Relay) -> ClientConfig {
    config_for(relay, &BOTH_VERSIONS)
}

pub(crate) fn config_for(
    relay: &Relay,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    config_with(aws_lc_rs::default_provider(), versions, relay.certificates.pin())
}

pub(crate) fn config_with(
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
    pin: String,
) -> ClientConfig {
    let trust = Trust::new(Some(pin), &provider);
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust))
        .with_no_client_auth()
}

/// A login of a new client: the bytes of its `ClientInfo`, and what is left to do.
pub(crate) fn login(relay: &Relay) -> (Vec<u8>, ClientLogin) {
    login_as(relay.key, 1)
}

/// A login of client number `n`.
pub(crate) fn login_as(relay: NodePublic, n: u8) -> (Vec<u8>, ClientLogin) {
    let info = ClientInfo { version: 2, can_ack_pings: true, ..ClientInfo::default() };
    let turn = ClientLogin::fast_start(&private_key(n), &info, &[n; 24], relay).unwrap();
    (turn.send, turn.login)
}

/// The key of client number `n`.
pub(crate) fn private_key(n: u8) -> NodePrivate {
    NodePrivate::from_random([n; 32])
}

/// The request of a Tailscale client.
pub(crate) fn request(fields: &str) -> Vec<u8> {
    format!(
        "GET /derp HTTP/1.1\r\nHost: {NAME}\r\nUser-Agent: Go-http-client/1.1\r\n\
         Connection: Upgrade\r\nUpgrade: DERP\r\n{fields}\r\n"
    )
    .into_bytes()
}

/// Reads exactly `len` bytes.
#[track_caller]
pub(crate) fn read(stream: &mut (impl Read + ?Sized), len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Reads until the relay closes. A reset counts as a close; a silence does not.
#[track_caller]
pub(crate) fn read_to_end(stream: &mut (impl Read + ?Sized)) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert!(
            !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            "not closed, after {bytes:?}"
        ),
    }
    bytes
}

/// What the relay answers to a request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// Reads one answer, and no byte more. `head_only` for the answer to a HEAD.
    #[track_caller]
    pub(crate) fn read(stream: &mut (impl Read + ?Sized), head_only: bool) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(read(stream, 1));
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Self { status, head, body: String::new() };
        let len = match response.field("content-length") {
            Some(len) if !head_only => len.parse().unwrap(),
            _ => 0,
        };
        response.body = String::from_utf8(read(stream, len)).unwrap();
        response
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}
