//! How receivers know that a request is ours.
//!
//! Does: signs as <https://www.standardwebhooks.com> has it, for which there are libraries in
//! many languages: HMAC-SHA256 over `id.timestamp.body`, in base64, after `v1,`.
//! Does not: show the secret.

use std::fmt;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What secrets of this scheme begin with.
const PREFIX: &str = "whsec_";

/// Fewest bytes of a secret: less can be guessed.
pub const MIN_SECRET_LEN: usize = 24;

/// Most bytes of a secret.
pub const MAX_SECRET_LEN: usize = 64;

/// The secret of a webhook.
pub struct Signer(Key);

/// The text is no secret. It is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a secret: write {PREFIX} and {MIN_SECRET_LEN} to {MAX_SECRET_LEN} random bytes in base64, \
     as `echo \"whsec_$(openssl rand -base64 32)\"` prints them"
)]
pub struct ParseSecretError;

impl Signer {
    /// Signs with the secret that is written so, blanks around it left aside.
    ///
    /// # Errors
    ///
    /// [`ParseSecretError`].
    pub fn parse(text: &str) -> Result<Self, ParseSecretError> {
        let text = text.trim();
        let secret = text.strip_prefix(PREFIX).unwrap_or(text);
        let secret = STANDARD.decode(secret).map_err(|_| ParseSecretError)?;
        if !(MIN_SECRET_LEN..=MAX_SECRET_LEN).contains(&secret.len()) {
            return Err(ParseSecretError);
        }
        Ok(Self(Key::new(HMAC_SHA256, &secret)))
    }

    /// The value of `webhook-signature`. `seconds` are those since 1970.
    #[must_use]
    pub fn sign(&self, id: &str, seconds: u64, body: &str) -> String {
        let tag = sign(&self.0, format!("{id}.{seconds}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with another program:
    /// `printf %s 'msg_1.1614265330.{"test": 1}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef -binary | base64`
    #[test]
    fn a_signature_is_what_others_compute() {
        let signer = Signer::parse("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
        let signature = signer.sign("msg_1", 1_614_265_330, r#"{"test": 1}"#);
        assert_eq!(signature, "v1,Bsjsk3iNLPb3Xc4PNZQK6LRBajCwZVuAoVb6Z88tuBI=");
        assert_eq!(format!("{signer:?}"), "Signer(…)");
    }

    #[test]
    fn what_can_be_guessed_is_no_secret() {
        for text in ["", "whsec_", "hunter2", "whsec_MDEyMzQ1Njc4OWFiY2RlZg==", "whsec_?"] {
            assert!(Signer::parse(text).is_err(), "{text}");
        }
    }
}
