//! A running relay: front door, packet threads, STUN and status in one process.
//!
//! Does: opens everything that a configuration names, in an order that leaves nothing behind if
//! one step fails, and closes it again.
//! Does not: read a configuration file, print, or handle signals; that is `cli`.
//!
//! ```no_run
//! use derp_relay::{AccessConfig, Relay};
//!
//! let relay = Relay::builder()
//!     .listen_derp("127.0.0.1:0".parse()?)
//!     .self_signed("127.0.0.1", "state")
//!     .key_file("state/derp.key")
//!     .access(AccessConfig::Open)
//!     .start()?;
//! println!("{:?}", relay.addresses());
//! relay.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builder;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use derp::key::NodePublic;
use tokio::runtime::Runtime;

use crate::access::{Access, AccessError};
use crate::bridge::{self, Announcement, Link};
use crate::config::{BridgeConfig, Config};
use crate::door::{self, Door};
use crate::identity::{self, Identity};
use crate::metrics::Sources;
use crate::shard::{self, ShardSettings, Shards, Threads};
use crate::socket::{self, ListenError};
use crate::status;
use crate::tls::{self, Certificates, certificate};

pub use builder::Builder;

/// Niceness of the front door's threads: a storm of logins may not starve packets.
const DOOR_NICE: i32 = 10;

/// Time that the front door's threads have to end.
const DOOR_END: Duration = Duration::from_secs(1);

/// Why a relay does not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A TCP listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A UDP listener.
    #[error("{0} (--listen-stun)")]
    Stun(#[from] stun_server::StartError),
    /// The relay's own key.
    #[error(transparent)]
    Identity(#[from] identity::LoadError),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] certificate::LoadError),
    /// Who may use the relay.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The bridge.
    #[error(transparent)]
    Bridge(#[from] bridge::SetupError),
    /// The system has no thread, descriptor or randomness left.
    #[error("cannot start: {0}; {RAISE_LIMITS}", RAISE_LIMITS = socket::RAISE_LIMITS)]
    System(#[from] io::Error),
}

impl StartError {
    /// The same, but for a file that cannot be opened for want of descriptors: that one is in order.
    fn not_blaming_files(self) -> Self {
        match &self {
            Self::Identity(_) | Self::Certificate(_) | Self::Access(_) | Self::Bridge(_) => {
                let code = socket::exhaustion(&self).and_then(io::Error::raw_os_error);
                code.map_or(self, |code| Self::System(io::Error::from_raw_os_error(code)))
            }
            Self::Listen(_) | Self::Stun(_) | Self::System(_) => self,
        }
    }
}

/// Where a relay listens, in the order of its configuration, with bound ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// DERP.
    pub derp: Vec<SocketAddr>,
    /// Plain HTTP.
    pub http: Vec<SocketAddr>,
    /// STUN.
    pub stun: Vec<SocketAddr>,
    /// Metrics and health.
    pub metrics: Vec<SocketAddr>,
}

/// A running relay. Dropping it stops it.
#[derive(Debug)]
pub struct Relay {
    addresses: Addresses,
    public_key: NodePublic,
    certificates: Option<Arc<Certificates>>,
    access: Arc<Access>,
    sources: Arc<Sources>,
    /// All of these are taken when it stops.
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    door: Door,
    shards: Shards,
    threads: Threads,
    stun: Option<Arc<stun_server::Running>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

impl Relay {
    /// A relay that listens nowhere yet and lets nobody in.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts what `config` describes. Does not block for longer than it takes to read files.
    ///
    /// # Errors
    ///
    /// [`StartError`], on one line that names the file, key or port and what to do.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::try_start(config).map_err(StartError::not_blaming_files)
    }

    fn try_start(config: Config) -> Result<Self, StartError> {
        // What can be refused comes before what leaves something behind, and that before what runs.
        let derp = socket::listen("--listen-derp", &config.listen_derp)?;
        let http = socket::listen("--listen-http", &config.listen_http)?;
        let metrics = socket::listen("--listen-metrics", &config.listen_metrics)?;
        let stun = start_stun(&config.listen_stun)?;
        let access = Access::new(config.access)?.log_addresses(config.log_addresses);
        let access = Arc::new(access);
        if let Some(source) = &config.tls {
            source.check()?;
        }
        let identity = Identity::load_or_create(&config.key_file)?;
        let public_key = identity.public();
        let certificates = match config.tls {
            Some(source) => Some(Certificates::load(source, public_key)?),
            None => None,
        };
        let runtime = runtime()?;
        let settings = ShardSettings { shards: config.shards.get(), limits: config.limits };
        let (shards, threads) = shard::start(settings)?;

        let door = Door::new(door::Config {
            identity,
            tls: certificates.clone().map(|resolver| tls::server_config(resolver)),
            access: Arc::clone(&access),
            intake: Box::new(shards.clone()),
            limits: door::Limits {
                pending_per_source: config.handshakes_per_address,
                ..door::Limits::default()
            },
            home: config.home,
            log_addresses: config.log_addresses,
        });
        let sources = Arc::new(Sources {
            door: door.counters(),
            shards: shards.clone(),
            access: access.counters(),
            bridge: Arc::default(),
            stun: stun.clone(),
            certificates: certificates.clone(),
        });
        {
            let _guard = runtime.enter();
            access.oversee(shards.clone());
        }
        let running = Running { runtime, door, shards, threads, stun };
        let addresses = running.open(derp, http, metrics, &sources);
        let mut relay = Self {
            addresses: Addresses::default(),
            public_key,
            certificates,
            access,
            sources,
            running: Some(running),
        };
        // From here on, dropping the relay stops what runs.
        relay.addresses = addresses?;
        if let Some(bridge) = &config.bridge {
            relay.follow(bridge)?;
        }
        if relay.access.fails_open() {
            tracing::warn!("while no verifier can be reached, everybody may enter");
        }
        Ok(relay)
    }

    /// Where it listens.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Who it is to its clients.
    #[must_use]
    pub const fn public_key(&self) -> NodePublic {
        self.public_key
    }

    /// The pin of its certificate, as a DERP map's `CertName` wants it; `None` without TLS.
    #[must_use]
    pub fn certificate_pin(&self) -> Option<String> {
        self.certificates.as_ref().map(|certificates| certificates.pin())
    }

    /// Who may use it: by this, access can be ended and asked about anew while it runs.
    #[must_use]
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access)
    }

    /// Everything it counts, in the Prometheus text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.sources.render()
    }

    /// Reads certificates and the allow-list again. What cannot be read stays as it was, and a
    /// log line says so.
    pub fn reload(&self) {
        let certificates = self.certificates.as_ref().map_or(Ok(()), |known| known.reload());
        match certificates {
            Ok(()) => tracing::info!("certificates are reloaded"),
            Err(error) => tracing::error!(%error, "the certificates stay as they were"),
        }
        match self.access.reload() {
            Ok(()) => tracing::info!("access is reloaded"),
            Err(error) => tracing::error!(%error, "the allow-list stays as it was"),
        }
    }

    /// Closes all connections and listeners, and waits until everything has ended.
    ///
    /// Must not be called on a thread of a tokio runtime.
    pub fn stop(mut self) {
        self.end();
    }

    /// Begins to talk to a bridge: now, as clients that it sends find open doors.
    fn follow(&self, config: &BridgeConfig) -> Result<(), bridge::SetupError> {
        let Some(running) = &self.running else { return Ok(()) };
        let has_tls = self.certificates.is_some();
        let announcement = Announcement::new(config, self.public_key, &self.addresses, has_tls);
        let (access, certificates) = (Arc::clone(&self.access), self.certificates.clone());
        let counters = Arc::clone(&self.sources.bridge);
        let link = Link::new(config, announcement, access, certificates, counters)?;
        running.runtime.spawn(link.run());
        Ok(())
    }

    fn end(&mut self) {
        let Some(running) = self.running.take() else { return };
        if let Some(stun) = &running.stun {
            stun.pause();
        }
        running.door.stop_accepting();
        running.shards.stop();
        running.threads.join();
        running.runtime.shutdown_timeout(DOOR_END);
        self.access.end();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}

impl Running {
    /// Opens the doors: from here on, clients come in.
    fn open(
        &self,
        derp: Vec<TcpListener>,
        http: Vec<TcpListener>,
        metrics: Vec<TcpListener>,
        sources: &Arc<Sources>,
    ) -> io::Result<Addresses> {
        let _guard = self.runtime.enter();
        let mut addresses = Addresses::default();
        for listener in derp {
            addresses.derp.push(self.door.accept_derp(listener)?);
        }
        for listener in http {
            addresses.http.push(self.door.accept_http(listener)?);
        }
        for listener in metrics {
            addresses.metrics.push(status::serve(listener, Arc::clone(sources))?);
        }
        if let Some(stun) = &self.stun {
            addresses.stun = stun.addresses().to_vec();
            stun.resume();
        }
        Ok(addresses)
    }
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("door")
        .enable_all()
        .on_thread_start(|| {
            // On Linux this is the thread's own niceness, not the process's.
            if let Err(error) = rustix::process::setpriority_process(None, DOOR_NICE) {
                tracing::debug!(%error, "the front door keeps its priority");
            }
        })
        .build()
}

fn start_stun(
    listen: &[SocketAddr],
) -> Result<Option<Arc<stun_server::Running>>, stun_server::StartError> {
    if listen.is_empty() {
        return Ok(None);
    }
    let mut server = stun_server::Server::builder();
    for address in listen {
        // A wildcard stands for the addresses that the host has, not for a demand of the family.
        server = if address.ip().is_unspecified() && listen.len() > 1 {
            server.listen_if_supported(*address)
        } else {
            server.listen(*address)
        };
    }
    let running = server.start()?;
    // Nobody shall choose a relay as home that does not take connections yet.
    running.pause();
    Ok(Some(Arc::new(running)))
}
