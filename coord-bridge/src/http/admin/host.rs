//! Whom a request was meant for.
//!
//! Does: takes addresses, `localhost`, and names that the configuration has. A page of somebody
//! else's can make a browser ask here under a name of theirs, which they let point to this host
//! (DNS rebinding); an address they cannot, since a page has the name that it came from.
//! Does not: look at ports.

use std::net::IpAddr;

use hyper::Request;
use hyper::header::HOST;
use hyper::http::uri::Authority;

/// Whether `request` was meant for one of `hosts`, or for an address.
pub(super) fn is_ours<B>(request: &Request<B>, hosts: &[String]) -> bool {
    let mut fields = request.headers().get_all(HOST).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return false };
    let field = field.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    // A request line may name a host too, which then counts for others.
    let in_line = request.uri().authority();
    field.is_some_and(|field| is_name_of_ours(&field, hosts))
        && in_line.is_none_or(|line| is_name_of_ours(line, hosts))
}

fn is_name_of_ours(authority: &Authority, hosts: &[String]) -> bool {
    let host = authority.host().to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    !authority.as_str().contains('@')
        && (host == "localhost" || bare.parse::<IpAddr>().is_ok() || hosts.contains(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant_for(uri: &str, fields: &[&str]) -> bool {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        for field in fields {
            request.headers_mut().append(HOST, field.parse().unwrap());
        }
        is_ours(&request, &["bridge.example.org".to_owned()])
    }

    #[test]
    fn names_of_others_are_turned_away() {
        for host in [
            "127.0.0.1:8092",
            "127.0.0.1",
            "[::1]:8092",
            "[::1]",
            "localhost:8092",
            "LocalHost",
            "Bridge.Example.Org:443",
        ] {
            assert!(meant_for("/", &[host]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8092",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "bridge.example.org.",
            "a b",
        ] {
            assert!(!meant_for("/", &[host]), "{host}");
        }
        assert!(!meant_for("/", &[]), "no host at all");
        assert!(!meant_for("/", &["localhost", "localhost"]), "two");
        assert!(!meant_for("http://evil.example/", &["localhost"]));
        assert!(meant_for("http://127.0.0.1/", &["localhost"]));
    }
}
