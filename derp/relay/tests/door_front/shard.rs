//! What a shard does with a hand-over, as far as a test needs it: it reads and writes on.

use std::io::{Read, Write};

use derp::login::ClientLogin;
use derp::time::Time;
use derp_relay::door::limits::Permit;
use derp_relay::handover::{Handover, Transport};
use derp_relay::tls::record::{Record, Unbuffered};

use crate::client::{Stream, read};
use crate::relay::PATIENCE;
use crate::uninterrupted::uninterrupted;

pub(crate) struct Shard {
    pub(crate) plaintext: Vec<u8>,
    socket: std::net::TcpStream,
    pub(crate) layer: Layer,
    ciphertext: Vec<u8>,
    server_info: Vec<u8>,
    permit: Option<Permit>,
}

/// What carries the connection on.
pub(crate) enum Layer {
    Plain,
    /// Ours.
    Record(Box<Record>),
    /// That of rustls.
    Tls(Unbuffered),
}

impl Shard {
    pub(crate) fn new(handover: Handover) -> Self {
        let socket = handover.socket;
        // Proof that tokio has let go: a socket in its reactor would stay non-blocking for it.
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            plaintext: handover.plaintext,
            socket,
            layer: match handover.transport {
                Transport::Plain => Layer::Plain,
                Transport::Record(record) => Layer::Record(record),
                Transport::Tls(connection) => Layer::Tls(Unbuffered::new(connection)),
            },
            ciphertext: handover.ciphertext,
            server_info: handover.server_info,
            permit: Some(handover.permit),
        }
    }

    /// Ends the login as a shard does, and then lets both sides say something.
    pub(crate) fn greet(&mut self, client: &mut dyn Stream, login: ClientLogin) {
        let server_info = std::mem::take(&mut self.server_info);
        self.send(&server_info);
        drop(self.permit.take());
        let answer = read(client, server_info.len());
        let turn = login.on_bytes(&answer).unwrap();
        assert!(matches!(turn.login, ClientLogin::Open(_)), "{turn:?}");

        client.write_all(b"to the shard").unwrap();
        client.flush().unwrap();
        assert_eq!(self.receive(12), b"to the shard");
        self.send(b"to the client");
        assert_eq!(read(client, 13), b"to the client");
    }

    /// Writes `data` to the client.
    pub(crate) fn send(&mut self, data: &[u8]) {
        let mut sealed = Vec::new();
        match &mut self.layer {
            Layer::Plain => sealed.extend_from_slice(data),
            Layer::Record(record) => record.seal(data, &mut sealed).unwrap(),
            Layer::Tls(connection) => connection.seal(data, &mut sealed).unwrap(),
        }
        self.socket.write_all(&sealed).unwrap();
    }

    /// Reads `len` bytes from the client: first what came with the hand-over.
    pub(crate) fn receive(&mut self, len: usize) -> Vec<u8> {
        self.open();
        while self.plaintext.len() < len {
            let mut bytes = [0; 4_096];
            let received = uninterrupted(|| self.socket.read(&mut bytes)).unwrap();
            assert_ne!(received, 0, "closed after {:?}", self.plaintext);
            self.ciphertext.extend_from_slice(&bytes[..received]);
            self.open();
        }
        self.plaintext.drain(..len).collect()
    }

    /// Opens the records that are whole.
    fn open(&mut self) {
        let (plaintext, ciphertext) = (&mut self.plaintext, &mut self.ciphertext);
        let mut answer = Vec::new();
        let used = match &mut self.layer {
            Layer::Plain => {
                plaintext.extend_from_slice(ciphertext);
                ciphertext.len()
            }
            Layer::Record(record) => {
                let each = |_, piece: &[u8]| plaintext.extend_from_slice(piece);
                record.open(ciphertext, Time::ZERO, &mut answer, each).unwrap().used
            }
            Layer::Tls(connection) => {
                let each = |piece: &[u8]| plaintext.extend_from_slice(piece);
                connection.open(ciphertext, &mut answer, each).unwrap().used
            }
        };
        ciphertext.drain(..used);
        self.socket.write_all(&answer).unwrap();
    }
}
