//! Every scenario of `derp-load` against our own relay in the same process, for a moment each:
//! the generator delivers what it sends, counts it right, and survives the server.
//!
//! Nothing here depends on how fast the machine is: rates are low, and only counts are checked.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use benches::load::cli::{measure_once, parse_measure};
use benches::load::failure::Failure;
use benches::load::meter::Meter;
use benches::load::progress::Progress;
use benches::load::record::Record;
use benches::load::stop::Stop;
use benches::load::target::Trust;
use derp_relay::{AccessConfig, Relay};
use tempfile::TempDir;

/// Far more than any test here sends, and far longer than any lasts.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

/// Where there is no IPv6, its half is left out.
const FAMILIES: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

#[test]
fn pairs_deliver_everything_in_order_over_tls_and_plain_tcp() {
    for server in servers() {
        let records = server.measure("throughput --rate 2M,4M --pairs 3 --packet 700 --idle 5");

        assert_eq!(records.len(), 2, "one record for each rate");
        for record in records {
            server.check(&record, &[("loss_percent", 0.0), ("reordered", 0.0), ("repeated", 0.0)]);
            assert!(record.figures["delivered_mb"] > 0.0);
            assert!(record.figures["cpu_s_per_gb"] >= 0.0);
            assert!(record.figures["latency_p50_us"] <= record.figures["latency_max_us"]);
            assert_eq!(record.parameters["tls"], server.trust != Trust::Plain);
        }
    }
}

#[test]
fn unlimited_senders_are_verified_too() {
    for server in servers() {
        let records = server.measure("throughput --rate max --pairs 2");
        server.check(&records[0], &[("repeated", 0.0), ("reordered", 0.0)]);
        assert!(records[0].figures["sent_mbit"] > 0.0);
        assert!(!records[0].figures.contains_key("offered_mbit"), "nobody knows what is offered");
    }
}

#[test]
fn threads_share_the_pairs() {
    for server in servers() {
        let records = server.measure(
            "throughput --rate 4M --pairs 4 --threads 2 --grain 1ms --burst 8 --senders-first",
        );
        server.check(&records[0], &[("loss_percent", 0.0), ("reordered", 0.0)]);
    }
}

#[test]
fn round_trips_come_back_alone_and_beside_load() {
    for server in servers() {
        let records = server.measure("latency --interval 2ms --load 0,2M --pairs 2");

        assert_eq!(records.len(), 2);
        for record in &records {
            server.check(record, &[("rtt_lost", 0.0)]);
            assert!(record.figures["rtt_p50_us"] <= record.figures["rtt_p99_us"]);
        }
        assert!(!records[0].figures.contains_key("goodput_mbit"));
        server.check(&records[1], &[("loss_percent", 0.0)]);
    }
}

#[test]
fn idle_clients_are_all_in() {
    for server in servers() {
        let records = server.measure("idle --clients 300 --concurrency 20");
        server.check(&records[0], &[("clients", 300.0)]);
        assert!(records[0].figures.contains_key("rss_kib_per_client"));
    }
}

#[test]
fn logins_are_counted_at_a_rate_and_at_a_concurrency() {
    for server in servers() {
        for arguments in [
            "handshakes --logins 40 --concurrency 10 --beside 10M",
            "handshakes --logins 20 --rate 200",
            "handshakes --logins 20 --fast-start",
        ] {
            let records = server.measure(arguments);
            server.check(&records[0], &[("logins_failed", 0.0)]);
            assert!(records[0].figures["logins"] >= 20.0, "{arguments}");
            let beside = arguments.contains("--beside");
            assert_eq!(records[0].figures.contains_key("during_p99_us"), beside, "{arguments}");
        }
    }
}

#[test]
fn a_receiver_that_does_not_keep_up_costs_the_innocent_nothing() {
    for server in servers() {
        for arguments in [
            "fan-in --senders 4 --rate 2M --beside 1M",
            "fan-in --senders 4 --rate 2M --beside 1M --receiver-rate 500K",
            "fan-in --senders 3 --rate 2M --beside 1M --stalled 7 --pairs 2",
        ] {
            let records = server.measure(arguments);
            let lossless = [("before_loss_percent", 0.0), ("during_loss_percent", 0.0)];
            server.check(&records[0], &lossless);
            assert!(records[0].figures["storm_sent_mbit"] > 0.0, "{arguments}");
            assert!(records[0].figures.contains_key("rss_growth_mib"));
        }
    }
}

#[test]
fn stun_requests_are_answered_with_the_right_address() {
    for server in servers() {
        let records = server.measure("stun --rate 500 --ports 3");
        server.check(&records[0], &[("loss_percent", 0.0)]);
        assert!(records[0].figures["answers_per_s"] > 0.0);
    }
}

/// A mesh of one: both ends at the same relay, which is all that can be had in one process.
#[test]
fn receivers_may_be_elsewhere() {
    for server in servers() {
        let there = server.derp();
        let records = server.measure(&format!("mesh --rate 1M --pairs 2 --other {there}"));
        server.check(&records[0], &[("loss_percent", 0.0), ("reordered", 0.0)]);
    }
}

#[test]
fn a_server_that_dies_is_an_error_and_not_a_hang() {
    for mut server in servers() {
        let relay = server.relay.take().unwrap();
        let killer = thread::spawn(move || {
            wait_for_packets(&relay);
            relay.stop();
        });
        let arguments = "throughput --rate 1M --pairs 2 --warm-up 100ms --duration 60s";
        let failure = server.try_measure(arguments).unwrap_err();
        killer.join().unwrap();

        assert!(matches!(failure, Failure::Lost(_)), "{failure}");
        assert_eq!(failure.code(), 1);
    }
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    for mut server in servers() {
        server.relay.take().unwrap().stop();
        let failure = server.try_measure("throughput").unwrap_err();
        assert!(matches!(failure, Failure::Login { done: 0, .. }), "{failure}");
        let failure = server.try_measure("handshakes --logins 5").unwrap_err();
        assert!(matches!(failure, Failure::Login { done: 0, .. }), "{failure}");
    }
}

/// Plain HTTP to a TLS port, and another certificate than the pinned one.
#[test]
fn a_server_of_another_kind_is_an_error() {
    let other = format!("sha256-raw:{}", "0a".repeat(32));
    for mut server in servers().into_iter().filter(|server| server.trust != Trust::Plain) {
        for trust in [Trust::Plain, Trust::Pin(other.parse().unwrap())] {
            server.trust = trust;
            let failure = server.try_measure("throughput").unwrap_err();
            assert!(matches!(failure, Failure::Login { done: 0, .. }), "{failure}");
        }
    }
}

#[test]
fn what_cannot_be_measured_is_a_usage_error() {
    let server = servers().remove(0);
    for arguments in ["throughput --packet 31", "throughput --packet 70000", "throughput --pin x"] {
        match parse_measure(arguments.split(' ')) {
            Ok(_) => assert_eq!(server.try_measure(arguments).unwrap_err().code(), 2),
            Err(error) => assert_eq!(error.exit_code(), 2),
        }
    }
}

#[test]
fn ctrl_c_ends_a_run_with_what_was_measured() {
    let server = servers().remove(0);
    let arguments = "throughput --rate 1M,2M --pairs 1 --warm-up 1ms --duration 60s";
    let records = thread::scope(|scope| {
        scope.spawn(|| {
            wait_for_packets(server.relay.as_ref().unwrap());
            server.stop.ask();
        });
        server.try_measure(arguments).unwrap()
    });

    assert_eq!(records.len(), 1, "the second load is not begun");
    server.check(&records[0], &[("loss_percent", 0.0)]);
}

/// Packets flow only once everybody is in; so many, only after the warm-up.
fn wait_for_packets(relay: &Relay) {
    let sent = |metrics: &str| {
        let value = metrics.lines().find_map(|line| line.strip_prefix("derp_packets_sent "));
        value.and_then(|value| value.parse::<f64>().ok()).unwrap_or_default()
    };
    while sent(&relay.metrics()) < 20.0 {
        thread::sleep(Duration::from_millis(10));
    }
}

/// A relay that runs in this process.
struct Server {
    relay: Option<Relay>,
    addresses: (SocketAddr, SocketAddr),
    trust: Trust,
    stop: Stop,
    _state: TempDir,
}

/// With and without TLS, on each family that there is.
fn servers() -> Vec<Server> {
    let mut servers = Vec::new();
    for address in FAMILIES {
        let address: SocketAddr = address.parse().unwrap();
        if std::net::TcpListener::bind(address).is_err() {
            continue;
        }
        for tls in [true, false] {
            let state = tempfile::tempdir().unwrap();
            let mut relay = Relay::builder()
                .listen_derp(address)
                .listen_stun(address)
                .key_file(state.path().join("derp.key"))
                // A busy machine may hold a packet up for as long as it likes.
                .queue(QUEUE_BYTES, PATIENCE)
                .access(AccessConfig::Open);
            if tls {
                relay = relay.self_signed("localhost", state.path());
            }
            let relay = relay.start().unwrap();
            let trust = match relay.certificate_pin() {
                Some(pin) => Trust::Pin(pin.parse().unwrap()),
                None => Trust::Plain,
            };
            let addresses = (relay.addresses().derp[0], relay.addresses().stun[0]);
            let stop = Stop::default();
            servers.push(Server { relay: Some(relay), addresses, trust, stop, _state: state });
        }
    }
    servers
}

impl Server {
    fn derp(&self) -> SocketAddr {
        self.addresses.0
    }

    fn measure(&self, arguments: &str) -> Vec<Record> {
        let short = "--warm-up 50ms --duration 200ms";
        self.try_measure(&format!("{arguments} {short}")).unwrap()
    }

    fn try_measure(&self, arguments: &str) -> Result<Vec<Record>, Failure> {
        let mut words: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        if let (Trust::Pin(pin), "mesh") = (&self.trust, words[0].as_str()) {
            words.extend(["--pin".to_owned(), pin.to_string()]);
        }
        let measure = parse_measure(&words).map_err(|error| Failure::Usage(error.to_string()))?;
        let scenario = measure.scenario();
        let (address, trust) = match scenario.name() {
            "stun" => (self.addresses.1, &Trust::Plain),
            _ => (self.addresses.0, &self.trust),
        };
        let meter = Some(Meter::own());
        let target = address.to_string();
        let silent = Progress::silent();
        let bench = scenario.common().bench_at(&target, trust, meter, &self.stop, &silent)?;
        let mut records = Vec::new();
        measure_once(scenario, &bench, "ours", 0, &mut |record| {
            records.push(record.clone());
            Ok(())
        })?;
        Ok(records)
    }

    fn check(&self, record: &Record, wanted: &[(&str, f64)]) {
        for (name, value) in wanted {
            let found = record.figures.get(*name);
            assert_eq!(found, Some(value), "{name} at {}: {:?}", self.derp(), record.figures);
        }
    }
}
