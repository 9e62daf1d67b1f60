//! The request that turns an HTTP connection into DERP, and its answer.
//!
//! Does: reads method, path and headers, and says what they ask for. A pure function.
//! Does not: parse HTTP, or write.
//!
//! | `Upgrade` (any letter case) | `Sec-WebSocket-Protocol` | asks for |
//! |---|---|---|
//! | `derp` | not looked at | DERP on this connection |
//! | `websocket` | without `derp` in it | the same: so did clients of old |
//! | `websocket` | with `derp` in it | DERP in WebSocket messages |
//! | anything else, or none | | nothing we know |
//!
//! Method, HTTP version, `Connection` and body do not count. Next on the way of a connection:
//! `door::login`. Spec: docs/protocol/derp.md, DERP-1.4 to DERP-1.7.

use derp::key::NodePublic;
use derp::login::{PROTOCOL_VERSION, greeting};
use hyper::header::{HeaderMap, HeaderName, SEC_WEBSOCKET_PROTOCOL, UPGRADE};

/// Set to `1` by a client that knows the relay's key and wants no HTTP answer.
pub const FAST_START: HeaderName = HeaderName::from_static("derp-fast-start");

/// Set by a client that would have preferred another relay of the region, to its name.
pub const IDEAL_NODE: HeaderName = HeaderName::from_static("ideal-node");

/// What a request for `/derp` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// DERP on this connection, from the byte after the request on.
    Native(Native),
    /// DERP in WebSocket messages.
    WebSocket,
    /// An upgrade that we do not know.
    Unknown,
    /// No upgrade.
    Missing,
}

/// How a client wants DERP to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Native {
    /// Without an HTTP answer.
    pub fast_start: bool,
    /// The client names no other relay that it would have preferred.
    pub ideal: bool,
}

/// Says what a request for `/derp` with these headers asks for.
///
/// `own_tls` says whether TLS ends here. Only then a client can have found our key in the
/// handshake; behind a proxy, which waits for an HTTP answer, a fast start would hang.
///
/// # Source
///
/// DERP-1.4, DERP-1.7.
#[must_use]
pub fn decide(headers: &HeaderMap, own_tls: bool) -> Decision {
    let Some(upgrade) = headers.get(UPGRADE) else { return Decision::Missing };
    let upgrade = upgrade.as_bytes();
    if upgrade.eq_ignore_ascii_case(b"websocket") {
        let protocols =
            headers.get(SEC_WEBSOCKET_PROTOCOL).map_or(&b""[..], |value| value.as_bytes());
        if protocols.windows(4).any(|word| word == b"derp") {
            return Decision::WebSocket;
        }
    } else if !upgrade.eq_ignore_ascii_case(b"derp") {
        return if upgrade.is_empty() { Decision::Missing } else { Decision::Unknown };
    }
    let fast_start = headers.get(FAST_START).is_some_and(|value| value == "1");
    Decision::Native(Native {
        fast_start: own_tls && fast_start,
        ideal: headers.get(IDEAL_NODE).is_none_or(|name| name.is_empty()),
    })
}

/// The first bytes of DERP on a connection, in one write: the HTTP answer, unless the client
/// wants none, and the relay's key.
///
/// # Source
///
/// DERP-1.4, DERP-1.5, DERP-3.1.
#[must_use]
pub fn opening(own: &NodePublic, native: Native) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !native.fast_start {
        // Byte for byte as derper: a client's reader may be less than an HTTP parser.
        bytes.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n");
        bytes.extend_from_slice(b"Connection: Upgrade\r\n");
        bytes.extend_from_slice(format!("Derp-Version: {PROTOCOL_VERSION}\r\n").as_bytes());
        bytes.extend_from_slice(format!("Derp-Public-Key: {}\r\n\r\n", own.to_hex()).as_bytes());
    }
    bytes.extend_from_slice(&greeting(own));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DERP-1.7, check-T6, check-T7: only the value of `Upgrade` counts.
    #[test]
    fn the_value_of_upgrade_decides() {
        for (value, expected) in [
            ("derp", native(false, true)),
            ("DERP", native(false, true)),
            ("DeRp", native(false, true)),
            ("websocket", native(false, true)),
            ("WebSocket", native(false, true)),
            ("foo", Decision::Unknown),
            ("derp2", Decision::Unknown),
            ("derp, foo", Decision::Unknown),
            ("", Decision::Missing),
        ] {
            assert_eq!(decide(&headers(&[("upgrade", value)]), true), expected, "{value}");
        }
        assert_eq!(decide(&HeaderMap::new(), true), Decision::Missing);
    }

    /// check-W9, check-W10: `derp` anywhere in the subprotocols makes it a WebSocket.
    #[test]
    fn a_websocket_speaks_derp_only_if_it_says_so() {
        for (protocols, expected) in [
            ("derp", Decision::WebSocket),
            ("foo, derp", Decision::WebSocket),
            ("derpx", Decision::WebSocket),
            ("foo", native(false, true)),
            ("", native(false, true)),
        ] {
            let headers =
                headers(&[("upgrade", "websocket"), ("sec-websocket-protocol", protocols)]);
            assert_eq!(decide(&headers, true), expected, "{protocols}");
        }
        let derp = headers(&[("upgrade", "derp"), ("sec-websocket-protocol", "derp")]);
        assert_eq!(decide(&derp, true), native(false, true));
    }

    /// DERP-1.4, check-H3: exactly `1`, and only where TLS is ours.
    #[test]
    fn a_fast_start_needs_our_own_tls() {
        for (value, own_tls, fast) in
            [("1", true, true), ("1", false, false), ("0", true, false), ("true", true, false)]
        {
            let headers = headers(&[("upgrade", "derp"), ("derp-fast-start", value)]);
            assert_eq!(decide(&headers, own_tls), native(fast, true), "{value} {own_tls}");
        }
    }

    #[test]
    fn a_client_that_names_a_better_relay_is_not_at_its_ideal_one() {
        for (name, ideal) in [("999a", false), ("", true)] {
            let headers = headers(&[("upgrade", "derp"), ("ideal-node", name)]);
            assert_eq!(decide(&headers, true), native(false, ideal), "{name}");
        }
    }

    /// DERP-1.5, check-H1: the head of the reference server, then the greeting.
    #[test]
    fn the_answer_is_the_one_of_the_reference_server() {
        let key = NodePublic::from_bytes([0xab; 32]);

        let slow = opening(&key, Native { fast_start: false, ideal: true });
        let fast = opening(&key, Native { fast_start: true, ideal: true });

        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\
             Derp-Version: 2\r\nDerp-Public-Key: {}\r\n\r\n",
            "ab".repeat(32)
        );
        assert_eq!(slow, [head.as_bytes(), &fast].concat());
        assert_eq!(fast[..5], [1, 0, 0, 0, 40]);
        assert_eq!(fast[5..], [b"DERP\xf0\x9f\x94\x91", &[0xab; 32][..]].concat());
    }

    fn native(fast_start: bool, ideal: bool) -> Decision {
        Decision::Native(Native { fast_start, ideal })
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }
}
