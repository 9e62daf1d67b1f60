//! The commands of `derp-load`.
//!
//! Does: reads the command line, runs what it asks for, prints and writes what came of it.
//! Exit codes: 0 measured, 1 a run failed, 2 usage.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::compare::Compare;
use super::failure::Failure;
use super::figure::{self, digits};
use super::machine::Machine;
use super::progress::Progress;
use super::record::{Heading, Record};
use super::report::Report;
use super::scenario::fan_in::FanIn;
use super::scenario::handshakes::Handshakes;
use super::scenario::idle::Idle;
use super::scenario::latency::Latency;
use super::scenario::stun::Stun;
use super::scenario::throughput::{Mesh, Throughput};
use super::scenario::{Bench, Common, Scenario, with_transport};
use super::stop::Stop;

#[derive(Parser)]
#[command(
    name = "derp-load",
    version,
    about = "Load generator for DERP and STUN servers",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Measure(Box<Measure>),
    /// Two servers in turn, fresh for each run, and the ratios of their figures.
    Compare(Compare),
    /// Turns records into one page of plots and a table.
    Report(Report),
}

/// A scenario with its arguments.
#[derive(Debug, Subcommand)]
pub enum Measure {
    /// Pairs at an offered rate: goodput, loss, order, latency, CPU.
    Throughput(Throughput),
    /// Round trip of a pair, alone or beside load.
    Latency(Latency),
    /// Clients that do nothing: memory for each, CPU for all.
    Idle(Idle),
    /// Logins: CPU for each, how long they take, what they do to a flow beside them.
    Handshakes(Handshakes),
    /// Receivers that do not keep up, and what they do to a flow beside them.
    FanIn(FanIn),
    /// STUN requests: CPU for each, loss, latency.
    Stun(Stun),
    /// Pairs across two servers that form a mesh.
    Mesh(Mesh),
}

impl Measure {
    /// What it measures.
    #[must_use]
    pub fn scenario(&self) -> &dyn Scenario {
        match self {
            Self::Throughput(scenario) => scenario,
            Self::Latency(scenario) => scenario,
            Self::Idle(scenario) => scenario,
            Self::Handshakes(scenario) => scenario,
            Self::FanIn(scenario) => scenario,
            Self::Stun(scenario) => scenario,
            Self::Mesh(scenario) => scenario,
        }
    }
}

/// Runs the program with the arguments of this process.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say_failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    let stop = Stop::on_signals()?;
    let progress = Progress::on_terminal();
    raise_descriptor_limit();
    match command {
        Command::Measure(measure) => {
            let scenario = measure.scenario();
            let common = scenario.common();
            let bench = common.bench(&stop, &progress)?;
            for run in 0..common.repeat {
                measure_once(scenario, &bench, &common.label, run, &mut |record| {
                    if let Some(path) = &common.out {
                        record.append(path)?;
                    }
                    if common.json {
                        say(&record.to_line());
                    } else {
                        say(&table(record));
                    }
                    Ok(())
                })?;
                if stop.is_asked() {
                    break;
                }
            }
            Ok(())
        }
        Command::Compare(compare) => {
            let each = &mut |common: &Common, record: &Record| match &common.out {
                Some(path) => record.append(path),
                None => Ok(()),
            };
            let (json, comparisons) = compare.run(&stop, &progress, each)?;
            for comparison in comparisons {
                if json {
                    say(&serde_json::to_string(&comparison).unwrap_or_default());
                } else {
                    say(&comparison.table());
                }
            }
            Ok(())
        }
        Command::Report(report) => {
            if let Some(table) = report.run()? {
                say(&table);
            }
            Ok(())
        }
    }
}

/// Measures a scenario once; `each` gets a record for every load point.
///
/// # Errors
///
/// [`Failure`], of the run or of `each`.
pub fn measure_once(
    scenario: &dyn Scenario,
    bench: &Bench,
    label: &str,
    run: usize,
    each: &mut dyn FnMut(&Record) -> Result<(), Failure>,
) -> Result<(), Failure> {
    scenario.measure(bench, &mut |measured| {
        let heading = Heading {
            scenario: scenario.name().to_owned(),
            label: label.to_owned(),
            run,
            machine: Machine::here(),
        };
        let mut parameters = with_transport(scenario.parameters(), &bench.target);
        parameters.extend(measured.varied);
        each(&Record::new(heading, parameters, &measured.figures))
    })
}

/// The scenario that these arguments describe, without the program's name in front.
///
/// # Errors
///
/// What clap says of them.
pub fn parse_measure<I>(arguments: I) -> Result<Measure, clap::Error>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    #[derive(Parser)]
    #[command(name = "derp-load", no_binary_name = true)]
    struct Only {
        #[command(subcommand)]
        measure: Measure,
    }
    Only::try_parse_from(arguments).map(|only| only.measure)
}

/// A record as people read it.
fn table(record: &Record) -> String {
    let parameters: Vec<String> =
        record.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let heading = format!("{} {}", record.scenario, record.label);
    let mut lines = vec![format!("{heading} ({})", parameters.join(" "))];
    for known in figure::FIGURES {
        if let Some(value) = record.figures.get(known.name) {
            lines.push(format!("  {:<30} {:>12} {}", known.title, digits(*value), known.unit));
        }
    }
    lines.join("\n")
}

/// Every client is a descriptor.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where it cannot be raised, a run with too many clients says so.
    setrlimit(Resource::Nofile, raised).unwrap_or_default();
}

#[expect(clippy::print_stdout, reason = "what a command was asked to say")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the last word of the program is for its user")]
fn say_failure(failure: &Failure) {
    eprintln!("derp-load: {}", failure.to_string().replace(['\n', '\r'], " "));
}
