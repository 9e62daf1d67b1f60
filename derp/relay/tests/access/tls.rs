//! A verifier behind HTTPS, whose certificate comes from a private authority.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivateKeyDer;

use crate::support::HOSTS;
use crate::support::peer::{Peer, Way, private};
use crate::support::process::{Program, command, serve_arguments};
use crate::support::verifier::{Reply, Verifier};
use crate::{holds_outcome, relay_with_authority};

/// DERP-8.1, DERP-8.4: trusted by `ca_file`, and asked the same; not trusted without it, for
/// another name, or by another authority: unavailable then, and not asked at all.
#[test]
fn https_is_trusted_by_the_ca_file_only() {
    for host in HOSTS {
        let authority = Authority::new();
        let stranger = Authority::new();
        for (ca_file, name, outcome) in [
            (Some(authority.file()), host.to_string(), "allowed"),
            (None, host.to_string(), "unavailable"),
            (Some(stranger.file()), host.to_string(), "unavailable"),
            (Some(authority.file()), "other.test".to_owned(), "unavailable"),
        ] {
            let tls = authority.certificate_for(&name);
            let verifier = Verifier::start_at((host, 0).into(), Some(tls), |_| Reply::allow());
            assert!(verifier.url().starts_with("https://"));
            let url = verifier.url();
            let relay = relay_with_authority(host, Way::Plain, &url, false, ca_file);

            let login = Peer::try_connect(relay.derp, Way::Plain, private(1));

            assert_eq!(login.is_ok(), outcome == "allowed", "{name} {outcome}");
            holds_outcome(&relay, outcome, 1);
            assert_eq!(verifier.questions().len(), usize::from(outcome == "allowed"));
        }
    }
}

/// The same by the program's flags; and plain HTTP to a port that speaks TLS is no answer.
#[test]
fn the_program_takes_the_authority_by_its_flag() {
    for host in HOSTS {
        let authority = Authority::new();
        let tls = authority.certificate_for(&host.to_string());
        let verifier = Verifier::start_at((host, 0).into(), Some(tls), |_| Reply::allow());
        let plain_url = verifier.url().replace("https:", "http:");
        for (url, enters) in [(verifier.url(), true), (plain_url, false)] {
            let state = tempfile::tempdir().unwrap();
            let mut serve = serve_arguments(host, Way::Tls13, state.path());
            let access = serve.iter().position(|argument| argument == "--access").unwrap();
            serve.drain(access..access + 2);
            let ca_file = authority.file().to_str().unwrap().to_owned();
            serve.extend(["--verify-url".to_owned(), url, "--ca-file".to_owned(), ca_file]);
            let relay = Program::start(command(&serve));

            let login = Peer::try_connect(relay.address("derp"), Way::Tls13, private(1));

            assert_eq!(login.is_ok(), enters);
        }
    }
}

/// A private authority and the file that makes it trusted.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What a server for `name`, a host name or an address, needs.
    fn certificate_for(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        assert!(name.parse::<IpAddr>().is_ok() || name.contains('.'));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        Arc::new(config)
    }
}
