//! What the relay shows of itself: `/metrics`, `/health` and `/ready`, on a listener of its own.
//!
//! Does: answers three paths and nothing else, and closes the oldest connection when there are too
//! many: who scrapes takes milliseconds, so the oldest is one that only takes the place.
//! Does not: offer any control.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::AbortHandle;

use crate::metrics::Sources;

/// Time for a request head to arrive, and for an idle connection to ask again.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Connections at once. Prometheus needs one.
const MAX_CONNECTIONS: usize = 64;

/// Prometheus' text format.
const METRICS_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

/// Serves the status on `listener`, on the current runtime; returns its bound address.
pub(crate) fn serve(listener: TcpListener, sources: Arc<Sources>) -> io::Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, mostly: the door copes with that; here it can wait.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            by_age.retain(|connection| !connection.is_finished());
            if by_age.len() >= MAX_CONNECTIONS
                && let Some(oldest) = by_age.pop_front()
            {
                oldest.abort();
            }
            let sources = Arc::clone(&sources);
            let connection = tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(&request, &sources);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIME)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "a status connection broke");
                }
            });
            by_age.push_back(connection.abort_handle());
        }
    });
    Ok(address)
}

fn answer(request: &Request<Incoming>, sources: &Sources) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match request.uri().path() {
        "/metrics" => {
            let mut response = Response::new(Full::from(sources.render()));
            response.headers_mut().insert(CONTENT_TYPE, METRICS_TYPE);
            response
        }
        // While the process answers, it is alive; while its listeners are open, it is ready.
        "/health" | "/ready" => plain(StatusCode::OK, "ok\n"),
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /health and /ready\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
