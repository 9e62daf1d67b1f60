//! What relays have to hear: a numbered list that every bridge on this store reads.
//!
//! Does: gives each event the next number, in the order in which they are committed, and keeps the
//! newest for relays that were away; the newest row never goes, so that no number comes twice.
//! Does not: tell anybody; that is `relays::journal`.

use derp::key::NodePublic;

use super::StoreError;
use super::session::{Row, Session};

/// Most rows that are kept, about 100 bytes each. A relay that missed more asks about all nodes.
pub const MAX_ROWS: i64 = 10_000;

/// Time that rows are kept, in ms: a week. A relay that was away longer asks about all nodes.
pub const ROW_TTL_MS: i64 = 7 * 86_400_000;

/// What is told of a node.
const CLOSE: &str = "close";

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayEvent {
    /// Its number, from 1 on.
    pub seq: i64,
    /// The node that is gone; `None` for an event of a newer release.
    pub close: Option<NodePublic>,
}

/// Adds that a node is gone.
///
/// # Errors
///
/// [`StoreError`].
pub fn insert_close(
    session: &mut dyn Session,
    node: &NodePublic,
    now_ms: i64,
) -> Result<(), StoreError> {
    session.execute(
        "INSERT INTO relay_events (seq, kind, node_key, at_ms) \
         SELECT COALESCE(MAX(seq), 0) + 1, $1, $2, $3 FROM relay_events",
        &[CLOSE.into(), node.to_string().into(), now_ms.into()],
    )?;
    Ok(())
}

/// The same, unless another bridge has said so since `since_ms`. Says whether it was written.
///
/// # Errors
///
/// [`StoreError`].
pub fn insert_close_once(
    session: &mut dyn Session,
    node: &NodePublic,
    now_ms: i64,
    since_ms: i64,
) -> Result<bool, StoreError> {
    let said = session.query(
        "SELECT seq FROM relay_events WHERE node_key = $1 AND at_ms >= $2 AND at_ms <= $3 \
         LIMIT 1",
        &[node.to_string().into(), since_ms.into(), now_ms.into()],
    )?;
    if said.is_empty() {
        insert_close(session, node, now_ms)?;
    }
    Ok(said.is_empty())
}

/// Number of the newest event; 0 if there never was one.
///
/// # Errors
///
/// [`StoreError`].
pub fn newest(session: &mut dyn Session) -> Result<i64, StoreError> {
    let rows = session.query("SELECT COALESCE(MAX(seq), 0) FROM relay_events", &[])?;
    rows.first().map_or(Ok(0), |row| row.number(0))
}

/// At most `count` events after number `seq`, by number; `None` if there were events between that
/// are gone, or if there never was this number.
///
/// # Errors
///
/// [`StoreError`].
pub fn after(
    session: &mut dyn Session,
    seq: i64,
    count: i64,
) -> Result<Option<Vec<RelayEvent>>, StoreError> {
    // The event itself is proof that none is missing behind it.
    let rows = session.query(
        "SELECT seq, kind, node_key FROM relay_events WHERE seq >= $1 ORDER BY seq LIMIT $2",
        &[seq.into(), count.saturating_add(1).into()],
    )?;
    let mut events = rows.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    let first = events.first().map(|event| event.seq);
    if seq == 0 {
        events.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        return Ok((first.is_none_or(|first| first == 1)).then_some(events));
    }
    if first != Some(seq) {
        return Ok(None);
    }
    events.remove(0);
    Ok(Some(events))
}

/// Removes the oldest events: those before the first that is from `before_ms` or later, and those
/// beyond [`MAX_ROWS`], but for the newest. Dates of several bridges may differ; what goes are the
/// lowest numbers, whatever their dates, so that a number that is there has no gap behind it.
///
/// # Errors
///
/// [`StoreError`].
pub fn prune(session: &mut dyn Session, before_ms: i64) -> Result<u64, StoreError> {
    let newest = newest(session)?;
    let rows = session
        .query("SELECT MIN(seq) FROM relay_events WHERE at_ms >= $1", &[before_ms.into()])?;
    let young = rows.first().map_or(Ok(None), |row| row.maybe_number(0))?.unwrap_or(newest);
    let first = young.max(newest.saturating_sub(MAX_ROWS).saturating_add(1)).min(newest);
    session.execute("DELETE FROM relay_events WHERE seq < $1", &[first.into()])
}

fn event(row: &Row) -> Result<RelayEvent, StoreError> {
    let (seq, kind) = (row.number(0)?, row.text(1)?);
    let node = row.maybe_text(2)?;
    let close = match (kind.as_str(), node) {
        (CLOSE, Some(node)) => {
            let key = node.parse();
            Some(key.map_err(|_| StoreError::Damaged("an event names no node".to_owned()))?)
        }
        (_, _) => None,
    };
    Ok(RelayEvent { seq, close })
}
