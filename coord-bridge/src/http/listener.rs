//! Connections of one listener: how many at once, how long, how much they may send.
//!
//! Does: gives every connection little time and little memory, and, when there are too many,
//! closes the oldest: whoever asks and reads takes milliseconds, so the oldest is one that does
//! neither, and a good client always finds a place.
//! Does not: know what is answered; that is [`Pages`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::Pages;
use super::requests::Requests;

/// Time for a request head to arrive, and for an idle connection to ask again.
pub const HEAD_TIME: Duration = Duration::from_secs(10);

/// Time after which a connection may send no further request.
pub const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// Time for the last answer to go out after that.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(10);

/// Most bytes in a request head. Worst case memory is this times [`MAX_CONNECTIONS`].
pub const MAX_HEAD_LEN: usize = 16 * 1024;

/// Most header fields in a request.
pub const MAX_HEADERS: usize = 64;

/// Most connections of a listener at once.
pub const MAX_CONNECTIONS: usize = 512;

/// Pause when the system has no descriptor or memory left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection, as an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// How long a connection may last, as an extension of its requests: [`CONNECTION_TIME`], unless
/// its answer goes on and on. Whoever lengthens it bounds how many there are, since these are
/// never closed to make place, and ends it when nothing more comes.
#[derive(Clone, Debug)]
pub struct Tenure(watch::Sender<Term>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    Short,
    Long,
    Over,
}

impl Tenure {
    fn new() -> Self {
        Self(watch::Sender::new(Term::Short))
    }

    /// Lets the connection last.
    pub(super) fn lengthen(&self) {
        self.0.send_replace(Term::Long);
    }

    /// Ends it, even if what was sent last is not taken.
    pub(super) fn end(&self) {
        self.0.send_replace(Term::Over);
    }

    fn is_long(&self) -> bool {
        *self.0.borrow() == Term::Long
    }
}

/// Serves `pages` on `listener`, on the current runtime, until `stop` changes; then lets the
/// requests that are under way end, and returns. Counts them in `requests`.
pub(crate) async fn serve<P: Pages>(
    listener: TcpListener,
    pages: Arc<P>,
    requests: Arc<Requests>,
    mut stop: watch::Receiver<()>,
) {
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.make_place();
                    let tenure = Tenure::new();
                    let (pages, requests) = (Arc::clone(&pages), Arc::clone(&requests));
                    let stop = stop.clone();
                    let conversation =
                        converse(stream, peer, tenure.clone(), pages, requests, stop);
                    connections.add(conversation, tenure);
                }
                Err(error) => pause_after(&error).await,
            },
            Some(ended) = connections.running.join_next() => log_panic(ended),
            _ = stop.changed() => break,
        }
    }
    drop(listener);
    while let Some(ended) = connections.running.join_next().await {
        log_panic(ended);
    }
}

/// The connections of a listener, the oldest first.
#[derive(Default)]
struct Connections {
    running: JoinSet<()>,
    by_age: VecDeque<(AbortHandle, Tenure)>,
}

impl Connections {
    fn add(&mut self, conversation: impl Future<Output = ()> + Send + 'static, tenure: Tenure) {
        let handle = self.running.spawn(conversation);
        self.by_age.push_back((handle, tenure));
    }

    /// Closes the oldest connection that is not to last if there are too many.
    fn make_place(&mut self) {
        if self.by_age.len() >= 2 * MAX_CONNECTIONS {
            self.by_age.retain(|(connection, _)| !connection.is_finished());
        }
        if self.running.len() < MAX_CONNECTIONS {
            return;
        }
        let may_go = |(connection, tenure): &(AbortHandle, Tenure)| {
            !connection.is_finished() && !tenure.is_long()
        };
        if let Some(place) = self.by_age.iter().position(may_go)
            && let Some((oldest, _)) = self.by_age.remove(place)
        {
            oldest.abort();
        }
    }
}

/// One connection, to its end.
async fn converse<P: Pages>(
    stream: TcpStream,
    peer: SocketAddr,
    tenure: Tenure,
    pages: Arc<P>,
    requests: Arc<Requests>,
    mut stop: watch::Receiver<()>,
) {
    let mut term = tenure.0.subscribe();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(tenure.clone());
        let (pages, requests) = (Arc::clone(&pages), Arc::clone(&requests));
        async move {
            let answer = pages.answer(request).await;
            requests.count(answer.status());
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD_LEN)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut timer = pin!(sleep(CONNECTION_TIME));
    let mut leaving = false;
    loop {
        let is_long = *term.borrow_and_update() == Term::Long;
        let leave = tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection broke");
                }
                return;
            }
            _ = stop.changed(), if !leaving => {
                // What has no end is not waited for.
                if is_long {
                    return;
                }
                true
            }
            Ok(()) = term.changed(), if !leaving => {
                if *term.borrow_and_update() != Term::Over {
                    continue;
                }
                true
            }
            () = timer.as_mut(), if leaving || !is_long => !leaving,
        };
        if !leave {
            tracing::debug!(%peer, "a connection did not take its answer");
            return;
        }
        leaving = true;
        connection.as_mut().graceful_shutdown();
        timer.set(sleep_until(Instant::now() + LAST_ANSWER_TIME));
    }
}

/// Waits, unless it is only that one connection that is lost: an error that stays would make a
/// loop at full speed.
async fn pause_after(error: &io::Error) {
    tracing::debug!(%error, "a connection is not accepted");
    let is_over = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    );
    if !is_over {
        sleep(ACCEPT_PAUSE).await;
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a fault of ours");
    }
}
