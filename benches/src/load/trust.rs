//! How the generator knows the server it loads: rustls client settings for each kind of trust.
//!
//! Does: pins, certificate authorities of a file, or no check at all; never resumes a session,
//! because no DERP client does.
//! Does not: hold a pin to the rules of Tailscale's clients; `derp-relay probe` does.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use derp::map::PIN_PREFIX;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::target::Trust;

/// Bytes in a pin.
const PIN_LEN: usize = 32;

/// SHA-256 of a certificate, as `CertName` in a DERP map has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; PIN_LEN]);

/// The text is no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pin is `sha256-raw:` and 64 hex digits")]
pub struct ParsePinError;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file of authorities.
    #[error("{path}: {why}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// rustls.
    #[error("TLS: {0}")]
    Tls(#[from] Error),
}

impl FromStr for Pin {
    type Err = ParsePinError;

    fn from_str(text: &str) -> Result<Self, ParsePinError> {
        let digits = text.strip_prefix(PIN_PREFIX).ok_or(ParsePinError)?;
        if digits.len() != 2 * PIN_LEN || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(ParsePinError);
        }
        let mut pin = [0; PIN_LEN];
        for (index, byte) in pin.iter_mut().enumerate() {
            let pair = digits.get(2 * index..2 * index + 2).ok_or(ParsePinError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ParsePinError)?;
        }
        Ok(Self(pin))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PIN_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How to shake hands with a server that is trusted like this; `None` where there is no TLS.
pub(super) fn client_config(trust: &Trust) -> Result<Option<Arc<ClientConfig>>, TrustError> {
    let provider = Arc::new(provider::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let mut config = match trust {
        Trust::Plain => return Ok(None),
        Trust::Authorities(path) => {
            let file = |why: String| TrustError::File { path: path.clone(), why };
            let mut roots = RootCertStore::empty();
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| file(error.to_string()))?;
            for certificate in certificates {
                roots.add(certificate.map_err(|error| file(error.to_string()))?)?;
            }
            if roots.is_empty() {
                return Err(file("no certificate in it".to_owned()));
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::Pin(pin) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { pin: Some(*pin), provider }))
            .with_no_client_auth(),
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { pin: None, provider }))
            .with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(Some(Arc::new(config)))
}

/// Trusts the certificate with this pin, or every certificate.
#[derive(Debug)]
struct Verifier {
    pin: Option<Pin>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(pin) = self.pin else { return Ok(ServerCertVerified::assertion()) };
        let found = digest::digest(&digest::SHA256, leaf);
        if found.as_ref() == pin.0 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General(format!("the certificate does not have the pin {pin}")))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_its_own_text() {
        let text = format!("{PIN_PREFIX}{}", "0a1B".repeat(16));
        let pin: Pin = text.parse().unwrap();
        assert_eq!(pin.to_string(), text.to_lowercase());
    }

    #[test]
    fn what_is_no_pin_is_refused() {
        let digits = "0a".repeat(31);
        for text in [
            String::new(),
            "0a".repeat(32),
            format!("{PIN_PREFIX}{digits}"),
            format!("{PIN_PREFIX}{digits}+0"),
            format!("{PIN_PREFIX}{digits}0g"),
            format!("{PIN_PREFIX}{digits}0a0a"),
        ] {
            assert_eq!(text.parse::<Pin>(), Err(ParsePinError), "{text}");
        }
    }
}
