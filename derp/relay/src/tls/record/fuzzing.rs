//! Scripts against a connection in memory: one of our record layers, and a client.
//!
//! ```text
//! byte 0        % 8: 0 to 3 a rustls client, in each suite; 4 to 7 one that keeps no rule
//! then, each    move = value % 8, followed by what the move takes
//! ```
//!
//! Whatever is said, cut, delayed and damaged, each side reads what the other one wrote, from the
//! start and without a gap, or the connection ends.

use std::collections::VecDeque;
use std::iter::Copied;
use std::slice::Iter;
use std::time::Duration;

use derp::time::Time;
use rustls::ClientConnection;

use super::key_update::MAX_KEY_UPDATES;
use super::pair::{Pair, Suite, give, say, take};
use super::stranger::Stranger;
use super::{Fault, HEADER_LEN, Opened, Record, Unbuffered, content, level};

/// Moves in one script, so that a run ends.
const MAX_MOVES: usize = 100;

type Script<'a> = Copied<Iter<'a, u8>>;

/// Runs the script in `data`.
///
/// # Panics
///
/// If a side reads what the other one has not written, or a connection ends without a reason.
pub fn tls_record(data: &[u8]) {
    let mut script = data.iter().copied();
    let Some(first) = script.next() else { return };
    let number = usize::from(first % 4);
    if first % 8 < 4 {
        Talk::new(Suite::ALL[number]).run(&mut script);
    } else {
        break_rules(Stranger::new(Suite::OWN[number % Suite::OWN.len()]), &mut script);
    }
}

/// A talk with a client that keeps the rules, over a network that may not.
struct Talk {
    client: ClientConnection,
    layer: Layer,
    /// On the way.
    to_server: VecDeque<u8>,
    to_client: Vec<u8>,
    /// Received, and not a whole record.
    unopened: Vec<u8>,
    /// Said by one side, and not yet read by the other.
    said_to_server: Plaintext,
    said_to_client: Plaintext,
    now: Time,
    key_updates: u32,
    /// The network has changed something.
    damaged: bool,
    /// The client has said that it sends no more.
    closing: bool,
    over: bool,
}

/// What a client's connection is handed over to.
enum Layer {
    Own(Box<Record>),
    Rustls(Unbuffered),
}

impl Layer {
    fn new(pair: Pair) -> (ClientConnection, Self) {
        let layer = if Record::can_take_over(&pair.server) {
            Self::Own(Box::new(Record::take_over(*pair.server).expect("it can take over")))
        } else {
            Self::Rustls(Unbuffered::new(pair.server))
        };
        (pair.client, layer)
    }

    /// Opens `bytes` in the form that `in_place` says; returns where plaintext is in them, or
    /// the plaintext.
    fn open(
        &mut self,
        bytes: &mut [u8],
        now: Time,
        answer: &mut Vec<u8>,
        in_place: bool,
    ) -> (Vec<u8>, Result<Opened, Fault>) {
        let mut read = Vec::new();
        let mut ranges = Vec::new();
        let opened = match self {
            Self::Own(record) => record.open(bytes, now, answer, |at, plaintext| {
                ranges.push(at..at + plaintext.len());
                read.extend_from_slice(plaintext);
            }),
            Self::Rustls(connection) if in_place => {
                connection.open_ranges(bytes, answer, &mut ranges)
            }
            Self::Rustls(connection) => {
                connection.open(bytes, answer, |plaintext| read.extend_from_slice(plaintext))
            }
        };
        if !ranges.is_empty() {
            let used = opened.map_or(bytes.len(), |opened| opened.used);
            assert!(ranges.is_sorted_by(|one, next| one.end <= next.start));
            assert!(ranges.iter().all(|range| !range.is_empty() && range.end <= used));
            let in_bytes: Vec<u8> =
                ranges.into_iter().flat_map(|range| &bytes[range]).copied().collect();
            if read.is_empty() {
                read = in_bytes;
            } else {
                assert_eq!(read, in_bytes, "plaintext has moved");
            }
        }
        (read, opened)
    }

    fn seal_in_place(&mut self, out: &mut Vec<u8>, plaintext_at: usize) {
        match self {
            Self::Own(record) => record.seal_in_place(out, plaintext_at),
            Self::Rustls(connection) => connection.seal_in_place(out, plaintext_at),
        }
        .expect("a record of a legal size");
    }

    fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Own(record) => record.seal(plaintext, out),
            Self::Rustls(connection) => connection.seal(plaintext, out),
        }
        .expect("records of a legal size");
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Own(record) => record.close(out),
            Self::Rustls(connection) => connection.close(out),
        }
    }
}

impl Talk {
    fn new(suite: Suite) -> Self {
        let (client, layer) = Layer::new(Pair::new(suite));
        Self {
            client,
            layer,
            to_server: VecDeque::new(),
            to_client: Vec::new(),
            unopened: Vec::new(),
            said_to_server: Plaintext::new(1),
            said_to_client: Plaintext::new(2),
            now: Time::ZERO,
            key_updates: 0,
            damaged: false,
            closing: false,
            over: false,
        }
    }

    fn run(mut self, script: &mut Script<'_>) {
        for _ in 0..MAX_MOVES {
            let Some(step) = script.next() else { break };
            self.take_move(step, script);
            if self.over {
                break;
            }
        }
        if !self.over {
            self.deliver_to_server(usize::MAX, false);
        }
        if !self.over {
            self.deliver_to_client();
            if !self.damaged {
                assert!(self.said_to_server.is_read() && self.said_to_client.is_read());
            }
            let mut goodbye = Vec::new();
            self.layer.close(&mut goodbye);
            assert_eq!(give(&mut self.client, &goodbye), Ok(Vec::new()));
        }
    }

    fn take_move(&mut self, step: u8, script: &mut Script<'_>) {
        let mut next = || usize::from(script.next().unwrap_or_default());
        match step % 8 {
            0 if !self.closing => {
                let plaintext = self.said_to_server.more(next() * next());
                let mut wire = Vec::new();
                say(&mut self.client, &plaintext, 1 + next() * 64, &mut wire);
                self.to_server.extend(wire);
            }
            1 => {
                // Gathered in pieces, as a shard does.
                let mut left = next() * 64;
                self.to_client.extend_from_slice(&[0; HEADER_LEN]);
                let plaintext_at = self.to_client.len();
                let piece_len = 1 + next() * 16;
                while left > 0 {
                    let piece = self.said_to_client.more(left.min(piece_len));
                    self.to_client.extend_from_slice(&piece);
                    left -= piece.len();
                }
                self.layer.seal_in_place(&mut self.to_client, plaintext_at);
            }
            2 => {
                let plaintext = self.said_to_client.more(next() * next());
                self.layer.seal(&plaintext, &mut self.to_client);
            }
            3 if !self.closing => {
                let mut wire = Vec::new();
                if self.client.refresh_traffic_keys().is_ok() {
                    self.key_updates += 1;
                }
                take(&mut self.client, &mut wire);
                self.to_server.extend(wire);
            }
            4 => {
                if let Layer::Own(record) = &mut self.layer {
                    record.change_keys(&mut self.to_client).expect("keys without end");
                }
            }
            5 => self.deliver_to_server(next() * next(), step >= 128),
            6 => self.deliver_to_client(),
            _ => match step / 8 % 4 {
                0 => self.now += Duration::from_secs(next() as u64),
                1 => {
                    let at = next() * next();
                    if let Some(byte) = self.to_server.get_mut(at) {
                        *byte ^= 1 << (step / 32);
                        self.damaged = true;
                    }
                }
                2 => {
                    let len = next() % 32;
                    self.to_server.extend((0..len).map(|_| next().to_le_bytes()[0]));
                    self.damaged |= len > 0;
                }
                _ if self.closing => {}
                _ => {
                    let mut wire = Vec::new();
                    self.client.send_close_notify();
                    take(&mut self.client, &mut wire);
                    self.to_server.extend(wire);
                    self.closing = true;
                }
            },
        }
    }

    fn deliver_to_server(&mut self, len: usize, in_place: bool) {
        let len = len.min(self.to_server.len());
        let mut bytes = std::mem::take(&mut self.unopened);
        bytes.extend(self.to_server.drain(..len));
        let (read, opened) = self.layer.open(&mut bytes, self.now, &mut self.to_client, in_place);
        self.said_to_server.check(&read);
        match opened {
            Ok(opened) => {
                assert!(opened.used <= bytes.len());
                assert!(!opened.ended || self.closing);
                self.over = opened.ended;
                if opened.ended && !self.damaged {
                    assert!(self.said_to_server.is_read());
                }
                self.unopened = bytes.split_off(opened.used);
            }
            Err(fault) => {
                let many = self.key_updates > u32::from(MAX_KEY_UPDATES);
                let may_be = self.damaged || (many && fault == Fault::TooManyKeyUpdates);
                assert!(may_be, "ended without a reason: {fault}");
                self.over = true;
                self.layer.close(&mut self.to_client);
                let told = self.told();
                assert!(matches!(told, Err(rustls::Error::AlertReceived(_))), "{told:?}");
            }
        }
    }

    fn deliver_to_client(&mut self) {
        let read = self.told().expect("nobody touches this direction");
        self.said_to_client.check(&read);
    }

    fn told(&mut self) -> Result<Vec<u8>, rustls::Error> {
        let wire = std::mem::take(&mut self.to_client);
        give(&mut self.client, &wire)
    }
}

/// Lets a client that keeps no rule say what the script has.
fn break_rules(mut stranger: Stranger, script: &mut Script<'_>) {
    let mut said = Plaintext::new(3);
    for _ in 0..MAX_MOVES {
        let Some(step) = script.next() else { break };
        let mut next = || script.next().unwrap_or_default();
        match step % 8 {
            0 | 1 => {
                let plaintext = said.more(usize::from(next()) * 8);
                stranger.say(content::APPLICATION_DATA, &plaintext, next().into());
            }
            2 => {
                // Perhaps one that is right, perhaps one that is cut.
                let message = [24, 0, 0, 1, step / 128];
                let until = usize::from(next()).min(message.len());
                stranger.say(content::HANDSHAKE, &message[..until], 0);
                stranger.say(content::HANDSHAKE, &message[until..], usize::from(next() % 4));
            }
            3 => stranger.say(content::ALERT, &[next(), next()], 0),
            4 | 5 => {
                let kind = if step % 8 == 4 { content::HANDSHAKE } else { next() };
                let message: Vec<u8> = (0..next() % 8).map(|_| next()).collect();
                // What is data would have to be read.
                if kind != content::APPLICATION_DATA {
                    stranger.say(kind, &message, next().into());
                }
            }
            6 => {
                let len = next() % 32;
                stranger.wire.extend((0..len).map(|_| next()));
            }
            _ => {
                let now = Time::from_micros(u64::from(next()) * 1_000_000);
                if listen(&mut stranger, &mut said, now) {
                    return;
                }
            }
        }
    }
    listen(&mut stranger, &mut said, Time::ZERO);
}

/// Returns whether the connection is over.
fn listen(stranger: &mut Stranger, said: &mut Plaintext, now: Time) -> bool {
    let (read, opened) = stranger.deliver(now);
    said.check(&read);
    let fault = match opened {
        Ok(ended) => return ended,
        Err(fault) => fault,
    };
    let last = stranger.last_words();
    if stranger.answer.is_empty() {
        assert_eq!(last, fault.alert().map(|alert| [level::FATAL, alert.into()]));
    }
    let mut nothing = Vec::new();
    stranger.record.close(&mut nothing);
    assert!(nothing.is_empty());
    assert_eq!(stranger.record.seal(b"more", &mut nothing), Err(Fault::Closed));
    true
}

/// A stream of bytes that never repeats for long, as it is written and as it is read.
struct Plaintext {
    salt: u64,
    written: u64,
    read: u64,
}

impl Plaintext {
    const fn new(salt: u64) -> Self {
        Self { salt, written: 0, read: 0 }
    }

    /// Writes `len` bytes more.
    fn more(&mut self, len: usize) -> Vec<u8> {
        let start = self.written;
        self.written += len as u64;
        (start..self.written).map(|at| self.at(at)).collect()
    }

    /// Reads `bytes`.
    fn check(&mut self, bytes: &[u8]) {
        let right = bytes.iter().zip(self.read..).all(|(&byte, at)| byte == self.at(at));
        self.read += bytes.len() as u64;
        assert!(right && self.read <= self.written, "something was read that was not written");
    }

    const fn is_read(&self) -> bool {
        self.read == self.written
    }

    const fn at(&self, at: u64) -> u8 {
        let mixed = (at + self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed.to_be_bytes()[0]
    }
}
