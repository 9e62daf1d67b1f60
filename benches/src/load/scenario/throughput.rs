//! Pairs of clients: one sends at an offered rate, the other receives.

use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Bench, Common, Measured, Scenario, fields, packet_len, source};
use crate::load::failure::Failure;
use crate::load::figure::Figures;
use crate::load::pace::Pace;
use crate::load::quantity::{Rate, Size};
use crate::load::target::Target;
use crate::load::trial::Trial;
use crate::load::workload::{Client, PairFlow, Workload};

/// The phase that counts; the one before is the warm-up.
const MEASURED: usize = 1;

/// Pairs at an offered rate: goodput, loss, order, latency, CPU.
#[derive(Args, Clone, Debug, Serialize)]
pub struct Throughput {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    #[command(flatten)]
    #[serde(flatten)]
    load: Load,
    /// Bits of packet payload offered a second, over all pairs; several, with commas, are
    /// measured in turn; `max` sends as fast as the sockets take.
    #[arg(long, default_value = "400M", value_delimiter = ',')]
    #[serde(skip)]
    rate: Vec<Rate>,
    /// Further clients that are connected and do nothing.
    #[arg(long, default_value_t = 0, value_name = "N")]
    idle: usize,
}

/// Pairs across two servers that form a mesh: senders at the target, receivers at the other.
#[derive(Args, Clone, Debug, Serialize)]
pub struct Mesh {
    #[command(flatten)]
    #[serde(flatten)]
    throughput: Throughput,
    /// The server of the receivers.
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip)]
    other: String,
    /// Fingerprint of its certificate, if it is another than --pin.
    #[arg(long, value_name = "sha256-raw:HEX")]
    #[serde(skip)]
    other_pin: Option<crate::load::trust::Pin>,
}

/// Pairs of clients.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Pairs of a sender and a receiver.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub pairs: usize,
    /// Bytes in a packet, as in a WireGuard packet that fills the tunnel's MTU.
    #[arg(long, default_value = "1400", value_name = "SIZE")]
    pub packet: Size,
    /// Packets that a sender has at once, each a TLS record of its own, written together.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub burst: u64,
    /// Log all senders in before the receivers, not pair by pair: with --concurrency 1 and an
    /// even number of pairs, a server that gives its threads connections in turn then has both
    /// ends of a pair on one of two threads, and otherwise on both.
    #[arg(long)]
    pub senders_first: bool,
}

impl Load {
    /// Adds the pairs to workloads, in turn, as flows of `group` from `phase` on, which offer
    /// `rate` together.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] for a packet size that cannot be.
    pub fn add_to(
        &self,
        workloads: &mut [Workload],
        targets: (&Arc<Target>, &Arc<Target>),
        rate: Rate,
        group: usize,
        phase: usize,
    ) -> Result<(), Failure> {
        let size = packet_len(self.packet)?;
        let share = match rate {
            Rate::BitsPerSecond(bits) => Rate::BitsPerSecond(bits / self.pairs.max(1) as u64),
            Rate::Unlimited => Rate::Unlimited,
        };
        let count = workloads.len().max(1);
        let mut senders = Vec::new();
        for pair in 0..self.pairs {
            let pace = Pace::of_rate(share, size, 0);
            let pace = pace.in_bursts(self.burst).staggered(pair, self.pairs);
            let flow = PairFlow { group, phase, pace, size };
            let Some(workload) = workloads.get_mut(pair % count) else { continue };
            let sender = workload.add(Client::new(targets.0));
            if self.senders_first {
                senders.push((sender, flow));
            } else {
                workload.add_receiver(sender, targets.1, flow);
            }
        }
        for (pair, (sender, flow)) in senders.into_iter().enumerate() {
            if let Some(workload) = workloads.get_mut(pair % count) {
                workload.add_receiver(sender, targets.1, flow);
            }
        }
        Ok(())
    }
}

impl Throughput {
    fn measure_between(
        &self,
        bench: &Bench,
        there: &Arc<Target>,
        each: &mut dyn FnMut(Measured) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let here = &bench.target;
        for rate in &self.rate {
            let mut workloads = self.common.workloads();
            self.load.add_to(&mut workloads, (here, there), *rate, 0, 0)?;
            if self.idle > 0 {
                let mut idle = Workload::default();
                for index in 0..self.idle {
                    let mut client = Client::new(here);
                    client.dialing.source = source(here, index, self.idle, self.common.concurrency);
                    idle.add(client);
                }
                workloads.push(idle);
            }
            let outcome = Trial::open(&bench.setting, workloads)?.play(&self.common.phases())?;
            let mut figures = Figures::default();
            figures.add_traffic(
                &outcome.tally(0, MEASURED),
                &outcome.cost(MEASURED),
                self.load.packet.0,
            );
            let varied = fields(&Varied { rate: *rate });
            each(Measured { varied, figures })?;
            if bench.setting.stop.is_asked() {
                break;
            }
        }
        Ok(())
    }
}

/// What takes several values in turn.
#[derive(Serialize)]
struct Varied {
    rate: Rate,
}

impl Scenario for Throughput {
    fn name(&self) -> &'static str {
        "throughput"
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
        self.measure_between(bench, &bench.target, each)
    }
}

impl Scenario for Mesh {
    fn name(&self) -> &'static str {
        "mesh"
    }

    fn common(&self) -> &Common {
        &self.throughput.common
    }

    fn parameters(&self) -> Map<String, Value> {
        fields(self)
    }

    fn measure(
        &self,
        bench: &Bench,
        each: &mut dyn FnMut(Measured) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut common = self.throughput.common.clone();
        common.pin = self.other_pin.or(common.pin);
        let there = Arc::new(Target::new(&self.other, &common.trust()?)?);
        self.throughput.measure_between(bench, &there, each)
    }
}
