//! What the listener of administrators is about: the same for its pages and for its API.
//!
//! Does: holds the parts of a bridge that can be looked at, and puts together what two of them
//! know of one relay. Does not: answer requests.

use std::sync::Arc;

use tokio::sync::watch;

use crate::events::Outlets;
use crate::provisioning::Provisioning;
use crate::publication::Publisher;
use crate::relays::{LiveNode, RelaySnapshot};
use crate::verify::Verify;

/// The parts of a bridge that administrators see.
#[derive(Debug)]
pub struct Scope {
    /// Registration; without it nobody can be let in.
    pub provisioning: Option<Arc<Provisioning>>,
    /// The map, and how its publication is doing.
    pub publisher: Arc<Publisher>,
    /// Relays that have registered themselves, where relays can.
    pub relays: Option<watch::Receiver<Arc<Vec<LiveNode>>>>,
    /// What relays ask and say, where there are any to hear.
    pub verify: Option<Verify>,
    /// Where events go, if anywhere.
    pub outlets: Option<Arc<Outlets>>,
}

/// A relay that has registered itself.
#[derive(Clone, Debug)]
pub(super) struct KnownRelay {
    pub(super) live: LiveNode,
    /// What the channel to it knows, where there is one.
    pub(super) channel: Option<RelaySnapshot>,
}

impl Scope {
    /// Relays that have registered themselves: those that the channel knows, also if they are not
    /// heard of any more, and whoever else is live.
    pub(super) fn known_relays(&self) -> Vec<KnownRelay> {
        let snapshots = self.verify.as_ref().map(|verify| verify.relays.snapshot());
        let mut known: Vec<KnownRelay> = snapshots
            .into_iter()
            .flatten()
            .map(|relay| KnownRelay { live: relay.live.clone(), channel: Some(relay) })
            .collect();
        let live = self.relays.as_ref().map(|relays| Arc::clone(&relays.borrow()));
        for live in live.iter().flat_map(|live| live.iter()) {
            if !known.iter().any(|relay| relay.live.node.name == live.node.name) {
                known.push(KnownRelay { live: live.clone(), channel: None });
            }
        }
        known
    }
}
