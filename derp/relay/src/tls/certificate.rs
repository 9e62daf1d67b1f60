//! The certificates that the relay shows: where they come from, and which one a client gets.
//!
//! Does: loads them from files or makes one, appends the meta certificate to each chain, picks
//! a chain by the name that the client asks for, and loads them again while the relay runs.
//! Does not: watch files, or get certificates from an authority.
//!
//! Used by the TLS handshake. Next: `tls::handshake`. Spec: docs/protocol/derp.md, section 1.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use derp::key::{KEY_LEN, NodePublic};
use rustls::client::verify_server_name;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::sync::watch;

use super::validity::Validity;
use super::{meta, provider, self_signed};
use crate::secret_file;

/// Most bytes in a file of certificates or of a key. Long chains have 10 KiB.
const MAX_PEM_LEN: usize = 1024 * 1024;

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Pairs of PEM files. The client's name picks one; the first serves everybody else: who
    /// asks for an address, for nothing, or for a name that no pair is valid for.
    Files(Vec<PemPair>),
    /// One that the relay makes for itself, and clients trust by its pin.
    SelfSigned {
        /// Host name or IP address that clients use.
        name: String,
        /// Folder that keeps it over restarts; created if it is missing.
        folder: PathBuf,
    },
}

impl Source {
    /// Whether it can be loaded, as far as that can be told without writing anything.
    ///
    /// # Errors
    ///
    /// What [`Certificates::load`] would say.
    pub fn check(&self) -> Result<(), LoadError> {
        match self {
            // Loaded for no relay in particular: the meta certificate does not matter.
            Self::Files(_) => load(self, &NodePublic::from_bytes([0; KEY_LEN])).map(drop),
            Self::SelfSigned { name, .. } => self_signed::check(name),
        }
    }

    /// Whether loading it makes a certificate: there is none yet, or none that is of use.
    #[must_use]
    pub fn is_to_be_made(&self) -> bool {
        match self {
            Self::Files(_) => false,
            Self::SelfSigned { name, folder } => {
                self_signed::is_to_be_made(name, folder, SystemTime::now())
            }
        }
    }
}

/// A certificate chain and the key that belongs to its first certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemPair {
    /// PEM file with the relay's certificate, then those above it.
    pub certificate: PathBuf,
    /// PEM file with the private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Why there is no certificate to show. Names the file, never what is in a key file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `tls = "files"` without any.
    #[error("no certificate is configured: give --tls-cert and --tls-key, or --tls self-signed")]
    NoPair,
    /// A file cannot be read.
    #[error("cannot read {}: {source}; make it readable for this user, or correct --tls-cert and --tls-key", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file holds no PEM section of the wanted kind, or a broken one.
    #[error("{} holds no {wanted} in PEM form; correct --tls-cert and --tls-key", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it has to hold.
        wanted: &'static str,
    },
    /// The pair is of no use: the key belongs to another certificate, or is of an unknown kind.
    #[error("{} and {} cannot be used together: {source}", pair.certificate.display(), pair.key.display())]
    Pair {
        /// The files.
        pair: PemPair,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The relay's own certificate cannot be stored.
    #[error("cannot write {}: {source}; make its folder writable for this user", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The name is neither a DNS name nor an IP address.
    #[error("`{name}` is neither a host name nor an IP address: correct --hostname")]
    Name {
        /// The name.
        name: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {source}")]
    Make {
        /// What the cryptographic library said.
        #[source]
        source: rcgen::Error,
    },
}

/// The certificates in use. Shared with every TLS handshake; replaced as a whole.
pub struct Certificates {
    source: Source,
    relay: NodePublic,
    chains: ArcSwap<Vec<Chain>>,
    reloads: watch::Sender<()>,
}

/// One certificate chain with its key, the meta certificate included.
pub(super) struct Chain {
    certified: Arc<CertifiedKey>,
    leaf: CertificateDer<'static>,
}

impl Certificates {
    /// Loads or makes what `source` says; the meta certificate names the key `relay`.
    ///
    /// # Errors
    ///
    /// [`LoadError`]: there is nothing to show to a client.
    pub fn load(source: Source, relay: NodePublic) -> Result<Arc<Self>, LoadError> {
        let chains = load(&source, &relay)?;
        Ok(Arc::new(Self {
            source,
            relay,
            chains: ArcSwap::from_pointee(chains),
            reloads: watch::Sender::new(()),
        }))
    }

    /// Loads everything again. Handshakes that begin afterwards get the new certificates.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; the old certificates then stay.
    pub fn reload(&self) -> Result<(), LoadError> {
        self.chains.store(Arc::new(load(&self.source, &self.relay)?));
        self.reloads.send_replace(());
        Ok(())
    }

    /// Tells when they were loaded again, the same or others.
    pub(crate) fn reloads(&self) -> watch::Receiver<()> {
        self.reloads.subscribe()
    }

    /// Whether clients can trust the certificate by its pin only.
    #[must_use]
    pub const fn is_self_signed(&self) -> bool {
        matches!(self.source, Source::SelfSigned { .. })
    }

    /// The pin of the first certificate, as `CertName` in a DERP map takes it.
    #[must_use]
    pub fn pin(&self) -> String {
        self.chains.load().first().map(|chain| pin(&chain.leaf)).unwrap_or_default()
    }

    /// When the first of them to end ends, if that can be told.
    #[must_use]
    pub fn not_after(&self) -> Option<SystemTime> {
        self.chains
            .load()
            .iter()
            .filter_map(|chain| Some(Validity::of(&chain.leaf)?.not_after))
            .min()
    }

    /// Whether a client that asks for `name`, a host name or an address, gets a certificate
    /// that is valid for it.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.chains.load().iter().any(|chain| is_valid_for(&chain.leaf, name))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chains = self.chains.load();
        let asked = hello.server_name();
        let chosen = match chains.as_slice() {
            // Nothing to choose, hence nothing to parse.
            [] | [_] => None,
            several => asked.and_then(|name| several.iter().find(|c| is_valid_for(&c.leaf, name))),
        };
        chosen.or(chains.first()).map(|chain| Arc::clone(&chain.certified))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("source", &self.source)
            .field("pin", &self.pin())
            .finish_non_exhaustive()
    }
}

/// `sha256-raw:` and the SHA-256 of the whole certificate in lower-case hex.
#[must_use]
pub fn pin(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::from("sha256-raw:");
    for byte in digest(&SHA256, certificate).as_ref() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Whether `certificate` is for `name`, a host name or an IP address. Wildcards count.
pub(super) fn is_valid_for(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(name) = ServerName::try_from(name) else { return false };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
}

fn load(source: &Source, relay: &NodePublic) -> Result<Vec<Chain>, LoadError> {
    let now = SystemTime::now();
    let meta = meta::certificate(relay, now).map_err(|source| LoadError::Make { source })?;
    match source {
        Source::Files(pairs) if pairs.is_empty() => Err(LoadError::NoPair),
        Source::Files(pairs) => pairs.iter().map(|pair| Chain::read(pair, &meta)).collect(),
        Source::SelfSigned { name, folder } => {
            let pair = self_signed::ensure(name, folder, now)?;
            Ok(vec![Chain::read(&pair, &meta)?])
        }
    }
}

impl Chain {
    /// Reads a pair of files and appends the meta certificate.
    fn read(pair: &PemPair, meta: &CertificateDer<'static>) -> Result<Self, LoadError> {
        let mut chain = read_certificates(&pair.certificate)?;
        let key = read_key(&pair.key)?;
        let leaf = chain[0].clone();
        chain.push(meta.clone());
        let certified = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|source| LoadError::Pair { pair: pair.clone(), source })?;
        Ok(Self { certified: Arc::new(certified), leaf })
    }
}

/// The certificates in a PEM file, at least one.
pub(super) fn read_certificates(
    path: &std::path::Path,
) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let pem = read(path)?;
    let broken = || LoadError::Pem { path: path.to_owned(), wanted: "certificate" };
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| broken())?;
    if certificates.is_empty() { Err(broken()) } else { Ok(certificates) }
}

fn read_key(path: &std::path::Path) -> Result<PrivateKeyDer<'static>, LoadError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| LoadError::Pem { path: path.to_owned(), wanted: "private key" })
}

fn read(path: &std::path::Path) -> Result<zeroize::Zeroizing<Vec<u8>>, LoadError> {
    secret_file::read(path, MAX_PEM_LEN)
        .map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::*;

    const RELAY: NodePublic = NodePublic::from_bytes([0x5a; 32]);

    /// DERP-1.8: by the name asked for; the first pair where none fits.
    #[test]
    fn the_name_that_a_client_asks_for_picks_the_pair() {
        let folder = TempDir::new().unwrap();
        let names: [&[&str]; 3] =
            [&["first.example"], &["second.example", "also.example"], &["*.wild.example"]];
        let pairs = names.map(|names| pair(folder.path(), names));
        let leaves =
            pairs.clone().map(|pair| read_certificates(&pair.certificate).unwrap().remove(0));

        let certificates = Certificates::load(Source::Files(pairs.to_vec()), RELAY).unwrap();

        for (asked, expected) in [
            ("first.example", 0),
            ("SECOND.example", 1),
            ("also.example", 1),
            ("a.wild.example", 2),
            ("a.b.wild.example", 0),
            ("unknown.example", 0),
        ] {
            let chains = certificates.chains.load();
            let chosen = chains.iter().position(|chain| is_valid_for(&chain.leaf, asked));
            assert_eq!(chosen.unwrap_or(0), expected, "{asked}");
        }
        assert_eq!(certificates.pin(), pin(&leaves[0]));
        assert!(certificates.covers("also.example") && !certificates.covers("unknown.example"));
    }

    /// DERP-1.3, check-T2: last in every chain, also behind intermediate certificates.
    #[test]
    fn the_meta_certificate_is_the_last_of_each_chain() {
        let folder = TempDir::new().unwrap();
        let pair = pair(folder.path(), &["relay.example"]);
        let above = fs::read(&pair.certificate).unwrap();
        fs::write(&pair.certificate, [above.as_slice(), &above].concat()).unwrap();

        let certificates = Certificates::load(Source::Files(vec![pair]), RELAY).unwrap();

        let chains = certificates.chains.load();
        let [leaf, intermediate, meta] = chains[0].certified.cert.as_slice() else {
            panic!("a chain of three")
        };
        assert_eq!(leaf, intermediate);
        assert_eq!(meta.len(), 359);
    }

    #[test]
    fn reloading_takes_what_the_files_hold_now_and_keeps_the_old_if_that_is_broken() {
        let folder = TempDir::new().unwrap();
        let pair = pair(folder.path(), &["relay.example"]);
        let certificates = Certificates::load(Source::Files(vec![pair.clone()]), RELAY).unwrap();
        let old = certificates.pin();

        write_pair(&pair, &["relay.example"]);
        certificates.reload().unwrap();

        let new = certificates.pin();
        assert_ne!(old, new);
        fs::write(&pair.certificate, "no certificate").unwrap();
        assert!(matches!(certificates.reload(), Err(LoadError::Pem { .. })));
        assert_eq!(certificates.pin(), new);
    }

    #[test]
    fn errors_name_the_file_and_never_show_what_is_in_it() {
        let folder = TempDir::new().unwrap();
        let good = pair(folder.path(), &["good.example"]);
        let other = pair(folder.path(), &["other.example"]);
        let missing = folder.path().join("missing.pem");
        let junk = folder.path().join("junk.pem");
        fs::write(&junk, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n").unwrap();
        for (certificate, key, named) in [
            (&missing, &good.key, &missing),
            (&good.certificate, &missing, &missing),
            (&good.certificate, &junk, &junk),
            (&junk, &good.key, &junk),
            (&good.key, &good.key, &good.key),
            (&good.certificate, &other.key, &other.key),
        ] {
            let pair = PemPair { certificate: certificate.clone(), key: key.clone() };

            let error = Certificates::load(Source::Files(vec![pair]), RELAY).unwrap_err();

            let text = error.to_string();
            assert!(text.contains(named.to_str().unwrap()), "{text}");
            assert!(!text.contains("c2VjcmV0"), "{text}");
        }
        let none = Certificates::load(Source::Files(Vec::new()), RELAY).unwrap_err();
        assert!(none.to_string().contains("--tls-cert"), "{none}");
    }

    #[test]
    fn the_end_of_a_certificate_can_be_told() {
        let folder = TempDir::new().unwrap();
        let source =
            Source::SelfSigned { name: "relay.example".into(), folder: folder.path().into() };
        let certificates = Certificates::load(source, RELAY).unwrap();

        let left = certificates.not_after().unwrap().duration_since(SystemTime::now()).unwrap();

        let lifetime = self_signed::LIFETIME;
        assert!(left < lifetime && left + std::time::Duration::from_secs(3_600) > lifetime);
    }

    fn pair(folder: &Path, names: &[&str]) -> PemPair {
        let stem = names[0].replace('*', "wildcard");
        let file = |ending: &str| folder.join(format!("{stem}.{ending}"));
        let pair = PemPair { certificate: file("crt"), key: file("key") };
        write_pair(&pair, names);
        pair
    }

    fn write_pair(pair: &PemPair, names: &[&str]) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        fs::write(&pair.certificate, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
    }
}
