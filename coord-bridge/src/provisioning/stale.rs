//! Machines that have been away for so long that they go, where the operator wants that.
//!
//! Does: deletes a few of them in each round, as an administrator would.
//! Does not: touch nodes that no machine of ours is behind.

use super::Provisioning;
use super::clock::span;
use super::reconcile::RoundError;
use crate::store::machines::{self, Machine, State};

/// Most machines that a round deletes. Each takes some calls of Headscale.
pub const MAX_DELETED: usize = 16;

impl Provisioning {
    /// Deletes machines that have not been connected for `delete_stale_after`.
    pub(super) async fn delete_stale(&self) -> Result<(), RoundError> {
        let Some(after) = self.settings.delete_stale_after else { return Ok(()) };
        // Their nodes might not be found now, and would stay without a record.
        if self.held(&self.attendance).is_doubted() {
            return Ok(());
        }
        let before_ms = self.now_ms().saturating_sub(span(after));
        let is_over = |machine: &Machine| {
            let seen_ms = machine.last_seen_ms.unwrap_or(machine.registered_ms);
            machine.state == State::Stale && seen_ms < before_ms
        };
        let live = self.store.read(machines::live).await?;
        for machine in live.into_iter().filter(is_over).take(MAX_DELETED) {
            // Whoever was stopped since it looked finds another leader here, and not a node to delete.
            self.write_as_leader(|_| Ok(())).await?;
            self.delete_machine(&machine.id).await?;
            tracing::info!(machine = machine.id, hostname = machine.hostname, "stale, and deleted");
        }
        Ok(())
    }
}
