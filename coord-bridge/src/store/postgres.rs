//! The shared database: a PostgreSQL server.
//!
//! Does: connects, and lets only one bridge write at a time, as the file does.
//! Does not: encrypt; `location` refuses a URL that asks for it.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use postgres::{Client, NoTls};

use super::location::Server;
use super::session::{Row, Session, Value};
use super::{Mode, StoreError};

/// Time for the server to take a connection.
const CONNECT_TIME: Duration = Duration::from_secs(4);

/// Time after which a connection that carries nothing is given up.
const SILENCE_TIME: Duration = Duration::from_secs(5);

/// Bounds on what one statement may take, waiting for others included.
const SET_UP: &str = "SET statement_timeout = '4s'; SET lock_timeout = '4s'; \
                      SET idle_in_transaction_session_timeout = '10s'; \
                      SET synchronous_commit = on; SET client_min_messages = warning";

/// Number of the lock that a writing transaction takes: `coordbri` in ASCII.
const WRITE_LOCK: i64 = 0x636f_6f72_6462_7269;

/// A connection.
pub(super) struct Postgres {
    client: Client,
}

impl Postgres {
    pub(super) fn connect(server: &Server) -> Result<Self, StoreError> {
        let settings = server.settings();
        let mut settings = settings.map_err(|error| StoreError::Failed(error.to_string()))?;
        settings
            .connect_timeout(CONNECT_TIME)
            .tcp_user_timeout(SILENCE_TIME)
            .application_name("coord-bridge");
        let mut client = settings.connect(NoTls).map_err(|error| of_postgres(&error))?;
        client.batch_execute(SET_UP).map_err(|error| of_postgres(&error))?;
        Ok(Self { client })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) fn begin(&mut self, mode: Mode) -> Result<(), StoreError> {
        let begun = match mode {
            Mode::Read => {
                self.client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            }
            // The lock comes before the first look at the tables, so each sees what the one
            // before has written.
            Mode::Write => self
                .client
                .batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({WRITE_LOCK})")),
        };
        begun.map_err(|error| {
            let error = of_postgres(&error);
            self.roll_back();
            error
        })
    }

    pub(super) fn end(&mut self, commit: bool) -> Result<(), StoreError> {
        if commit {
            return self.client.batch_execute("COMMIT").map_err(|error| of_postgres(&error));
        }
        self.roll_back();
        Ok(())
    }

    fn roll_back(&mut self) {
        if let Err(error) = self.client.batch_execute("ROLLBACK") {
            tracing::debug!(%error, "a transaction ends with its connection");
        }
    }
}

impl Session for Postgres {
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        self.client.execute(sql, &borrowed(values)).map_err(|error| of_postgres(&error))
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let rows =
            self.client.query(sql, &borrowed(values)).map_err(|error| of_postgres(&error))?;
        rows.iter().map(row).collect()
    }

    fn now_ms(&mut self) -> Result<i64, StoreError> {
        let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
        self.query(sql, &[])?.first().map_or(Ok(0), |row| row.number(0))
    }

    fn has_table(&mut self, name: &str) -> Result<bool, StoreError> {
        let rows = self.query(
            "SELECT tablename::text FROM pg_tables \
             WHERE schemaname = current_schema() AND tablename = $1::text",
            &[name.into()],
        )?;
        Ok(!rows.is_empty())
    }

    fn copy_to(&mut self, _path: &Path) -> Result<(), StoreError> {
        Err(StoreError::Failed(
            "a PostgreSQL store is backed up with the server's own tools, such as pg_dump"
                .to_owned(),
        ))
    }
}

fn borrowed(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn row(found: &postgres::Row) -> Result<Row, StoreError> {
    let value = |(n, column): (usize, &postgres::Column)| {
        let value = if *column.type_() == Type::INT8 {
            found.try_get::<_, Option<i64>>(n).map(Value::from)
        } else {
            found.try_get::<_, Option<String>>(n).map(Value::from)
        };
        value.map_err(|error| of_postgres(&error))
    };
    found.columns().iter().enumerate().map(value).collect::<Result<_, _>>().map(Row)
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Text(text) => text.to_sql_checked(kind, out),
            Self::Number(number) => number.to_sql_checked(kind, out),
            Self::Null => Ok(IsNull::Yes),
        }
    }

    fn accepts(kind: &Type) -> bool {
        <String as ToSql>::accepts(kind) || <i64 as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

fn of_postgres(error: &postgres::Error) -> StoreError {
    // Its own text is only a heading; the cause is what helps.
    let detail = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let Some(code) = error.code() else {
        return StoreError::Unreachable(detail);
    };
    if [SqlState::DISK_FULL, SqlState::OUT_OF_MEMORY].contains(code) {
        StoreError::Full(detail)
    } else if [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::INSUFFICIENT_PRIVILEGE].contains(code)
    {
        StoreError::ReadOnly(detail)
    } else if [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].contains(code) {
        StoreError::Busy(detail)
    } else if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code) {
        StoreError::Damaged(detail)
    } else if code.code().starts_with("57P") || code.code().starts_with("08") {
        StoreError::Unreachable(detail)
    } else {
        StoreError::Failed(detail)
    }
}
