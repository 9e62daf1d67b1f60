//! Receivers that do not keep up, and what they do to everybody else.
//!
//! ```text
//! 100 senders ==> one receiver that reads slowly, or stalled ones that do not read at all
//! innocent pairs, before that starts and while it lasts
//! ```

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::throughput::Load;
use super::{Bench, Common, Measured, Scenario, fields, packet_len, source};
use crate::load::failure::Failure;
use crate::load::figure::{Figures, mib};
use crate::load::pace::Pace;
use crate::load::quantity::{Rate, Size};
use crate::load::trial::{Outcome, Trial};
use crate::load::workload::{Client, FlowPlan, Reads, Workload};

/// Phases.
const BEFORE: usize = 1;
const DURING: usize = 2;

/// Groups of flows.
const INNOCENT: usize = 0;
const STORM: usize = 1;

/// Bytes that the kernel may hold for a client that does not read: with thousands of them the
/// usual megabytes would be a test of the kernel.
const RECEIVE_BUFFER: usize = 32 * 1024;

/// Receivers that do not keep up: the server's memory, and what it does to innocent pairs.
#[derive(Args, Clone, Debug, Serialize)]
pub struct FanIn {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    /// Clients that send to them.
    #[arg(long, default_value_t = 100, value_name = "N")]
    senders: usize,
    /// Bits of packet payload that these offer a second together.
    #[arg(long, default_value = "400M")]
    rate: Rate,
    /// Bits a second that the one receiver reads; without it, it does not read.
    #[arg(long, value_name = "RATE", conflicts_with = "stalled")]
    receiver_rate: Option<Rate>,
    /// Receivers that do not read, instead of one.
    #[arg(long, value_name = "N")]
    stalled: Option<usize>,
    /// Bits of packet payload that the innocent pairs offer a second together.
    #[arg(long, default_value = "10M", value_name = "RATE")]
    beside: Rate,
    /// Innocent pairs.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pairs: usize,
    /// Bytes in every packet.
    #[arg(long, default_value = "1400", value_name = "SIZE")]
    packet: Size,
}

impl FanIn {
    /// Receivers and senders.
    fn storm(&self, bench: &Bench) -> Result<Workload, Failure> {
        let size = packet_len(self.packet)?;
        let receivers = self.stalled.unwrap_or(1).max(1);
        let senders = self.senders.max(1);
        let concurrency = self.common.concurrency;
        let mut workload = Workload::default();
        for index in 0..receivers {
            let mut client = Client::new(&bench.target);
            client.dialing.source = source(&bench.target, index, receivers, concurrency);
            client.dialing.receive_buffer = Some(RECEIVE_BUFFER);
            client.expendable = true;
            client.reads = match self.receiver_rate {
                None => Reads::Nothing,
                Some(Rate::BitsPerSecond(bits)) => Reads::AtRate(bits / 8),
                Some(Rate::Unlimited) => Reads::Everything,
            };
            workload.add(client);
        }
        let share = match self.rate {
            Rate::BitsPerSecond(bits) => Rate::BitsPerSecond(bits / senders as u64),
            Rate::Unlimited => Rate::Unlimited,
        };
        for index in 0..senders {
            let from = workload.add(Client::new(&bench.target));
            // Every sender has its part of the receivers, at least one.
            let part = (0..receivers).filter(|receiver| receiver % senders == index);
            let to: Vec<usize> = part.collect();
            let to = if to.is_empty() { vec![index % receivers] } else { to };
            let pace = Pace::of_rate(share, size, 0).staggered(index, senders);
            workload.flows.push(FlowPlan {
                from,
                to,
                counted_at: None,
                group: STORM,
                phase: DURING,
                pace,
                size,
            });
        }
        Ok(workload)
    }

    fn figures(&self, outcome: &Outcome) -> Figures {
        let cost = outcome.cost(DURING);
        let storm = outcome.tally(STORM, DURING);
        let mut figures = Figures::default();
        figures.add_beside(&outcome.tally(INNOCENT, BEFORE), &outcome.tally(INNOCENT, DURING));
        figures.add("storm_sent_mbit", storm.sent_bytes as f64 * 8.0 / 1e6 / cost.seconds);
        figures.add("closed", outcome.counted.closed as f64);
        let growth = cost.peak_rss.zip(outcome.cost(BEFORE).rss);
        let growth = growth.map(|(peak, before)| mib(peak) - mib(before));
        figures.add_some("rss_growth_mib", growth);
        figures.add_some("peak_rss_mib", cost.peak_rss.map(mib));
        figures.add_cost(&cost);
        let late = outcome.tally(INNOCENT, DURING).late;
        figures.add_some("generator_late_p99_us", late.percentile(99.0));
        figures
    }
}

impl Scenario for FanIn {
    fn name(&self) -> &'static str {
        "fan-in"
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn parameters(&self) -> Map<String, Value> {
        fields(self)
    }

    fn measure(
        &self,
        bench: &Bench,
        each: &mut dyn FnMut(Measured) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let target = &bench.target;
        let mut workloads = vec![Workload::default()];
        let pairs = Load { pairs: self.pairs, packet: self.packet, burst: 1, senders_first: false };
        pairs.add_to(&mut workloads, (target, target), self.beside, INNOCENT, 0)?;
        // On a thread of its own: innocent pairs that wait for the storm's sender measure that.
        workloads.push(self.storm(bench)?);
        let phases = [self.common.warm_up.0, self.common.duration.0, self.common.duration.0];
        let outcome = Trial::open(&bench.setting, workloads)?.play(&phases)?;
        each(Measured { varied: Map::new(), figures: self.figures(&outcome) })
    }
}
