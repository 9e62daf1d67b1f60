//! SQL that both databases take.
//!
//! Does: names values, rows and what is done inside a transaction. Text is written once, with
//! `$1`, `$2` … for values; tables have texts and 64-bit numbers only, which both databases mean
//! the same by.
//! Does not: build SQL out of values.

use super::StoreError;

/// A value in a row, or in place of `$n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `TEXT`
    Text(String),
    /// `BIGINT`
    Number(i64),
    /// `NULL`
    Null,
}

/// A row of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub Vec<Value>);

/// A transaction that is open.
pub trait Session {
    /// Runs a statement, and says how many rows it has changed.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction can only be taken back then.
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError>;

    /// Runs a query.
    ///
    /// # Errors
    ///
    /// As [`Session::execute`].
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError>;

    /// Now by the clock of the database, in ms since 1970.
    ///
    /// # Errors
    ///
    /// As [`Session::execute`].
    fn now_ms(&mut self) -> Result<i64, StoreError>;

    /// Whether there is a table of this name.
    ///
    /// # Errors
    ///
    /// As [`Session::execute`].
    fn has_table(&mut self, name: &str) -> Result<bool, StoreError>;

    /// Writes a copy of the store to `path`, where it can.
    ///
    /// # Errors
    ///
    /// As [`Session::execute`].
    fn copy_to(&mut self, path: &std::path::Path) -> Result<(), StoreError>;
}

impl Row {
    /// The text in column `n`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] where there is none.
    pub fn text(&self, n: usize) -> Result<String, StoreError> {
        match self.0.get(n) {
            Some(Value::Text(text)) => Ok(text.clone()),
            Some(Value::Number(_) | Value::Null) | None => Err(odd(n, "text")),
        }
    }

    /// The number in column `n`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] where there is none.
    pub fn number(&self, n: usize) -> Result<i64, StoreError> {
        match self.0.get(n) {
            Some(Value::Number(number)) => Ok(*number),
            Some(Value::Text(_) | Value::Null) | None => Err(odd(n, "number")),
        }
    }

    /// The text in column `n`, which may be absent.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] where there is something else.
    pub fn maybe_text(&self, n: usize) -> Result<Option<String>, StoreError> {
        match self.0.get(n) {
            Some(Value::Null) => Ok(None),
            _ => self.text(n).map(Some),
        }
    }

    /// The number in column `n`, which may be absent.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] where there is something else.
    pub fn maybe_number(&self, n: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(n) {
            Some(Value::Null) => Ok(None),
            _ => self.number(n).map(Some),
        }
    }
}

fn odd(n: usize, wanted: &str) -> StoreError {
    StoreError::Damaged(format!("column {n} of a row is no {wanted}"))
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
