//! The sealed part of a login: a NaCl box between a client's key and the relay's.
//!
//! Does: agrees once on a shared key and uses it both ways; opens and seals.
//! Does not: draw nonces, or speak to keys with which a box proves nothing.
//!
//! ```text
//! offset  size  field
//! 0       24    nonce
//! 24      16    Poly1305 tag
//! 40      n     JSON, XSalsa20
//! ```
//!
//! Spec: docs/protocol/derp.md, DERP-3.2.

use std::fmt;

use crypto_box::SalsaBox;
use crypto_box::aead::AeadInPlace;
use zeroize::Zeroizing;

use super::LoginError;
use crate::frame::NONCE_LEN;
use crate::key::{NodePrivate, NodePublic};

/// Bytes of the Poly1305 tag in front of the ciphertext.
pub(crate) const TAG_LEN: usize = 16;

/// Bytes that sealing adds: nonce and tag.
pub(crate) const SEAL_LEN: usize = NONCE_LEN + TAG_LEN;

/// The key that two sides share. Wiped when dropped; `Debug` shows nothing of it.
pub(crate) struct SharedBox(SalsaBox);

impl SharedBox {
    /// Agrees with `peer`: one X25519 multiplication, nearly all of what a login costs.
    ///
    /// # Errors
    ///
    /// [`LoginError::ZeroKey`] and [`LoginError::LowOrderKey`]. Go's box takes the second kind
    /// and works with a shared key that everybody can compute.
    pub(crate) fn new(own: &NodePrivate, peer: &NodePublic) -> Result<Self, LoginError> {
        if peer.is_zero() {
            return Err(LoginError::ZeroKey);
        }
        if peer.is_low_order() {
            return Err(LoginError::LowOrderKey);
        }
        Ok(Self(own.agree(peer)))
    }

    /// Opens nonce, tag and ciphertext; `None` if the other side did not seal exactly this.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let (tag, ciphertext) = rest.split_first_chunk::<TAG_LEN>()?;
        let mut text = Zeroizing::new(ciphertext.to_vec());
        self.0.decrypt_in_place_detached(nonce.into(), &[], &mut text, tag.into()).ok()?;
        Some(text)
    }

    /// Seals `text`: nonce, tag and ciphertext. A nonce must not come twice under one key.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE_LEN], text: &[u8]) -> Vec<u8> {
        let mut ciphertext = Zeroizing::new(text.to_vec());
        #[expect(clippy::expect_used, reason = "fails on associated data only, and there is none")]
        let tag = self
            .0
            .encrypt_in_place_detached(nonce.into(), &[], &mut ciphertext)
            .expect("a box without associated data seals");
        [nonce.as_slice(), tag.as_slice(), &ciphertext].concat()
    }
}

impl fmt::Debug for SharedBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedBox([redacted])")
    }
}
