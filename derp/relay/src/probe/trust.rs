//! Whom a client trusts, as a node of a DERP map says it.
//!
//! Does: makes the rules of TLS out of [`Trust`]: a pin, an authority, or nobody's word.
//! Does not: connect.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Fault;
use super::pin::CertPin;
use crate::tls::{outgoing, provider};

/// Certificates of authorities, read once and used for many probes.
#[derive(Clone, Debug)]
pub struct Authorities(Arc<RootCertStore>);

impl Authorities {
    /// Those that this system trusts, as Tailscale's clients do. Reads files. Where there are
    /// none, no certificate of an authority is good.
    #[must_use]
    pub fn of_system() -> Self {
        Self(Arc::new(outgoing::roots(true, None).unwrap_or_else(|_| RootCertStore::empty())))
    }

    /// These, as DER; what cannot be read is passed over.
    #[must_use]
    pub fn of(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore::empty();
        let (_, _) = roots.add_parsable_certificates(certificates);
        Self(Arc::new(roots))
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.0.roots == other.0.roots
    }
}

impl Eq for Authorities {}

/// A client that trusts a certificate of `authorities` for `cert_name`, whatever the host's name.
pub(super) fn by_authority(
    authorities: &Authorities,
    cert_name: &str,
) -> Result<Arc<ClientConfig>, Fault> {
    let name = ServerName::try_from(cert_name.to_owned())
        .map_err(|_| Fault::HostName(cert_name.to_owned()))?;
    let provider = provider();
    let inner = WebPkiServerVerifier::builder_with_provider(
        Arc::clone(&authorities.0),
        Arc::clone(&provider),
    )
    .build()
    .map_err(|_| Fault::NoAuthorities)?;
    config(Verifier { provider, rule: Rule::Named { inner, name } })
}

/// A client that trusts whoever answers.
pub(super) fn anyone() -> Result<Arc<ClientConfig>, Fault> {
    config(Verifier { provider: provider(), rule: Rule::Anyone })
}

/// A client that trusts the certificate with this pin and no other.
pub(super) fn by_pin(text: &str) -> Result<Arc<ClientConfig>, Fault> {
    config(Verifier { provider: provider(), rule: Rule::Pinned(CertPin::parse(text)?) })
}

fn config(verifier: Verifier) -> Result<Arc<ClientConfig>, Fault> {
    let config = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::Io(std::io::Error::other(error)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes a certificate by its rule. That its key signs the handshake is asked of each.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    rule: Rule,
}

/// Which certificate will do.
#[derive(Debug)]
enum Rule {
    /// The one with this pin.
    Pinned(CertPin),
    /// One of an authority, for another name than the one that is called.
    Named { inner: Arc<WebPkiServerVerifier>, name: ServerName<'static> },
    /// Any.
    Anyone,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        called: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.rule {
            Rule::Pinned(pin) => pin.check(leaf, others, called, now)?,
            Rule::Named { inner, name } => {
                return inner.verify_server_cert(leaf, others, name, ocsp, now);
            }
            Rule::Anyone => {}
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
