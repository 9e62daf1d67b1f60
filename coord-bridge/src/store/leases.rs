//! The lease of the one bridge that leads: one row, which its holder counts up.
//!
//! Does: gives the lease to whoever finds it free, or as it has seen it for too long; says in a
//! transaction whether somebody has it. Does not: know any time; that is `lease`.

use super::StoreError;
use super::session::Session;

/// Name of the only row.
const LEADER: &str = "leader";

/// The lease as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who has it.
    pub holder: String,
    /// How often it was taken or renewed.
    pub turn: i64,
}

/// The lease; `None` if nobody has it.
///
/// # Errors
///
/// [`StoreError`].
pub fn current(session: &mut dyn Session) -> Result<Option<Claim>, StoreError> {
    let rows =
        session.query("SELECT holder, turn FROM leases WHERE name = $1", &[LEADER.into()])?;
    let claim = |row: &super::Row| Ok(Claim { holder: row.text(0)?, turn: row.number(1)? });
    rows.first().map(claim).transpose()
}

/// Takes or renews the lease for `me`, provided that it is free, or `me` has it, or it still is as
/// `overdue`. Says whether it did.
///
/// # Errors
///
/// [`StoreError`].
pub fn claim(
    session: &mut dyn Session,
    me: &str,
    overdue: Option<&Claim>,
) -> Result<bool, StoreError> {
    let found = current(session)?;
    let may_have = found.as_ref().is_none_or(|it| it.holder == me || Some(it) == overdue);
    if may_have {
        let turn = found.map_or(1, |it| it.turn.wrapping_add(1));
        session.execute(
            "INSERT INTO leases (name, holder, turn) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, turn = excluded.turn",
            &[LEADER.into(), me.into(), turn.into()],
        )?;
    }
    Ok(may_have)
}

/// Gives the lease up, if `me` has it.
///
/// # Errors
///
/// [`StoreError`].
pub fn release(session: &mut dyn Session, me: &str) -> Result<(), StoreError> {
    let values = [LEADER.into(), me.into()];
    session.execute("DELETE FROM leases WHERE name = $1 AND holder = $2", &values)?;
    Ok(())
}

/// Whether `me` has the lease. Until the transaction ends nobody else takes it.
///
/// # Errors
///
/// [`StoreError`].
pub fn is_held(session: &mut dyn Session, me: &str) -> Result<bool, StoreError> {
    Ok(current(session)?.is_some_and(|claim| claim.holder == me))
}
