//! TLS on the way to Headscale. What shakes hands here is a relay, which every test can start.

use coord_bridge::config::{HeadscaleConfig, Reach, SecretFile};
use coord_bridge::headscale::{Client, Failure, FailureKind, Headscale, Limits, SetupError};
use derp_relay::Relay;

/// Asks `https://localhost` on `port`, trusting `ca_file` beside the system.
async fn ask(port: u16, ca_file: Option<std::path::PathBuf>) -> Failure {
    let key_file = crate::key_file("any-key");
    let api_key = SecretFile::Path(key_file.path().to_owned());
    let url = format!("https://localhost:{port}").parse().unwrap();
    let config = HeadscaleConfig { reach: Reach::Url { url, api_key, ca_file } };
    Client::new(&config, Limits::default()).unwrap().check().await.unwrap_err()
}

#[test]
fn a_certificate_of_ones_own_has_to_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::builder()
        .listen_derp("127.0.0.1:0".parse().unwrap())
        .self_signed("localhost", folder.path())
        .key_file(folder.path().join("derp.key"))
        .start()
        .unwrap();
    let port = relay.addresses().derp[0].port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let failure = runtime.block_on(ask(port, None));
    assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
    assert!(failure.detail.contains("headscale.ca_file"), "{failure}");

    // The relay answers, if not as Headscale.
    let failure = runtime.block_on(ask(port, Some(folder.path().join("self-signed.pem"))));
    assert_eq!(failure.kind, FailureKind::Unintelligible, "{failure}");
    assert!(failure.detail.contains("404"), "{failure}");

    relay.stop();
}

#[test]
fn a_file_without_certificates_is_named() {
    let file = crate::key_file("no certificate");
    let config = HeadscaleConfig {
        reach: Reach::Url {
            url: "https://localhost".parse().unwrap(),
            api_key: SecretFile::Path("key".into()),
            ca_file: Some(file.path().to_owned()),
        },
    };
    let error = Client::new(&config, Limits::default()).unwrap_err();
    assert!(matches!(error, SetupError::Trust(_)), "{error}");
    let error = error.to_string();
    assert!(error.starts_with("headscale.ca_file: "), "{error}");
    assert!(error.contains(file.path().to_str().unwrap()), "{error}");
}
