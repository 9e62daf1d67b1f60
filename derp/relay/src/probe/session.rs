//! A DERP client that logs in and exchanges packets, step by step.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use derp::client::{self, Event};
use derp::frame::PING_LEN;
use derp::key::{KEY_LEN, NodePrivate, NodePublic};
use derp::login::{ClientInfo, ClientLogin, Open, PROTOCOL_VERSION};
use rustls_pki_types::ServerName;

use super::stream::{Stream, Timed};
use super::{Fault, PACKET_LEN, Target, Trust, pin, random, trust};

/// Most bytes in the answer to the upgrade.
const MAX_HEAD_LEN: usize = 16 * 1024;

/// Bytes that are read at once.
const READ_LEN: usize = 16 * 1024;

/// A connection that is not logged in yet.
pub(super) struct Session {
    stream: Stream,
    is_pinned: bool,
    host: String,
}

/// A client that is logged in.
pub(super) struct Client {
    stream: Stream,
    key: NodePublic,
    relay: NodePublic,
    session: client::Session,
    /// Bytes that came and were not looked at.
    input: Vec<u8>,
}

/// What [`Client::next`] is waiting for.
enum Wanted<'a> {
    Pong([u8; PING_LEN]),
    Packet { source: NodePublic, payload: &'a [u8] },
}

impl Session {
    /// Connects, with TLS where the target has it.
    pub(super) fn dial(target: &Target) -> Result<Self, Fault> {
        let socket = Timed::connect(target.derp)?;
        let stream = match &target.trust {
            Trust::Plain => Stream::Plain(socket),
            Trust::Pin(pin) => Stream::tls(socket, trust::by_pin(pin)?, server_name(target)?)?,
            Trust::Authority { authorities, cert_name } => {
                let config = trust::by_authority(authorities, cert_name)?;
                Stream::tls(socket, config, server_name(target)?)?
            }
            Trust::Anyone => Stream::tls(socket, trust::anyone()?, server_name(target)?)?,
        };
        let is_pinned = matches!(target.trust, Trust::Pin(_));
        Ok(Self { stream, is_pinned, host: host(&target.host_name, target.derp) })
    }

    /// What the handshake was.
    pub(super) fn describe(&self) -> String {
        let version = match self.stream {
            Stream::Plain(_) => return "no TLS".to_owned(),
            Stream::Tls(_) if self.stream.is_tls_1_3() => "TLS 1.3",
            Stream::Tls(_) => "TLS 1.2",
        };
        if self.is_pinned {
            format!("{version}, the certificate has the pin")
        } else {
            version.to_owned()
        }
    }

    /// The relay's key in its certificates, where clients may take it from there.
    pub(super) fn relay_key_in_certificate(&self) -> Option<NodePublic> {
        let certificates = self.stream.certificates();
        self.stream.is_tls_1_3().then(|| certificates.iter().find_map(pin::relay_key)).flatten()
    }

    /// Upgrades, waits for the answer, and logs in with a key of its own.
    pub(super) fn log_in(self) -> Result<Client, Fault> {
        self.log_in_as(private_key()?)
    }

    /// The same, with this key.
    pub(super) fn log_in_as(mut self, own: NodePrivate) -> Result<Client, Fault> {
        self.stream.begin_step();
        self.stream.write_all(self.request("").as_bytes())?;
        self.stream.flush()?;
        let input = self.upgraded()?;
        let key = own.public();
        let login = ClientLogin::new(own, info(), random()?);
        self.finish(key, login, input)
    }

    /// Upgrades and logs in at once, knowing the relay's key.
    pub(super) fn fast_start(mut self, relay: NodePublic) -> Result<Client, Fault> {
        self.stream.begin_step();
        let own = private_key()?;
        let turn = ClientLogin::fast_start(&own, &info(), &random()?, relay)?;
        let mut bytes = self.request("Derp-Fast-Start: 1\r\n").into_bytes();
        bytes.extend_from_slice(&turn.send);
        self.stream.write_all(&bytes)?;
        self.stream.flush()?;
        self.finish(own.public(), turn.login, Vec::new())
    }

    fn request(&self, headers: &str) -> String {
        format!(
            "GET /derp HTTP/1.1\r\nHost: {}\r\nUser-Agent: derp-relay-probe\r\nUpgrade: DERP\r\n\
             Connection: Upgrade\r\n{headers}\r\n",
            self.host
        )
    }

    /// Reads the answer to the upgrade; returns what came behind it.
    fn upgraded(&mut self) -> Result<Vec<u8>, Fault> {
        let mut input = Vec::new();
        loop {
            if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = input.split_off(end + 4);
                let head = String::from_utf8_lossy(&input);
                let line = head.lines().next().unwrap_or_default();
                return if line.starts_with("HTTP/1.1 101 ") {
                    Ok(rest)
                } else {
                    Err(Fault::Http(format!("{line} to the upgrade")))
                };
            }
            if input.len() > MAX_HEAD_LEN {
                return Err(Fault::Http("something that is no HTTP".to_owned()));
            }
            receive(&mut self.stream, &mut input)?;
        }
    }

    fn finish(
        mut self,
        key: NodePublic,
        mut login: ClientLogin,
        mut input: Vec<u8>,
    ) -> Result<Client, Fault> {
        loop {
            let turn = login.on_bytes(&input)?;
            input.drain(..turn.used);
            if !turn.send.is_empty() {
                self.stream.write_all(&turn.send)?;
                self.stream.flush()?;
            }
            if let ClientLogin::Open(Open { server, .. }) = turn.login {
                let session = client::Session::new();
                return Ok(Client { stream: self.stream, key, relay: server, session, input });
            }
            login = turn.login;
            if turn.used == 0 && turn.send.is_empty() {
                let received = receive(&mut self.stream, &mut input);
                match (received, &login) {
                    (Err(Fault::Closed), ClientLogin::AwaitServerInfo(_)) => {
                        return Err(Fault::NotAdmitted);
                    }
                    (received, _) => received?,
                }
            }
        }
    }
}

impl Client {
    /// Key of the relay, which it has proved to hold.
    pub(super) const fn relay(&self) -> NodePublic {
        self.relay
    }

    /// Waits until the relay treats this client as one: its pong comes after everything that
    /// the login brings about.
    fn settle(&mut self) -> Result<(), Fault> {
        self.stream.begin_step();
        let data = random()?;
        let mut bytes = Vec::new();
        client::ping(data, &mut bytes);
        self.send(&bytes)?;
        self.await_event(&Wanted::Pong(data))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    fn await_event(&mut self, wanted: &Wanted<'_>) -> Result<(), Fault> {
        loop {
            let mut answer = Vec::new();
            let mut input = self.input.as_slice();
            let mut found = false;
            while let Some(event) = self.session.on_bytes(&mut input)? {
                match (event, wanted) {
                    (Event::Pong(data), Wanted::Pong(sent)) if data == *sent => found = true,
                    (
                        Event::Packet { source: from, payload: came },
                        Wanted::Packet { source, payload },
                    ) => {
                        if from != *source || came != *payload {
                            return Err(Fault::Changed);
                        }
                        found = true;
                    }
                    (Event::PeerGone { reason, .. }, _) => return Err(Fault::PeerGone(reason)),
                    (Event::Ping(data), _) => client::pong(data, &mut answer),
                    // Nothing that was asked for.
                    _ => {}
                }
                if found {
                    break;
                }
            }
            let rest = input.len();
            self.input.drain(..self.input.len() - rest);
            if !answer.is_empty() {
                self.send(&answer)?;
            }
            if found {
                return Ok(());
            }
            receive(&mut self.stream, &mut self.input)?;
        }
    }
}

/// Sends a packet of random bytes from one client to another; returns the time on the way.
pub(super) fn send_across(from: &mut Client, to: &mut Client) -> Result<Duration, Fault> {
    from.settle()?;
    to.settle()?;
    let packet: [u8; PACKET_LEN] = random()?;
    let mut bytes = Vec::new();
    client::send_packet(&to.key, &packet, &mut bytes)
        .map_err(|error| Fault::Io(std::io::Error::other(error)))?;
    let began = Instant::now();
    from.send(&bytes)?;
    to.await_event(&Wanted::Packet { source: from.key, payload: &packet })?;
    Ok(began.elapsed())
}

fn receive(stream: &mut Stream, input: &mut Vec<u8>) -> Result<(), Fault> {
    let mut piece = [0; READ_LEN];
    match stream.read(&mut piece)? {
        0 => Err(Fault::Closed),
        length => {
            input.extend_from_slice(piece.get(..length).unwrap_or_default());
            Ok(())
        }
    }
}

fn info() -> ClientInfo {
    ClientInfo {
        version: PROTOCOL_VERSION,
        can_ack_pings: true,
        is_prober: true,
        ..ClientInfo::default()
    }
}

fn private_key() -> Result<NodePrivate, Fault> {
    random::<KEY_LEN>().map(NodePrivate::from_random)
}

/// Name that the relay is called by in TLS.
fn server_name(target: &Target) -> Result<ServerName<'static>, Fault> {
    ServerName::try_from(target.host_name.clone())
        .map_err(|_| Fault::HostName(target.host_name.clone()))
}

/// What the `Host` header says.
fn host(name: &str, address: SocketAddr) -> String {
    let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
    match address.port() {
        443 => name,
        port => format!("{name}:{port}"),
    }
}
