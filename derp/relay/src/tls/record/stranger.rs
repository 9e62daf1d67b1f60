//! A client that has the keys and keeps no rule, and the relay's end of its connection: for
//! tests and fuzzing.

use derp::time::Time;

use super::key::Key;
use super::pair::{Pair, Suite};
use super::{Fault, Record, content, split_header};

/// The two ends, and what is between them.
pub(super) struct Stranger {
    pub(super) record: Record,
    /// On the way to the relay.
    pub(super) wire: Vec<u8>,
    /// What the relay has answered.
    pub(super) answer: Vec<u8>,
    sealer: Key,
    opener: Key,
}

impl Stranger {
    pub(super) fn new(suite: Suite) -> Self {
        let pair = Pair::new(suite);
        let secrets = pair.client.dangerous_extract_secrets().expect("a handshake that is done");
        Self {
            record: Record::take_over(*pair.server).expect("a handshake that is done"),
            wire: Vec::new(),
            answer: Vec::new(),
            sealer: Key::new(secrets.tx).expect("a suite of ours"),
            opener: Key::new(secrets.rx).expect("a suite of ours"),
        }
    }

    /// Seals anything, of any type, and so many zeros behind it.
    pub(super) fn say(&mut self, kind: u8, said: &[u8], padding: usize) {
        let mut inner = said.to_vec();
        inner.push(kind);
        inner.resize(inner.len() + padding, 0);
        // To the cipher the last byte is as good a type as any.
        let last = inner.pop().unwrap_or_default();
        self.sealer.seal(last, &inner, &mut self.wire).expect("a record of a legal size");
    }

    /// Lets the relay have what was said; returns what it read, and whether it is the end.
    pub(super) fn deliver(&mut self, now: Time) -> (Vec<u8>, Result<bool, Fault>) {
        let mut read = Vec::new();
        let opened = self.record.open(&mut self.wire, now, &mut self.answer, |_, plaintext| {
            read.extend_from_slice(plaintext);
        });
        if let Ok(opened) = opened {
            self.wire.drain(..opened.used);
        }
        (read, opened.map(|opened| opened.ended))
    }

    /// The alert that the relay says at the end, if any; `None` also if it has changed its keys.
    ///
    /// # Panics
    ///
    /// If it says anything else.
    pub(super) fn last_words(&mut self) -> Option<[u8; 2]> {
        let mut last = Vec::new();
        self.record.close(&mut last);
        let (header, body) = split_header(&mut last)?;
        if !self.answer.is_empty() {
            return None;
        }
        match *self.opener.open(header, body).expect("a record with the relay's key") {
            [level, description, content::ALERT] => Some([level, description]),
            ref other => panic!("no alert: {other:?}"),
        }
    }
}
