//! What happens to packets that arrive: verified, counted, or sent back.
//!
//! Does: holds every packet against the flow that it says it is of.
//! Does not: read sockets or clocks.

use derp::client::{Event, send_packet};
use derp::key::NodePublic;

use super::payload::Label;
use super::run::Run;
use super::tally::{Arrival, Tally};
use super::workload::Flow;

/// What a thread has counted.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// By group, then by phase.
    pub groups: Vec<Vec<Tally>>,
    /// Packets that were not what was sent.
    pub corrupt: u64,
    /// Clients that the server closed, of those that it may close.
    pub closed: u64,
    /// Times the server said that a receiver is not there.
    pub gone: u64,
}

/// What happens to packets that arrive.
pub(super) struct OnArrival<'a> {
    pub(super) now: u64,
    pub(super) run: &'a Run,
    /// The client that they arrive at.
    pub(super) index: usize,
    pub(super) flows: &'a mut [Flow],
    pub(super) counted: &'a mut Counted,
    pub(super) missing: &'a mut u64,
    pub(super) arrived: &'a mut u64,
    /// Packets to send back, for a client that does so.
    pub(super) echo: Option<&'a mut Vec<u8>>,
}

impl OnArrival<'_> {
    pub(super) fn on_event(&mut self, event: &Event<'_>) {
        match event {
            Event::Packet { source, payload } => match &mut self.echo {
                // It was as long on its way here, so it is not too long.
                Some(echo) => drop(send_packet(source, payload, echo)),
                None => {
                    if self.count(source, payload).is_none() {
                        self.counted.corrupt += 1;
                    }
                }
            },
            Event::PeerGone { .. } => self.counted.gone += 1,
            Event::KeepAlive
            | Event::Ping(_)
            | Event::Pong(_)
            | Event::Health(_)
            | Event::Restarting { .. }
            | Event::Other(_) => {}
        }
    }

    /// Counts a packet; `None` for one that nobody sent like this to here.
    fn count(&mut self, source: &NodePublic, payload: &[u8]) -> Option<()> {
        let label = Label::read(payload).ok()?;
        let flow = self.flows.get_mut(usize::try_from(label.flow).ok()?)?;
        let here = flow.counted_at == Some(self.index) || flow.counted_at.is_none();
        // An echo sends packets back in its own name.
        let theirs = flow.source == *source || flow.destinations.contains(source);
        if !here || !theirs || label.number >= flow.sent || payload.len() != flow.size {
            return None;
        }
        let bytes = payload.len() as u64;
        *self.arrived += bytes;
        let phases = self.counted.groups.get_mut(flow.group)?;
        if self.now < self.run.end() {
            phases.get_mut(self.run.phase_at(self.now))?.arrived_bytes += bytes;
        }
        let tally = phases.get_mut(self.run.phase_at(label.due))?;
        match flow.arrivals.add(label.number) {
            Arrival::Again => {
                tally.repeated += 1;
                return Some(());
            }
            Arrival::Late => tally.reordered += 1,
            Arrival::InOrder => {}
        }
        tally.received += 1;
        tally.received_bytes += bytes;
        tally.latency.add(self.now.saturating_sub(label.due));
        if flow.counted_at.is_some() {
            *self.missing -= 1;
        }
        Some(())
    }
}
