//! Where the store is.
//!
//! Does: reads `postgres://` URLs, and keeps passwords out of them.
//! Does not: connect.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ::postgres::config::SslMode;

use crate::headscale::Secret;

/// Where the store is.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// An SQLite file.
    File(PathBuf),
    /// A PostgreSQL server.
    Server(Box<Server>),
}

/// A PostgreSQL server and database.
#[derive(Clone, PartialEq)]
pub struct Server {
    /// As it was written, without password.
    url: String,
    password: Option<Secret>,
}

/// The text is no URL of a server that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseServerError {
    /// Whatever it is.
    #[error("not a PostgreSQL URL: {0}; write postgres://USER@HOST/DATABASE")]
    Malformed(String),
    /// Settings are read by people and programs that have no business with the password.
    #[error("has a password in it; give that by a file")]
    Password,
    /// The connection would have to be encrypted.
    #[error(
        "asks for TLS, which this bridge does not speak to PostgreSQL; use a Unix socket, a \
         loopback address or an encrypted tunnel, and sslmode=disable"
    )]
    Tls,
}

impl FromStr for Server {
    type Err = ParseServerError;

    fn from_str(text: &str) -> Result<Self, ParseServerError> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(ParseServerError::Malformed("it does not begin so".to_owned()));
        }
        let settings = read(text)?;
        if settings.get_password().is_some() {
            return Err(ParseServerError::Password);
        }
        // Never weaker than what was asked for. `Prefer` is what a URL says that says nothing.
        let mode = settings.get_ssl_mode();
        if mode != SslMode::Disable && mode != SslMode::Prefer {
            return Err(ParseServerError::Tls);
        }
        Ok(Self { url: text.to_owned(), password: None })
    }
}

impl Server {
    /// This server, with the password of its user.
    #[must_use]
    pub fn with_password(mut self, password: &Secret) -> Self {
        self.password = Some(password.clone());
        self
    }

    /// What a connection needs.
    pub(super) fn settings(&self) -> Result<::postgres::Config, ParseServerError> {
        let mut settings = read(&self.url)?;
        if let Some(password) = &self.password {
            settings.password(password.reveal());
        }
        Ok(settings)
    }
}

fn read(url: &str) -> Result<::postgres::Config, ParseServerError> {
    // The cause may hold the text, and with it a password.
    url.parse().map_err(|_| ParseServerError::Malformed("it cannot be read".to_owned()))
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.url).finish()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(server) => f.write_str(&server.url),
        }
    }
}
