//! The listener that installers register machines at.
//!
//! Does: keeps the port and its form of errors: JSON, always. Until the bridge can register
//! machines, it says so with 503, upon which installers try again later.
//! Does not: register machines yet.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Serialize;

use super::{Answer, HEALTHY, JSON, Pages, allow, answer};

/// Most bytes in a request body.
pub const MAX_BODY_LEN: usize = 4 * 1024;

/// Time for a request body to arrive.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// What the provisioning listener answers.
#[derive(Debug, Default)]
pub struct ProvisioningPages {}

impl Pages for ProvisioningPages {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = plain_path(request.uri().path());
        let (page, methods) = match path.as_str() {
            "/health" => (Page::Health, "GET, HEAD"),
            "/ready" => (Page::Ready, "GET, HEAD"),
            "/machines" => (Page::Machines, "GET, HEAD"),
            "/register" => (Page::Register, "POST"),
            _ => return error(Fault::NotFound),
        };
        if !methods.split(", ").any(|method| method == request.method().as_str()) {
            return allow(error(Fault::Method), methods);
        }
        match page {
            Page::Health => answer(StatusCode::OK, JSON, HEALTHY),
            Page::Ready | Page::Machines => error(Fault::Unavailable),
            Page::Register => register(request).await,
        }
    }
}

/// What is there.
enum Page {
    Health,
    Ready,
    Machines,
    Register,
}

/// Why a request is not met.
#[derive(Clone, Copy)]
enum Fault {
    NotFound,
    Method,
    BodyTooLong,
    BodyTooSlow,
    BodyBroken,
    Unavailable,
}

/// An error as installers read it.
#[derive(Serialize)]
struct ErrorBody {
    error: &'static str,
    code: &'static str,
}

async fn register(request: Request<Incoming>) -> Answer {
    // Taken in before it is refused: a client that is still sending would not see the answer.
    let body = Limited::new(request.into_body(), MAX_BODY_LEN).collect();
    match tokio::time::timeout(BODY_TIME, body).await {
        Ok(Ok(_)) => error(Fault::Unavailable),
        Ok(Err(cause)) if cause.is::<http_body_util::LengthLimitError>() => {
            error(Fault::BodyTooLong)
        }
        Ok(Err(_)) => error(Fault::BodyBroken),
        Err(_) => error(Fault::BodyTooSlow),
    }
}

fn error(fault: Fault) -> Answer {
    let (status, code, words) = match fault {
        Fault::NotFound => (StatusCode::NOT_FOUND, "not_found", "not found"),
        Fault::Method => {
            (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "method not allowed")
        }
        Fault::BodyTooLong => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_long", "body too long"),
        Fault::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow", "body too slow"),
        Fault::BodyBroken => (StatusCode::BAD_REQUEST, "body_broken", "body cannot be read"),
        Fault::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "this bridge does not register machines yet",
        ),
    };
    // Two texts always serialize.
    let body = serde_json::to_vec(&ErrorBody { error: words, code }).unwrap_or_default();
    answer(status, JSON, body)
}

/// `path` without doubled slashes and without one at its end: installers join a base URL and a
/// path as they come.
fn plain_path(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        plain.push('/');
        plain.push_str(part);
    }
    plain
}
