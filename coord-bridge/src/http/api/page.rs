//! Lists, page by page.
//!
//! Does: says where a page ended by what is in its last row, so that rows which come or go
//! meanwhile neither shift nor repeat any other. Does not: keep anything between pages.

use super::problem::Problem;
use super::route::Asked;

/// Rows of a page unless told otherwise.
pub(in crate::http) const DEFAULT_LIMIT: i64 = 100;

/// Most rows of a page; some 400 bytes each.
pub(super) const MAX_LIMIT: i64 = 1_000;

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct Cursor {
    /// What rows are sorted by, in ms since 1970.
    pub(in crate::http) at_ms: i64,
    /// Which row, of those of that moment.
    pub(in crate::http) id: String,
}

impl Cursor {
    /// A cursor that was written by [`Cursor::write`].
    pub(in crate::http) fn read(text: &str) -> Result<Self, Problem> {
        let invalid = || Problem::invalid("cursor: not one that a page has named");
        let (at_ms, id) = text.split_once('.').ok_or_else(invalid)?;
        let at_ms = at_ms.parse().map_err(|_| invalid())?;
        if id.contains('\0') {
            return Err(invalid());
        }
        Ok(Self { at_ms, id: id.to_owned() })
    }

    pub(in crate::http) fn write(&self) -> String {
        format!("{}.{}", self.at_ms, self.id)
    }
}

/// How many rows are wanted.
pub(super) fn limit(asked: &Asked) -> Result<i64, Problem> {
    let Some(text) = asked.parameter("limit") else { return Ok(DEFAULT_LIMIT) };
    let number = text.parse().ok().filter(|number| (1..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| Problem::invalid(format!("limit: a number from 1 to {MAX_LIMIT}")))
}

/// The first `count` of `rows`, and the cursor for those that follow, if there are more.
pub(in crate::http) fn cut<T>(
    mut rows: Vec<T>,
    count: i64,
    cursor: impl Fn(&T) -> Cursor,
) -> (Vec<T>, Option<String>) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if rows.len() <= count {
        return (rows, None);
    }
    rows.truncate(count);
    let next = rows.last().map(|last| cursor(last).write());
    (rows, next)
}
