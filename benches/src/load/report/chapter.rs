//! Records put in order: a chapter for each scenario and set of parameters, in it a cell for
//! each load and server, in that the repeated runs.

use serde_json::{Map, Value};

use crate::load::figure::{self, Figure, digits};
use crate::load::record::Record;

/// What one scenario has to say under one set of parameters.
#[derive(Clone, Debug)]
pub struct Chapter {
    /// What was measured.
    pub scenario: String,
    /// With what, the same for all cells.
    pub parameters: Map<String, Value>,
    /// The servers, in the order of their first run.
    pub labels: Vec<String>,
    /// By load, then by server.
    pub cells: Vec<Cell>,
}

/// The runs of one server at one load.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The load.
    pub load: Load,
    /// Index of the server in the chapter's labels.
    pub label: usize,
    /// The runs.
    pub runs: Vec<Record>,
}

/// Where a cell is on the axis.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Load {
    /// The scenario has no axis.
    None,
    /// Offered, in Mbit/s.
    Mbit(f64),
    /// As much as the sockets take.
    Unlimited,
}

/// The mean of repeated runs, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The band: 95 % confidence of the mean; of two runs their values, of one nothing.
    pub low: f64,
    /// Its other end.
    pub high: f64,
    /// How many runs.
    pub runs: usize,
}

/// 97.5 % quantiles of Student's t by degrees of freedom, from 2 on; beyond it is nearly normal.
const STUDENT: [f64; 14] = [
    4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
    2.131,
];

/// The same for more degrees of freedom than that.
const NORMAL: f64 = 2.0;

impl Estimate {
    /// The estimate from these values; `None` without any.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let runs = values.len();
        let (least, most) = (
            values.iter().copied().min_by(f64::total_cmp)?,
            values.iter().copied().max_by(f64::total_cmp)?,
        );
        let mean = values.iter().sum::<f64>() / runs as f64;
        if runs < 3 {
            return Some(Self { mean, low: least, high: most, runs });
        }
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let quantile = STUDENT.get(runs - 3).copied().unwrap_or(NORMAL);
        let half = quantile * (squares / (runs - 1) as f64 / runs as f64).sqrt();
        // No figure here can be below zero.
        Some(Self { mean, low: (mean - half).max(0.0), high: mean + half, runs })
    }

    /// As people read it.
    #[must_use]
    pub fn text(&self) -> String {
        let half = (self.high - self.low) / 2.0;
        if self.runs > 1 && half > 0.0 {
            let decimals = figure::decimals(self.mean);
            format!("{:.decimals$} ± {half:.decimals$}", self.mean)
        } else {
            digits(self.mean)
        }
    }
}

impl Load {
    /// As people read it.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::None => String::new(),
            Self::Mbit(0.0) => "none".to_owned(),
            Self::Mbit(mbit) => format!("{} Mbit/s", digits(mbit)),
            Self::Unlimited => "unlimited".to_owned(),
        }
    }

    fn of(record: &Record) -> Self {
        match axis(&record.scenario).and_then(|axis| record.parameters.get(axis)) {
            None => Self::None,
            Some(Value::Null) => Self::Mbit(0.0),
            Some(Value::Number(bits)) => Self::Mbit(bits.as_f64().unwrap_or_default() / 1e6),
            Some(_) => Self::Unlimited,
        }
    }
}

/// The parameter that is the axis of a scenario's plots.
fn axis(scenario: &str) -> Option<&'static str> {
    match scenario {
        "throughput" | "mesh" => Some("rate"),
        "latency" => Some("load"),
        _ => None,
    }
}

impl Chapter {
    /// All chapters, in the order in which they were first measured.
    #[must_use]
    pub fn all(records: &[Record]) -> Vec<Self> {
        let mut chapters: Vec<Self> = Vec::new();
        for record in records {
            let mut parameters = record.parameters.clone();
            if let Some(axis) = axis(&record.scenario) {
                parameters.remove(axis);
            }
            let same = |it: &Self| it.scenario == record.scenario && it.parameters == parameters;
            let index = chapters.iter().position(same).unwrap_or_else(|| {
                chapters.push(Self {
                    scenario: record.scenario.clone(),
                    parameters: parameters.clone(),
                    labels: Vec::new(),
                    cells: Vec::new(),
                });
                chapters.len() - 1
            });
            chapters[index].add(record);
        }
        for chapter in &mut chapters {
            chapter.cells.sort_by(|one, other| {
                let loads = one.load.partial_cmp(&other.load);
                loads.unwrap_or(std::cmp::Ordering::Equal).then(one.label.cmp(&other.label))
            });
        }
        chapters
    }

    fn add(&mut self, record: &Record) {
        let known = self.labels.iter().position(|label| *label == record.label);
        let label = known.unwrap_or_else(|| {
            self.labels.push(record.label.clone());
            self.labels.len() - 1
        });
        let load = Load::of(record);
        let found = self.cells.iter_mut().find(|cell| cell.label == label && cell.load == load);
        match found {
            Some(cell) => cell.runs.push(record.clone()),
            None => self.cells.push(Cell { load, label, runs: vec![record.clone()] }),
        }
    }

    /// The figures that are worth a column, of those that there are.
    #[must_use]
    pub fn columns(&self) -> Vec<&'static Figure> {
        let names: &[&str] = match self.scenario.as_str() {
            "throughput" | "mesh" => &[
                "goodput_mbit",
                "loss_percent",
                "latency_p50_us",
                "latency_p99_us",
                "cpu_s_per_gb",
                "server_cores",
                "generator_cores",
                "generator_late_p99_us",
            ],
            "latency" => &[
                "rtt_p50_us",
                "rtt_p90_us",
                "rtt_p99_us",
                "rtt_p999_us",
                "rtt_lost",
                "goodput_mbit",
                "loss_percent",
                "cpu_s_per_gb",
                "generator_late_p99_us",
            ],
            "idle" => &["clients", "rss_kib_per_client", "rss_mib", "server_cores"],
            "handshakes" => &[
                "logins",
                "logins_failed",
                "logins_per_s",
                "login_p50_us",
                "login_p99_us",
                "cpu_s_per_1000_logins",
                "before_p99_us",
                "during_p99_us",
                "during_loss_percent",
            ],
            "fan-in" => &[
                "storm_sent_mbit",
                "before_p99_us",
                "during_p99_us",
                "before_loss_percent",
                "during_loss_percent",
                "rss_growth_mib",
                "peak_rss_mib",
                "closed",
            ],
            _ => &[
                "answers_per_s",
                "loss_percent",
                "rtt_p50_us",
                "rtt_p99_us",
                "cpu_us_per_answer",
                "server_cores",
                "generator_cores",
            ],
        };
        let there = |name: &&&str| self.cells.iter().any(|cell| cell.estimate(name).is_some());
        names.iter().filter(there).filter_map(|name| figure::find(name)).collect()
    }

    /// Whether there is something to plot: one load is a number.
    #[must_use]
    pub fn has_axis(&self) -> bool {
        let mut loads = self.cells.iter().filter_map(Cell::mbit);
        let first = loads.next();
        loads.any(|load| Some(load) != first)
    }

    /// The parameters as people read them.
    #[must_use]
    pub fn parameters_text(&self) -> String {
        let shown = self.parameters.iter().filter(|(_, value)| !value.is_null());
        let texts: Vec<String> = shown
            .map(|(name, value)| {
                let name = name.replace('_', " ");
                match value {
                    Value::Bool(true) => name,
                    Value::Bool(false) => format!("no {name}"),
                    Value::Null
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_)
                    | Value::Object(_) => format!("{name} {value}"),
                }
            })
            .collect();
        texts.join(", ")
    }
}

impl Cell {
    /// The load, if it is a number.
    #[must_use]
    pub fn mbit(&self) -> Option<f64> {
        match self.load {
            Load::Mbit(mbit) => Some(mbit),
            Load::None | Load::Unlimited => None,
        }
    }

    /// What the runs say of a figure.
    #[must_use]
    pub fn estimate(&self, name: &str) -> Option<Estimate> {
        let values: Vec<f64> =
            self.runs.iter().filter_map(|run| run.figures.get(name).copied()).collect();
        let mut estimate = Estimate::of(&values)?;
        if name.ends_with("_percent") {
            estimate.high = estimate.high.min(100.0);
        }
        Some(estimate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_has_no_band_and_two_are_their_own() {
        let one = Estimate::of(&[5.0]).unwrap();
        assert_eq!((one.mean, one.low, one.high), (5.0, 5.0, 5.0));
        assert_eq!(one.text(), "5.00");
        let two = Estimate::of(&[4.0, 6.0]).unwrap();
        assert_eq!((two.mean, two.low, two.high), (5.0, 4.0, 6.0));
        assert_eq!(Estimate::of(&[]), None);
    }

    /// Three values with a standard deviation of 1: 4.303 / sqrt(3) on either side.
    #[test]
    fn three_runs_have_students_band() {
        let estimate = Estimate::of(&[9.0, 10.0, 11.0]).unwrap();
        assert!((estimate.high - 10.0 - 2.484).abs() < 0.001, "{estimate:?}");
        assert!((10.0 - estimate.low - 2.484).abs() < 0.001, "{estimate:?}");
    }

    #[test]
    fn bands_do_not_reach_below_zero() {
        let estimate = Estimate::of(&[0.0, 0.0, 3.0]).unwrap();
        assert_eq!(estimate.low, 0.0);
    }
}
