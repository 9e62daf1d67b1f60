//! HTTP on one connection, until it ends or becomes DERP.
//!
//! Does: drives hyper, answers each request at once (`door::endpoint`), and takes the
//! connection back out of hyper where a request asks for DERP, with every byte that came
//! behind the request.
//! Does not: use hyper's own upgrade, which answers; a fast start has no answer.
//!
//! ```text
//! socket -> hyper -> Service -> Answer -> hyper -> socket
//!                       |
//!                       +-- notes the upgrade and never answers; the driver sees the note
//! ```
//!
//! Nothing of an earlier answer can be lost that way: hyper reads a request head only after
//! the answer before it has gone out, unless that request had a body; such an answer closes.
//!
//! Before: `tls::handshake`. Next: `door::login`.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Request, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::counters::{Counters, Listener};
use super::endpoint::{self, Answer, Route};
use super::upgrade::Native;
use crate::config::Home;

/// Most bytes of a request head. Clients send below 1 KiB; browsers add cookies.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Most header fields of a request.
pub(super) const MAX_HEADERS: usize = 64;

/// What the requests of one connection are for.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Which listener the connection came to.
    pub(super) listener: Listener,
    /// Whether TLS ends here.
    pub(super) own_tls: bool,
    /// What is at `/`.
    pub(super) home: Home,
}

/// How a connection left HTTP.
pub(super) enum Outcome<I> {
    /// It becomes DERP.
    Upgrade(Upgrade<I>),
    /// It is over. The stream is open for whoever wants to say goodbye.
    Over(I),
}

/// A connection that becomes DERP.
pub(super) struct Upgrade<I> {
    /// The stream. No byte has been answered to the request.
    pub(super) io: I,
    /// What came behind the request; it belongs to DERP.
    pub(super) received: BytesMut,
    /// How the client wants DERP to begin.
    pub(super) native: Native,
}

/// Why HTTP ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// No request came in time.
    #[error("no request in time")]
    Timeout,
    /// What came is no request.
    #[error("bad request: {0}")]
    Request(#[from] hyper::Error),
}

/// Serves requests on `io` until one asks for DERP, or until there are no more.
///
/// `deadline` is for the first request; each further one has `patience` from the answer before.
///
/// # Errors
///
/// [`HttpError`], with the stream; the client has been told where HTTP has a way to.
pub(super) async fn serve<I>(
    io: I,
    site: Site,
    counters: Arc<Counters>,
    deadline: Instant,
    patience: Duration,
) -> Result<Outcome<I>, (HttpError, I)>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection::new(io, site, counters);
    let mut timer = std::pin::pin!(tokio::time::sleep_until(deadline));
    let mut answered = 0;
    let driven = std::future::poll_fn(|cx| {
        let driven = connection.poll(cx);
        if driven.is_ready() {
            return driven.map_err(HttpError::Request);
        }
        let now_answered = connection.note().answered;
        if now_answered != answered {
            answered = now_answered;
            timer.as_mut().reset(Instant::now() + patience);
        }
        timer.as_mut().poll(cx).map(|()| Err(HttpError::Timeout))
    })
    .await;
    match driven {
        Ok(()) => Ok(connection.into_outcome()),
        Err(error) => Err((error, connection.into_io())),
    }
}

/// One connection in hyper.
pub(super) struct Connection<I: AsyncRead + AsyncWrite + Unpin> {
    hyper: http1::Connection<TokioIo<I>, Service>,
    note: Arc<Mutex<Note>>,
}

/// What the service tells the driver.
#[derive(Default)]
struct Note {
    /// Requests answered.
    answered: u64,
    /// The request that asks for DERP, with what hyper may have read of its body.
    upgrade: Option<(Native, Incoming)>,
    /// Bytes of that body.
    body: BytesMut,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Connection<I> {
    pub(super) fn new(io: I, site: Site, counters: Arc<Counters>) -> Self {
        let note = Arc::default();
        let service = Service { site, counters, note: Arc::clone(&note) };
        let hyper = http1::Builder::new()
            .half_close(true)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_HEAD_BYTES)
            // The driver has a timer of its own, which also holds while an answer goes out.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(io), service);
        Self { hyper, note }
    }

    /// Drives the connection until it is over or becomes DERP.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let polled = self.hyper.poll_without_shutdown(cx);
        let mut note = self.note();
        let Note { upgrade, body, .. } = &mut *note;
        let Some((_, request_body)) = upgrade else { return polled };
        // A body that the request announced has passed through hyper; it belongs to DERP too.
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *request_body).poll_frame(cx) {
            if let Ok(data) = frame.into_data() {
                body.extend_from_slice(&data);
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn into_outcome(self) -> Outcome<I> {
        let http1::Parts { io, read_buf, .. } = self.hyper.into_parts();
        let io = io.into_inner();
        let mut note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        match note.upgrade.take() {
            None => Outcome::Over(io),
            Some((native, _)) => {
                let mut received = std::mem::take(&mut note.body);
                received.extend_from_slice(&read_buf);
                Outcome::Upgrade(Upgrade { io, received, native })
            }
        }
    }

    fn into_io(self) -> I {
        self.hyper.into_parts().io.into_inner()
    }

    fn note(&self) -> std::sync::MutexGuard<'_, Note> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers requests, or notes that one wants no answer.
struct Service {
    site: Site,
    counters: Arc<Counters>,
    note: Arc<Mutex<Note>>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Answer;
    type Error = Infallible;
    type Future = Reply;

    fn call(&self, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        let mut answer = match self.site.listener {
            Listener::Http => self.count(endpoint::http(&head)),
            Listener::Derp => match endpoint::derp(&head, &self.site.home, self.site.own_tls) {
                Route::Answer(endpoint, answer) => self.count((endpoint, answer)),
                Route::Refuse(answer) => {
                    self.counters.upgrades_refused.add_one();
                    self.count((super::counters::Endpoint::Derp, answer))
                }
                Route::Upgrade(native) => {
                    self.counters.requests.add_one(super::counters::Endpoint::Derp);
                    self.note().upgrade = Some((native, body));
                    return Reply(None);
                }
            },
        };
        // See the header: an answer to a request with a body may not have gone out when hyper
        // reads the next request. And HTTP/1.0 clients do not expect another one.
        if !body.is_end_stream() || head.version == Version::HTTP_10 {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.note().answered += 1;
        Reply(Some(answer))
    }
}

impl Service {
    fn count(&self, (endpoint, answer): (super::counters::Endpoint, Answer)) -> Answer {
        self.counters.requests.add_one(endpoint);
        answer
    }

    fn note(&self) -> std::sync::MutexGuard<'_, Note> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is there at once, or never.
struct Reply(Option<Answer>);

impl Future for Reply {
    type Output = Result<Answer, Infallible>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        // Never woken: the driver leaves hyper instead.
        self.0.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)))
    }
}
