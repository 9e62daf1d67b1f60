//! What the log says of those who are refused or cut off, and how often.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use derp_relay::AccessConfig;
use derp_relay::access::{Access, Decision};

use crate::support::peer::{Peer, Way, dial, private};
use crate::support::process::{Program, command, serve_arguments};
use crate::support::verifier::{Reply, Verifier};
use crate::support::{HOSTS, http};

/// DERP-8.9: ten thousand refusals are a few lines, and the last one has their number.
#[test]
fn ten_thousand_refusals_are_a_few_lines() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    tracing::subscriber::with_default(lines.finish(), || {
        let access = Access::new(AccessConfig::Nobody).unwrap();
        let source = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
        for number in 0..10_000 {
            let key = private(number).public();
            let decision = runtime.block_on(access.decide(&key, source));
            assert_eq!(decision, Decision::Refuse("denied"));
        }
    });

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 11, "{text}");
    assert!(lines[0].contains("refused a client: nobody may enter this relay"), "{text}");
    assert!(lines[0].contains("source=203.0.113.9"), "{text}");
    assert!(lines[10].contains("refused clients 9990 times more"), "{text}");
}

/// DERP-8.9: in words, with the reason; the addresses of clients at no level where the operator
/// wants none.
#[test]
fn lines_say_why_and_show_an_address_only_if_wanted() {
    for host in HOSTS {
        let verifier = Verifier::start(host, |question| {
            let refused = private(66).public().to_string();
            if question.body.contains(&refused) { Reply::deny() } else { Reply::allow() }
        });
        for addresses in ["on", "off"] {
            let state = tempfile::tempdir().unwrap();
            let mut serve = serve_arguments(host, Way::Plain, state.path());
            let access = serve.iter().position(|argument| argument == "--access").unwrap();
            serve.drain(access..access + 2);
            let url = verifier.url();
            let more = ["--log-level", "debug", "--log-addresses", addresses, "--verify-url", &url];
            serve.extend(more.map(str::to_owned));
            let relay = Program::start(command(&serve));
            let derp = relay.address("derp");

            let mut clients = Vec::new();
            let [admitted, refused, broken] = [0; 3].map(|_| {
                let stream = dial(derp, Way::Plain);
                clients.push(stream.socket().local_addr().unwrap());
                stream
            });
            Peer::log_in(admitted, private(1)).unwrap().is_up();
            assert!(Peer::log_in(refused, private(66)).is_err());
            let mut broken = broken;
            broken.write_all(b"\x00\x01\x02\r\n\r\n").unwrap();
            relay.counts("derp_http_failures", 1);
            drop(http::get(derp, "/"));

            let log = relay.stop().err;
            let line = "refused a client: the verifiers do not know its node";
            let refusal = log.lines().find(|found| found.contains(line)).unwrap_or_default();
            assert!(refusal.contains("INFO") && refusal.contains("key=["), "{log}");
            assert!(log.contains("logged in") && log.contains("tailnet=\"default\""), "{log}");
            let wanted = addresses == "on";
            assert_eq!(refusal.contains(&format!("source={host}")), wanted, "{log}");
            for client in clients {
                assert_eq!(log.contains(&client.to_string()), wanted, "{client}: {log}");
            }
        }
    }
}

/// What a subscriber writes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::ErrorKind::Other)?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
