//! Who asks: address and token.
//!
//! Does: believes what a header says of an address only if it comes from a proxy that is trusted.
//! Does not: check the token.

use std::net::{IpAddr, Ipv4Addr};

use hyper::Request;

use super::listener::Peer;
use super::request;
use crate::provisioning::network::Network;
use crate::provisioning::{Caller, Provisioning};

/// Most proxies in a row that are looked through.
const MAX_PROXIES: usize = 16;

/// Whoever sends `asked`, which gets an id.
pub(super) fn of<B>(asked: &Request<B>, provisioning: &Provisioning) -> Caller {
    Caller {
        address: address(asked, &provisioning.settings().trusted_proxies),
        token: request::token(asked.headers()),
        request_id: provisioning.request_id(),
    }
}

/// Whether `asked` came to a trusted proxy by TLS, as that says.
pub(super) fn is_by_tls<B>(asked: &Request<B>, provisioning: &Provisioning) -> bool {
    let peer = asked.extensions().get::<Peer>().map(|peer| peer.0.ip().to_canonical());
    let trusted = &provisioning.settings().trusted_proxies;
    let is_trusted = |peer: IpAddr| trusted.iter().any(|network| network.contains(peer));
    let proto = asked.headers().get("x-forwarded-proto").map(|value| value.as_bytes());
    peer.is_some_and(is_trusted)
        && proto.is_some_and(|proto| proto.trim_ascii().eq_ignore_ascii_case(b"https"))
}

/// The address that a request comes from.
///
/// Behind trusted proxies it is the last one in `X-Forwarded-For` that is none of them: what is
/// before it anybody may have written. Without that header, `X-Real-IP`.
fn address<B>(request: &Request<B>, trusted: &[Network]) -> IpAddr {
    let peer = request.extensions().get::<Peer>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip().to_canonical());
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let headers = request.headers();
    if !headers.contains_key("x-forwarded-for") {
        let real = headers.get("x-real-ip").and_then(|value| value.to_str().ok());
        return real.and_then(parse).unwrap_or(peer);
    }
    // Several header fields are one list.
    let fields = headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>();
    let hops = fields.iter().rev().flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
    let mut farthest = peer;
    for hop in hops.take(MAX_PROXIES) {
        let Some(hop) = std::str::from_utf8(hop).ok().and_then(parse) else { break };
        farthest = hop;
        if !is_trusted(hop) {
            break;
        }
    }
    farthest
}

/// An address as proxies write it: alone, or with a port.
fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<std::net::SocketAddr>().map(|address| address.ip()))
        .or_else(|_| text.trim_start_matches('[').trim_end_matches(']').parse())
        .ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut request = Request::new(());
        request.extensions_mut().insert(Peer(peer.parse().unwrap()));
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let trusted = ["127.0.0.0/8", "10.0.0.0/8", "::1"].map(|text| text.parse().unwrap());
        address(&request, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_says_who_asks() {
        let forged = [("x-forwarded-for", "203.0.113.1"), ("x-real-ip", "203.0.113.2")];
        assert_eq!(seen("198.51.100.9:1", &forged), "198.51.100.9");
        assert_eq!(seen("127.0.0.1:1", &forged), "203.0.113.1");
        assert_eq!(seen("[::1]:1", &forged[1..]), "203.0.113.2");
        assert_eq!(seen("127.0.0.1:1", &[]), "127.0.0.1");
    }

    #[test]
    fn what_stands_before_the_first_stranger_is_not_believed() {
        for (list, address) in [
            ("6.6.6.6, 203.0.113.1", "203.0.113.1"),
            ("6.6.6.6, 203.0.113.1, 10.0.0.7", "203.0.113.1"),
            ("10.0.0.8, 10.0.0.7", "10.0.0.8"),
            ("203.0.113.1:4711", "203.0.113.1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("6.6.6.6, rubbish, 10.0.0.7", "10.0.0.7"),
            ("rubbish", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            assert_eq!(seen("127.0.0.1:1", &[("x-forwarded-for", list)]), address, "{list}");
        }
        let two = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.1")];
        assert_eq!(seen("127.0.0.1:1", &two), "203.0.113.1");
    }
}
