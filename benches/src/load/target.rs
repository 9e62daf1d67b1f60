//! The server under test, as its clients see it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::trust::{self, Pin, TrustError};

/// How clients know the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Not at all: there is no TLS.
    Plain,
    /// By the fingerprint of its certificate.
    Pin(Pin),
    /// By the certificate authorities in this PEM file.
    Authorities(PathBuf),
    /// There is TLS, and any certificate will do.
    Anybody,
}

/// A server, ready to be connected to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub address: SocketAddr,
    /// What clients call it in the `Host` header.
    pub host: String,
    /// For TLS: how to shake hands, and with whom.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Why there is no target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The text is no `HOST:PORT`.
    #[error("`{0}` is no HOST:PORT")]
    Text(String),
    /// The host has no address.
    #[error("{host}: {error}")]
    Resolve {
        /// The host.
        host: String,
        /// Why not.
        error: io::Error,
    },
    /// The trust cannot be set up.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Target {
    /// Finds the server that `text` names, as `HOST:PORT`. May block on name resolution.
    ///
    /// # Errors
    ///
    /// [`TargetError`], in words for the command line.
    pub fn new(text: &str, trust: &Trust) -> Result<Self, TargetError> {
        let fault = || TargetError::Text(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(fault)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(fault());
        }
        let unresolved = |error| TargetError::Resolve { host: text.to_owned(), error };
        let mut addresses = text.to_socket_addrs().map_err(unresolved)?;
        let address = addresses.next().ok_or_else(|| unresolved(io::ErrorKind::NotFound.into()))?;
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match trust::client_config(trust)? {
            Some(config) => Some((config, ServerName::try_from(name).map_err(|_| fault())?)),
            None => None,
        };
        Ok(Self { address, host: text.to_owned(), tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_taken() {
        for text in ["127.0.0.1:3340", "[::1]:3340"] {
            let target = Target::new(text, &Trust::Plain).unwrap();
            assert_eq!(target.address.to_string(), text);
            assert!(target.tls.is_none());
            assert!(Target::new(text, &Trust::Anybody).unwrap().tls.is_some());
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "localhost", ":3340", "localhost:x", "localhost:70000"] {
            assert!(
                matches!(Target::new(text, &Trust::Plain), Err(TargetError::Text(_))),
                "{text}"
            );
        }
    }
}
