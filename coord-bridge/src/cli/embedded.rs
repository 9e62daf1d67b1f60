//! The relay in the bridge's process, started before the bridge and stopped before it.
//!
//! Does: has it ask and follow the bridge at the listener that is open already, and tells the map
//! what only a running relay knows.
//! Does not: keep the map from being published; whether a relay that does not start matters is
//! for who calls.

use std::net::SocketAddr;

use derp_relay::Relay;

use super::ExitError;
use crate::config::{Config, EmbeddedRelay};
use crate::publication::Plan;

/// A relay that runs.
#[derive(Debug)]
pub(super) struct Embedded {
    pub(super) relay: Relay,
    settings: EmbeddedRelay,
}

impl Embedded {
    /// Starts the relay of `config`, if it has one. `front` is where relays ask the bridge: who
    /// comes before that answers waits.
    ///
    /// # Errors
    ///
    /// [`ExitError`].
    pub(super) fn start(
        config: &Config,
        front: Option<SocketAddr>,
    ) -> Result<Option<Self>, ExitError> {
        let Some(settings) = config.embedded_relay.clone() else { return Ok(None) };
        let relay = Relay::start(settings.config(front)?)?;
        Ok(Some(Self { relay, settings }))
    }

    /// The plan of `config` with the relay's node as it is.
    pub(super) fn settled(&self, config: &Config) -> Plan {
        let mut plan = config.plan.clone();
        if let Some(now) = &config.embedded_relay {
            self.settings.settle(now, &mut plan, &self.relay);
        }
        plan
    }

    /// Why `config` cannot be published while this relay runs, if it cannot.
    pub(super) fn objection(&self, config: &Config) -> Option<String> {
        self.settings.objection(config.embedded_relay.as_ref()?)
    }
}
