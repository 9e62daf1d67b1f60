//! Answers of the verify listener: JSON, or lines of JSON.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use crate::http::{Answer, JSON, NO_STORE, answer};

const BEARER: HeaderValue = HeaderValue::from_static("Bearer");

/// JSON, one value a line.
const JSON_LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// Seconds after which it is worth asking again.
const SOON: HeaderValue = HeaderValue::from_static("5");

/// What is wrong.
#[derive(Debug)]
pub(super) enum Fault {
    NotFound,
    Method,
    BodyTooLong,
    BodyTooSlow,
    BodyBroken,
    /// The words say what makes no sense.
    Malformed(String),
    Unauthorized,
    NoToken,
    UnknownRelay,
    /// The words say what is wrong with the map.
    Refused(String),
    NameTaken(String),
    TooMany(String),
    NobodyCanSay,
    Unavailable,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    code: &'a str,
}

#[derive(Serialize)]
struct ReadyBody<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    reasons: &'a [String],
}

pub(super) fn ready(reasons: &[String]) -> Answer {
    if reasons.is_empty() {
        json(StatusCode::OK, &ReadyBody { status: "ready", reasons })
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, &ReadyBody { status: "not ready", reasons })
    }
}

/// An answer whose body is lines.
pub(super) fn lines(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, JSON_LINES);
    headers.insert(CACHE_CONTROL, NO_STORE);
    answer
}

pub(super) fn error(fault: Fault) -> Answer {
    let (status, code, words) = match fault {
        Fault::NotFound => (StatusCode::NOT_FOUND, "not_found", "not found".to_owned()),
        Fault::Method => {
            (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "method not allowed".to_owned())
        }
        Fault::BodyTooLong => {
            (StatusCode::PAYLOAD_TOO_LARGE, "body_too_long", "body too long".to_owned())
        }
        Fault::BodyTooSlow => {
            (StatusCode::REQUEST_TIMEOUT, "body_too_slow", "body too slow".to_owned())
        }
        Fault::BodyBroken => {
            (StatusCode::BAD_REQUEST, "body_broken", "body cannot be read".to_owned())
        }
        Fault::Malformed(words) => (StatusCode::BAD_REQUEST, "malformed", words),
        Fault::Unauthorized => (
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "not the token in the bridge's relay_token_file".to_owned(),
        ),
        Fault::NoToken => (
            StatusCode::SERVICE_UNAVAILABLE,
            "no_token",
            "the bridge has no relay token; its log says why".to_owned(),
        ),
        Fault::UnknownRelay => {
            (StatusCode::NOT_FOUND, "unknown_relay", "no such relay; register again".to_owned())
        }
        Fault::Refused(words) => (StatusCode::UNPROCESSABLE_ENTITY, "refused", words),
        Fault::NameTaken(words) => (StatusCode::CONFLICT, "name_taken", words),
        Fault::TooMany(words) => (StatusCode::SERVICE_UNAVAILABLE, "too_many", words),
        Fault::NobodyCanSay => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the node is not known, and Headscale cannot be asked".to_owned(),
        ),
        Fault::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "this bridge verifies nobody".to_owned(),
        ),
    };
    let mut answer = json(status, &ErrorBody { error: &words, code });
    let headers = answer.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, BEARER);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, SOON);
    }
    answer
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    // Texts always serialize.
    answer(status, JSON, serde_json::to_vec(body).unwrap_or_default())
}
