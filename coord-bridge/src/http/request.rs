//! What a request brings: its body, bounded in length and time, and the token that it shows.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};

use crate::headscale::Secret;

/// Time for a request body to arrive. Together with the registration it is less than the 15 s
/// that an installer waits.
pub const BODY_TIME: Duration = Duration::from_secs(5);

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    TooLong,
    TooSlow,
    Broken,
}

/// The whole body, of at most `max` bytes. Taken in before a request is refused: a client that is
/// still sending would not see the answer.
pub(super) async fn body(body: Incoming, max: usize) -> Result<Bytes, BodyFault> {
    match tokio::time::timeout(BODY_TIME, Limited::new(body, max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => Err(BodyFault::TooLong),
        Ok(Err(_)) => Err(BodyFault::Broken),
        Err(_) => Err(BodyFault::TooSlow),
    }
}

/// The token that a request shows.
pub(super) fn token(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    let is_token = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty();
    is_token.then(|| Secret::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_scheme_in_any_case() {
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            token(&headers).map(|token| token.reveal().to_owned())
        };
        for value in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(shown(value).as_deref(), Some("abc"), "{value}");
        }
        for value in ["abc", "Bearer", "Bearer ", "Basic abc", ""] {
            assert_eq!(shown(value), None, "{value}");
        }
    }
}
