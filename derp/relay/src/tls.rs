//! TLS as the relay speaks it.
//!
//! | module | holds |
//! |---|---|
//! | [`certificate`] | the certificates in use, and which one a client gets |
//! | [`self_signed`] | the one that a relay makes for itself |
//! | [`meta`] | the one that tells clients the relay's DERP key |
//! | [`handshake`] | one connection, as an async byte stream |
//! | [`record`] | its records, after the handshake |
//! | [`validity`] | when a certificate is valid |
//! | [`outgoing`] | connections that we open, and whom they trust |
//!
//! TLS 1.2 and 1.3. AES-128-GCM is taken where the client offers it: the relay's cost is mostly
//! encryption, and AES-256 costs a fifth more. No client certificates; no session tickets, since
//! no DERP client resumes and they cost up to a tenth of a login; `http/1.1` is the only
//! application protocol, and a client that names none gets it. Spec: docs/protocol/derp.md,
//! section 1.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{ServerConfig, version};

mod buffer;
pub mod certificate;
mod failure;
pub mod handshake;
pub mod meta;
pub mod outgoing;
pub mod record;
pub mod self_signed;
pub mod validity;

pub use certificate::Certificates;
pub use failure::{Failure, FailureReason};
pub use handshake::Handshake;

/// The only application protocol that can be upgraded to DERP.
const HTTP_1_1: &[u8] = b"http/1.1";

/// How the relay shakes hands, with certificates from `certificates`.
///
/// # Panics
///
/// Never: the provider has suites for both versions, which a test holds.
///
/// # Source
///
/// DERP-1.1, DERP-1.2.
#[must_use]
pub fn server_config(certificates: Arc<dyn ResolvesServerCert>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("the provider below has suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // A shard may go on with its own record layer after the hand-over.
    config.enable_secret_extraction = true;
    Arc::new(config)
}

/// The cryptography behind it, named rather than taken from the process: with two providers in
/// one program there is no default.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite as suite;
    Arc::new(CryptoProvider {
        // In the order of our preference, which counts: see `ignore_client_order`.
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    })
}
