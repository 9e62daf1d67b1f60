//! Histograms, in the Prometheus text format.
//!
//! Does: renders counts that were kept by class. Does not: take single values; the exporter's
//! histograms want every one of them, and there may be millions between two scrapes.

use super::Metric;

/// Appends the histogram `metric` to `text`: how many values are in each class, of which `bounds`
/// are the upper bounds but for the last one's, and what all values are together; both in
/// microseconds.
pub(super) fn render(
    metric: &Metric,
    bounds: &[u64],
    classes: &[u64],
    micros: u64,
    text: &mut String,
) {
    let Metric { name, help, .. } = metric;
    let mut below = 0;
    let mut buckets = String::new();
    let bounds = bounds.iter().map(|micros| seconds(*micros).to_string());
    for (count, bound) in classes.iter().zip(bounds.chain(["+Inf".to_owned()])) {
        below += count;
        buckets += &format!("{name}_bucket{{le=\"{bound}\"}} {below}\n");
    }
    let sum = seconds(micros);
    *text += &format!("# HELP {name} {help}\n# TYPE {name} histogram\n{buckets}");
    *text += &format!("{name}_sum {sum}\n{name}_count {below}\n");
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has only floats")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use derp::counters::{SOJOURN_BOUNDS, Sojourn};

    use super::*;
    use crate::metrics::Kind;

    #[test]
    fn buckets_are_cumulative_and_end_at_the_count() {
        let mut sojourn = Sojourn::default();
        for micros in [0, 50, 51, 2_000, 9_000_000] {
            sojourn.add(Duration::from_micros(micros));
        }
        let mut text = String::new();
        let metric =
            Metric { name: "x_seconds", kind: Kind::Histogram, labels: &["le"], help: "Help" };
        render(&metric, &SOJOURN_BOUNDS, &sojourn.classes, sojourn.micros, &mut text);

        assert!(text.starts_with("# HELP x_seconds Help\n# TYPE x_seconds histogram\n"), "{text}");
        for line in [
            "x_seconds_bucket{le=\"0.00005\"} 2\n",
            "x_seconds_bucket{le=\"0.0001\"} 3\n",
            "x_seconds_bucket{le=\"0.001\"} 3\n",
            "x_seconds_bucket{le=\"0.0025\"} 4\n",
            "x_seconds_bucket{le=\"+Inf\"} 5\n",
            "x_seconds_sum 9.002101\n",
            "x_seconds_count 5\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
