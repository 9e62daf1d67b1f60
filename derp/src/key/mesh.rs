//! The mesh key: shared by relays of one region and by watchers, proof of the mesh right.
//!
//! Does: reads, compares in constant time, wipes itself. Does not: decide who has the right.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{KEY_LEN, ParseKeyError, hex};

/// Secret shared by the relays of a region. Wiped when dropped; `Debug` shows nothing of it.
///
/// `==` takes the same time wherever the keys differ. All zeros are no key: the text form of
/// such a key is refused, so two sides without a key can never agree.
#[derive(Clone)]
pub struct MeshKey([u8; KEY_LEN]);

impl MeshKey {
    /// The key with exactly these 64 hex digits, of either case.
    ///
    /// # Errors
    ///
    /// [`ParseKeyError`], [`ParseKeyError::Zero`] among them.
    pub fn from_hex(digits: &str) -> Result<Self, ParseKeyError> {
        let mut key = Self([0; KEY_LEN]);
        hex::read(digits.as_bytes(), &mut key.0)?;
        if bool::from(key.0.ct_eq(&[0; KEY_LEN])) {
            return Err(ParseKeyError::Zero);
        }
        Ok(key)
    }

    /// The 64 hex digits of the key, for a sealed `ClientInfo`.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(hex::DIGITS));
        text.extend(hex::digits(&self.0));
        text
    }
}

impl FromStr for MeshKey {
    type Err = ParseKeyError;

    /// Reads 64 hex digits of either case; white space around them, as files have, is dropped.
    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        Self::from_hex(text.trim())
    }
}

impl PartialEq for MeshKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for MeshKey {}

impl Drop for MeshKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshKey([redacted])")
    }
}
