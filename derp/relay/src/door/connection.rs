//! The way of one connection through the front door.
//!
//! Does: TLS handshake in turn, HTTP, login; counts each end. Does not: accept, or decide who
//! may wait (`door::listener`).
//!
//! ```text
//! accepted -> tls::handshake -> door::http -> door::login -> Intake
//!     |             |               |             |
//!     +-------------+---------------+-------------+--> closed, counted by reason
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ProtocolVersion, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::counters::{Listener, TlsVersion};
use super::http::{self, HttpError, Outcome, Site};
use super::limits::Permit;
use super::login;
use super::stream::Stream;
use crate::tls::{Failure, FailureReason, Handshake};

/// A connection that has just been accepted.
pub(super) struct Accepted {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) listener: Listener,
    pub(super) permit: Permit,
    pub(super) at: Instant,
}

/// Serves a connection until it is handed over or closed.
pub(super) async fn serve(shared: Arc<Shared>, accepted: Accepted) {
    let Accepted { socket, peer, listener, permit, at } = accepted;
    let deadline = at + shared.gate.limits().login_time;
    let stream = match (&shared.tls, listener) {
        (Some(config), Listener::Derp) => {
            match shake_hands(&shared, socket, config, deadline).await {
                Ok(handshake) => Stream::Tls(handshake),
                Err((reason, why)) => {
                    shared.counters.tls_failures.add_one(reason);
                    tracing::debug!(peer = shared.shown(peer), %why, "no TLS");
                    return;
                }
            }
        }
        (None, Listener::Derp) | (_, Listener::Http) => Stream::Plain(socket),
    };
    let site = Site { listener, own_tls: stream.is_tls(), home: shared.home.clone() };
    let patience = shared.gate.limits().login_time;
    let counters = Arc::clone(&shared.counters);
    match http::serve(stream, site, counters, deadline, patience).await {
        Ok(Outcome::Upgrade(upgrade)) => {
            shared.counters.upgrades.add_one();
            if upgrade.native.fast_start {
                shared.counters.fast_starts.add_one();
            }
            if let Err(error) = login::run(&shared, upgrade, peer, permit, deadline).await {
                shared.counters.login_failures.add_one(error.reason());
                tracing::debug!(peer = shared.shown(peer), %error, "no login");
            }
        }
        Ok(Outcome::Over(stream)) => stream.close().await,
        Err((error, stream)) => {
            shared.counters.http_failures.add_one();
            tracing::debug!(peer = shared.shown(peer), %error, "no HTTP");
            match error {
                HttpError::Timeout => stream.hang_up().await,
                HttpError::Request(_) => stream.close().await,
            }
        }
    }
}

/// Shakes hands before `deadline`, in turn with the others.
async fn shake_hands(
    shared: &Shared,
    socket: TcpStream,
    config: &Arc<ServerConfig>,
    deadline: Instant,
) -> Result<Handshake, (FailureReason, String)> {
    let failed = |failure: Failure| (failure.reason(), failure.to_string());
    let mut handshake = Handshake::new(socket, Arc::clone(config)).map_err(failed)?;
    let counters = &shared.counters;
    let shaken = timeout_at(deadline, async {
        // A client that says nothing takes nobody's turn.
        handshake.first_record().await?;
        let turn = shared.gate.handshake_turn().await;
        counters.handshakes_started.add_one();
        let _ended = EndsHandshake(shared);
        let in_turn = timeout(shared.gate.limits().handshake_turn, handshake.complete()).await;
        drop(turn);
        match in_turn {
            Ok(completed) => completed,
            // Silent for so long that others go first; it may still end.
            Err(_) => handshake.complete().await,
        }
    })
    .await;
    match shaken {
        Err(_) => return Err((FailureReason::Timeout, "not done in time".to_owned())),
        Ok(Err(failure)) => return Err(failed(failure)),
        Ok(Ok(())) => {}
    }
    counters.tls_versions.add_one(match handshake.version() {
        Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
        _ => TlsVersion::Tls12,
    });
    Ok(handshake)
}

/// Counts the end of a handshake, however it comes.
struct EndsHandshake<'a>(&'a Shared);

impl Drop for EndsHandshake<'_> {
    fn drop(&mut self) {
        self.0.counters.handshakes_ended.add_one();
    }
}
