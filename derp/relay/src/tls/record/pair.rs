//! Both ends of a TLS connection in memory, past their handshake: for tests, fuzzing and
//! benches.
//!
//! The client is rustls' buffered connection, with a record layer that shares nothing with ours
//! but the cipher.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::UnbufferedServerConnection;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

use crate::tls::{provider, server_config};

/// The name in the certificate, which nobody looks at.
const NAME: &str = "relay.example";

/// Steps after which a handshake that does not end is a fault.
const MAX_STEPS: usize = 32;

/// What is spoken: a cipher suite, which has its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// TLS 1.3, with AES-128.
    Aes128,
    /// TLS 1.3, with AES-256.
    Aes256,
    /// TLS 1.3, with ChaCha20.
    ChaCha20,
    /// TLS 1.2, with AES-128.
    Tls12,
}

/// The two ends.
pub struct Pair {
    /// One end.
    pub client: ClientConnection,
    /// The other one.
    pub server: Box<UnbufferedServerConnection>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let made = || -> Result<_, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
        Ok((key, certificate))
    };
    let (key, certificate) = made().expect("a certificate for a constant name");
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let certified = CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider())
        .expect("a key of a kind that rustls has made for it");
    server_config(Arc::new(SingleCertAndKey::from(certified)))
});

static CLIENTS: LazyLock<[Arc<ClientConfig>; 4]> =
    LazyLock::new(|| Suite::ALL.map(|suite| client_config(suite.rustls())));

impl Suite {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Aes128, Self::Aes256, Self::ChaCha20, Self::Tls12];

    /// Those that our own record layer is for.
    pub const OWN: [Self; 3] = [Self::Aes128, Self::Aes256, Self::ChaCha20];

    const fn rustls(self) -> SupportedCipherSuite {
        use aws_lc_rs::cipher_suite;
        match self {
            Self::Aes128 => cipher_suite::TLS13_AES_128_GCM_SHA256,
            Self::Aes256 => cipher_suite::TLS13_AES_256_GCM_SHA384,
            Self::ChaCha20 => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            Self::Tls12 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        }
    }
}

impl Pair {
    /// Two ends that have shaken hands, with nothing left to send.
    ///
    /// # Panics
    ///
    /// If they do not agree, which is a fault of these lines.
    pub fn new(suite: Suite) -> Self {
        let config = Arc::clone(&CLIENTS[suite as usize]);
        let name = ServerName::try_from(NAME).expect("a constant name");
        let mut pair = Self {
            client: ClientConnection::new(config, name).expect("a configuration for clients"),
            server: Box::new(
                UnbufferedServerConnection::new(Arc::clone(&SERVER))
                    .expect("a configuration for servers"),
            ),
        };
        let mut to_server = Vec::new();
        for _ in 0..MAX_STEPS {
            take(&mut pair.client, &mut to_server);
            let to_client = pair.serve(&mut to_server);
            let done = !pair.client.is_handshaking() && !pair.server.is_handshaking();
            if done && to_server.is_empty() && to_client.is_empty() {
                return pair;
            }
            give(&mut pair.client, &to_client).expect("a server that speaks TLS");
        }
        panic!("no end of the handshake");
    }

    /// Lets the server have what the client said; returns its answer.
    #[expect(clippy::wildcard_enum_match_arm, reason = "not our enum, and it may grow")]
    fn serve(&mut self, to_server: &mut Vec<u8>) -> Vec<u8> {
        let mut answer = Vec::new();
        loop {
            let UnbufferedStatus { discard, state } = self.server.process_tls_records(to_server);
            let again = match state.expect("a client that speaks TLS") {
                ConnectionState::EncodeTlsData(mut data) => {
                    let start = answer.len();
                    answer.resize(start + 16 * 1024, 0);
                    let len = data.encode(&mut answer[start..]).expect("a flight below 16 KiB");
                    answer.truncate(start + len);
                    true
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    true
                }
                _ => false,
            };
            to_server.drain(..discard);
            if !again {
                return answer;
            }
        }
    }
}

/// Appends all that `client` has to send to `wire`.
///
/// # Panics
///
/// Never: memory takes everything.
pub fn take(client: &mut ClientConnection, wire: &mut Vec<u8>) {
    while client.wants_write() {
        client.write_tls(wire).expect("memory takes everything");
    }
}

/// Lets `client` have `wire`; returns the plaintext that it read.
///
/// # Errors
///
/// What rustls says of records that are not right.
///
/// # Panics
///
/// Never: memory gives everything.
#[expect(clippy::unwrap_in_result, reason = "reading from memory does not fail")]
pub fn give(client: &mut ClientConnection, mut wire: &[u8]) -> Result<Vec<u8>, Error> {
    let mut plaintext = Vec::new();
    while !wire.is_empty() {
        client.read_tls(&mut wire).expect("memory gives everything");
        let state = client.process_new_packets()?;
        let start = plaintext.len();
        plaintext.resize(start + state.plaintext_bytes_to_read(), 0);
        client.reader().read_exact(&mut plaintext[start..]).expect("as many as there are");
        if state.peer_has_closed() {
            break;
        }
    }
    Ok(plaintext)
}

/// Lets `client` seal `plaintext`, in records of at most `record_len` bytes, behind `wire`.
///
/// # Panics
///
/// If a piece is longer than what the client buffers, 64 KiB.
pub fn say(client: &mut ClientConnection, plaintext: &[u8], record_len: usize, wire: &mut Vec<u8>) {
    for piece in plaintext.chunks(record_len.max(1)) {
        client.writer().write_all(piece).expect("a piece below the client's limit");
        take(client, wire);
    }
}

fn client_config(suite: SupportedCipherSuite) -> Arc<ClientConfig> {
    let provider = CryptoProvider {
        cipher_suites: vec![suite],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[suite.version()])
        .expect("a suite of that version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    Arc::new(config)
}

/// Trusts everybody: there is nobody else.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
