//! The embedded database: one SQLite file.
//!
//! Does: keeps the file to its owner, writes ahead, and syncs every transaction to the disk.
//! Does not: touch a file that is none of its own.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter};

use super::session::{Row, Session, Value};
use super::{Mode, StoreError};
use crate::provisioning::clock::millis;

/// Mode of the file: it has hashes of tokens, and who registered from where.
const FILE_MODE: u32 = 0o600;

/// Mode of the folder, where it has to be made.
const FOLDER_MODE: u32 = 0o700;

/// Time to wait for another process, such as a command, to end its transaction.
const LOCK_TIME: Duration = Duration::from_secs(4);

/// Pages after which the write-ahead log is carried over; 4 KiB each.
const CHECKPOINT_PAGES: i64 = 256;

/// An open file.
pub(super) struct Sqlite {
    connection: Connection,
    path: PathBuf,
    /// Device and number of the file that is open.
    file: (u64, u64),
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        make_file(path).map_err(|error| of_io(&error))?;
        // Without CREATE: the file is there, and must not come back if it goes just now.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|e| of_sqlite(&e))?;
        let set_up = || -> rusqlite::Result<String> {
            connection.busy_timeout(LOCK_TIME)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            let mode: String =
                connection
                    .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            // Reads every page: damage shows now, and not in the middle of a registration.
            let found: String = connection.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
            Ok(if mode == "wal" { found } else { format!("journal mode {mode}") })
        };
        let found = set_up().map_err(|error| of_sqlite(&error))?;
        if found != "ok" {
            return Err(StoreError::Damaged(found));
        }
        let file = identity(path).map_err(|error| of_io(&error))?;
        Ok(Self { connection, path: path.to_owned(), file })
    }

    pub(super) fn begin(&mut self, mode: Mode) -> Result<(), StoreError> {
        // Otherwise rows would go into a file that has no name any more.
        if identity(&self.path).ok() != Some(self.file) {
            return Err(StoreError::Moved);
        }
        let statement = match mode {
            Mode::Read => "BEGIN DEFERRED",
            Mode::Write => "BEGIN IMMEDIATE",
        };
        self.connection.execute_batch(statement).map_err(|error| of_sqlite(&error))
    }

    pub(super) fn end(&mut self, commit: bool) -> Result<(), StoreError> {
        if commit {
            match self.connection.execute_batch("COMMIT") {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.roll_back();
                    return Err(of_sqlite(&error));
                }
            }
        }
        self.roll_back();
        Ok(())
    }

    /// Takes the transaction back. Some errors have done so already.
    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction cannot be taken back");
        }
    }
}

impl Session for Sqlite {
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare(&numbered(sql)).map_err(|e| of_sqlite(&e))?;
        let changed = statement
            .execute(params_from_iter(values.iter().map(ToSqlite)))
            .map_err(|error| of_sqlite(&error))?;
        Ok(changed as u64)
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.connection.prepare(&numbered(sql)).map_err(|e| of_sqlite(&e))?;
        let width = statement.column_count();
        let rows = statement
            .query_map(params_from_iter(values.iter().map(ToSqlite)), |row| {
                (0..width).map(|n| Ok(value(row.get_ref(n)?))).collect::<rusqlite::Result<_>>()
            })
            .map_err(|error| of_sqlite(&error))?;
        rows.map(|row| row.map(Row)).collect::<rusqlite::Result<_>>().map_err(|e| of_sqlite(&e))
    }

    fn now_ms(&mut self) -> Result<i64, StoreError> {
        // The database runs here, and has the clock of this host.
        Ok(millis(SystemTime::now()))
    }

    fn has_table(&mut self, name: &str) -> Result<bool, StoreError> {
        let rows = self.query(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name = $1",
            &[name.into()],
        )?;
        Ok(!rows.is_empty())
    }

    fn copy_to(&mut self, path: &Path) -> Result<(), StoreError> {
        let copy = || -> rusqlite::Result<()> {
            let mut target = Connection::open(path)?;
            let backup = rusqlite::backup::Backup::new(&self.connection, &mut target)?;
            backup.run_to_completion(PAGES_AT_ONCE, Duration::ZERO, None)
        };
        copy().map_err(|error| of_sqlite(&error))
    }
}

/// Pages that a backup copies at a time. Nothing else runs meanwhile, so the number is of no
/// importance.
const PAGES_AT_ONCE: std::ffi::c_int = 1_024;

/// `$n` as SQLite counts values; `$` alone would be a name.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

fn value(found: ValueRef<'_>) -> Value {
    match found {
        ValueRef::Integer(number) => Value::Number(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        // No table has them; whoever wants a number or a text says what is wrong.
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Value::Null,
    }
}

struct ToSqlite<'a>(&'a Value);

impl rusqlite::ToSql for ToSqlite<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(match self.0 {
            Value::Text(text) => text.as_str().into(),
            Value::Number(number) => (*number).into(),
            Value::Null => rusqlite::types::Null.into(),
        })
    }
}

/// Makes the file and its folder if they are missing, and keeps the file to its owner.
fn make_file(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(FILE_MODE))?;
    }
    Ok(())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

fn of_io(error: &io::Error) -> StoreError {
    let (kind, detail) = (error.kind(), error.to_string());
    if [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&kind) {
        StoreError::Full(detail)
    } else if [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied].contains(&kind) {
        StoreError::ReadOnly(detail)
    } else {
        StoreError::Failed(detail)
    }
}

fn of_sqlite(error: &rusqlite::Error) -> StoreError {
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(detail),
        Some(ErrorCode::DiskFull) => StoreError::Full(detail),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            StoreError::ReadOnly(detail)
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(detail),
        _ => StoreError::Failed(detail),
    }
}
