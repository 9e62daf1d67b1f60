//! What logins cost, and what many of them do to a flow that runs beside them.
//!
//! A login is TCP, TLS, the HTTP upgrade and DERP's own exchange; then the connection is closed.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::throughput::Load;
use super::{Bench, Common, Measured, Scenario, fields, source};
use crate::load::failure::Failure;
use crate::load::figure::{Figures, LOGIN};
use crate::load::logins::{LoginCount, Logins};
use crate::load::pace::Pace;
use crate::load::quantity::{Frequency, Rate, Size};
use crate::load::run::Run;
use crate::load::tally::Latencies;
use crate::load::trial::Trial;
use crate::load::workload::Client;

/// Phases.
const BEFORE: usize = 1;
const DURING: usize = 2;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// Longest storm.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Logins: CPU for each, how long they take, and what they do to a flow.
#[derive(Args, Clone, Debug, Serialize)]
pub struct Handshakes {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    /// Logins.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    logins: usize,
    /// Logins a second, whether the server keeps up or not; without it as many at a time as
    /// --concurrency says.
    #[arg(long, value_name = "PER-SECOND")]
    rate: Option<Frequency>,
    /// Log in without waiting for the answer to the upgrade, as Tailscale's clients do over TLS
    /// 1.3.
    #[arg(long)]
    fast_start: bool,
    /// Bits of packet payload a second of one pair that runs beside them.
    #[arg(long, value_name = "RATE")]
    beside: Option<Rate>,
}

impl Scenario for Handshakes {
    fn name(&self) -> &'static str {
        "handshakes"
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
        let mut workloads = Vec::new();
        if let Some(rate) = self.beside {
            workloads = self.common.workloads();
            let pair = Load { pairs: 1, packet: Size(1_400), burst: 1, senders_first: false };
            pair.add_to(&mut workloads, (&bench.target, &bench.target), rate, 0, 0)?;
        }
        let mut storm = Storm::new(self, bench);
        let before = if self.beside.is_some() { self.common.duration.0 } else { Duration::ZERO };
        let phases = [self.common.warm_up.0, before, LONGEST];
        let outcome =
            Trial::open(&bench.setting, workloads)?.play_while(&phases, |run| storm.blow(run))?;

        let cost = outcome.cost(DURING);
        let mut figures = Figures::default();
        figures.add("logins", storm.count.done as f64);
        figures.add("logins_failed", storm.count.failed as f64);
        figures.add("logins_per_s", storm.count.done as f64 / cost.seconds);
        figures.add_latencies(LOGIN, &storm.took);
        let per_login = cost.server_cpu.map(|cpu| cpu / storm.count.done as f64);
        figures.add_some("cpu_s_per_1000_logins", per_login.map(|cpu| cpu * 1_000.0));
        if self.beside.is_some() {
            figures.add_beside(&outcome.tally(0, BEFORE), &outcome.tally(0, DURING));
        }
        figures.add_cost(&cost);
        each(Measured { varied: Map::new(), figures })
    }
}

/// The logins of one run.
struct Storm<'a> {
    clients: Vec<Client>,
    concurrency: usize,
    rate: Option<Frequency>,
    bench: &'a Bench,
    count: LoginCount,
    took: Latencies,
}

impl<'a> Storm<'a> {
    fn new(plan: &Handshakes, bench: &'a Bench) -> Self {
        let concurrency = plan.common.concurrency;
        let client = |index| {
            let mut client = Client::new(&bench.target);
            client.dialing.source = source(&bench.target, index, plan.logins, concurrency);
            client.dialing.fast_start = plan.fast_start;
            client
        };
        Self {
            clients: (0..plan.logins).map(client).collect(),
            concurrency,
            rate: plan.rate,
            bench,
            count: LoginCount::default(),
            took: Latencies::default(),
        }
    }

    fn blow(&mut self, run: &Run) -> Result<(), Failure> {
        let setting = &self.bench.setting;
        let pace = self.rate.map(|rate| Pace::of_interval(SECOND / rate.0, run.now()));
        let logins =
            Logins { clients: &self.clients, concurrency: self.concurrency, pace, strict: false };
        let all = self.clients.len();
        let took = &mut self.took;
        let goes_on = |count: &LoginCount| {
            setting.progress.logins(count.done + count.failed, all);
            !setting.stop.is_asked()
        };
        self.count = logins.run(
            run,
            |_, link, nanos| {
                took.add(nanos);
                drop(link);
            },
            goes_on,
        )?;
        setting.progress.clear();
        match self.count.last_error.take() {
            Some(error) if self.count.done == 0 => Err(Failure::Login { done: 0, all, error }),
            Some(_) | None if self.count.done == 0 => Err(Failure::Nothing),
            Some(_) | None => Ok(()),
        }
    }
}
