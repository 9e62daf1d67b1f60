//! Trust by the fingerprint of a certificate, as a DERP map gives it in `CertName`.
//!
//! Does: holds a relay's certificate against the pin by the rules of Tailscale's clients: one
//! certificate beside the one with the relay's key, valid now and for the host name.
//! Does not: look for an authority.
//!
//! Spec: docs/protocol/derp.md, DERP-10.4.

use std::time::{Duration, SystemTime};

use derp::key::NodePublic;
use derp::map::PIN_PREFIX;
use rustls::Error;
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Fault;
use crate::tls::certificate;
use crate::tls::validity::Validity;

/// What the name in the certificate with the relay's key starts with.
const KEY_NAME: &[u8] = b"derpkey";

/// Hex digits in that name, behind the start.
const KEY_DIGITS: usize = 64;

/// The fingerprint of the one certificate that is trusted.
#[derive(Debug)]
pub(super) struct CertPin(String);

impl CertPin {
    /// Reads the text that a map has.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let digits = text.strip_prefix(PIN_PREFIX).ok_or(Fault::Pin)?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Fault::Pin);
        }
        Ok(Self(text.to_owned()))
    }

    /// Holds what a relay has shown against it.
    pub(super) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::General(why));
        let found = certificate::pin(leaf);
        if found != self.0 {
            return refuse(format!("the certificate is {found}, not {}", self.0));
        }
        if others.iter().any(|other| relay_key(other).is_none()) {
            return refuse("clients take a pin for a single certificate only".to_owned());
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        if !Validity::of(leaf).is_some_and(|it| it.not_before <= now && now <= it.not_after) {
            return refuse("the certificate is not valid now".to_owned());
        }
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)
    }
}

/// The relay's key in `certificate`, if that is the one that clients look for it in.
pub(super) fn relay_key(certificate: &CertificateDer<'_>) -> Option<NodePublic> {
    let at = certificate.windows(KEY_NAME.len()).position(|window| window == KEY_NAME)?;
    let digits = certificate.get(at + KEY_NAME.len()..)?.get(..KEY_DIGITS)?;
    NodePublic::from_hex(std::str::from_utf8(digits).ok()?).ok()
}
