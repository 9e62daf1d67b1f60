//! The front door: everything that happens to a connection once, before its packets.
//!
//! ```text
//! accept -> limits -> TLS -> HTTP -> upgrade -> login -> access -> Handover -> shard
//! ```
//!
//! Runs on tokio. After the hand-over tokio has nothing to do with a connection.
//!
//! | module | holds |
//! |---|---|
//! | [`limits`] | what strangers may cost |
//! | [`upgrade`] | the request that turns HTTP into DERP |
//! | [`counters`] | what the door has done, in numbers |
//!
//! Nothing that comes from the network is logged above DEBUG; it is counted. Refused clients are
//! logged by `access`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::watch;
use tracing::field::DisplayValue;

use crate::access::Access;
use crate::config::Home;
use crate::handover::Intake;
use crate::identity::Identity;
use crate::rare_log::RareLog;
use crate::socket::Reserve;

mod connection;
pub mod counters;
mod endpoint;
#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
pub mod limits;
mod listener;
mod login;
mod stream;
pub mod upgrade;

pub use counters::Counters;
pub use limits::Limits;

use counters::Listener;
use limits::Gate;

/// What a front door needs to know.
pub struct Config {
    /// Who the relay is.
    pub identity: Identity,
    /// How DERP connections shake hands (see [`tls::server_config`](crate::tls::server_config));
    /// `None` if TLS ends in a proxy before us.
    pub tls: Option<Arc<ServerConfig>>,
    /// Who may enter.
    pub access: Arc<Access>,
    /// Where connections go after the login.
    pub intake: Box<dyn Intake>,
    /// What strangers may cost.
    pub limits: Limits,
    /// What is at `/`.
    pub home: Home,
    /// Whether log lines show the addresses of clients.
    pub log_addresses: bool,
}

/// A front door, before or while it accepts connections.
pub struct Door {
    shared: Arc<Shared>,
    stop: watch::Sender<()>,
}

/// What all connections share.
struct Shared {
    identity: Identity,
    tls: Option<Arc<ServerConfig>>,
    access: Arc<Access>,
    intake: Box<dyn Intake>,
    home: Home,
    log_addresses: bool,
    gate: Arc<Gate>,
    counters: Arc<Counters>,
    accept_log: RareLog,
    reject_log: RareLog,
}

impl Shared {
    /// An address as log lines show it: nothing where the operator wants none.
    fn shown(&self, peer: SocketAddr) -> Option<DisplayValue<SocketAddr>> {
        self.log_addresses.then(|| tracing::field::display(peer))
    }
}

impl Door {
    /// A door that accepts nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let Config { identity, tls, access, intake, limits, home, log_addresses } = config;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let gate = Gate::new(limits, cores);
        let counters = Arc::new(Counters::new(Arc::clone(&gate)));
        let shared = Arc::new(Shared {
            identity,
            tls,
            access,
            intake,
            home,
            log_addresses,
            gate,
            counters,
            accept_log: RareLog::default(),
            reject_log: RareLog::default(),
        });
        Self { shared, stop: watch::Sender::new(()) }
    }

    /// Accepts DERP connections on `listener`, which [`socket::listen`](crate::socket::listen)
    /// has opened, or another process before us. Returns the bound address. Runs on the current
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// The socket cannot be registered with the runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn accept_derp(&self, listener: TcpListener) -> io::Result<SocketAddr> {
        self.accept(listener, Listener::Derp)
    }

    /// Accepts plain HTTP connections, of browsers mostly; otherwise as [`Self::accept_derp`].
    ///
    /// # Errors
    ///
    /// The socket cannot be registered with the runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn accept_http(&self, listener: TcpListener) -> io::Result<SocketAddr> {
        self.accept(listener, Listener::Http)
    }

    /// Closes all listeners. Connections that are inside go on to their hand-over or deadline.
    ///
    /// Dropping the door does the same.
    pub fn stop_accepting(&self) {
        self.stop.send_replace(());
    }

    /// What the door has done, in numbers.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    fn accept(&self, socket: TcpListener, listener: Listener) -> io::Result<SocketAddr> {
        socket.set_nonblocking(true)?;
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        // Now, while there are descriptors.
        let reserve = Reserve::new();
        let stop = self.stop.subscribe();
        tokio::spawn(listener::run(Arc::clone(&self.shared), socket, listener, reserve, stop));
        Ok(address)
    }
}
