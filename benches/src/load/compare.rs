//! Two servers, measured in turn with the same scenario: A B, B A, A B, …
//!
//! | module | holds |
//! |---|---|
//! | [`server`] | a server that is started for one run |
//! | [`ratio`] | what pairs of values say about two servers |
//!
//! Does: start a fresh server for every run, so that none inherits the other's heap, cache or
//! luck; keep the two runs of a pair next to each other in time, because a shared machine drifts;
//! judge by the ratios within pairs.
//! Does not: place servers on cores; `taskset` in front of a command does.

pub mod ratio;
pub mod server;

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use self::ratio::Ratio;
use self::server::{Server, ServerCommand};
use super::cli::{measure_once, parse_measure};
use super::failure::Failure;
use super::figure::{self, Better, digits};
use super::meter::Meter;
use super::progress::Progress;
use super::record::Record;
use super::scenario::{Bench, Common, TlsMode};
use super::stop::Stop;
use super::target::Trust;

/// Starts two servers in turn, measures the same scenario on each, and prints ratios.
#[derive(Args, Clone, Debug)]
pub struct Compare {
    /// A server and how to start it; given twice. It must print `ready derp=ADDR stun=ADDR` on a
    /// line of standard output, and its pin, if it has TLS, as `CertName: sha256-raw:HEX`.
    #[arg(long = "server", value_name = "NAME=COMMAND", required = true)]
    servers: Vec<ServerCommand>,
    /// Runs of each server.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pairs: usize,
    /// The scenario with its flags, without --target, --pin and --pid.
    #[arg(last = true, required = true, value_name = "SCENARIO")]
    scenario: Vec<OsString>,
}

/// What pairs of runs say at one load point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What was measured.
    pub scenario: String,
    /// The servers; ratios are the first over the second.
    pub servers: [String; 2],
    /// With what.
    pub parameters: Map<String, Value>,
    /// By figure.
    pub figures: BTreeMap<String, Ratio>,
}

impl Compare {
    /// Runs everything; `each` gets every record, and at the end there is a comparison for every
    /// load point. Ctrl-C ends it with the pairs that are complete.
    ///
    /// # Errors
    ///
    /// [`Failure`] of any run.
    pub fn run(
        &self,
        stop: &Stop,
        progress: &Progress,
        each: &mut dyn FnMut(&Common, &Record) -> Result<(), Failure>,
    ) -> Result<(bool, Vec<Comparison>), Failure> {
        let usage = |text: &str| Failure::Usage(text.to_owned());
        let [first, second] = self.servers.as_slice() else {
            return Err(usage("--server is to be given twice"));
        };
        if first.name == second.name {
            return Err(usage("the two servers need names of their own"));
        }
        let measure = parse_measure(&self.scenario).map_err(|error| usage(&one_line(&error)))?;
        let scenario = measure.scenario();
        if scenario.name() == "mesh" {
            return Err(usage("mesh takes two servers at a time: run it without compare"));
        }
        let common = scenario.common();
        let mut pairs = Pairs::default();
        for pair in 0..self.pairs {
            // A B, B A, A B: what drifts steadily favours neither.
            let turns = if pair % 2 == 0 { [first, second] } else { [second, first] };
            for command in turns {
                if stop.is_asked() {
                    break;
                }
                let server = Server::start(command)?;
                let title = format!("{} of {} {}", pair + 1, self.pairs, command.name);
                let bench =
                    bench(&server, scenario.name(), common, stop, &progress.titled(&title))?;
                measure_once(scenario, &bench, &command.name, pair, &mut |record| {
                    pairs.add(command.name == first.name, record);
                    each(common, record)
                })?;
            }
        }
        let names = [first.name.clone(), second.name.clone()];
        let comparisons = pairs.compare(&names);
        if comparisons.is_empty() { Err(Failure::Nothing) } else { Ok((common.json, comparisons)) }
    }
}

fn one_line(error: &clap::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().replace("error: ", "")
}

/// The server that has just started, as the scenario's flags want it seen.
fn bench(
    server: &Server,
    scenario: &str,
    common: &Common,
    stop: &Stop,
    progress: &Progress,
) -> Result<Bench, Failure> {
    let usage = |text: &str| Failure::Usage(text.to_owned());
    if common.target.is_some() || common.pid.is_some() || common.pin.is_some() {
        return Err(usage("compare finds --target, --pid and --pin by itself"));
    }
    let (address, what) = match scenario {
        "stun" => (server.stun, "stun"),
        _ => (server.derp, "derp"),
    };
    let address = address.ok_or_else(|| Failure::Server {
        name: server.name.clone(),
        why: format!("its line `ready` names no {what} address"),
    })?;
    let trust = match (common.tls, server.pin) {
        _ if scenario == "stun" => Trust::Plain,
        (Some(TlsMode::Off), _) | (None, None) => Trust::Plain,
        (None | Some(TlsMode::Pin), Some(pin)) => Trust::Pin(pin),
        (Some(TlsMode::Insecure), _) => Trust::Anybody,
        (Some(TlsMode::Ca), _) => common.trust()?,
        (Some(TlsMode::Pin), None) => {
            let why = "prints no `CertName: sha256-raw:HEX`".to_owned();
            return Err(Failure::Server { name: server.name.clone(), why });
        }
    };
    let meter = Some(Meter::new(server.pid()));
    common.bench_at(&address.to_string(), &trust, meter, stop, progress)
}

/// Records by load point, and each server's by pair.
#[derive(Debug, Default)]
struct Pairs {
    /// In the order in which they came.
    points: Vec<Point>,
}

#[derive(Debug)]
struct Point {
    key: String,
    records: [Vec<Record>; 2],
}

impl Pairs {
    fn add(&mut self, first: bool, record: &Record) {
        let key = record.point();
        let found = self.points.iter().position(|point| point.key == key);
        let index = found.unwrap_or_else(|| {
            self.points.push(Point { key, records: Default::default() });
            self.points.len() - 1
        });
        let [of_first, of_second] = &mut self.points[index].records;
        if first { of_first.push(record.clone()) } else { of_second.push(record.clone()) }
    }

    fn compare(&self, names: &[String; 2]) -> Vec<Comparison> {
        self.points.iter().filter_map(|point| point.compare(names)).collect()
    }
}

impl Point {
    fn compare(&self, names: &[String; 2]) -> Option<Comparison> {
        let [first, second] = &self.records;
        let sample = first.first()?;
        let mut figures = BTreeMap::new();
        for known in figure::FIGURES {
            // Of the same pair: one that Ctrl-C cut in half has no say.
            let pairs: Vec<(f64, f64)> = first
                .iter()
                .filter_map(|one| {
                    let other = second.iter().find(|other| other.run == one.run)?;
                    Some((*one.figures.get(known.name)?, *other.figures.get(known.name)?))
                })
                .collect();
            if let Some(ratio) = Ratio::of(&pairs) {
                figures.insert(known.name.to_owned(), ratio);
            }
        }
        (!figures.is_empty()).then(|| Comparison {
            scenario: sample.scenario.clone(),
            servers: names.clone(),
            parameters: sample.parameters.clone(),
            figures,
        })
    }
}

impl Comparison {
    /// As people read it.
    #[must_use]
    pub fn table(&self) -> String {
        let [first, second] = &self.servers;
        let parameters: Vec<String> =
            self.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut lines = vec![
            format!("{} ({})", self.scenario, parameters.join(" ")),
            format!(
                "  {:<30} {first:>12} {second:>12}  {:<8} {:>8}  {:>17}",
                "median of", "", "ratio", "of the pairs"
            ),
        ];
        for known in figure::FIGURES {
            let Some(ratio) = self.figures.get(known.name) else { continue };
            let show = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.3}"));
            let spread = match (ratio.least, ratio.most) {
                (Some(least), Some(most)) => format!("{least:.3} to {most:.3}"),
                (_, _) => "-".to_owned(),
            };
            let ratio_text =
                if known.better == Better::Neither { String::new() } else { show(ratio.ratio) };
            let spread = if known.better == Better::Neither { String::new() } else { spread };
            lines.push(format!(
                "  {:<30} {:>12} {:>12}  {:<8} {ratio_text:>8}  {spread:>17}",
                known.title,
                digits(ratio.first),
                digits(ratio.second),
                known.unit,
            ));
        }
        lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
    }
}
