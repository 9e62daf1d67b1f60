//! Key updates: the only messages that a client may send after the handshake.
//!
//! Does: reads them, whole or cut into several records, and counts them. Does not: make keys.
//!
//! ```text
//! | 24 | 0 0 1 | 0: my next record has a new key; 1: and so shall yours |
//! ```
//!
//! Spec: RFC 8446, sections 4.6.3 and 5.1.

use std::time::Duration;

use derp::time::Time;

use super::Fault;

/// Key updates that are followed within [`WINDOW`].
pub(super) const MAX_KEY_UPDATES: u8 = 16;

/// Time over which they are counted, from the first one on.
const WINDOW: Duration = Duration::from_secs(60);

/// Bytes of the message.
const MESSAGE_LEN: usize = 5;

/// What every key update begins with.
const START: [u8; 4] = [24, 0, 0, 1];

/// Our own key update, which asks for nothing.
pub(super) const NOT_REQUESTED: [u8; MESSAGE_LEN] = [24, 0, 0, 1, 0];

/// What a peer's key update says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// We shall change our keys too.
    pub(super) wants_ours: bool,
}

/// The key updates of one peer.
#[derive(Debug, Default)]
pub(super) struct KeyUpdates {
    /// When counting began.
    since: Time,
    /// How many have come since.
    count: u8,
    /// Bytes of a message that has come in part. They are those of [`START`]: others are refused.
    received: u8,
}

impl KeyUpdates {
    /// Takes the content of one record, at `now`; returns what a message that ends with it says.
    pub(super) fn on_content(
        &mut self,
        content: &[u8],
        now: Time,
    ) -> Result<Option<Request>, Fault> {
        let (message, behind) = content.split_at(content.len().min(self.missing()));
        // Cut into nothing it could be cut for ever.
        if message.is_empty() {
            return Err(Fault::Unaligned);
        }
        let mut request = None;
        for &byte in message {
            match START.get(usize::from(self.received)) {
                Some(&start) if byte == start => self.received += 1,
                Some(_) if self.received == 0 => {
                    return Err(Fault::HandshakeMessage { kind: byte });
                }
                Some(_) => return Err(Fault::KeyUpdateLength),
                None => {
                    self.received = 0;
                    let wants_ours = match byte {
                        0 => false,
                        1 => true,
                        value => return Err(Fault::KeyUpdateValue { value }),
                    };
                    request = Some(Request { wants_ours });
                }
            }
        }
        // What is behind would be under a key that is over.
        if !behind.is_empty() {
            return Err(Fault::Unaligned);
        }
        if request.is_some() {
            self.count(now)?;
        }
        Ok(request)
    }

    /// Holds that no message has come in part: other content must not come in between.
    pub(super) const fn check_whole(&self) -> Result<(), Fault> {
        if self.received == 0 { Ok(()) } else { Err(Fault::Unaligned) }
    }

    fn missing(&self) -> usize {
        MESSAGE_LEN - usize::from(self.received)
    }

    fn count(&mut self, now: Time) -> Result<(), Fault> {
        if self.count == 0 || now.since(self.since) >= WINDOW {
            self.since = now;
            self.count = 0;
        }
        self.count += 1;
        if self.count > MAX_KEY_UPDATES { Err(Fault::TooManyKeyUpdates) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Design §3.3: cut anywhere, a key update is the same.
    #[test]
    fn a_key_update_may_come_in_pieces() {
        for value in 0..2 {
            let message = [24, 0, 0, 1, value];
            for cut in 1..message.len() {
                let mut updates = KeyUpdates::default();
                assert_eq!(updates.on_content(&message[..cut], Time::ZERO), Ok(None));
                assert_eq!(updates.check_whole(), Err(Fault::Unaligned));
                assert_eq!(
                    updates.on_content(&message[cut..], Time::ZERO),
                    Ok(Some(Request { wants_ours: value == 1 })),
                );
                assert_eq!(updates.check_whole(), Ok(()));
            }
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (content, fault) in [
            (&[][..], Fault::Unaligned),
            (&[1], Fault::HandshakeMessage { kind: 1 }),
            (&[4, 0, 0, 1, 0], Fault::HandshakeMessage { kind: 4 }),
            (&[24, 1], Fault::KeyUpdateLength),
            (&[24, 0, 0, 0], Fault::KeyUpdateLength),
            (&[24, 0, 0, 2, 0, 0], Fault::KeyUpdateLength),
            (&[24, 0, 0, 1, 2], Fault::KeyUpdateValue { value: 2 }),
            (&[24, 0, 0, 1, 0, 0], Fault::Unaligned),
            (&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], Fault::Unaligned),
        ] {
            assert_eq!(KeyUpdates::default().on_content(content, Time::ZERO), Err(fault));
        }
    }

    /// Design §3.3.
    #[test]
    fn sixteen_a_minute_are_followed_and_no_more() {
        let mut updates = KeyUpdates::default();
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        for second in 100..116 {
            assert!(updates.on_content(&NOT_REQUESTED, at(second)).is_ok());
        }
        let mut next_minute = KeyUpdates { ..updates };
        assert_eq!(updates.on_content(&NOT_REQUESTED, at(159)), Err(Fault::TooManyKeyUpdates));
        assert!(next_minute.on_content(&NOT_REQUESTED, at(160)).is_ok());
    }
}
