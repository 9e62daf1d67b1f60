//! The metrics listener, and the table of its rows in the documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coord_bridge::config::HeadscaleConfig;
use coord_bridge::events::webhook::Pace;
use coord_bridge::events::{EventsConfig, Leadership, Outlets};
use coord_bridge::headscale::{self};
use coord_bridge::metrics::{METRICS, Sources};
use coord_bridge::provisioning::Provisioning;
use coord_bridge::provisioning::clock::{Clock, SystemClock};
use coord_bridge::publication::copy::{self, Copy};
use coord_bridge::publication::{self, Publisher};
use coord_bridge::relays::{Journal, Relays};
use coord_bridge::verify::{Front, Rosters, Source, Verify};
use derp::key::NodePublic;
use derp_relay::metrics::Kind;

use crate::bench::Bench;
use crate::client::{ask, get};
use crate::running::{Running, until};

/// Type, labels with their values, and meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
    help: String,
}

#[test]
fn a_scrape_counts_what_has_happened() {
    let running = Running::new();
    running.register("one");
    running.get("/api/v1/machines/none");
    crate::running::request(running.register, "POST", "/register", "", b"{}");
    until("a round", || running.bench.provisioning.reconcile_age().is_some());
    let scrape = get(running.metrics, "/metrics");
    assert_eq!(scrape.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let has = |line: &str| scrape.text().lines().any(|found| found == line);
    for line in [
        "coord_bridge_registrations_total{outcome=\"done\"} 1",
        "coord_bridge_registrations_total{outcome=\"refused\"} 1",
        "coord_bridge_refusals_total{reason=\"unauthorized\"} 1",
        "coord_bridge_machines{state=\"pending\"} 1",
        "coord_bridge_machines{state=\"deleted\"} 0",
        "coord_bridge_keys{state=\"issued\"} 1",
        "coord_bridge_store_up 1",
        "coord_bridge_http_requests_total{listener=\"admin\",class=\"4xx\"} 1",
        "coord_bridge_http_requests_total{listener=\"provisioning\",class=\"2xx\"} 1",
        "coord_bridge_reconcile_age_seconds 0",
        "coord_bridge_leader 1",
        "coord_bridge_map_nodes{region=\"999\",state=\"in\"} 1",
        "coord_bridge_map_nodes{region=\"999\",state=\"out\"} 0",
        "coord_bridge_map_file_failing 0",
        "coord_bridge_map_collision 0",
    ] {
        assert!(has(line), "{line}\n{}", scrape.text());
    }
    assert!(!scrape.text().contains(&running.bench.token()));
}

#[test]
fn a_store_that_is_gone_leaves_the_other_numbers() {
    let running = Running::new();
    let file = running.bench.folder.path().join("bridge.sqlite");
    running.register("one");
    std::fs::rename(&file, running.bench.folder.path().join("away")).unwrap();
    let scrape = get(running.metrics, "/metrics");
    assert_eq!(scrape.status, 200);
    assert!(scrape.text().contains("\ncoord_bridge_store_up 0\n"), "{}", scrape.text());
    assert!(scrape.text().contains("coord_bridge_registrations_total{outcome=\"done\"} 1\n"));
    assert!(!scrape.text().contains("coord_bridge_machines{"), "nobody knows");
}

#[test]
fn the_metrics_listener_serves_nothing_else() {
    let running = Running::new();
    for path in ["/", "/api/v1/status", "/machines", "/metrics/"] {
        assert_eq!(get(running.metrics, path).status, 404, "{path}");
    }
    let answer = ask(running.metrics, "POST", "/metrics", "");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
}

/// Names, types, labels, their values and meanings: the document, the table, and a scrape of a
/// bridge that has everything.
#[tokio::test]
async fn the_document_has_the_rows_of_the_program() {
    let documented = documented();
    let names: Vec<&str> = documented.iter().map(|(name, _)| name.as_str()).collect();
    let known: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names, known, "docs/metrics.md and metrics/table.rs");

    let bench = Bench::new();
    bench.provisioning.reconcile().await;
    let everything = everything(&bench);
    let front = Arc::clone(&everything.verify.as_ref().unwrap().front);
    front.watch();
    // Either answer of a node that nobody knows comes after a look.
    front.decide(&NodePublic::from_bytes([7; 32])).await;
    let mut shown = shown(&everything.render().await);
    // Of a Headscale that answers; the other one has the client that counts.
    let provisioning = Some(Arc::clone(&bench.provisioning));
    let of_round = Sources { provisioning, ..Sources::default() }.render().await;
    let age = "coord_bridge_reconcile_age_seconds";
    shown.insert(age.to_owned(), self::shown(&of_round).remove(age).unwrap());
    for (name, documented) in documented {
        let mut shown = shown.get(&name).cloned().unwrap_or_default();
        // Values that depend on build and configuration are not in the document.
        for (label, values) in &mut shown.labels {
            let open = ["version", "outlet", "region", "upstream", "headscale"];
            if open.contains(&label.as_str()) {
                values.clear();
            }
        }
        assert_eq!(shown, documented, "{name}");
    }
    assert_eq!(shown.len(), METRICS.len(), "a scrape has a row that the table has not");
}

/// Sources with nothing left out.
fn everything(bench: &Bench) -> Sources {
    let config = EventsConfig {
        file: Some(bench.folder.path().join("events.jsonl")),
        state_dir: bench.folder.path().to_owned(),
        ..EventsConfig::default()
    };
    let outlets = Outlets::start(&config, &bench.store, &Leadership::all(), Pace::default());
    let outlets = Arc::new(outlets.unwrap().unwrap());
    until("a position", || outlets.channels()[0].position().is_some());
    let reach = coord_bridge::config::Reach::Socket(bench.folder.path().join("none"));
    let client = headscale::connect(&HeadscaleConfig { reach }).unwrap();
    let (settings, store) = (bench.settings.clone(), bench.store.clone());
    let provisioning = Provisioning::new(settings, store, client).unwrap();
    let requests =
        ["map", "provisioning", "verify", "admin", "metrics"].map(|it| (it, Arc::default()));
    Sources {
        provisioning: Some(provisioning),
        publisher: Some(publisher(bench)),
        verify: Some(verify(bench)),
        outlets: Some(outlets),
        requests: requests.to_vec(),
    }
}

/// One that publishes a region of ours, and one of others as it was on disk.
fn publisher(bench: &Bench) -> Arc<Publisher> {
    let folder = bench.folder.path().join("state");
    let config = format!(
        "map_probe_interval = \"0\"\nstate_dir = \"{}\"\n\
         [[region.nodes]]\nhostname = \"derp.example.org\"\n\
         [[upstreams]]\nurl = \"https://derp.example.net/map.json\"\n",
        folder.display()
    );
    let plan = coord_bridge::Config::parse(&config).unwrap().plan;
    let path = copy::path(&folder, &plan.upstreams[0].name());
    copy::write(&path, &Copy { map: plan.map.clone(), fetched: SystemTime::now() }).unwrap();
    Publisher::start(plan, None, None, publication::new_probe_key().unwrap()).unwrap()
}

/// One before the Headscale in memory.
fn verify(bench: &Bench) -> Verify {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let rosters = Arc::new(Rosters::new(1, false, Duration::from_secs(60)));
    let journal = Journal::new(None, Arc::clone(&rosters), Arc::clone(&clock));
    let source = Source {
        name: "main".to_owned(),
        headscale: Arc::clone(&bench.headscale) as _,
        interval: Duration::from_secs(60),
    };
    let front =
        Front::new(vec![source], Arc::clone(&rosters), Arc::clone(&journal), Arc::clone(&clock));
    let token_file = bench.folder.path().join("relay-token");
    Verify { front, relays: Relays::new(token_file, None, journal, rosters, clock) }
}

fn documented() -> Vec<(String, Row)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `coord_bridge_"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else { panic!("{line}") };
        let labels = labels.split("; ").filter(|label| !label.is_empty()).map(|label| {
            let (name, values) = label.split_once(": ").unwrap_or((label, ""));
            let values = values.split(", ").filter(|value| !value.is_empty());
            let bare = |text: &str| text.trim_matches('`').to_owned();
            (bare(name), values.map(bare).collect())
        });
        let row = Row { kind: kind.to_owned(), labels: labels.collect(), help: help.to_owned() };
        (name.trim_matches('`').to_owned(), row)
    })
    .collect()
}

fn shown(scrape: &str) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::<String, Row>::new();
    for line in scrape.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            rows.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            rows.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let (name, labels) = line.split_once(['{', ' ']).unwrap();
            let row = rows.entry(name.to_owned()).or_default();
            let Some((labels, _)) = labels.split_once('}') else { continue };
            for label in labels.split("\",") {
                let (label, value) = label.trim_end_matches('"').split_once("=\"").unwrap();
                row.labels.entry(label.to_owned()).or_default().insert(value.to_owned());
            }
        }
    }
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        if let Some(row) = rows.get(metric.name) {
            assert_eq!((row.kind.as_str(), row.help.as_str()), (kind, metric.help));
        }
    }
    rows
}
