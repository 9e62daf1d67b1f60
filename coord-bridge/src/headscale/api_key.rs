//! The API key, read from its file whenever it is needed.
//!
//! Does: takes a key that was replaced at once, without a restart; keeps the last good one over
//! the moment in which a file is being replaced.
//! Does not: hold the key in anything that can be shown.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hyper::header::HeaderValue;

use super::Secret;
use super::limits::MAX_KEY_LEN;

/// A file with an API key.
#[derive(Debug)]
pub(super) struct ApiKeyFile {
    path: PathBuf,
    last: Mutex<Option<ApiKey>>,
}

/// An API key, and the header that shows it to Headscale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiKey {
    secret: Secret,
    header: HeaderValue,
}

/// Why a file gives no API key. The file is named by whoever tells of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadKeyError {
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("is empty")]
    Empty,
    #[error("holds more than {MAX_KEY_LEN} bytes, or other things than one key on one line")]
    NoKey,
}

impl ApiKeyFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, last: Mutex::new(None) }
    }

    pub(super) const fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The key that is in the file now; the one before where the file is of no use, since it may
    /// be about to be replaced. A small local file: reading it takes microseconds.
    pub(super) fn read(&self) -> Result<ApiKey, ReadKeyError> {
        let read = self.read_file();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (read, &*last) {
            (Ok(key), _) => Ok(last.insert(key).clone()),
            (Err(_), Some(key)) => Ok(key.clone()),
            (Err(error), None) => Err(error),
        }
    }

    fn read_file(&self) -> Result<ApiKey, ReadKeyError> {
        let mut bytes = Vec::with_capacity(MAX_KEY_LEN + 1);
        File::open(&self.path)?.take(MAX_KEY_LEN as u64 + 1).read_to_end(&mut bytes)?;
        let text = bytes.trim_ascii();
        if text.is_empty() {
            return Err(ReadKeyError::Empty);
        }
        if bytes.len() > MAX_KEY_LEN || !text.iter().all(u8::is_ascii_graphic) {
            return Err(ReadKeyError::NoKey);
        }
        let text = String::from_utf8_lossy(text).into_owned();
        let mut header =
            HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| ReadKeyError::NoKey)?;
        header.set_sensitive(true);
        Ok(ApiKey { secret: Secret::new(text), header })
    }
}

impl ApiKey {
    pub(super) const fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Whether the key begins so, with or without the word that newer ones begin with.
    pub(super) fn begins_with(&self, prefix: &str) -> bool {
        let key = self.secret.reveal();
        key.starts_with(prefix)
            || key.strip_prefix("hskey-api-").is_some_and(|rest| rest.starts_with(prefix))
    }

    /// `text` without the key.
    pub(super) fn blot_out(&self, text: &str) -> String {
        text.replace(self.secret.reveal(), "…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_key_is_taken_and_the_last_one_kept_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = ApiKeyFile::new(folder.path().join("key"));
        assert!(matches!(file.read(), Err(ReadKeyError::Io(_))));

        std::fs::write(file.path(), "first\n").unwrap();
        let first = file.read().unwrap();
        std::fs::write(file.path(), "second\r\n").unwrap();
        let second = file.read().unwrap();
        std::fs::remove_file(file.path()).unwrap();

        assert_ne!(first, second);
        assert_eq!(second.header().to_str().unwrap(), "Bearer second");
        assert_eq!(file.read().unwrap(), second);
    }

    #[test]
    fn what_is_no_key_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for (text, said) in [
            (" \n".to_owned(), "is empty"),
            ("two words".to_owned(), "one key on one line"),
            ("a\nb".to_owned(), "one key on one line"),
            ("\u{e9}".to_owned(), "one key on one line"),
            ("x".repeat(MAX_KEY_LEN + 1), "more than 512 bytes"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = ApiKeyFile::new(path.clone()).read().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = ApiKeyFile::new(folder.path().join("key"));
        std::fs::write(file.path(), "geheim").unwrap();
        let key = file.read().unwrap();

        assert!(!format!("{key:?} {file:?}").contains("geheim"), "{key:?} {file:?}");
        assert_eq!(key.blot_out("no geheim here"), "no … here");
    }
}
