//! TLS of connections that we open: whom they trust.
//!
//! Does: the system's certificates, and those of one more file.
//! Does not: connect; that is its users' business, here and in the bridge.

use std::path::{Path, PathBuf};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file of further certificates is of no use.
    #[error("ca_file: {} cannot be used: {source}; give certificates in PEM form", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A certificate of that file is of no use.
    #[error("ca_file: {} holds a certificate that is of no use: {source}; remove it", path.display())]
    CaCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// TLS is wanted, and there is nothing to check a certificate against.
    #[error("ca_file: missing; this system has no certificates to trust, so give some")]
    NoRoots,
}

/// How to shake hands with servers that have a certificate of the system's authorities, if
/// `is_https`, or of those in `ca_file`. Reads files.
///
/// # Errors
///
/// [`TrustError`].
pub fn client_config(is_https: bool, ca_file: Option<&Path>) -> Result<ClientConfig, TrustError> {
    Ok(trusting(roots(is_https, ca_file)?))
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Certificates of the system's authorities, if `is_https`, and of those in `ca_file`.
pub(crate) fn roots(is_https: bool, ca_file: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    if is_https {
        let (_, _) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(path) = ca_file {
        let failed = |source| TrustError::CaFile { path: path.to_owned(), source };
        let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
            .map_err(failed)?
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        if certificates.is_empty() {
            return Err(failed(rustls_pki_types::pem::Error::NoItemsFound));
        }
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|source| TrustError::CaCertificate { path: path.to_owned(), source })?;
        }
    }
    if is_https && roots.is_empty() {
        return Err(TrustError::NoRoots);
    }
    Ok(roots)
}
