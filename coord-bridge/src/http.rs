//! What the bridge answers over HTTP, one module per listener.
//!
//! | module | holds |
//! |---|---|
//! | [`basic`] | a user and a password, as HTTP has them |
//! | [`listener`] | connections: how many, how long, how much |
//! | [`map`] | the listener that Headscale and clients fetch the map from |
//! | [`provisioning`] | the listener that installers register machines at |
//! | [`verify`] | the listener that relays ask about nodes at, and hear of them |
//! | [`body`], [`request`] | what an answer is made of, and what a request brings |
//! | [`admin`] | the listener of administrators: who may ask there, and the pages for people |
//! | [`api`] | what is answered there below `/api/v1` |
//! | [`scope`] | what pages and API are about |
//! | [`metrics`] | the listener that Prometheus scrapes |
//! | [`requests`] | how many were answered |
//!
//! Does: answers with bytes that lie ready, but for the events that relays follow.
//! Does not: open listeners (`bridge` does), or speak TLS: a proxy in front does.

pub mod admin;
pub mod api;
pub mod basic;
pub mod body;
mod caller;
pub mod listener;
pub mod map;
pub mod metrics;
pub mod provisioning;
pub mod request;
pub mod requests;
pub mod scope;
pub mod verify;

use std::future::Future;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Request, Response, StatusCode};

pub use body::Body;

/// An answer.
pub type Answer = Response<Body>;

/// What one listener answers.
pub trait Pages: Send + Sync + 'static {
    /// Answers one request. Must end by itself, however slowly its body comes.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// Body of `/health`, byte for byte: monitors and proxies compare it.
pub const HEALTHY: &str = r#"{"status":"ok"}"#;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// An answer that nobody may keep.
fn answer(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::Ready(Full::new(body.into())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    answer
}

/// Adds the methods that a path takes, as an answer 405 must.
fn allow(mut answer: Answer, methods: &'static str) -> Answer {
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}
