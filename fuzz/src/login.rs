//! The login, as the relay reads it, and the JSON in its boxes.

use derp::frame::{HEADER_LEN, MAX_CLIENT_INFO_LEN};
use derp::key::NodePrivate;
use derp::login::{ClientInfo, MAX_APP_NAME_LEN, ServerInfo, ServerLogin};

/// The relay's key in the recorded seeds.
const OWN_KEY: &str = "privkey:c8c7c6c5c4c3c2c1c0bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0afaeadacabaaa9";

/// Length of a sealed `ServerInfo` frame.
const SERVER_INFO_LEN: usize = 58;

/// Whatever a stranger sends, the login waits for a bounded frame, refuses, or yields a key that
/// can be trusted.
///
/// # Panics
///
/// If it does anything else.
pub fn login_server(data: &[u8]) {
    let own: NodePrivate = OWN_KEY.parse().unwrap();
    match ServerLogin::new().on_bytes(data, &own) {
        Ok(ServerLogin::AwaitClientInfo { until }) => {
            assert!(until > data.len() && until <= HEADER_LEN + MAX_CLIENT_INFO_LEN);
        }
        Ok(ServerLogin::AwaitVerdict(candidate)) => {
            assert!(candidate.used() <= data.len());
            assert!(!candidate.client().is_zero() && !candidate.client().is_low_order());
            let admitted = candidate.admit(&[0; 24], &ServerInfo::default());
            assert_eq!(admitted.frame.len(), SERVER_INFO_LEN);
        }
        Err(_) => {}
    }
}

/// What is accepted as client or server info renders to something that reads as the same.
///
/// # Panics
///
/// If it does not.
pub fn client_info(data: &[u8]) {
    if let Ok(info) = ClientInfo::parse(data) {
        assert!(info.app_name.len() <= MAX_APP_NAME_LEN);
        assert_eq!(ClientInfo::parse(info.to_json().as_bytes()), Ok(info));
    }
    if let Ok(info) = ServerInfo::parse(data) {
        assert_eq!(ServerInfo::parse(info.to_json().as_bytes()), Ok(info));
    }
}
