//! Accepting connections, whatever comes.
//!
//! Does: accepts, holds each connection against the limits, and starts its task; survives a
//! lack of descriptors without a busy loop and without a growing backlog.
//! Does not: look at a byte. Next on the way of a connection: `door::connection`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Shared;
use super::connection::{self, Accepted};
use super::counters::{Listener, Reject};
use crate::socket::{Reserve, out_of_descriptors};

/// Pause after an accept that failed: descriptors do not come back at once.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Accepts connections until `stop` changes; then closes the listener.
pub(super) async fn run(
    shared: Arc<Shared>,
    socket: TcpListener,
    listener: Listener,
    mut reserve: Reserve,
    mut stop: watch::Receiver<()>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.changed() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((connection, peer)) => admit(&shared, connection, peer, listener),
            Err(error) if out_of_descriptors(&error) => {
                turn_away(&shared, &socket, listener, &mut reserve).await;
                tokio::time::sleep(BACK_OFF).await;
            }
            // The connection is gone already; the listener is fine.
            Err(error) if is_about_the_connection(&error) => {
                shared.counters.accept_errors.add_one();
            }
            Err(error) => {
                shared.counters.accept_errors.add_one();
                if shared.accept_log.is_due() {
                    tracing::warn!(%error, "cannot accept connections; trying on");
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Starts a connection's task, or closes the connection.
fn admit(shared: &Arc<Shared>, socket: TcpStream, peer: SocketAddr, listener: Listener) {
    shared.counters.accepts.add_one(listener);
    // A dual-stack listener shows IPv4 clients in IPv6 form.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    match shared.gate.admit(peer.ip()) {
        Ok(permit) => {
            let at = tokio::time::Instant::now();
            let accepted = Accepted { socket, peer, listener, permit, at };
            tokio::spawn(connection::serve(Arc::clone(shared), accepted));
        }
        Err(reject) => {
            shared.counters.rejects.add_one(reject);
            if shared.reject_log.is_due() {
                tracing::warn!(
                    ?reject,
                    pending = shared.gate.pending(),
                    "too many connections before the login: closing new ones",
                );
            }
        }
    }
}

/// Accepts one connection with the descriptor from the reserve, and closes it.
async fn turn_away(
    shared: &Shared,
    socket: &TcpListener,
    listener: Listener,
    reserve: &mut Reserve,
) {
    if reserve.release() {
        // Another thread may have taken the descriptor by now; then the next turn comes.
        let accepted = std::future::poll_fn(|cx| match socket.poll_accept(cx) {
            std::task::Poll::Ready(accepted) => std::task::Poll::Ready(accepted.ok()),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await;
        if accepted.is_some() {
            shared.counters.accepts.add_one(listener);
            shared.counters.rejects.add_one(Reject::Descriptors);
        }
        drop(accepted);
    }
    reserve.refill();
    if shared.accept_log.is_due() {
        tracing::warn!("no descriptor left: closing new connections; raise LimitNOFILE");
    }
}

fn is_about_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
