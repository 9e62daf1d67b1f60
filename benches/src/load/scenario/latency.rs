//! The round trip of one pair through the server, alone or beside load.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::throughput::Load;
use super::{Bench, Common, Measured, Scenario, fields};
use crate::load::failure::Failure;
use crate::load::figure::{Figures, ROUND_TRIP};
use crate::load::pace::Pace;
use crate::load::payload::MIN_LEN;
use crate::load::quantity::{Rate, Span, nanos};
use crate::load::trial::Trial;
use crate::load::workload::{PairFlow, Workload};

/// The phase that counts.
const MEASURED: usize = 1;

/// Groups of flows.
const PROBE: usize = 0;
const LOAD: usize = 1;

/// Bytes in a packet of the probe.
const PROBE_LEN: usize = 64;

/// Round trip of a pair: sender, server, echo, server, sender.
#[derive(Args, Clone, Debug, Serialize)]
pub struct Latency {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    #[command(flatten)]
    #[serde(flatten)]
    pairs: Load,
    /// Between two packets of the probe, answered or not.
    #[arg(long, default_value = "1ms")]
    interval: Span,
    /// Bits of packet payload that other pairs offer a second meanwhile; several, with commas,
    /// are measured in turn; 0 for none.
    #[arg(long, default_value = "0", value_delimiter = ',', value_parser = parse_load)]
    #[serde(skip)]
    load: Vec<Option<Rate>>,
}

/// `0`, which is no rate elsewhere, is no load here.
fn parse_load(text: &str) -> Result<Option<Rate>, String> {
    if text == "0" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: super::super::quantity::ParseQuantityError| {
        format!("{error}, or 0 for none")
    })
}

/// What takes several values in turn.
#[derive(Serialize)]
struct Varied {
    load: Option<Rate>,
}

impl Scenario for Latency {
    fn name(&self) -> &'static str {
        "latency"
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
        const { assert!(PROBE_LEN >= MIN_LEN, "a label fits") };
        for load in &self.load {
            // On a thread of its own: a probe that waits for the load's sender measures that.
            let mut probe = Workload::default();
            let pace = Pace::of_interval(nanos(self.interval.0), 0);
            probe.add_echo(target, PairFlow { group: PROBE, phase: 0, pace, size: PROBE_LEN });
            let mut workloads = vec![probe];
            if let Some(rate) = load {
                let mut pairs = self.common.workloads();
                self.pairs.add_to(&mut pairs, (target, target), *rate, LOAD, 0)?;
                workloads.append(&mut pairs);
            }
            let outcome = Trial::open(&bench.setting, workloads)?.play(&self.common.phases())?;

            let tally = outcome.tally(PROBE, MEASURED);
            let mut figures = Figures::default();
            figures.add_latencies(ROUND_TRIP, &tally.latency);
            figures.add("rtt_lost", tally.lost() as f64);
            if load.is_some() {
                let pairs = outcome.tally(LOAD, MEASURED);
                figures.add_traffic(&pairs, &outcome.cost(MEASURED), self.pairs.packet.0);
            } else {
                figures.add_cost(&outcome.cost(MEASURED));
                figures.add_some("generator_late_p99_us", tally.late.percentile(99.0));
            }
            each(Measured { varied: fields(&Varied { load: *load }), figures })?;
            if bench.setting.stop.is_asked() {
                break;
            }
        }
        Ok(())
    }
}
