//! Who may ask: one user and a password, as HTTP's Basic authentication has them.
//!
//! Does: compares in constant time, and refuses in a text that no reader takes for a map.
//! Does not: keep the password: a hash of what has to be sent is enough. Does not hide it on the
//! way either; that takes TLS.
//!
//! Headscale sends it for a URL in `derp.urls` like `https://USER:PASSWORD@host/derpmap.json`.

use std::fmt;
use std::io;
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use subtle::ConstantTimeEq;

use super::{Answer, TEXT, answer};
use crate::config::{MapLogin, NoCredentials};
use crate::publication::upstream::{basic, read_bounded};

/// Most bytes of a password's file.
const MAX_PASSWORD_LEN: u64 = 1_024;

/// One user and a password. `Debug` shows nothing of them.
#[derive(Clone)]
pub struct Login {
    /// Of the whole header: equal lengths, and nothing to read in a core dump.
    expected: [u8; SHA256_OUTPUT_LEN],
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The file.
    #[error("cannot read map_password_file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A credential of a unit that has none.
    #[error("map_password_file: {0}")]
    NoCredentials(#[from] NoCredentials),
}

impl Login {
    /// A user and a password; `None` where the two make no header.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Option<Self> {
        basic(user, password).map(|value| Self { expected: hash(value.as_bytes()) })
    }

    /// Reads the password: the first line of its file.
    ///
    /// # Errors
    ///
    /// [`LoginError`], also for an empty password.
    pub fn read(login: &MapLogin) -> Result<Self, LoginError> {
        let path = login.password_file.locate()?;
        let failed = |source| LoginError::Read { path: path.clone(), source };
        let bytes = read_bounded(&path, MAX_PASSWORD_LEN).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes);
        let password = text.lines().next().unwrap_or_default();
        if password.is_empty() {
            return Err(failed(io::Error::other("its first line is empty")));
        }
        Self::new(&login.user, password).ok_or_else(|| failed(io::Error::other("no text")))
    }

    /// Whether a request has the right header, and one only.
    #[must_use]
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => hash(&canonical(value)).ct_eq(&self.expected).into(),
            (Some(_) | None, _) => false,
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(_)")
    }
}

/// What whoever does not know the password is answered.
#[must_use]
pub(super) fn refusal() -> Answer {
    let mut answer = answer(
        StatusCode::UNAUTHORIZED,
        TEXT,
        "not yours: the map takes a user and a password, as in https://USER:PASSWORD@host/…\n",
    );
    let scheme = HeaderValue::from_static("Basic realm=\"DERP map\", charset=\"UTF-8\"");
    answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    answer
}

/// The scheme may come in any letter case.
fn canonical(value: &HeaderValue) -> Vec<u8> {
    let bytes = value.as_bytes();
    match bytes.split_at_checked(6) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"Basic ") => {
            [b"Basic ".as_slice(), rest.trim_ascii()].concat()
        }
        Some(_) | None => Vec::new(),
    }
}

fn hash(bytes: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}
