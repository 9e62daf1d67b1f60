//! Everything the relay counts, as Prometheus wants it.
//!
//! Does: gathers what door, shards, STUN and access have counted, at the moment of a scrape.
//! Does not: sit on the way of a packet; shards count in plain numbers and publish those.
//!
//! Names, labels and help are in `table`; `docs/metrics.md` is held equal to it by a test.

mod collect;
mod histogram;
mod table;

use std::sync::Arc;

use derp::counters::SOJOURN_BOUNDS;
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::access::{self, ANSWER_BOUNDS};
use crate::bridge;
use crate::door;
use crate::shard::Shards;
use crate::tls::Certificates;

pub use table::{Kind, METRICS, Metric, counter, gauge};

/// Where the numbers come from.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) door: Arc<door::Counters>,
    pub(crate) shards: Shards,
    pub(crate) access: Arc<access::Counters>,
    pub(crate) bridge: Arc<bridge::Counters>,
    pub(crate) stun: Option<Arc<stun_server::Running>>,
    pub(crate) certificates: Option<Arc<Certificates>>,
}

/// One number with its name and the values of its labels, in the order of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name, which is in a table.
    pub name: &'static str,
    /// Values of its labels.
    pub labels: Vec<String>,
    /// What it stands at.
    pub value: f64,
}

/// `samples` in the Prometheus text format, with types and help from `table`, which has no
/// histograms.
#[must_use]
pub fn render(table: &'static [Metric], samples: &[Sample]) -> String {
    // A recorder per scrape: no state beside the sources, and programs in one process do not
    // meet. A scrape costs a fraction of a millisecond.
    let recorder = PrometheusBuilder::new().build_recorder();
    for metric in table {
        let help = metric.help.into();
        match metric.kind {
            Kind::Counter => recorder.describe_counter(metric.name.into(), None, help),
            Kind::Gauge => recorder.describe_gauge(metric.name.into(), None, help),
            Kind::Histogram => {}
        }
    }
    for sample in samples {
        record(&recorder, table, sample);
    }
    recorder.handle().render()
}

impl Sources {
    /// All numbers as they stand, in the Prometheus text format.
    pub(crate) fn render(&self) -> String {
        let (samples, sojourn) = collect::collect(self);
        let mut text = render(METRICS, &samples);
        let (answers, answer_micros) = self.access.answer_times.get();
        for (name, bounds, classes, micros) in [
            (table::SOJOURN, &SOJOURN_BOUNDS[..], &sojourn.classes[..], sojourn.micros),
            (table::VERIFY_TIME, &ANSWER_BOUNDS[..], &answers[..], answer_micros),
        ] {
            if let Some(metric) = table::find(name) {
                histogram::render(metric, bounds, classes, micros, &mut text);
            }
        }
        text
    }
}

fn record(recorder: &impl Recorder, table: &[Metric], sample: &Sample) {
    let Some(metric) = table.iter().find(|metric| metric.name == sample.name) else {
        tracing::error!(name = sample.name, "a number is not in the table of metrics");
        return;
    };
    let labels: Vec<Label> = metric
        .labels
        .iter()
        .zip(&sample.labels)
        .map(|(name, value)| Label::new(*name, value.clone()))
        .collect();
    let key = Key::from_parts(sample.name, labels);
    let metadata = Metadata::new(module_path!(), Level::INFO, None);
    match metric.kind {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counters are whole and positive, and exact up to 2^53"
        )]
        Kind::Counter => recorder.register_counter(&key, &metadata).absolute(sample.value as u64),
        Kind::Gauge => recorder.register_gauge(&key, &metadata).set(sample.value),
        Kind::Histogram => tracing::error!(name = sample.name, "a histogram has no one number"),
    }
}
