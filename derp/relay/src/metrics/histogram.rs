//! The one histogram, in the Prometheus text format.
//!
//! Does: renders counts that shards have kept by class. Does not: take single values; the
//! exporter's histograms want every one of them, and there may be millions between two scrapes.

use derp::counters::{SOJOURN_BOUNDS, Sojourn};

/// Appends the histogram `name` to `text`.
pub(super) fn render(name: &str, help: &str, sojourn: &Sojourn, text: &mut String) {
    let mut below = 0;
    let mut buckets = String::new();
    let bounds = SOJOURN_BOUNDS.iter().map(|micros| seconds(*micros).to_string());
    for (count, bound) in sojourn.classes.iter().zip(bounds.chain(["+Inf".to_owned()])) {
        below += count;
        buckets += &format!("{name}_bucket{{le=\"{bound}\"}} {below}\n");
    }
    let sum = seconds(sojourn.micros);
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

    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_at_the_count() {
        let mut sojourn = Sojourn::default();
        for micros in [0, 50, 51, 2_000, 9_000_000] {
            sojourn.add(Duration::from_micros(micros));
        }
        let mut text = String::new();
        render("x_seconds", "Help", &sojourn, &mut text);

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
