//! A DERP client for tests: blocking, over TCP or TLS, that reads frame by frame.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use derp::frame::{self, Kind};
use derp::key::{NodePrivate, NodePublic};
use derp::login::{ClientInfo, ClientLogin, Turn};
use derp_relay::tls::certificate::pin;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::ServerName;

use super::trust::Trust;

/// How long a test waits for one read. Far beyond what any of them takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How a client reaches the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Plain,
    Tls12,
    Tls13,
}

/// Something that reads and writes.
pub(crate) trait Stream: Read + Write + Send {
    /// The socket below.
    fn socket(&self) -> &TcpStream;

    /// TLS, if there is any.
    fn tls(&mut self) -> Option<&mut ClientConnection>;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn tls(&mut self) -> Option<&mut ClientConnection> {
        None
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }

    fn tls(&mut self) -> Option<&mut ClientConnection> {
        Some(&mut self.conn)
    }
}

/// A logged-in client.
pub(crate) struct Peer {
    pub(crate) key: NodePublic,
    pub(crate) stream: Box<dyn Stream>,
}

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
}

/// Opens a stream to `address`, with TLS if asked for. The certificate is not looked at.
pub(crate) fn dial(address: SocketAddr, way: Way) -> Box<dyn Stream> {
    dial_over(TcpStream::connect(address).unwrap(), way)
}

/// Makes a stream of a connected socket, with TLS if asked for.
pub(crate) fn dial_over(socket: TcpStream, way: Way) -> Box<dyn Stream> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    let address = socket.peer_addr().unwrap();
    let version = match way {
        Way::Plain => return Box::new(socket),
        Way::Tls12 => &rustls::version::TLS12,
        Way::Tls13 => &rustls::version::TLS13,
    };
    Box::new(StreamOwned::new(tls(address.ip(), version), socket))
}

/// A TLS connection without a socket.
fn tls(host: IpAddr, version: &'static SupportedProtocolVersion) -> ClientConnection {
    let config = Arc::new(tls_config(version));
    ClientConnection::new(config, ServerName::IpAddress(host.into())).unwrap()
}

/// How a client shakes hands that takes any certificate.
pub(crate) fn tls_config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let provider = aws_lc_rs::default_provider();
    let trust = Trust::new(None, &provider);
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust))
        .with_no_client_auth()
}

/// The first bytes of a TLS client.
pub(crate) fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    tls(Ipv4Addr::LOCALHOST.into(), &rustls::version::TLS13).write_tls(&mut hello).unwrap();
    hello
}

/// The pin of the certificate that a relay shows.
pub(crate) fn pin_shown_by(address: SocketAddr) -> String {
    let mut stream = dial(address, Way::Tls13);
    let socket = stream.socket().try_clone().unwrap();
    let tls = stream.tls().unwrap();
    tls.complete_io(&mut &socket).unwrap();
    pin(&tls.peer_certificates().unwrap()[0])
}

/// The request for an upgrade to DERP.
pub(crate) const UPGRADE: &[u8] =
    b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n";

/// Asks for the upgrade and reads the answer's head.
pub(crate) fn upgrade(stream: &mut dyn Stream) -> String {
    try_upgrade(stream).unwrap()
}

fn try_upgrade(stream: &mut dyn Stream) -> io::Result<String> {
    stream.write_all(UPGRADE)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

impl Peer {
    /// Logs in with a key made from `number`, and waits for `ServerInfo`.
    pub(crate) fn connect(address: SocketAddr, way: Way, number: u32) -> Self {
        Self::try_connect(address, way, private(number)).unwrap()
    }

    /// Logs in with `key`; an error when the relay closes instead.
    pub(crate) fn try_connect(address: SocketAddr, way: Way, key: NodePrivate) -> io::Result<Self> {
        Self::log_in(dial(address, way), key)
    }

    /// Logs in with `key` over `stream`, upgrade included.
    pub(crate) fn log_in(mut stream: Box<dyn Stream>, key: NodePrivate) -> io::Result<Self> {
        let head = try_upgrade(&mut *stream)?;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let public = key.public();
        let info = ClientInfo { version: 2, can_ack_pings: true, ..ClientInfo::default() };
        let mut login = ClientLogin::new(key, info, [7; 24]);
        let mut received = Vec::new();
        loop {
            let turn = login.on_bytes(&received).map_err(io::Error::other)?;
            let Turn { login: next, used, send } = turn;
            received.drain(..used);
            stream.write_all(&send)?;
            stream.flush()?;
            if let ClientLogin::Open(_) = next {
                assert!(received.is_empty());
                return Ok(Self { key: public, stream });
            }
            login = next;
            // One frame at a time, so that nothing behind the login is read here.
            let frame = read_frame(&mut *stream)?;
            let length = u32::try_from(frame.body.len()).map_err(io::Error::other)?;
            received.push(frame.kind);
            received.extend(length.to_be_bytes());
            received.extend(frame.body);
        }
    }

    pub(crate) fn send(&mut self, kind: Kind, body: &[u8]) {
        self.try_send(kind, body).unwrap();
    }

    pub(crate) fn try_send(&mut self, kind: Kind, body: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame::encode(kind, &[body], &mut bytes);
        self.stream.write_all(&bytes)?;
        self.stream.flush()
    }

    pub(crate) fn send_packet(&mut self, to: &NodePublic, packet: &[u8]) {
        let mut bytes = Vec::new();
        frame::encode(Kind::SendPacket, &[to.as_bytes(), packet], &mut bytes);
        self.write(&bytes);
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    pub(crate) fn read(&mut self) -> Received {
        self.try_read().unwrap()
    }

    /// The next frame that is there for a reason: a keepalive may come between any others on a
    /// machine that takes a minute for a test.
    fn try_read(&mut self) -> io::Result<Received> {
        loop {
            let received = read_frame(&mut *self.stream)?;
            if received.kind != Kind::KeepAlive as u8 {
                return Ok(received);
            }
        }
    }

    /// The next packet, with the key that it comes from.
    pub(crate) fn packet(&mut self) -> (NodePublic, Vec<u8>) {
        let received = self.read();
        assert_eq!(received.kind, Kind::RecvPacket as u8, "{:02x?}", received.kind);
        let (source, packet) = frame::split_key(&received.body).unwrap();
        (source, packet.to_vec())
    }

    /// Holds that the connection is up, and that nothing came before.
    pub(crate) fn is_up(&mut self) {
        self.send(Kind::Ping, b"PINGPING");
        let pong = Received { kind: Kind::Pong as u8, body: b"PINGPING".to_vec() };
        assert_eq!(self.read(), pong);
    }

    /// Holds that the relay closes the connection, and sends nothing before.
    pub(crate) fn is_closed(&mut self) {
        match self.try_read() {
            Ok(received) => panic!("came instead of the end: {received:?}"),
            Err(error) => assert!(
                !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
                "still open"
            ),
        }
    }
}

pub(crate) fn read_frame(stream: &mut dyn Stream) -> io::Result<Received> {
    let mut header = [0; 5];
    stream.read_exact(&mut header)?;
    let [kind, length @ ..] = header;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body)?;
    Ok(Received { kind, body })
}

/// A key that is always the same for a number.
pub(crate) fn private(number: u32) -> NodePrivate {
    let mut bytes = [0x42; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    NodePrivate::from_random(bytes)
}
