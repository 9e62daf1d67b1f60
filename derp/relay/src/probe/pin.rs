//! Trust by the fingerprint of a certificate, as a DERP map gives it in `CertName`.
//!
//! Does: holds a relay's certificate against the pin by the rules of Tailscale's clients: one
//! certificate beside the one with the relay's key, valid now and for the host name.
//! Does not: look for an authority.
//!
//! Spec: docs/protocol/derp.md, DERP-10.4.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use derp::key::NodePublic;
use derp::map::PIN_PREFIX;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Fault;
use crate::tls::certificate;
use crate::tls::validity::Validity;

/// What the name in the certificate with the relay's key starts with.
const KEY_NAME: &[u8] = b"derpkey";

/// Hex digits in that name, behind the start.
const KEY_DIGITS: usize = 64;

/// Trusts the certificate with this pin and no other.
pub(super) fn verifier(
    pin: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Fault> {
    let digits = pin.strip_prefix(PIN_PREFIX).ok_or(Fault::Pin)?;
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(Fault::Pin);
    }
    Ok(Arc::new(Pinned { pin: pin.to_owned(), provider: Arc::clone(provider) }))
}

/// The relay's key in `certificate`, if that is the one that clients look for it in.
pub(super) fn relay_key(certificate: &CertificateDer<'_>) -> Option<NodePublic> {
    let at = certificate.windows(KEY_NAME.len()).position(|window| window == KEY_NAME)?;
    let digits = certificate.get(at + KEY_NAME.len()..)?.get(..KEY_DIGITS)?;
    NodePublic::from_hex(std::str::from_utf8(digits).ok()?).ok()
}

#[derive(Debug)]
struct Pinned {
    pin: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let refuse = |why: String| Err(Error::General(why));
        let found = certificate::pin(leaf);
        if found != self.pin {
            return refuse(format!("the certificate is {found}, not {}", self.pin));
        }
        if others.iter().any(|other| relay_key(other).is_none()) {
            return refuse("clients take a pin for a single certificate only".to_owned());
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        if !Validity::of(leaf).is_some_and(|it| it.not_before <= now && now <= it.not_after) {
            return refuse("the certificate is not valid now".to_owned());
        }
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
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
