//! A front door with a runtime of its own, and an intake that keeps what it is given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use derp::key::{NodePrivate, NodePublic};
use derp_relay::AccessConfig;
use derp_relay::access::Access;
use derp_relay::config::Home;
use derp_relay::door::{Config, Counters, Door, Limits};
use derp_relay::handover::Handover;
use derp_relay::identity::Identity;
use derp_relay::socket;
use derp_relay::tls::certificate::{Certificates, Source};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::shard::Shard;

/// Longest that a test waits for anything; nothing takes that long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Name in the relay's certificate.
pub(crate) const NAME: &str = "relay.example";

/// What a test may change.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) tls: bool,
    pub(crate) limits: Limits,
    pub(crate) home: Home,
    pub(crate) access: AccessConfig,
}

impl Default for Options {
    fn default() -> Self {
        // Tests share two cores with others: no deadline may come by accident.
        let limits = Limits { login_time: PATIENCE, ..Limits::default() };
        Self { tls: true, limits, home: Home::default(), access: AccessConfig::Open }
    }
}

impl Options {
    pub(crate) fn plain() -> Self {
        Self { tls: false, ..Self::default() }
    }

    pub(crate) fn with_login_time(mut self, time: Duration) -> Self {
        self.limits.login_time = time;
        self
    }
}

pub(crate) struct Relay {
    pub(crate) derp: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) key: NodePublic,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) door: Door,
    handovers: mpsc::Receiver<Handover>,
    folder: TempDir,
    // Last: the others may need it while they are dropped.
    runtime: Runtime,
}

impl Relay {
    /// Starts a relay that listens on `ip`.
    pub(crate) fn start(ip: IpAddr, options: Options) -> Self {
        // Hundreds of connections have both ends in this process.
        socket::raise_descriptor_limit().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let folder = TempDir::new().unwrap();
        let identity = Identity::new(NodePrivate::from_random([0x42; 32]));
        let key = identity.public();
        let source = Source::SelfSigned { name: NAME.to_owned(), folder: folder.path().into() };
        let certificates = Certificates::load(source, key).unwrap();
        let (sender, handovers) = mpsc::channel();
        let door = Door::new(Config {
            identity,
            tls: options.tls.then(|| derp_relay::tls::server_config(certificates.clone())),
            access: Arc::new(Access::new(options.access).unwrap()),
            // A test that is over takes no more: the connection is then closed.
            intake: Box::new(move |handover| drop(sender.send(handover))),
            limits: options.limits,
            home: options.home,
            log_addresses: true,
        });
        let [derp, http]: [_; 2] = socket::listen("--listen-derp", &[SocketAddr::new(ip, 0); 2])
            .unwrap()
            .try_into()
            .unwrap();
        let guard = runtime.enter();
        let derp = door.accept_derp(derp).unwrap();
        let http = door.accept_http(http).unwrap();
        drop(guard);
        let counters = door.counters();
        Self {
            derp,
            http,
            tls: options.tls,
            key,
            certificates,
            counters,
            door,
            handovers,
            folder,
            runtime,
        }
    }

    /// Listens for DERP on one more address; returns the bound one.
    pub(crate) fn listen(&self, address: SocketAddr) -> SocketAddr {
        let [listener] = socket::listen("--listen-derp", &[address]).unwrap().try_into().unwrap();
        let _guard = self.runtime.enter();
        self.door.accept_derp(listener).unwrap()
    }

    /// Where the certificate is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The next connection that has logged in.
    pub(crate) fn handover(&self) -> Handover {
        self.handovers.recv_timeout(PATIENCE).expect("a hand-over")
    }

    /// The next connection that has logged in, as a shard has it.
    pub(crate) fn shard(&self) -> Shard {
        Shard::new(self.handover())
    }

    /// Whether no connection has logged in.
    pub(crate) fn has_no_handover(&self) -> bool {
        self.handovers.try_recv().is_err()
    }

    /// Waits until `condition` holds for the counters.
    #[track_caller]
    pub(crate) fn wait_for(&self, condition: impl Fn(&Counters) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !condition(&self.counters) {
            assert!(Instant::now() < give_up, "in vain: {:?}", self.counters);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Runs `test` on both loopback addresses.
pub(crate) fn on_both(test: impl Fn(IpAddr)) {
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        test(ip);
    }
}

/// Runs `test` on both loopback addresses at the same time, for what waits more than it works.
pub(crate) fn on_both_at_once(test: impl Fn(IpAddr) + Sync) {
    std::thread::scope(|scope| {
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let test = &test;
            scope.spawn(move || test(ip));
        }
    });
}

/// Runs `test` on both loopback addresses, with our TLS and without.
pub(crate) fn on_all(test: impl Fn(&Relay)) {
    on_both(|ip| {
        for tls in [false, true] {
            test(&Relay::start(ip, Options { tls, ..Options::default() }));
        }
    });
}
