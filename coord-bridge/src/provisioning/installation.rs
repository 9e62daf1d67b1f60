//! Machines that were installed from a live system: found by the key that their installer had.
//!
//! Does: writes into the registration of the live system which node was installed from it.
//! Does not: follow that node any further; it is not this bridge's.

use super::Provisioning;
use super::reconcile::RoundError;
use crate::headscale::Node;
use crate::store::events;
use crate::store::installations::{self, Installation, Installed};

impl Provisioning {
    /// Looks for the nodes of installations that wait for them.
    pub(super) async fn finish_installations(
        &self,
        waiting: &[Installation],
        nodes: &[Node],
    ) -> Result<(), RoundError> {
        let now_ms = self.now_ms();
        let mut found = Vec::new();
        for installation in waiting {
            let Some(key_id) = &installation.key_id else { continue };
            let came_with = |node: &&Node| node.key.as_ref().is_some_and(|key| key.0 == *key_id);
            let Some(node) = nodes.iter().find(came_with) else { continue };
            let machine = installation.machine.clone();
            let installed = Installed {
                node_id: node.id.0.clone(),
                hostname: node.given_name.clone(),
                tailscale_ip: node.first_address(),
                found_ms: now_ms,
            };
            tracing::info!(machine, node = installed.hostname, "installed");
            let event = events::Event {
                hostname: Some(installed.hostname.clone()),
                key_id: Some(key_id.clone()),
                ..self.event("machine", "installed", Some(machine))
            };
            found.push((key_id.clone(), installed, event));
        }
        if found.is_empty() {
            return Ok(());
        }
        self.write_as_leader(move |session| {
            for (key_id, installed, event) in &found {
                installations::finish(session, key_id, installed)?;
                events::insert(session, event)?;
            }
            Ok(())
        })
        .await
    }
}
