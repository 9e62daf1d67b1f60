//! The certificate that a relay makes for itself where it has no other.
//!
//! Does: makes one, keeps it in a file with its key, and makes another only if the name has
//! changed, the time is over or the file is broken: clients hold its pin.
//! Does not: show it (`tls::certificate`).
//!
//! ECDSA P-256, common name and alternative name, the usages that derper gives it, ten years.
//! Nobody but the holders of the pin trusts it, and a pin that somebody has pasted into a map
//! shall not end while the host lives.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, ServerName};
use zeroize::Zeroizing;

use super::certificate::{LoadError, PemPair, is_valid_for, read_certificates};
use super::validity::{Validity, since_1970};
use crate::secret_file;

/// Certificate and key in one file, so that a crash cannot leave halves of two pairs.
const FILE_NAME: &str = "self-signed.pem";

/// Time for which it is valid.
pub const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Time before now from which it is valid: the clocks of clients run behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// Sees to it that `folder` holds a certificate that is valid for `name` at `now`.
pub(super) fn ensure(name: &str, folder: &Path, now: SystemTime) -> Result<PemPair, LoadError> {
    check(name)?;
    let path = file(folder);
    match read_certificates(&path).map(|chain| fault(&chain[0], name, now)) {
        Ok(None) => {}
        Err(LoadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            create(&path, name, now)?;
        }
        // To take a file that cannot be read for a broken one would throw a good pin away.
        Err(error @ LoadError::Read { .. }) => return Err(error),
        Ok(Some(fault)) => renew(&path, name, now, fault)?,
        Err(_) => renew(&path, name, now, "it is broken")?,
    }
    Ok(PemPair { certificate: path.clone(), key: path })
}

/// Whether a certificate can be made for `name`.
pub(super) fn check(name: &str) -> Result<(), LoadError> {
    match ServerName::try_from(name) {
        Ok(_) => Ok(()),
        Err(_) => Err(LoadError::Name { name: name.to_owned() }),
    }
}

/// Whether [`ensure`] would make a certificate, for want of one or of a good one.
pub(super) fn is_to_be_made(name: &str, folder: &Path, now: SystemTime) -> bool {
    if check(name).is_err() {
        return false;
    }
    match read_certificates(&file(folder)) {
        Ok(chain) => fault(&chain[0], name, now).is_some(),
        Err(LoadError::Read { source, .. }) => source.kind() == io::ErrorKind::NotFound,
        Err(_) => true,
    }
}

/// Where `folder` holds the certificate.
fn file(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

fn create(path: &Path, name: &str, now: SystemTime) -> Result<(), LoadError> {
    match secret_file::create(path, make(name, now)?.as_bytes()) {
        Ok(()) => {
            tracing::info!(path = %path.display(), name, "made a self-signed certificate");
            Ok(())
        }
        // Another process was faster: its certificate counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(LoadError::Write { path: path.to_owned(), source }),
    }
}

fn renew(path: &Path, name: &str, now: SystemTime, why: &str) -> Result<(), LoadError> {
    secret_file::replace(path, make(name, now)?.as_bytes())
        .map_err(|source| LoadError::Write { path: path.to_owned(), source })?;
    tracing::warn!(
        path = %path.display(),
        name,
        why,
        "made another self-signed certificate: its pin is new, update the map",
    );
    Ok(())
}

/// What is wrong with a stored certificate, if anything.
fn fault(certificate: &CertificateDer<'_>, name: &str, now: SystemTime) -> Option<&'static str> {
    match Validity::of(certificate) {
        _ if !is_valid_for(certificate, name) => Some("the name has changed"),
        None => Some("it is broken"),
        Some(validity) if now > validity.not_after => Some("its time is over"),
        Some(_) => None,
    }
}

/// Makes key and certificate: PEM, the key first.
fn make(name: &str, now: SystemTime) -> Result<Zeroizing<String>, LoadError> {
    let failed = |source| LoadError::Make { source };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![match name.parse::<IpAddr>() {
        Ok(ip) => SanType::IpAddress(ip),
        Err(_) => SanType::DnsName(name.try_into().map_err(failed)?),
    }];
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(now - CLOCK_SKEW);
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(now + LIFETIME);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = Zeroizing::new(key.serialize_pem());
    Ok(Zeroizing::new([key.as_str(), &certificate.pem()].concat()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;
    use x509_parser::certificate::X509Certificate;
    use x509_parser::extensions::GeneralName;
    use x509_parser::oid_registry::{OID_SIG_ECDSA_WITH_SHA256, OID_X509_EXT_BASIC_CONSTRAINTS};
    use x509_parser::prelude::FromDer;

    use super::super::certificate::pin;
    use super::*;

    /// check-T5, for names too, and for ten years.
    #[test]
    fn has_the_fields_that_derper_gives_it() {
        for (name, san) in [
            ("relay.example", GeneralName::DNSName("relay.example")),
            ("192.0.2.1", GeneralName::IPAddress(&[192, 0, 2, 1])),
            ("::1", GeneralName::IPAddress(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])),
        ] {
            let folder = TempDir::new().unwrap();
            let now = SystemTime::now();

            let der = stored(folder.path(), name, now);

            let (_, certificate) = X509Certificate::from_der(&der).unwrap();
            assert_eq!(certificate.signature_algorithm.algorithm, OID_SIG_ECDSA_WITH_SHA256);
            let common_name = certificate.subject().iter_common_name().next().unwrap();
            assert_eq!(common_name.as_str().unwrap(), name);
            let names = certificate.subject_alternative_name().unwrap().unwrap();
            assert_eq!(names.value.general_names, [san]);
            let usage = certificate.key_usage().unwrap().unwrap().value;
            assert!(usage.digital_signature() && usage.key_encipherment());
            let extended = certificate.extended_key_usage().unwrap().unwrap().value;
            assert!(extended.server_auth && !extended.client_auth);
            let constraints = certificate.basic_constraints().unwrap().unwrap();
            assert!(constraints.critical && !constraints.value.ca);
            assert!(
                certificate.extensions().iter().any(|e| e.oid == OID_X509_EXT_BASIC_CONSTRAINTS)
            );
            let validity = Validity::of(&der).unwrap();
            assert!(validity.not_before < now && validity.not_after > now + LIFETIME - CLOCK_SKEW);
        }
    }

    /// What an operator has pasted into a map stays right.
    #[test]
    fn the_pin_stays_over_restarts() {
        let folder = TempDir::new().unwrap();
        let now = SystemTime::now();

        let first = stored(folder.path(), "relay.example", now);
        let second = stored(folder.path(), "relay.example", now + LIFETIME - CLOCK_SKEW);

        assert_eq!(pin(&first), pin(&second));
        assert!(pin(&first).starts_with("sha256-raw:") && pin(&first).len() == 11 + 64);
        let mode = fs::metadata(folder.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn another_is_made_only_for_another_name_after_its_time_or_if_it_is_broken() {
        let folder = TempDir::new().unwrap();
        let now = SystemTime::now();
        let first = stored(folder.path(), "relay.example", now);

        let renamed = stored(folder.path(), "other.example", now);
        let expired = stored(folder.path(), "other.example", now + LIFETIME + CLOCK_SKEW);
        fs::write(folder.path().join(FILE_NAME), "broken").unwrap();
        let repaired = stored(folder.path(), "other.example", now);

        let all = [first, renamed, expired, repaired];
        for (n, certificate) in all.iter().enumerate() {
            assert!(!all[..n].contains(certificate), "{n}");
        }
    }

    /// A disk that fails for a moment must not cost the pin.
    #[test]
    fn a_file_that_cannot_be_read_is_not_replaced() {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join(FILE_NAME)).unwrap();

        let error = ensure("relay.example", folder.path(), SystemTime::now()).unwrap_err();

        assert!(matches!(error, LoadError::Read { .. }), "{error}");
        assert!(folder.path().join(FILE_NAME).is_dir());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let folder = TempDir::new().unwrap();
        for name in ["", "two words", "a/b", "-", "999.1.1.1"] {
            let made = ensure(name, folder.path(), SystemTime::now());
            assert!(matches!(made, Err(LoadError::Name { .. })), "{name}: {made:?}");
        }
    }

    fn stored(folder: &Path, name: &str, now: SystemTime) -> CertificateDer<'static> {
        let pair = ensure(name, folder, now).unwrap();
        read_certificates(&pair.certificate).unwrap().remove(0)
    }
}
