//! A running bridge: its listeners, and the map that it publishes.
//!
//! Does: opens everything or nothing, puts the map into its file before anybody can ask for it,
//! lets it be kept up to date while it runs, and ends within a bounded time.
//! Does not: read a configuration file, print, or handle signals; that is `cli`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use derp_relay::socket::{self, ListenError};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::addresses::Addresses;
use crate::config::DEFAULT_PROVISIONING_LISTEN;
use crate::events::Outlets;
use crate::http::Pages;
use crate::http::admin::AdminPages;
use crate::http::basic::Login;
use crate::http::listener;
use crate::http::map::MapPages;
use crate::http::metrics::MetricsPages;
use crate::http::provisioning::ProvisioningPages;
use crate::http::requests::Requests;
use crate::http::scope::Scope;
use crate::http::verify::VerifyPages;
use crate::map_file::{MapFile, WriteError};
use crate::metrics::Sources;
use crate::provisioning::Provisioning;
use crate::publication::accord::Accord;
use crate::publication::status::Status;
use crate::publication::{self, Live, Plan, PublicationError, Publisher};
use crate::published::Edition;
use crate::verify::Verify;

/// Threads that answer. Every answer lies ready, so two are one more than needed.
const THREADS: usize = 2;

/// Most threads that wait: for the disk, and for relays that are tried.
const WAITING_THREADS: usize = 4 + publication::MAX_PROBES;

/// Time that answers under way have to go out when the bridge ends.
const STOP_TIME: Duration = Duration::from_secs(3);

/// Setting that names the map's listener.
const MAP_SETTING: &str = "map_listen, --map-listen";

/// Setting that names the provisioning listener.
const PROVISIONING_SETTING: &str = "provisioning.listen, --provisioning-listen";

/// Setting that names the listener of relays.
const VERIFY_SETTING: &str = "verify_listen, --verify-listen";
/// Setting that names the listener of administrators.
const ADMIN_SETTING: &str = "admin_listen, --admin-listen";

/// Setting that names the metrics listener.
const METRICS_SETTING: &str = "metrics_listen, --metrics-listen";

/// Why a bridge does not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener.
    #[error(transparent)]
    Listen(ListenError),
    /// The provisioning listener.
    #[error("{0}{cause}", cause = usual_cause(&.0.source, .0.address))]
    Provisioning(ListenError),
    /// The map's file.
    #[error(transparent)]
    File(#[from] WriteError),
    /// The system has no thread or descriptor left.
    #[error("cannot start: {0}; {RAISE_LIMITS}", RAISE_LIMITS = socket::RAISE_LIMITS)]
    System(#[from] io::Error),
}

impl From<PublicationError> for StartError {
    fn from(error: PublicationError) -> Self {
        match error {
            PublicationError::File(error) => Self::File(error),
            PublicationError::System(error) => Self::System(error),
        }
    }
}

/// Open listeners that nobody is answered at yet.
#[derive(Debug)]
pub struct Listeners {
    map: Vec<TcpListener>,
    provisioning: Vec<TcpListener>,
    verify: Vec<TcpListener>,
    admin: Vec<TcpListener>,
    metrics: Vec<TcpListener>,
}

/// What a bridge is to do at its listeners.
#[derive(Debug, Default)]
pub struct Setup {
    /// What is published.
    pub plan: Plan,
    /// Relays that have registered and are heard of, if any can.
    pub live: Option<Live>,
    /// Who may fetch the map; without it everybody.
    pub map_login: Option<Login>,
    /// File that the map is kept in.
    pub map_file: Option<MapFile>,
    /// Registration of machines; without it none can register.
    pub provisioning: Option<Arc<Provisioning>>,
    /// What relays ask and hear; without it they are told that nobody can say.
    pub verify: Option<Verify>,
    /// Names that the listener of administrators goes by.
    pub admin_hosts: Vec<String>,
    /// Outlets of events.
    pub outlets: Option<Arc<Outlets>>,
    /// Where several bridges agree on one map.
    pub accord: Option<Accord>,
}

/// A running bridge. Dropping it stops it.
#[derive(Debug)]
pub struct Bridge {
    addresses: Addresses,
    publisher: Arc<Publisher>,
    /// Taken when it stops.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    runtime: Runtime,
    listeners: Vec<JoinHandle<()>>,
    stop: watch::Sender<()>,
}

impl Listeners {
    /// Opens all listeners. Port 0 takes any free port.
    ///
    /// # Errors
    ///
    /// [`StartError`] for the first that cannot be opened; the others are closed again.
    pub fn open(addresses: &Addresses) -> Result<Self, StartError> {
        Ok(Self {
            map: socket::listen(MAP_SETTING, &addresses.map).map_err(StartError::Listen)?,
            provisioning: socket::listen(PROVISIONING_SETTING, &addresses.provisioning)
                .map_err(StartError::Provisioning)?,
            verify: socket::listen(VERIFY_SETTING, &addresses.verify)
                .map_err(StartError::Listen)?,
            admin: socket::listen(ADMIN_SETTING, &addresses.admin).map_err(StartError::Listen)?,
            metrics: socket::listen(METRICS_SETTING, &addresses.metrics)
                .map_err(StartError::Listen)?,
        })
    }

    /// Where relays can ask, if anywhere: before anybody answers, they wait.
    #[must_use]
    pub fn verify(&self) -> Option<SocketAddr> {
        self.verify.first().and_then(|listener| listener.local_addr().ok())
    }
}

impl Bridge {
    /// Does at `listeners` what `setup` says.
    ///
    /// # Errors
    ///
    /// [`StartError`], on one line that names the file and what to do.
    pub fn start(listeners: Listeners, setup: Setup) -> Result<Self, StartError> {
        let Setup {
            plan,
            live,
            map_login,
            map_file,
            provisioning,
            verify,
            admin_hosts,
            outlets,
            accord,
        } = setup;
        let key = publication::new_probe_key()?;
        let is_only_way = listeners.map.is_empty();
        let map_file = map_file.map(|it| it.as_only_way(is_only_way));
        let publisher = Publisher::start(plan, live.clone(), map_file.clone(), key)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("bridge")
            .worker_threads(THREADS)
            .max_blocking_threads(WAITING_THREADS)
            .enable_all()
            .build()?;
        let (stop, _) = watch::channel(());
        let mut running = Running { runtime, listeners: Vec::new(), stop };
        if let Some(Verify { front, relays }) = &verify {
            let _guard = running.runtime.enter();
            front.watch();
            relays.watch();
            if let Some(provisioning) = &provisioning {
                provisioning.tell_relays_by(Arc::clone(relays.journal()));
            }
        }
        if let Some(provisioning) = &provisioning {
            running.runtime.spawn(Arc::clone(provisioning).run());
        }
        let published = Arc::clone(publisher.published());
        let scope = Scope {
            provisioning: provisioning.clone(),
            publisher: Arc::clone(&publisher),
            relays: live,
            verify: verify.clone(),
            outlets: outlets.clone(),
        };
        let map = Arc::new(MapPages::new(published, map_file, map_login));
        let registration = Arc::new(ProvisioningPages::new(provisioning.clone()));
        let to_verify = verify.clone();
        let verify = Arc::new(VerifyPages::new(verify));
        let admin = Arc::new(AdminPages::new(&admin_hosts, scope));
        let requests = ["map", "provisioning", "verify", "admin", "metrics"];
        let requests = requests.map(|listener| (listener, Arc::<Requests>::default()));
        let sources = Sources {
            provisioning,
            publisher: Some(Arc::clone(&publisher)),
            verify: to_verify,
            outlets,
            requests: requests.to_vec(),
        };
        let metrics = Arc::new(MetricsPages::new(sources));
        let [of_map, of_registration, of_verify, of_admin, of_metrics] = requests.map(|(_, it)| it);
        let addresses = Addresses {
            map: running.serve(listeners.map, &map, &of_map)?,
            provisioning: running.serve(listeners.provisioning, &registration, &of_registration)?,
            verify: running.serve(listeners.verify, &verify, &of_verify)?,
            admin: running.serve(listeners.admin, &admin, &of_admin)?,
            metrics: running.serve(listeners.metrics, &metrics, &of_metrics)?,
        };
        running.runtime.spawn(Arc::clone(&publisher).run());
        if let Some(accord) = accord {
            running.runtime.spawn(accord.keep(Arc::clone(&publisher)));
        }
        Ok(Self { addresses, publisher, running: Some(running) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What it publishes now.
    #[must_use]
    pub fn edition(&self) -> Arc<Edition> {
        self.publisher.published().edition()
    }

    /// What keeps the map up to date: it takes another plan, and says how it is doing.
    #[must_use]
    pub const fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// How publication is doing. Costs a pointer.
    #[must_use]
    pub fn publication(&self) -> Arc<Status> {
        self.publisher.status()
    }

    /// Keeps the map, since a newer configuration cannot be used; `/ready` says so.
    pub fn refuse_reload(&self) {
        self.publisher.published().refuse_reload();
    }

    /// Closes the listeners, lets answers under way go out, and waits for that a bounded time.
    ///
    /// Must not be called on a thread of a tokio runtime.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(running) = self.running.take() else { return };
        self.publisher.published().stop();
        running.end();
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.end();
    }
}

impl Running {
    /// Serves `pages` on all of `listeners`. Says where they listen.
    fn serve<P: Pages>(
        &mut self,
        listeners: Vec<TcpListener>,
        pages: &Arc<P>,
        requests: &Arc<Requests>,
    ) -> io::Result<Vec<SocketAddr>> {
        let _guard = self.runtime.enter();
        let mut addresses = Vec::new();
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            addresses.push(listener.local_addr()?);
            let (pages, requests) = (Arc::clone(pages), Arc::clone(requests));
            let serving = listener::serve(listener, pages, requests, self.stop.subscribe());
            self.listeners.push(self.runtime.spawn(serving));
        }
        Ok(addresses)
    }

    fn end(self) {
        self.stop.send_replace(());
        self.runtime.block_on(async {
            let all = async {
                for listener in self.listeners {
                    if let Err(error) = listener.await {
                        tracing::error!(%error, "a listener ended by a fault of ours");
                    }
                }
            };
            if tokio::time::timeout(STOP_TIME, all).await.is_err() {
                tracing::debug!("connections are cut");
            }
        });
        // A thread that waits for a dead disk must not keep the process.
        self.runtime.shutdown_background();
    }
}

/// Who has the provisioning port on most hosts where it is taken.
pub(crate) fn usual_cause(error: &io::Error, address: SocketAddr) -> &'static str {
    let is_usual = error.kind() == io::ErrorKind::AddrInUse
        && address.port() == DEFAULT_PROVISIONING_LISTEN.port();
    if is_usual {
        "; usually it is Headscale, whose metrics_listen_addr is 127.0.0.1:9090 unless told \
         otherwise: set another there, such as 127.0.0.1:9093"
    } else {
        ""
    }
}
