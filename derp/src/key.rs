//! Keys: who a packet comes from and goes to, and the secrets behind that.
//!
//! Does: holds public, private and mesh keys, reads and writes their text forms and key files.
//! Does not: draw randomness, touch files, or show a secret.
//!
//! | text | key |
//! |---|---|
//! | `nodekey:` and 64 hex digits | public, in logs, admission requests and Headscale |
//! | 64 hex digits | public in HTTP headers and certificates; mesh |
//! | `privkey:` and 64 hex digits | private, in key files only |
//! | `[` and 5 base64 digits and `]` | public, short, in logs |
//!
//! Spec: docs/protocol/derp.md, sections 3.6 and 3.7.

use std::fmt;
use std::str::FromStr;

pub mod file;
mod hex;
mod mesh;
mod private;

pub use mesh::MeshKey;
pub use private::NodePrivate;

/// Bytes in a key, public or private.
pub const KEY_LEN: usize = 32;

/// What the text form of a public key starts with.
const PREFIX: &str = "nodekey:";

/// Why text is not a key. Says nothing of the text: it might be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// The text does not start with the name of its kind.
    #[error("key does not start with `{wanted}`")]
    Prefix {
        /// What it had to start with.
        wanted: &'static str,
    },
    /// Too short or too long.
    #[error("key of {digits} bytes where 64 hex digits belong")]
    Length {
        /// Bytes found where the digits belong.
        digits: usize,
    },
    /// A character that is no hex digit.
    #[error("key has a character that is no hex digit")]
    Digit,
    /// All zeros: no secret at all.
    #[error("key is all zeros")]
    Zero,
}

/// Public key of a node or of a relay. `Debug` shows the short form, `Display` the whole key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodePublic([u8; KEY_LEN]);

impl NodePublic {
    /// The key with these bytes, as on the wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key, as on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Whether this is the key of nobody. It may be named as a destination, never log in.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; KEY_LEN]
    }

    /// Whether X25519 with this key gives the same result whatever the private key is.
    ///
    /// A box that is sealed to or from such a key proves nothing. Fourteen strings of 32 bytes
    /// have the property: five points, two of them in a second spelling, and all of these again
    /// with the top bit set, which X25519 ignores. The zero key is among them.
    #[must_use]
    pub fn is_low_order(&self) -> bool {
        let mut point = self.0;
        let [.., last] = &mut point;
        *last &= 0x7f;
        LOW_ORDER.contains(&point)
    }

    /// The 64 hex digits of the key, lower case, without a prefix.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::digits(&self.0).collect()
    }

    /// The key with these 64 hex digits, of either case, without a prefix.
    ///
    /// # Errors
    ///
    /// [`ParseKeyError::Length`] or [`ParseKeyError::Digit`].
    pub fn from_hex(digits: &str) -> Result<Self, ParseKeyError> {
        let mut bytes = [0; KEY_LEN];
        hex::read(digits.as_bytes(), &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl FromStr for NodePublic {
    type Err = ParseKeyError;

    /// Reads `nodekey:` and 64 hex digits of either case.
    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        Self::from_hex(text.strip_prefix(PREFIX).ok_or(ParseKeyError::Prefix { wanted: PREFIX })?)
    }
}

impl fmt::Display for NodePublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        hex::digits(&self.0).try_for_each(|digit| fmt::Write::write_char(f, digit))
    }
}

impl fmt::Debug for NodePublic {
    /// As Tailscale's logs show a key, so that lines of both can be matched: `[` and the first
    /// five base64 digits and `]`; nothing for the zero key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BASE64: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        if self.is_zero() {
            return Ok(());
        }
        let [b0, b1, b2, b3, ..] = self.0;
        let front = u32::from_be_bytes([b0, b1, b2, b3]);
        f.write_str("[")?;
        for shift in [26, 20, 14, 8, 2] {
            let index = usize::from((front >> shift & 0x3f) as u8);
            let digit = BASE64.get(index).copied().unwrap_or(b'?');
            fmt::Write::write_char(f, char::from(digit))?;
        }
        f.write_str("]")
    }
}

/// The u coordinates of all points whose order divides 8, top bit clear, bytes as on the wire.
const LOW_ORDER: [[u8; KEY_LEN]; 7] = [
    // 0, of order 2.
    [0; KEY_LEN],
    // 1, of order 4.
    small(1),
    // Two of order 8.
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    // p - 1, of order 4 on the twist; then 0 and 1 again, spelled as p and p + 1.
    near_prime(0xec),
    near_prime(0xed),
    near_prime(0xee),
];

const fn small(first: u8) -> [u8; KEY_LEN] {
    let mut point = [0; KEY_LEN];
    point[0] = first;
    point
}

/// 2^255 - 256 + `first`; the prime p of the field is 2^255 - 19, so its first byte is 0xed.
const fn near_prime(first: u8) -> [u8; KEY_LEN] {
    let mut point = [0xff; KEY_LEN];
    point[0] = first;
    point[KEY_LEN - 1] = 0x7f;
    point
}
