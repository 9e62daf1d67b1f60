//! The documents against the program: settings and calls that they quote are taken; the table in
//! docs/metrics.md is the one here, and what a scrape shows.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "support/documents.rs"]
mod documents;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use derp_relay::config::{Config, Keys};
use derp_relay::metrics::{Kind, METRICS};
use derp_relay::settings;
use support::peer::{Peer, Way, dial, private};
use support::process::{Program, command, serve_arguments};
use support::verifier::{Reply, Verifier};
use support::{HOSTS, http, stun, value};

/// A row of the document.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    kind: String,
    /// Names of labels, in order, with all values; none where the document lists none.
    labels: Vec<(String, BTreeSet<String>)>,
    meaning: String,
}

/// What a scrape says of one name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    help: String,
    /// By label: its values. In the order of the first sample.
    labels: Vec<(String, BTreeSet<String>)>,
}

/// Whoever copies a block into a file gets a relay, or is told about files that are not there.
#[test]
fn settings_in_the_documents_are_taken() {
    let names = Keys::names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let blocks = documents::settings(false);
    for block in &blocks {
        let keys = settings::parse::<Keys>(Path::new("relay.toml"), &block.text, &names);
        let keys = keys.unwrap_or_else(|error| panic!("{}: {error}", block.place));
        Config::new(keys).unwrap_or_else(|error| panic!("{}: {error}", block.place));
    }
    assert!(blocks.len() > 1, "{blocks:?}");
}

/// Each flag there is one that the program knows, with a value that it takes.
#[test]
fn calls_in_the_documents_are_taken() {
    let calls = documents::calls("derp-relay");
    for (place, arguments) in &calls {
        let mut call = command(arguments);
        // Arguments are read up to this one, and nothing is done.
        call.arg("--help");
        let ended = Program::run(call);
        assert_eq!(ended.status.code(), Some(0), "{place}: {arguments:?}: {ended:?}");
    }
    assert!(calls.len() > 3, "{calls:?}");
}

/// Names, types, labels and meanings, in the same order.
#[test]
fn the_document_has_the_rows_of_the_program() {
    let documented: Vec<_> = rows()
        .into_iter()
        .map(|row| {
            let labels: Vec<String> = row.labels.into_iter().map(|(label, _)| label).collect();
            (row.name, row.kind, labels, row.meaning)
        })
        .collect();
    let counted: Vec<_> = METRICS
        .iter()
        .map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|&label| label.into()).collect();
            (metric.name.into(), word(metric.kind).into(), labels, metric.help.into())
        })
        .collect();
    assert_eq!(documented, counted, "docs/metrics.md and metrics/table.rs");
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "a name comes twice");
}

/// A relay that has had traffic of every kind shows each row, with the documented values of its
/// labels, and nothing else; and the sums of the document hold.
#[test]
fn a_scrape_has_the_rows_of_the_document_and_no_other() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let refused = private(66).public().to_string();
        let verifier = Verifier::start(host, move |question| {
            if question.body.contains(&refused) { Reply::deny() } else { Reply::allow() }
        });
        let mut serve = serve_arguments(host, Way::Tls13, state.path());
        let access = serve.iter().position(|argument| argument == "--access").unwrap();
        serve.drain(access..access + 2);
        let more = ["--verify-url", &verifier.url(), "--shards", "2"];
        serve.extend(more.map(str::to_owned));
        let relay = Program::start(command(&serve));

        let (one, two) = traffic(&relay);

        let scrape = relay.scrape();
        let shown = families(&scrape);
        let documented: BTreeMap<_, _> =
            rows().into_iter().map(|row| (row.name.clone(), row)).collect();
        assert_eq!(shown.keys().collect::<Vec<_>>(), documented.keys().collect::<Vec<_>>());
        for (name, Family { kind, help, labels }) in &shown {
            let row = &documented[name];
            assert_eq!((kind, help), (&row.kind, &row.meaning), "{name}");
            for ((label, values), (documented, all)) in labels.iter().zip(&row.labels) {
                assert_eq!(label, documented, "{name}");
                assert!(all.is_empty() || values == all, "{name}: {values:?}, not {all:?}");
            }
            assert_eq!(labels.len(), row.labels.len(), "{name}");
        }
        holds_sums(&scrape);
        drop((one, two));
    }
}

/// Each section of the document speaks of names that there are.
#[test]
fn the_text_of_the_document_names_no_other_metric() {
    let text = document();
    let known: BTreeSet<String> = rows().into_iter().map(|row| row.name).collect();
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for word in text.split(|c| !is_of_a_name(c)) {
        let is_name = ["derp_", "derper_", "stun_"]
            .iter()
            .any(|front| word.strip_prefix(front).is_some_and(|rest| !rest.is_empty()));
        assert!(!is_name || known.contains(word), "{word}");
    }
}

/// A packet, a login, a refusal, a request and a datagram of each kind; returns who is still
/// connected.
fn traffic(relay: &Program) -> (Peer, Peer) {
    let derp = relay.address("derp");
    let mut one = Peer::connect(derp, Way::Tls13, 1);
    let mut two = Peer::connect(derp, Way::Tls12, 2);
    one.send_packet(&two.key, b"hello");
    assert_eq!(two.packet().1, b"hello");
    one.send_packet(&private(77).public(), b"to nobody");
    one.is_up();
    assert!(Peer::try_connect(derp, Way::Tls13, private(66)).is_err());
    drop(Peer::connect(derp, Way::Tls13, 2));
    for path in ["/derp/probe", "/generate_204", "/robots.txt", "/", "/derp", "/nowhere"] {
        http::get_over(&mut *dial(derp, Way::Tls13), path);
    }
    http::get(relay.address("http"), "/");
    // Plain HTTP where TLS belongs.
    drop(dial(derp, Way::Plain).write_all(b"GET / HTTP/1.1\r\n\r\n"));
    stun::answers(relay.address("stun"));
    for (metric, count) in [
        ("derp_logins", 3),
        ("derp_accepts", 4),
        ("derp_packets_received", 2),
        ("derp_packets_sent", 1),
        ("derp_bytes_sent", 5),
        (r#"derp_packets_dropped{reason="unknown_dest",kind="other"}"#, 1),
        (r#"derp_bytes_dropped{reason="unknown_dest",kind="other"}"#, 9),
        (r#"derp_packets_received_kind{kind="other"}"#, 2),
        ("derp_got_ping", 1),
        ("derp_sent_pong", 1),
        ("derp_current_connections", 2),
        ("derp_clients_total", 2),
        ("derp_total_dup_client_conns", 1),
        (r#"derp_access{outcome="allowed"}"#, 3),
        (r#"derp_access{outcome="denied"}"#, 1),
        (r#"derp_logins_failed{reason="refused"}"#, 1),
        (r#"derp_connections_accepted{listener="http"}"#, 1),
        (r#"derp_connections_accepted{listener="derp"}"#, 11),
        (r#"derp_http_requests{endpoint="probe"}"#, 1),
        (r#"derp_http_requests{endpoint="derp"}"#, 5),
        ("derp_upgrades_refused", 1),
        (r#"derper_tls_request_version{version="1.2"}"#, 1),
        (r#"derper_tls_request_version{version="1.3"}"#, 9),
        (r#"derp_tls_failures{reason="malformed"}"#, 1),
        (r#"stun_requests{disposition="success"}"#, 1),
        ("derp_connections_pending", 0),
        ("derp_tls_handshakes", 0),
    ] {
        relay.counts(metric, count);
    }
    (one, two)
}

/// The sums of the document, on a relay at rest.
fn holds_sums(scrape: &str) {
    let one = |name: &str| value(scrape, name);
    let all = |name: &str| -> f64 {
        let front = format!("{name}{{");
        let samples = scrape.lines().filter(|line| line.starts_with(&front));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    for (left, right) in [
        (
            one("derp_packets_received"),
            one("derp_packets_sent") + all("derp_packets_dropped") + one("derp_packets_queued"),
        ),
        (one("derp_bytes_received"), one("derp_bytes_sent") + all("derp_bytes_dropped")),
        (one("derp_packets_received"), all("derp_packets_received_kind")),
        (one("derp_accepts"), one("derp_logins") + all("derp_logins_failed")),
        (one("derp_accepts"), all("derp_access")),
        (
            all("derp_connections_accepted") - all("derp_connections_rejected"),
            // One came for plain HTTP.
            all("derper_tls_request_version") + all("derp_tls_failures") + 1.0,
        ),
        (one("derp_current_connections"), all("derp_shard_connections")),
        (
            one("derp_current_connections"),
            one("derp_clients_total") - one("derp_current_dup_client_keys")
                + one("derp_current_dup_client_conns"),
        ),
    ] {
        assert_eq!(left, right, "{scrape}");
    }
}

/// The rows of the one table with metrics.
fn rows() -> Vec<Row> {
    let text = document();
    let (_, table) = text.split_once("| name | type | labels | meaning | derper |\n").unwrap();
    let lines = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [name, kind, labels, meaning, derper] = cells[..] else { panic!("{line}") };
            assert!(["", "yes"].contains(&derper), "{line}");
            Row {
                name: name.trim_matches('`').to_owned(),
                kind: kind.to_owned(),
                labels: labels.split(';').filter(|label| !label.is_empty()).map(label).collect(),
                meaning: meaning.to_owned(),
            }
        })
        .collect()
}

/// `` `reason`: `one`, `two` ``
fn label(text: &str) -> (String, BTreeSet<String>) {
    let mut words = text.split('`').skip(1).step_by(2).map(str::to_owned);
    (words.next().unwrap(), words.collect())
}

fn families(scrape: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in scrape.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            help.clone_into(&mut families.entry(name.to_owned()).or_default().help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            kind.clone_into(&mut families.entry(name.to_owned()).or_default().kind);
        } else {
            let (name, labels) = line
                .rsplit_once(' ')
                .unwrap()
                .0
                .split_once('{')
                .unwrap_or((line.split(' ').next().unwrap(), "}"));
            // A histogram's samples are named after what they are of it.
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|end| name.strip_suffix(end))
                .find(|name| families.get(*name).is_some_and(|family| family.kind == "histogram"));
            let name = of_histogram.unwrap_or(name).to_owned();
            let family = families.entry(name).or_default();
            let pairs = labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
            for (place, pair) in pairs.enumerate() {
                let (label, value) = pair.split_once('=').unwrap();
                if family.labels.len() == place {
                    family.labels.push((label.to_owned(), BTreeSet::new()));
                }
                assert_eq!(family.labels[place].0, label, "{line}");
                family.labels[place].1.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    families
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    std::fs::read_to_string(path).unwrap()
}
