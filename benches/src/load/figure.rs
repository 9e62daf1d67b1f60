//! The figures that runs yield: their names in records, and how people read them.
//!
//! Does: says for each name what it is, its unit, and which way is better.
//! Does not: compute them; scenarios do.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::tally::{Latencies, Tally};
use super::trial::Cost;

/// Bytes in the GB of "CPU seconds per GB".
const GB: f64 = 1e9;

/// Bytes in a MiB.
const MIB: f64 = 1_048_576.0;

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The smaller.
    Less,
    /// The larger.
    More,
    /// Neither: it says how far to trust the others.
    Neither,
}

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name in records.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Its unit; empty for plain numbers.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
}

const fn figure(
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
) -> Figure {
    Figure { name, title, unit, better }
}

/// Every figure, in the order in which it is shown.
pub const FIGURES: &[Figure] = &[
    figure("offered_mbit", "offered", "Mbit/s", Better::Neither),
    figure("sent_mbit", "sent", "Mbit/s", Better::Neither),
    figure("goodput_mbit", "goodput", "Mbit/s", Better::More),
    figure("delivered_mb", "delivered", "MB", Better::More),
    figure("loss_percent", "lost of sent", "%", Better::Less),
    figure("reordered", "reordered", "packets", Better::Less),
    figure("repeated", "repeated", "packets", Better::Less),
    figure("latency_p50_us", "one way, p50", "µs", Better::Less),
    figure("latency_p90_us", "one way, p90", "µs", Better::Less),
    figure("latency_p99_us", "one way, p99", "µs", Better::Less),
    figure("latency_p999_us", "one way, p99.9", "µs", Better::Less),
    figure("latency_max_us", "one way, longest", "µs", Better::Less),
    figure("rtt_p50_us", "round trip, p50", "µs", Better::Less),
    figure("rtt_p90_us", "round trip, p90", "µs", Better::Less),
    figure("rtt_p99_us", "round trip, p99", "µs", Better::Less),
    figure("rtt_p999_us", "round trip, p99.9", "µs", Better::Less),
    figure("rtt_max_us", "round trip, longest", "µs", Better::Less),
    figure("rtt_lost", "round trips lost", "packets", Better::Less),
    figure("logins", "logins", "", Better::More),
    figure("logins_failed", "logins that failed", "", Better::Less),
    figure("logins_per_s", "logins", "1/s", Better::More),
    figure("login_p50_us", "login, p50", "µs", Better::Less),
    figure("login_p90_us", "login, p90", "µs", Better::Less),
    figure("login_p99_us", "login, p99", "µs", Better::Less),
    figure("login_p999_us", "login, p99.9", "µs", Better::Less),
    figure("login_max_us", "login, longest", "µs", Better::Less),
    figure("cpu_s_per_1000_logins", "CPU per 1000 logins", "s", Better::Less),
    figure("answers_per_s", "answers", "1/s", Better::More),
    figure("cpu_us_per_answer", "CPU per answer", "µs", Better::Less),
    figure("before_p50_us", "other flow before, p50", "µs", Better::Less),
    figure("before_p99_us", "other flow before, p99", "µs", Better::Less),
    figure("before_loss_percent", "other flow before, lost", "%", Better::Less),
    figure("during_p50_us", "other flow during, p50", "µs", Better::Less),
    figure("during_p99_us", "other flow during, p99", "µs", Better::Less),
    figure("during_loss_percent", "other flow during, lost", "%", Better::Less),
    figure("during_p99_ratio", "p99 during / before", "", Better::Less),
    figure("storm_sent_mbit", "sent at the slow", "Mbit/s", Better::Neither),
    figure("closed", "clients that the server closed", "", Better::Neither),
    figure("cpu_s_per_gb", "CPU per GB delivered", "s", Better::Less),
    figure("server_cores", "server's CPU", "cores", Better::Less),
    figure("clients", "clients", "", Better::Neither),
    figure("rss_kib_per_client", "memory per client", "KiB", Better::Less),
    figure("rss_mib", "server's memory", "MiB", Better::Less),
    figure("rss_growth_mib", "memory grown by", "MiB", Better::Less),
    figure("peak_rss_mib", "most memory seen", "MiB", Better::Less),
    figure("generator_cores", "generator's CPU", "cores", Better::Neither),
    figure("generator_late_p99_us", "generator late, p99", "µs", Better::Neither),
];

/// What is known of the figure with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| figure.name == name)
}

/// The figures of one run, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(Vec<(&'static str, f64)>);

impl Figures {
    /// Adds one. What is not a number, because nothing was measured, is left out.
    pub fn add(&mut self, name: &'static str, value: f64) {
        debug_assert!(find(name).is_some(), "{name} is in the table");
        if value.is_finite() {
            self.0.push((name, value));
        }
    }

    /// Adds one that there may be.
    pub fn add_some(&mut self, name: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Adds percentiles under names for p50, p90, p99, p99.9 and the longest.
    pub fn add_latencies(&mut self, names: [&'static str; 5], latencies: &Latencies) {
        let [p50, p90, p99, p999, longest] = names;
        self.add_some(p50, latencies.percentile(50.0));
        self.add_some(p90, latencies.percentile(90.0));
        self.add_some(p99, latencies.percentile(99.0));
        self.add_some(p999, latencies.percentile(99.9));
        self.add_some(longest, latencies.longest());
    }

    /// Adds what became of traffic, and what it cost.
    pub fn add_traffic(&mut self, tally: &Tally, cost: &Cost, packet: usize) {
        let mbit = |bytes: f64| bytes * 8.0 / 1e6 / cost.seconds;
        if tally.due > 0 {
            self.add("offered_mbit", mbit(tally.due as f64 * packet as f64));
        }
        self.add("sent_mbit", mbit(tally.sent_bytes as f64));
        self.add("goodput_mbit", mbit(tally.arrived_bytes as f64));
        self.add("delivered_mb", tally.arrived_bytes as f64 / 1e6);
        self.add("loss_percent", loss_percent(tally));
        self.add("reordered", tally.reordered as f64);
        self.add("repeated", tally.repeated as f64);
        self.add_latencies(ONE_WAY, &tally.latency);
        let per_gb = cost.server_cpu.map(|cpu| cpu / (tally.arrived_bytes as f64 / GB));
        self.add_some("cpu_s_per_gb", per_gb);
        self.add_cost(cost);
        self.add_some("generator_late_p99_us", tally.late.percentile(99.0));
    }

    /// Adds what a phase cost.
    pub fn add_cost(&mut self, cost: &Cost) {
        self.add_some("server_cores", cost.server_cpu.map(|cpu| cpu / cost.seconds));
        self.add_some("rss_mib", cost.rss.map(mib));
        self.add("generator_cores", cost.own_cpu / cost.seconds);
    }

    /// Adds how a flow fared before something and during it.
    pub fn add_beside(&mut self, before: &Tally, during: &Tally) {
        self.add_some("before_p50_us", before.latency.percentile(50.0));
        let p99 = before.latency.percentile(99.0);
        self.add_some("before_p99_us", p99);
        self.add("before_loss_percent", loss_percent(before));
        self.add_some("during_p50_us", during.latency.percentile(50.0));
        let p99_during = during.latency.percentile(99.0);
        self.add_some("during_p99_us", p99_during);
        self.add("during_loss_percent", loss_percent(during));
        self.add_some("during_p99_ratio", p99_during.zip(p99).map(|(now, then)| now / then));
    }

    /// The value under this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        self.0.iter().copied()
    }
}

/// The names of one-way latencies.
pub const ONE_WAY: [&str; 5] =
    ["latency_p50_us", "latency_p90_us", "latency_p99_us", "latency_p999_us", "latency_max_us"];

/// The names of round trips.
pub const ROUND_TRIP: [&str; 5] =
    ["rtt_p50_us", "rtt_p90_us", "rtt_p99_us", "rtt_p999_us", "rtt_max_us"];

/// The names of login times.
pub const LOGIN: [&str; 5] =
    ["login_p50_us", "login_p90_us", "login_p99_us", "login_p999_us", "login_max_us"];

/// `bytes` in MiB.
#[must_use]
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

/// What part of the packets sent did not arrive; not a number if none was sent.
#[must_use]
pub fn loss_percent(tally: &Tally) -> f64 {
    100.0 * tally.lost() as f64 / tally.sent as f64
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// `value` with as many digits as its size calls for.
#[must_use]
pub fn digits(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.*}", decimals(value)) }
}

/// Digits behind the point that a value of this size calls for.
#[must_use]
pub fn decimals(value: f64) -> usize {
    match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 || size == 0.0 => 2,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_taken_twice() {
        for (index, figure) in FIGURES.iter().enumerate() {
            assert!(!FIGURES[..index].iter().any(|other| other.name == figure.name));
        }
        for name in ONE_WAY.iter().chain(&ROUND_TRIP).chain(&LOGIN) {
            assert!(find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn traffic_is_counted_in_bits_and_cost_per_delivered_byte() {
        let tally = Tally {
            due: 1_000,
            sent: 1_000,
            sent_bytes: 1_000_000,
            received: 900,
            received_bytes: 900_000,
            arrived_bytes: 800_000,
            ..Tally::default()
        };
        let cost = Cost { seconds: 2.0, server_cpu: Some(0.5), own_cpu: 1.0, ..Cost::default() };
        let mut figures = Figures::default();
        figures.add_traffic(&tally, &cost, 1_000);

        let wanted = [
            ("offered_mbit", 4.0),
            ("sent_mbit", 4.0),
            ("goodput_mbit", 3.2),
            ("loss_percent", 10.0),
            ("cpu_s_per_gb", 625.0),
            ("server_cores", 0.25),
            ("generator_cores", 0.5),
        ];
        for (name, value) in wanted {
            let found = figures.get(name).unwrap();
            assert!((found - value).abs() < 1e-9, "{name} is {found}");
        }
        assert_eq!(figures.get("latency_p50_us"), None);
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let mut figures = Figures::default();
        figures.add("loss_percent", loss_percent(&Tally::default()));
        figures.add_some("rss_mib", None);
        assert_eq!(figures.iter().count(), 0);
    }
}
