//! What the bridge remembers: tokens, machines, keys, audit, and what relays have to hear.
//!
//! ```text
//! provisioning -- write(work) --> one thread -- transaction --> SQLite file | PostgreSQL
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`location`] | where the store is |
//! | [`schema`] | tables, and how an older store becomes a newer one |
//! | [`session`] | SQL that both databases take |
//! | [`tokens`], [`machines`], [`keys`], [`installations`], [`events`], [`relay_events`], [`relays`], [`leases`], [`verdicts`] | the rows, one module per table |
//! | [`backup`] | a copy of a store in use |
//!
//! Does: runs each piece of work as one transaction that is on the disk before it is answered;
//! opens the database when it is first needed, and again when it was lost.
//! Does not: start over. A store that is damaged, full or gone refuses every piece of work with
//! a [`StoreError`], and what lies on the disk stays as it is.

pub mod backup;
pub mod events;
pub mod installations;
pub mod keys;
pub mod leases;
pub mod location;
pub mod machines;
mod postgres;
pub mod relay_events;
pub mod relays;
pub mod schema;
pub mod session;
mod sqlite;
pub mod tokens;
pub mod verdicts;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use derp_relay::counter::Counter;
use tokio::sync::oneshot;

pub use location::Location;
pub use session::{Row, Session, Value};

use schema::Migration;

/// Most pieces of work that wait for the thread. Worst case memory is this times a request.
const MAX_WAITING: usize = 1_024;

/// Pause between attempts to open a store that cannot be opened, so that a flood of requests
/// does not become a flood of attempts.
const OPEN_PAUSE: Duration = Duration::from_secs(1);

/// Why a piece of work was not done. Nothing of it is in the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database is no database, or is damaged.
    #[error("the store is damaged ({0}); it is left as it is: restore a backup, or move it away")]
    Damaged(String),
    /// The file is another one than was opened, or is gone.
    #[error("the store's file was moved or replaced while in use; restart the bridge")]
    Moved,
    /// No room on the disk.
    #[error("the disk of the store is full ({0}); make room")]
    Full(String),
    /// The disk, the file or the server takes no writes.
    #[error("the store cannot be written ({0}); check owner, mode and mount of its folder")]
    ReadOnly(String),
    /// Too much waits, or somebody else keeps it locked.
    #[error("the store is busy ({0})")]
    Busy(String),
    /// No server answers.
    #[error("the store's server cannot be reached ({0})")]
    Unreachable(String),
    /// A newer release has changed the store in a way that this one cannot follow.
    #[error(
        "the store has schema {found}, which needs a release that knows schema {needed}; this one \
         knows {known}: use the newer release, or restore the backup of before"
    )]
    TooNew {
        /// Schema of the store.
        found: i64,
        /// Oldest schema whose programs can use it.
        needed: i64,
        /// Newest schema of this program.
        known: i64,
    },
    /// Everything else.
    #[error("the store fails ({0})")]
    Failed(String),
}

/// A handle to the store; copies share one thread and one connection.
#[derive(Clone)]
pub struct Store {
    jobs: SyncSender<Job>,
    /// For messages: without password.
    name: String,
    /// Pieces of work that were not done.
    failures: Arc<Counter>,
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

impl Store {
    /// The store at `location`, which is opened when it is first needed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the system has no thread left.
    pub fn new(location: Location) -> Result<Self, StoreError> {
        Self::with_migrations(location, schema::MIGRATIONS)
    }

    /// As [`Store::new`], with other migrations than those of this release: what an older or a
    /// newer release would do.
    ///
    /// # Errors
    ///
    /// As [`Store::new`].
    pub fn with_migrations(
        location: Location,
        migrations: &'static [Migration],
    ) -> Result<Self, StoreError> {
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        let name = location.to_string();
        let worker = Worker { location, migrations, database: None, last_failure: None };
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || worker.run(&waiting))
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self { jobs, name, failures: Arc::default() })
    }

    /// How many pieces of work were not done.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// Runs `work` as one transaction that may write. Whole transactions follow each other, also
    /// those of other processes.
    ///
    /// Dropping the future does not take the work back.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then nothing was written. The exception is a server that is lost while it
    /// commits: whether it did is unknown.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Session) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.submit(Mode::Write, work)?.await.map_err(|_| gone())?
    }

    /// Runs `work`, which only reads, on one state of the store.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Session) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.submit(Mode::Read, work)?.await.map_err(|_| gone())?
    }

    /// As [`Store::write`], for commands. Must not be called on a thread of a tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub fn write_now<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Session) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.submit(Mode::Write, work)?.blocking_recv().map_err(|_| gone())?
    }

    /// As [`Store::read`], for commands. Must not be called on a thread of a tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    pub fn read_now<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Session) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.submit(Mode::Read, work)?.blocking_recv().map_err(|_| gone())?
    }

    fn submit<T: Send + 'static>(
        &self,
        mode: Mode,
        work: impl FnOnce(&mut dyn Session) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let failures = Arc::clone(&self.failures);
        let job = Box::new(move |worker: &mut Worker| {
            let done = worker.transact(mode, work);
            if done.is_err() {
                failures.add_one();
            }
            // Nobody may be waiting any more, which takes nothing back.
            drop(answer.send(done));
        });
        match self.jobs.try_send(job) {
            Ok(()) => Ok(answered),
            Err(TrySendError::Full(_)) => {
                self.failures.add_one();
                Err(StoreError::Busy(format!("{MAX_WAITING} pieces of work wait")))
            }
            Err(TrySendError::Disconnected(_)) => Err(gone()),
        }
    }
}

/// Schema of the store at `location` as it lies there, and what this release knows; `None` where
/// there is no store yet, or an empty one. Makes and changes nothing. Blocks.
///
/// # Errors
///
/// [`StoreError`], also for a store that is damaged or too new.
pub fn look(location: &Location) -> Result<Option<i64>, StoreError> {
    if let Location::File(path) = location
        && !path.exists()
    {
        return Ok(None);
    }
    let mut database = Database::connect(location)?;
    database.transact(Mode::Read, |session| schema::look(session, schema::MIGRATIONS))
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.name).finish()
    }
}

/// Whether a transaction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Read,
    Write,
}

/// The thread that has the connection.
struct Worker {
    location: Location,
    migrations: &'static [Migration],
    database: Option<Database>,
    last_failure: Option<(Instant, StoreError)>,
}

impl Worker {
    /// Works until the last handle is gone.
    fn run(mut self, waiting: &Receiver<Job>) {
        while let Ok(job) = waiting.recv() {
            job(&mut self);
        }
    }

    fn transact<T>(
        &mut self,
        mode: Mode,
        work: impl FnOnce(&mut dyn Session) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.open()?;
        let done = database.transact(mode, work);
        if let Err(error) = &done
            && database.is_lost(error)
        {
            // The next piece of work opens it again, or says why not.
            self.database = None;
        }
        done
    }

    fn open(&mut self) -> Result<&mut Database, StoreError> {
        if self.database.is_none() {
            if let Some((when, error)) = &self.last_failure
                && when.elapsed() < OPEN_PAUSE
            {
                return Err(error.clone());
            }
            match Database::open(&self.location, self.migrations) {
                Ok(database) => self.database = Some(database),
                Err(error) => {
                    self.last_failure = Some((Instant::now(), error.clone()));
                    return Err(error);
                }
            }
        }
        self.database.as_mut().ok_or_else(gone)
    }
}

/// An open database.
enum Database {
    Sqlite(sqlite::Sqlite),
    Postgres(Box<postgres::Postgres>),
}

impl Database {
    fn connect(location: &Location) -> Result<Self, StoreError> {
        Ok(match location {
            Location::File(path) => Self::Sqlite(sqlite::Sqlite::open(path)?),
            Location::Server(server) => {
                Self::Postgres(Box::new(postgres::Postgres::connect(server)?))
            }
        })
    }

    fn open(location: &Location, migrations: &'static [Migration]) -> Result<Self, StoreError> {
        let mut database = Self::connect(location)?;
        database.transact(Mode::Write, |session| schema::migrate(session, migrations))?;
        Ok(database)
    }

    fn transact<T>(
        &mut self,
        mode: Mode,
        work: impl FnOnce(&mut dyn Session) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.begin(mode)?;
        let done = work(self.session());
        let ended = self.end(done.is_ok());
        let value = done?;
        ended?;
        Ok(value)
    }

    fn begin(&mut self, mode: Mode) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.begin(mode),
            Self::Postgres(postgres) => postgres.begin(mode),
        }
    }

    fn end(&mut self, commit: bool) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.end(commit),
            Self::Postgres(postgres) => postgres.end(commit),
        }
    }

    fn session(&mut self) -> &mut dyn Session {
        match self {
            Self::Sqlite(sqlite) => sqlite,
            Self::Postgres(postgres) => postgres.as_mut(),
        }
    }

    /// Whether the connection is of no use any more.
    fn is_lost(&self, error: &StoreError) -> bool {
        match self {
            // A file that was moved stays refused: opening the path again would make a new store.
            Self::Sqlite(_) => false,
            Self::Postgres(postgres) => {
                postgres.is_closed() || matches!(error, StoreError::Unreachable(_))
            }
        }
    }
}

fn gone() -> StoreError {
    StoreError::Failed("its thread has ended".to_owned())
}
