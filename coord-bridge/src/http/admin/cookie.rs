//! The cookie that says whose session a request belongs to.
//!
//! Does: names and reads it. Does not: know which sessions there are.

use hyper::header::{COOKIE, HeaderMap, HeaderValue};

use super::sessions::WHOLE_TIME;
use crate::headscale::Secret;

/// Its name where nothing on the way but TLS has seen it: browsers take it by that name from this
/// host only, and from no subdomain.
const BY_TLS: &str = "__Host-coord-bridge";

/// Its name otherwise; browsers refuse the other one over plain HTTP.
const PLAIN: &str = "coord-bridge";

/// Characters of its value: 32 random bytes in hex.
const VALUE_CHARS: usize = 64;

/// What browsers keep to while they have it.
const RULES: &str = "Path=/; HttpOnly; SameSite=Strict";

const fn name(by_tls: bool) -> &'static str {
    if by_tls { BY_TLS } else { PLAIN }
}

/// What a request shows.
pub(super) fn read(headers: &HeaderMap, by_tls: bool) -> Option<Secret> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    let mut pairs = fields.flat_map(|field| field.split(';')).filter_map(|it| it.split_once('='));
    let (_, value) = pairs.find(|(found, _)| found.trim() == name(by_tls))?;
    let value = value.trim();
    let is_hex = value.len() == VALUE_CHARS && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| Secret::new(value.to_owned()))
}

/// What has a browser show `value` from now on.
pub(super) fn keep(value: &Secret, by_tls: bool) -> Option<HeaderValue> {
    let secure = if by_tls { "; Secure" } else { "" };
    let (name, value, seconds) = (name(by_tls), value.reveal(), WHOLE_TIME.as_secs());
    let text = format!("{name}={value}; {RULES}; Max-Age={seconds}{secure}");
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// What has a browser forget it.
pub(super) fn forget(by_tls: bool) -> Option<HeaderValue> {
    let secure = if by_tls { "; Secure" } else { "" };
    HeaderValue::try_from(format!("{}=; {RULES}; Max-Age=0{secure}", name(by_tls))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let value = "0123456789abcdef".repeat(4);
        let found = |text: &str, by_tls| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, text.parse().unwrap());
            read(&headers, by_tls).map(|it| it.reveal().to_owned())
        };
        let plain = format!("a=b; coord-bridge={value};c=d");
        assert_eq!(found(&plain, false).as_deref(), Some(value.as_str()));
        assert_eq!(found(&plain, true), None, "over TLS it has another name");
        let by_tls = format!("__Host-coord-bridge={value}");
        assert_eq!(found(&by_tls, true).as_deref(), Some(value.as_str()));
        for text in ["coord-bridge=", "coord-bridge=x", "coord-bridge", "", "=;;=", "other=1"] {
            assert_eq!(found(text, false), None, "{text}");
        }
    }
}
