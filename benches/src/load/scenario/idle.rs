//! What clients cost that are connected and do nothing.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Bench, Common, Measured, Scenario, fields, source};
use crate::load::failure::Failure;
use crate::load::figure::Figures;
use crate::load::trial::Trial;
use crate::load::workload::{Client, Workload};

/// The phase that counts.
const MEASURED: usize = 1;

/// Bytes in a KiB.
const KIB: f64 = 1_024.0;

/// Clients that do nothing: memory for each, CPU for all.
#[derive(Args, Clone, Debug, Serialize)]
pub struct Idle {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    /// Clients.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    clients: usize,
}

impl Scenario for Idle {
    fn name(&self) -> &'static str {
        "idle"
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
        let mut workload = Workload::default();
        for index in 0..self.clients {
            let mut client = Client::new(&bench.target);
            client.dialing.source =
                source(&bench.target, index, self.clients, self.common.concurrency);
            workload.add(client);
        }
        let outcome = Trial::open(&bench.setting, vec![workload])?.play(&self.common.phases())?;

        let cost = outcome.cost(MEASURED);
        let mut figures = Figures::default();
        figures.add("clients", self.clients as f64);
        // At the end: what the logins left behind has been given back by then, or never will be.
        let grown = cost.rss.zip(outcome.empty_rss).map(|(full, empty)| full as f64 - empty as f64);
        let each_kib = grown.map(|bytes| bytes / KIB / self.clients.max(1) as f64);
        figures.add_some("rss_kib_per_client", each_kib);
        figures.add_cost(&cost);
        each(Measured { varied: Map::new(), figures })
    }
}
