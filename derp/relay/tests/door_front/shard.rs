//! What a shard does with a hand-over, as far as a test needs it: it reads and writes on.

use std::io::{Read, Write};

use derp::login::ClientLogin;
use derp_relay::door::limits::Permit;
use derp_relay::handover::{Handover, Transport};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use crate::client::{Stream, read};
use crate::relay::PATIENCE;
use crate::uninterrupted::uninterrupted;

pub(crate) struct Shard {
    pub(crate) plaintext: Vec<u8>,
    socket: std::net::TcpStream,
    tls: Option<Box<UnbufferedServerConnection>>,
    ciphertext: Vec<u8>,
    server_info: Vec<u8>,
    permit: Option<Permit>,
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
            tls: match handover.transport {
                Transport::Plain => None,
                Transport::Tls(connection) => Some(connection),
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
        let Some(tls) = &mut self.tls else { return self.socket.write_all(data).unwrap() };
        let mut sealed = vec![0; data.len() + 1_000];
        let UnbufferedStatus { discard, state } = tls.process_tls_records(&mut self.ciphertext);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
            panic!("something was left to say: {state:?}")
        };
        let len = traffic.encrypt(data, &mut sealed).unwrap();
        assert_eq!(discard, 0);
        self.socket.write_all(&sealed[..len]).unwrap();
    }

    /// Reads `len` bytes from the client: first what came with the hand-over.
    pub(crate) fn receive(&mut self, len: usize) -> Vec<u8> {
        while self.plaintext.len() < len {
            if self.tls.is_none() || !self.open_one() {
                let mut bytes = [0; 4_096];
                let received = uninterrupted(|| self.socket.read(&mut bytes)).unwrap();
                assert_ne!(received, 0, "closed after {:?}", self.plaintext);
                let to =
                    if self.tls.is_some() { &mut self.ciphertext } else { &mut self.plaintext };
                to.extend_from_slice(&bytes[..received]);
            }
        }
        self.plaintext.drain(..len).collect()
    }

    /// Opens one record, if there is a whole one.
    fn open_one(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return false };
        let UnbufferedStatus { discard, state } = tls.process_tls_records(&mut self.ciphertext);
        let mut opened = false;
        if let ConnectionState::ReadTraffic(mut records) = state.unwrap() {
            while let Some(record) = records.next_record() {
                self.plaintext.extend_from_slice(record.unwrap().payload);
            }
            opened = true;
        }
        self.ciphertext.drain(..discard);
        opened
    }

    /// The TLS connection, for those who want to go on without rustls' record layer.
    pub(crate) fn into_tls(self) -> UnbufferedServerConnection {
        *self.tls.unwrap()
    }
}
