//! One measurement as a line of JSON: enough to repeat it, and to plot it later.
//!
//! Does: writes records to files and reads them back. Does not: interpret figures.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::failure::Failure;
use super::figure::Figures;
use super::machine::Machine;

/// Version of the form below.
const FORMAT: u32 = 1;

/// A measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this form.
    pub format: u32,
    /// Version of the generator.
    pub version: String,
    /// When it ended, in seconds since 1970.
    pub time: u64,
    /// What was measured.
    pub scenario: String,
    /// Which server.
    pub label: String,
    /// Which repetition, from 0.
    pub run: usize,
    /// Everything that it was measured with.
    pub parameters: Map<String, Value>,
    /// What it was measured on.
    pub machine: Machine,
    /// What came of it; names and units are in `figure`.
    pub figures: BTreeMap<String, f64>,
}

/// What a record says besides the figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Heading {
    /// What was measured.
    pub scenario: String,
    /// Which server.
    pub label: String,
    /// Which repetition.
    pub run: usize,
    /// What it was measured on.
    pub machine: Machine,
}

impl Record {
    /// The record of a measurement that has just ended.
    #[must_use]
    pub fn new(heading: Heading, parameters: Map<String, Value>, figures: &Figures) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Heading { scenario, label, run, machine } = heading;
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: since.as_secs(),
            scenario,
            label,
            run,
            parameters,
            machine,
            figures: figures.iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    /// The line, without its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        // Maps with text keys and finite numbers: it cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Appends the line to a file, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// [`Failure::File`].
    pub fn append(&self, path: &Path) -> Result<(), Failure> {
        let file = |why: std::io::Error| Failure::File {
            path: path.display().to_string(),
            why: why.to_string(),
        };
        let mut out = OpenOptions::new().create(true).append(true).open(path).map_err(file)?;
        // One write, so that two generators may share a file.
        out.write_all(format!("{}\n", self.to_line()).as_bytes()).map_err(file)
    }

    /// Reads all records of a file.
    ///
    /// # Errors
    ///
    /// [`Failure::File`], with the number of the line that is no record.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, Failure> {
        let file = |why: String| Failure::File { path: path.display().to_string(), why };
        let text = fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(index, line)| {
                serde_json::from_str(line)
                    .map_err(|error| file(format!("line {}: no record: {error}", index + 1)))
            })
            .collect()
    }

    /// What sets this measurement apart from others of the same server: scenario and parameters.
    #[must_use]
    pub fn point(&self) -> String {
        format!("{} {}", self.scenario, Value::Object(self.parameters.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.jsonl");
        let records = [record("ours", 0), record("reference", 1)];
        for record in &records {
            record.append(&path).unwrap();
        }
        assert_eq!(Record::read_all(&path).unwrap(), records);
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.jsonl");
        fs::write(&path, format!("{}\n\n{{}}\n", record("ours", 0).to_line())).unwrap();
        let error = Record::read_all(&path).unwrap_err().to_string();
        assert!(error.contains("line 3: no record"), "{error}");
    }

    #[test]
    fn repetitions_are_of_one_point_and_other_parameters_are_not() {
        let mut other = record("ours", 0);
        other.parameters.insert("rate".to_owned(), 2.into());
        assert_eq!(record("ours", 0).point(), record("reference", 3).point());
        assert_ne!(record("ours", 0).point(), other.point());
    }

    fn record(label: &str, run: usize) -> Record {
        let mut figures = Figures::default();
        figures.add("goodput_mbit", 399.5);
        let heading = Heading {
            scenario: "throughput".to_owned(),
            label: label.to_owned(),
            run,
            machine: Machine::here(),
        };
        let parameters = [("rate".to_owned(), Value::from(400_000_000))];
        Record::new(heading, parameters.into_iter().collect(), &figures)
    }
}
