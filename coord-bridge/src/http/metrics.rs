//! The listener that Prometheus scrapes.
//!
//! Does: answers `/metrics`. Does not: ask who scrapes; it listens on loopback unless told
//! otherwise.

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};

use super::{Answer, Pages, TEXT, allow, answer};
use crate::metrics::Sources;

/// The Prometheus text format.
const EXPOSITION: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What the metrics listener answers.
#[derive(Debug)]
pub struct MetricsPages {
    sources: Sources,
}

impl MetricsPages {
    /// Answers with what `sources` have counted.
    #[must_use]
    pub const fn new(sources: Sources) -> Self {
        Self { sources }
    }
}

impl Pages for MetricsPages {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.uri().path() != "/metrics" {
            return answer(StatusCode::NOT_FOUND, TEXT, "not found: there is /metrics\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let refusal = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
            return allow(refusal, "GET, HEAD");
        }
        answer(StatusCode::OK, EXPOSITION, self.sources.render().await)
    }
}
