//! Where a form was sent from.
//!
//! Does: takes forms that a browser says come from a page of ours, by `Origin` and
//! `Sec-Fetch-Site`. Does not: look at the session; a form has to have the word of its session
//! too.

use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::http::uri::{Authority, Uri};

/// Whether a form with these headers was sent from one of our own pages. `hosts` are names that
/// we go by: a proxy may have changed `Host`.
pub(super) fn is_ours(headers: &HeaderMap, hosts: &[String]) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    // Browsers say it with every form; `null`, from a sandbox or a file, has no host.
    let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
    let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
    let Some(origin) = origin.as_ref().and_then(Uri::authority) else { return false };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let is_same = host.is_some_and(|host| host.as_str().eq_ignore_ascii_case(origin.as_str()));
    let is_known = hosts.contains(&origin.host().to_ascii_lowercase());
    // Browsers that do not say it, or not over plain HTTP, have said `Origin`.
    let site = headers.get("sec-fetch-site");
    (is_same || is_known) && site.is_none_or(|site| site == "same-origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(fields: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "127.0.0.1:8092".parse().unwrap());
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        is_ours(&headers, &["bridge.example.org".to_owned()])
    }

    #[test]
    fn only_our_own_pages_send_forms() {
        let (origin, site) = ("origin", "sec-fetch-site");
        assert!(sent(&[(origin, "http://127.0.0.1:8092")]));
        assert!(sent(&[(origin, "http://127.0.0.1:8092"), (site, "same-origin")]));
        assert!(sent(&[(origin, "https://bridge.example.org"), (site, "same-origin")]));
        for fields in [
            &[][..],
            &[(site, "same-origin")],
            &[(origin, "null")],
            &[(origin, "null"), (site, "same-origin")],
            &[(origin, "http://127.0.0.1:8093")],
            &[(origin, "http://localhost:8092")],
            &[(origin, "https://evil.example"), (site, "same-origin")],
            &[(origin, "http://127.0.0.1:8092"), (site, "same-site")],
            &[(origin, "http://127.0.0.1:8092"), (site, "cross-site")],
            &[(origin, "http://127.0.0.1:8092"), (site, "none")],
            &[(origin, "http://127.0.0.1:8092"), (origin, "http://127.0.0.1:8092")],
            &[(origin, "http://bridge.example.org.evil.example")],
        ] {
            assert!(!sent(fields), "{fields:?}");
        }
    }
}
