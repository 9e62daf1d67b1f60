//! Key files: the two forms in which relays keep their private key on disk.
//!
//! Does: reads derper's JSON and Headscale's bare text, writes derper's JSON, so that an
//! operator can go from either relay to this one, or back to derper, without a new identity.
//! Does not: touch a file, make a key, or repeat content in an error.
//!
//! ```text
//! derper      {"PrivateKey": "privkey:<64 hex>"}      any white space, name in any letter case
//! Headscale   privkey:<64 hex>                        white space around it
//! ```
//!
//! Spec: docs/protocol/derp.md, DERP-3.7.

use serde::de::MapAccess;
use zeroize::Zeroizing;

use super::{NodePrivate, ParseKeyError};
use crate::json;

/// Most bytes in a key file. Ours: the longest form in use has 92; white space may be added.
pub const MAX_KEY_FILE_LEN: usize = 4_096;

/// Why a key file holds no key. Says nothing of what it does hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseFileError {
    /// Longer than [`MAX_KEY_FILE_LEN`].
    #[error("key file of {len} bytes, at most {MAX_KEY_FILE_LEN}")]
    TooLong {
        /// Length of the file, in bytes.
        len: usize,
    },
    /// No byte but white space: a file that somebody only touched.
    #[error("key file is empty")]
    Empty,
    /// Not UTF-8, or looks like JSON and is not an object with text in `PrivateKey`.
    #[error("key file is neither `privkey:` text nor a JSON object with `PrivateKey`")]
    Form,
    /// A JSON object without the one field that counts.
    #[error("key file has no `PrivateKey`")]
    NoKey,
    /// The form is right and the key is not.
    #[error("key in the key file: {0}")]
    Key(ParseKeyError),
}

/// Reads the private key out of the bytes of a key file of either form.
///
/// # Errors
///
/// [`ParseFileError`]; the relay must then not start, rather than make itself a new identity.
///
/// # Source
///
/// DERP-3.7.
pub fn parse(file: &[u8]) -> Result<NodePrivate, ParseFileError> {
    if file.len() > MAX_KEY_FILE_LEN {
        return Err(ParseFileError::TooLong { len: file.len() });
    }
    let text = std::str::from_utf8(file).map_err(|_| ParseFileError::Form)?.trim();
    if text.is_empty() {
        return Err(ParseFileError::Empty);
    }
    if !text.starts_with('{') {
        return text.parse().map_err(ParseFileError::Key);
    }
    let mut found = Found(None);
    json::read_object(text.as_bytes(), &mut found).map_err(|_| ParseFileError::Form)?;
    found.0.take().ok_or(ParseFileError::NoKey)?.map_err(ParseFileError::Key)
}

/// The file that derper writes for `key`: JSON, one key, indented with a tab, no line end.
///
/// The caller writes it with mode 0600.
#[must_use]
pub fn render(key: &NodePrivate) -> Zeroizing<String> {
    const HEAD: &str = "{\n\t\"PrivateKey\": \"";
    const TAIL: &str = "\"\n}";
    let text = key.to_file_text();
    let mut file = Zeroizing::new(String::with_capacity(HEAD.len() + text.len() + TAIL.len()));
    file.push_str(HEAD);
    file.push_str(&text);
    file.push_str(TAIL);
    file
}

/// The last `PrivateKey` seen.
struct Found(Option<Result<NodePrivate, ParseKeyError>>);

impl json::Object for Found {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &[u8],
        value: json::Value<'_, A>,
    ) -> Result<(), A::Error> {
        if !json::is_named(name, "privatekey") {
            return value.ignore();
        }
        if let Some(text) = value.bytes()? {
            let text = std::str::from_utf8(&text).map_err(|_| ParseKeyError::Digit);
            self.0 = Some(text.and_then(str::parse));
        }
        Ok(())
    }
}
