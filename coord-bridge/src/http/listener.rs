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

/// Serves `pages` on `listener`, on the current runtime, until `stop` changes; then lets the
/// requests that are under way end, and returns.
pub(crate) async fn serve<P: Pages>(
    listener: TcpListener,
    pages: Arc<P>,
    mut stop: watch::Receiver<()>,
) {
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.make_place();
                    connections.add(converse(stream, peer, Arc::clone(&pages), stop.clone()));
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
    by_age: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, conversation: impl Future<Output = ()> + Send + 'static) {
        let handle = self.running.spawn(conversation);
        self.by_age.push_back(handle);
    }

    /// Closes the oldest connection if there are too many.
    fn make_place(&mut self) {
        if self.by_age.len() >= 2 * MAX_CONNECTIONS {
            self.by_age.retain(|connection| !connection.is_finished());
        }
        if self.running.len() < MAX_CONNECTIONS {
            return;
        }
        while let Some(oldest) = self.by_age.pop_front() {
            if !oldest.is_finished() {
                oldest.abort();
                return;
            }
        }
    }
}

/// One connection, to its end.
async fn converse<P: Pages>(
    stream: TcpStream,
    peer: SocketAddr,
    pages: Arc<P>,
    mut stop: watch::Receiver<()>,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(pages.answer(request).await) }
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
        let leave = tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection broke");
                }
                return;
            }
            _ = stop.changed(), if !leaving => true,
            () = timer.as_mut() => !leaving,
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
