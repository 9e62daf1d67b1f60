//! The way over a Unix socket, as 0.30 has one.

use std::path::Path;

use coord_bridge::config::{HeadscaleConfig, Reach, SecretFile};
use coord_bridge::headscale::{
    Adapter, Client, FailureKind, Headscale, Limits, SetupError, connect,
};
use tokio::net::{TcpStream, UnixListener};

use crate::fake::{Fake, Reply};

fn socket(path: &Path) -> HeadscaleConfig {
    HeadscaleConfig { reach: Reach::Socket(path.to_owned()) }
}

#[tokio::test]
async fn the_socket_is_asked_without_a_key_and_without_finding_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("headscale.sock");
    let fake = Fake::start(|_| Reply::json(r#"{"nodes":[]}"#));
    let (listener, address) = (UnixListener::bind(&path).unwrap(), fake.address);
    let passing_on = tokio::spawn(async move {
        loop {
            let (mut inside, _) = listener.accept().await.unwrap();
            let mut outside = TcpStream::connect(address).await.unwrap();
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut inside, &mut outside).await },
            );
        }
    });
    let client = Client::new(&socket(&path), Limits::default()).unwrap();

    assert_eq!(client.nodes().await.unwrap(), []);
    assert_eq!(client.nodes().await.unwrap(), []);

    assert_eq!(client.adapter(), Some(Adapter::Http));
    let asked = fake.asked();
    assert!(asked.len() == 2 && asked.iter().all(|it| it.key.is_none()), "{asked:?}");
    assert_eq!(fake.connections(), 1);
    passing_on.abort();
}

/// A bridge starts before its Headscale, and without its key.
#[tokio::test]
async fn nobody_is_asked_before_a_call() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("headscale.sock");
    let headscale = connect(&socket(&path)).unwrap();

    let failure = headscale.check().await.unwrap_err();

    assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
    assert!(failure.detail.starts_with(path.to_str().unwrap()), "{failure}");
    assert!(failure.detail.contains("may this user open its socket"), "{failure}");
}

#[test]
fn a_credential_outside_a_unit_is_told_at_once() {
    let api_key = SecretFile::Credential("headscale-api-key".to_owned());
    let url = "http://127.0.0.1:8080".parse().unwrap();
    let config = HeadscaleConfig { reach: Reach::Url { url, api_key, ca_file: None } };

    // Tests are no unit.
    let error = connect(&config).unwrap_err();

    assert!(matches!(error, SetupError::Credentials(_)), "{error}");
    assert!(error.to_string().contains("LoadCredential=headscale-api-key:"), "{error}");
}
