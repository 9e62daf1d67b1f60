//! Private keys of nodes and relays: held, agreed with, wiped.
//!
//! Does: derives the public key, agrees on the key of a sealed box, wipes itself when dropped.
//! Does not: draw randomness, print itself, or compare itself with `==`.

use std::fmt;
use std::hint::black_box;
use std::str::FromStr;

use crypto_box::{PublicKey, SalsaBox, SecretKey};
use zeroize::{Zeroize, Zeroizing};

use super::{KEY_LEN, NodePublic, ParseKeyError, hex};

/// What the text form of a private key starts with. Tailscale uses it for every private key
/// that it keeps in a file, so a relay's key looks like a node's and like a machine's.
const PREFIX: &str = "privkey:";

/// Private key of a node or of a relay. Wiped when dropped; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct NodePrivate(SecretKey);

impl NodePrivate {
    /// A new key from 32 bytes of a cryptographic random source, which are clamped.
    ///
    /// Clamping sets five bits, as X25519 does anyway; kept in the stored form so that other
    /// programs that skip it at use agree with us.
    #[must_use]
    pub fn from_random(mut random: [u8; KEY_LEN]) -> Self {
        let [first, .., last] = &mut random;
        *first &= 0xf8;
        *last = *last & 0x7f | 0x40;
        let key = Self(SecretKey::from_bytes(random));
        random.zeroize();
        key
    }

    /// The public half. One X25519 base multiplication: tens of microseconds.
    #[must_use]
    pub fn public(&self) -> NodePublic {
        NodePublic::from_bytes(self.0.public_key().to_bytes())
    }

    /// The text of this key as key files hold it: `privkey:` and 64 hex digits, no line end.
    #[must_use]
    pub fn to_file_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.0.to_bytes());
        // The full capacity at once: a growing string would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + hex::DIGITS));
        text.push_str(PREFIX);
        text.extend(hex::digits(&bytes));
        text
    }

    /// The box that this key and `peer` share. One X25519 multiplication, not for the packet path.
    pub(crate) fn agree(&self, peer: &NodePublic) -> SalsaBox {
        SalsaBox::new(&PublicKey::from_bytes(*peer.as_bytes()), &self.0)
    }
}

impl FromStr for NodePrivate {
    type Err = ParseKeyError;

    /// Reads `privkey:` and 64 hex digits of either case. The bytes are kept as they are.
    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let digits = text.strip_prefix(PREFIX).ok_or(ParseKeyError::Prefix { wanted: PREFIX })?;
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        hex::read(digits.as_bytes(), &mut bytes)?;
        if *bytes == [0; KEY_LEN] {
            return Err(ParseKeyError::Zero);
        }
        Ok(Self(SecretKey::from_bytes(*bytes)))
    }
}

impl Drop for NodePrivate {
    fn drop(&mut self) {
        // `SecretKey` wipes its scalar but not the bytes beside it. Overwriting the whole key
        // does; the black box keeps the compiler from seeing that nobody reads it again.
        self.0 = SecretKey::from_bytes([0; KEY_LEN]);
        black_box(&self.0);
    }
}

impl fmt::Debug for NodePrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodePrivate([redacted])")
    }
}
