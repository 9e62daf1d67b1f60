//! HTTP requests to the DERP listener, through the code that serves them.

use derp_relay::door::fuzzing::upgrade_request as speak;

/// Whatever a client sends, however it is cut, the same request leaves HTTP, and what is left
/// over is the end of what was sent.
///
/// # Panics
///
/// If it does not.
pub fn upgrade_request(data: &[u8]) {
    for own_tls in [false, true] {
        let whole = speak(data, data.len(), own_tls);
        assert!(data.ends_with(&whole.left));
        let bytewise = speak(data, 1, own_tls);
        assert_eq!(bytewise.native.is_some(), whole.native.is_some());
        if whole.native.is_some() {
            assert!(own_tls || whole.native.is_some_and(|native| !native.fast_start));
        }
    }
}
