//! The probe against relays that work, and against everything that is none.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "support/quiet.rs"]
mod quiet;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use derp::key::NodePrivate;
use derp_relay::probe::{self, Authorities, Fault, Outcome, Part, STEP_TIME, Target, Trust};
use derp_relay::{AccessConfig, Relay};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;

/// How an answer to HTTP begins.
const HTTP: &str = "HTTP/1.1 101 ";

const HOSTS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// DERP-1.3, DERP-3.1, DERP-9.4: a relay that works, with TLS and without.
#[test]
fn a_relay_that_works_is_found_to_work() {
    for host in HOSTS {
        for tls in [true, false] {
            let relay = Fixture::start(host, tls, AccessConfig::Open);

            let report = probe::run(&relay.target());

            let parts: Vec<Part> = report.steps.iter().map(|step| step.part).collect();
            assert_eq!(
                parts,
                [
                    Part::Stun,
                    Part::Connect,
                    Part::Login,
                    Part::Packets,
                    Part::FastStart,
                    Part::Challenge
                ]
            );
            assert!(report.is_good(), "{report:?}");
            for step in &report.steps {
                // Without TLS no client can know the relay's key before it is told.
                let tried = matches!(step.outcome, Outcome::Good { .. });
                assert_eq!(tried, tls || step.part != Part::FastStart, "{step:?}");
            }
            relay.relay.stop();
        }
    }
}

/// DERP-8.3: nobody gets in, and the probe is nobody.
#[test]
fn a_relay_that_refuses_the_login_fails_there_and_later_steps_are_not_tried() {
    for host in HOSTS {
        let relay = Fixture::start(host, true, AccessConfig::Nobody);

        let report = probe::run(&relay.target());

        let failure = report.first_failure().unwrap();
        assert_eq!(failure.part, Part::Login);
        assert!(matches!(failure.outcome, Outcome::Failed(Fault::NotAdmitted)), "{failure:?}");
        let not_tried = |part| {
            let mut steps = report.steps.iter();
            steps.any(|it| it.part == part && matches!(it.outcome, Outcome::NotTried(_)))
        };
        assert!(not_tried(Part::Packets) && not_tried(Part::FastStart), "{report:?}");
    }
}

/// DERP-10.4: the rules by which Tailscale's clients take a pin.
#[test]
fn a_certificate_that_no_client_would_take_is_refused() {
    for host in HOSTS {
        let relay = Fixture::start(host, true, AccessConfig::Open);
        let good = relay.target();
        let Trust::Pin(pin) = &good.trust else { panic!("no pin") };
        let other = format!("sha256-raw:{}", "0".repeat(64));
        for (trust, name, said) in [
            (Trust::Pin(other), good.host_name.as_str(), "not sha256-raw:0000"),
            (Trust::Pin(pin.clone()), "derp.example.org", "not valid for name"),
            (Trust::Pin(pin.clone()), "192.0.2.1", "not valid for name"),
            (Trust::Pin(pin.clone()), "two words", "neither a host name nor an address"),
            (Trust::Pin("sha256-raw:12".to_owned()), good.host_name.as_str(), "the pin is no"),
            (Trust::Pin("relay".to_owned()), good.host_name.as_str(), "the pin is no"),
        ] {
            let target = Target { trust, host_name: name.to_owned(), ..good.clone() };
            let report = probe::run(&target);
            let failure = report.first_failure().unwrap();
            assert_eq!(failure.part, Part::Connect);
            let Outcome::Failed(fault) = &failure.outcome else { panic!("{failure:?}") };
            assert!(fault.to_string().contains(said), "{said}: {fault}");
        }
    }
}

/// What a map says whom to trust, in all its forms; by another name than the relay is called by.
#[test]
fn a_relay_is_trusted_as_a_map_says() {
    for host in HOSTS {
        let relay = Fixture::start(host, true, AccessConfig::Open);
        let file = relay.state.path().join("self-signed.pem");
        let authorities = Authorities::of([CertificateDer::from_pem_file(file).unwrap()]);
        let strangers = Authorities::of([]);
        let by = |authorities: &Authorities, cert_name: &str| Trust::Authority {
            authorities: authorities.clone(),
            cert_name: cert_name.to_owned(),
        };
        for (trust, name, said) in [
            (by(&authorities, &host.to_string()), host.to_string(), None),
            (by(&authorities, &host.to_string()), "derp.example.org".to_owned(), None),
            (by(&authorities, "derp.example.org"), host.to_string(), Some("not valid for name")),
            (by(&authorities, "two words"), host.to_string(), Some("neither a host name")),
            (by(&strangers, &host.to_string()), host.to_string(), Some("no certificates of")),
            (Trust::Anyone, "derp.example.org".to_owned(), None),
        ] {
            let target = Target { trust, host_name: name, ..relay.target() };
            let report = probe::greet(&target, NodePrivate::from_random([7; 32]));
            let failure = report.first_failure().map(|step| match &step.outcome {
                Outcome::Failed(fault) => fault.to_string(),
                Outcome::Good { .. } | Outcome::NotTried(_) => String::new(),
            });
            match said {
                None => assert!(failure.is_none() && report.steps.len() == 3, "{report:?}"),
                Some(said) => assert!(failure.is_some_and(|it| it.contains(said)), "{report:?}"),
            }
        }
    }
}

/// Whatever answers in a relay's place, the probe ends in time and says what it met.
#[test]
fn what_is_no_relay_is_told_apart() {
    for host in HOSTS {
        let refused = SocketAddr::new(host, quiet::port());
        let plain = |derp| Target {
            derp,
            host_name: host.to_string(),
            trust: Trust::Plain,
            stun: None,
            http: None,
        };
        for (answers, part, said) in [
            (None, Part::Connect, "refused"),
            (Some(""), Part::Login, "closes the connection"),
            (Some("HTTP/1.1 200 OK\r\n\r\n"), Part::Login, "answers HTTP/1.1 200 OK"),
            (
                Some(
                    "HTTP/1.1 101 Switching Protocols\r\n\r\n\x01\0\0\0\x28no DERP relay says this in its greeting!",
                ),
                Part::Login,
                "magic",
            ),
            (Some("HTTP/1.1 101 Switching Protocols\r\n\r\n"), Part::Login, "closes"),
        ] {
            let address = answers.map_or(refused, |answer| serve(host, answer));

            let report = probe::run(&plain(address));

            let failure = report.first_failure().unwrap();
            let Outcome::Failed(fault) = &failure.outcome else { panic!("{failure:?}") };
            assert_eq!(failure.part, part, "{answers:?}: {fault}");
            assert!(fault.to_string().contains(said), "{answers:?}: {fault}");
        }
    }
}

/// A byte now and then is no progress: each step has its time.
#[test]
fn a_peer_that_drips_or_is_silent_is_given_up() {
    std::thread::scope(|scope| {
        for host in HOSTS {
            let pin = Trust::Pin(format!("sha256-raw:{}", "0".repeat(64)));
            // The beginning of an answer, and of a TLS record.
            for (trust, begin) in [(Trust::Plain, HTTP), (pin, "\x16\x03\x03\x40\0\x02")] {
                scope.spawn(move || {
                    let silent = UdpSocket::bind((host, 0)).unwrap();
                    let target = Target {
                        derp: drip(host, begin),
                        host_name: host.to_string(),
                        trust,
                        stun: Some(silent.local_addr().unwrap()),
                        http: Some(drip(host, HTTP)),
                    };
                    let began = Instant::now();

                    let report = probe::run(&target);

                    // A slow machine may take longer; without end is the fault.
                    assert!(began.elapsed() < 10 * STEP_TIME, "{report:?}");
                    let late = |part| {
                        let mut steps = report.steps.iter().filter(move |it| it.part == part);
                        steps.all(|it| matches!(it.outcome, Outcome::Failed(Fault::TimedOut)))
                    };
                    let dripping = report.steps.iter().find(|step| {
                        !matches!(step.outcome, Outcome::Good { .. }) && step.part != Part::Stun
                    });
                    assert!(late(Part::Stun) && late(Part::Challenge), "{report:?}");
                    assert!(late(dripping.unwrap().part), "{report:?}");
                });
            }
        }
    });
}

/// STUN-4.4: noise, and the answer to another question, are passed over.
#[test]
fn an_answer_to_another_question_is_passed_over() {
    for host in HOSTS {
        let server = UdpSocket::bind((host, 0)).unwrap();
        let address = server.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            let mut datagram = [0; 1_500];
            let (length, asker) = server.recv_from(&mut datagram).unwrap();
            let mut reply = [0; stun::binding::MAX_REPLY_LEN];
            let answer = |request: &[u8], reply: &mut [u8]| {
                let rule = stun::binding::Rule::Tailnode;
                let stun::binding::Answer::Reply(length) =
                    stun::binding::respond(request, asker, rule, reply)
                else {
                    panic!("no answer")
                };
                length
            };
            server.send_to(b"noise", asker).unwrap();
            let other = stun::request::encode(stun::message::TransactionId::new([9; 12]));
            let wrong = answer(&other, &mut reply);
            server.send_to(&reply[..wrong], asker).unwrap();
            let right = answer(&datagram[..length], &mut reply);
            server.send_to(&reply[..right], asker).unwrap();
        });
        let target = Target {
            derp: address,
            host_name: host.to_string(),
            trust: Trust::Plain,
            stun: Some(address),
            http: None,
        };

        let report = probe::run(&target);

        answering.join().unwrap();
        let first = &report.steps[0];
        assert_eq!(first.part, Part::Stun);
        assert!(matches!(first.outcome, Outcome::Good { .. }), "{first:?}");
    }
}

struct Fixture {
    relay: Relay,
    host: IpAddr,
    state: TempDir,
}

impl Fixture {
    fn start(host: IpAddr, tls: bool, access: AccessConfig) -> Self {
        let state = TempDir::new().unwrap();
        let any = (host, 0).into();
        let mut builder = Relay::builder()
            .listen_derp(any)
            .listen_http(any)
            .listen_stun(any)
            .key_file(state.path().join("derp.key"))
            .access(access);
        if tls {
            builder = builder.self_signed(&host.to_string(), state.path());
        }
        Self { relay: builder.start().unwrap(), host, state }
    }

    fn target(&self) -> Target {
        let addresses = self.relay.addresses();
        Target {
            derp: addresses.derp[0],
            host_name: self.host.to_string(),
            trust: self.relay.certificate_pin().map_or(Trust::Plain, Trust::Pin),
            stun: Some(addresses.stun[0]),
            http: Some(addresses.http[0]),
        }
    }
}

/// Reads one request and answers with these bytes, on every connection.
fn serve(host: IpAddr, answer: &'static str) -> SocketAddr {
    each_connection(host, move |mut stream| {
        let mut request = [0; 4_096];
        drop(stream.read(&mut request));
        drop(stream.write_all(answer.as_bytes()));
    })
}

/// Sends one byte after the other of an answer that begins like this and never ends.
fn drip(host: IpAddr, begin: &'static str) -> SocketAddr {
    each_connection(host, |mut stream| {
        for byte in begin.as_bytes().iter().chain(std::iter::repeat(&b'a')) {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    })
}

fn each_connection(host: IpAddr, talk: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test program.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let talk = talk.clone();
            std::thread::spawn(move || talk(stream.unwrap()));
        }
    });
    address
}
