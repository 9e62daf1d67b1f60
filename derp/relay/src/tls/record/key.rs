//! The key of one direction, and what it has been used for.
//!
//! Does: opens and seals one record after the other. Does not: know what is in them.
//!
//! The cipher's own state is wiped by aws-lc when it is freed, the key bytes from which it was
//! made by rustls.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::crypto::cipher::{Iv, Nonce as RecordNonce};
use rustls::{ConnectionTrafficSecrets, Error};

use super::{Fault, HEADER_LEN, MAX_PLAINTEXT, TAIL_LEN, content};

/// Bytes in a tag, in each suite of TLS 1.3 that is known here.
pub(super) const TAG_LEN: usize = 16;

/// One direction's key.
pub(super) struct Key {
    aead: LessSafeKey,
    iv: Iv,
    /// Number of the next record.
    sequence: u64,
}

impl Key {
    /// Takes a secret as rustls gives it, with the number of the next record.
    pub(super) fn new(secret: (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (sequence, secret) = secret;
        let (algorithm, key, iv) = match secret {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            // An enum of rustls that may grow.
            _ => return Err(Error::General("an unknown cipher suite".into())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref())
            .map_err(|_| Error::General("a key of the wrong length".into()))?;
        Ok(Self { aead: LessSafeKey::new(key), iv, sequence })
    }

    /// Opens the record of `header` and `body` in its place; returns the content, its type last.
    pub(super) fn open<'a>(
        &mut self,
        header: [u8; HEADER_LEN],
        body: &'a mut [u8],
    ) -> Result<&'a [u8], Fault> {
        let (inner, tag) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(Fault::Forged)?;
        let nonce = self.nonce()?;
        self.aead
            .open_in_place_separate_tag(nonce, Aad::from(header), tag, inner)
            .map_err(|_| Fault::Forged)?;
        Ok(inner)
    }

    /// Makes a record of what `out` holds from `plaintext_at` on, where it is.
    pub(super) fn seal_in_place(
        &mut self,
        kind: u8,
        out: &mut Vec<u8>,
        plaintext_at: usize,
    ) -> Result<(), Fault> {
        let len = out.len().checked_sub(plaintext_at).ok_or(Fault::Internal)?;
        let header = header(len)?;
        let start = plaintext_at.checked_sub(HEADER_LEN).ok_or(Fault::Internal)?;
        out.get_mut(start..plaintext_at).ok_or(Fault::Internal)?.copy_from_slice(&header);
        out.push(kind);
        out.extend_from_slice(&[0; TAG_LEN]);
        let nonce = self.nonce()?;
        let (inner, tag) = out
            .get_mut(plaintext_at..)
            .and_then(<[u8]>::split_last_chunk_mut::<TAG_LEN>)
            .ok_or(Fault::Internal)?;
        self.aead
            .seal_in_place_scatter(nonce, Aad::from(header), inner, &[], tag)
            .map_err(|_| Fault::Internal)
    }

    /// Appends the record of `plaintext` to `out`: sealed from there to here, without a copy.
    pub(super) fn seal(
        &mut self,
        kind: u8,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let header = header(plaintext.len())?;
        out.extend_from_slice(&header);
        let start = out.len();
        // Zeros that are written over at once: less than a copy, and no `unsafe`.
        out.resize(start + plaintext.len() + TAIL_LEN, 0);
        let nonce = self.nonce()?;
        let (sealed, tail) = out
            .get_mut(start..)
            .and_then(|place| place.split_at_mut_checked(plaintext.len()))
            .ok_or(Fault::Internal)?;
        self.aead
            .seal_out_of_place_scatter(nonce, Aad::from(header), plaintext, sealed, &[kind], tail)
            .map_err(|_| Fault::Internal)
    }

    /// The nonce of the next record, which is used up by this.
    fn nonce(&mut self) -> Result<Nonce, Fault> {
        let nonce = RecordNonce::new(&self.iv, self.sequence);
        // Never reached: a number that came round would be worse than a closed connection.
        self.sequence = self.sequence.checked_add(1).ok_or(Fault::Internal)?;
        Ok(Nonce::assume_unique_for_key(nonce.0))
    }
}

/// The header of a record with `plaintext_len` bytes of plaintext, without padding.
fn header(plaintext_len: usize) -> Result<[u8; HEADER_LEN], Fault> {
    if plaintext_len > MAX_PLAINTEXT {
        return Err(Fault::Internal);
    }
    let len = u16::try_from(plaintext_len + TAIL_LEN).map_err(|_| Fault::Internal)?;
    let [high, low] = len.to_be_bytes();
    Ok([content::APPLICATION_DATA, 3, 3, high, low])
}
