//! Strangers that are slow, greedy or rude. Each meets a bound, and nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use coord_bridge::http::listener::{CONNECTION_TIME, HEAD_TIME, MAX_CONNECTIONS};
use tempfile::TempDir;

use crate::client::{dial, get, read_to_end, send};
use crate::program::{PATIENCE, Program};
use crate::{HOSTS, config_on};

/// A byte now and then: the head has to be whole in time, however it comes.
#[test]
fn a_slow_request_is_closed_and_a_good_client_is_not_hurt() {
    std::thread::scope(|scope| {
        for host in HOSTS {
            scope.spawn(move || {
                let folder = TempDir::new().unwrap();
                let program = Program::serve(folder.path(), &config_on(host));
                let mut slow = Vec::new();
                for name in ["map", "register"] {
                    for opening in ["", "G", "GET /derpmap.json HTTP/1.1\r\nHost: x\r\nA: "] {
                        let mut stream = dial(program.address(name));
                        stream.write_all(opening.as_bytes()).unwrap();
                        slow.push((stream, !opening.is_empty()));
                    }
                    // One that has asked, and then falls silent.
                    let mut stream = dial(program.address(name));
                    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                    let mut came = [0; 12];
                    stream.read_exact(&mut came).unwrap();
                    assert_eq!(&came, b"HTTP/1.1 200");
                    slow.push((stream, false));
                }
                let began = Instant::now();
                while !slow.is_empty() {
                    slow.retain_mut(|(stream, drips)| is_open(stream, *drips));
                    for name in ["map", "register"] {
                        assert_eq!(get(program.address(name), "/health").status, 200);
                    }
                    assert!(began.elapsed() < PATIENCE, "{} are still open", slow.len());
                    std::thread::sleep(Duration::from_millis(200));
                }
                assert_eq!(program.log(), "", "no stranger fills the log");
                program.stop();
            });
        }
        scope.spawn(|| a_slow_body_is_refused_in_time(HOSTS[0]));
        scope.spawn(|| a_slow_body_is_refused_in_time(HOSTS[1]));
    });
}

fn a_slow_body_is_refused_in_time(host: &str) {
    let folder = TempDir::new().unwrap();
    let program = Program::serve(folder.path(), &config_on(host));
    let request = b"POST /register HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                    Content-Length: 100\r\n\r\n{";
    let answer = send(program.address("register"), request).unwrap();
    assert_eq!(answer.status, 408);
    assert!(answer.text().starts_with('{'), "{answer:?}");
    // Where no body is wanted none is waited for.
    let request = b"POST /derpmap.json HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    let answer = send(program.address("map"), request).unwrap();
    assert_eq!(answer.status, 405);
    program.stop();
}

/// More connections than there are places: the oldest go, whoever asks is answered.
#[test]
fn a_crowd_of_idle_connections_keeps_nobody_out() {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let program = Program::serve(folder.path(), &config_on(host));
        for name in ["map", "register"] {
            // Idle connections end by themselves, after a while: a slow machine gets more tries.
            let makes_place = (0..5).any(|_| crowd_makes_place(program.address(name)));
            assert!(makes_place, "the oldest stay until their time is over");
        }
        assert_eq!(program.log(), "", "no stranger fills the log");
        program.stop();
    }
}

/// Whether connections beyond the bound push out the oldest before their time is over.
fn crowd_makes_place(address: SocketAddr) -> bool {
    const TOO_MANY: usize = 50;
    derp_relay::socket::raise_descriptor_limit().unwrap();
    let began = Instant::now();
    let mut crowd: Vec<TcpStream> =
        (0..MAX_CONNECTIONS + TOO_MANY).map(|_| dial(address)).collect();
    for _ in 0..20 {
        assert_eq!(get(address, "/health").status, 200);
    }
    let (oldest, others) = crowd.split_at_mut(TOO_MANY);
    while oldest.iter_mut().any(|stream| is_open(stream, false)) {
        if began.elapsed() > HEAD_TIME / 2 {
            return false;
        }
    }
    // The newest were not the ones to go.
    began.elapsed() > HEAD_TIME / 2 || others.last_mut().is_some_and(|it| is_open(it, false))
}

/// Nobody has to be listened to for as long as they send.
#[test]
fn a_huge_head_or_body_is_cut() {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let program = Program::serve(folder.path(), &config_on(host));
        for (name, head) in [
            ("map", "GET /derpmap.json HTTP/1.1\r\nX: "),
            ("map", "GET /"),
            ("map", "POST /derpmap.json HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"),
            (
                "register",
                "POST /register HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
            ),
            ("register", "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"),
        ] {
            let mut stream = dial(program.address(name));
            stream.write_all(head.as_bytes()).unwrap();
            let piece = vec![b'a'; 64 * 1024];
            let mut sent = 0;
            while stream.write_all(&piece).is_ok() {
                sent += piece.len();
                assert!(sent < 500_000_000, "{head} is taken without end");
            }
            assert_eq!(get(program.address(name), "/health").status, 200);
        }
        assert_eq!(program.log(), "", "no stranger fills the log");
        program.stop();
    }
}

/// Requests without end, whose answers nobody reads: what waits is bounded.
#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let program = Program::serve(folder.path(), &config_on(host));
        let mut stream = dial(program.address("map"));
        stream.set_nonblocking(true).unwrap();
        let requests = "GET /derpmap.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
        let (mut sent, mut last) = (0_usize, Instant::now());
        // Until nothing more is taken for a while.
        while last.elapsed() < Duration::from_secs(1) {
            match stream.write(requests.as_bytes()) {
                Ok(length) => (sent, last) = (sent + length, Instant::now()),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            assert!(sent < 500_000_000, "taken without end");
        }
        assert_eq!(get(program.address("map"), "/derpmap.json").status, 200);
        program.stop();
    }
}

/// Whoever asks again and again, or never reads, has the place for a bounded time only.
#[test]
#[ignore = "stress: takes more than a minute"]
fn stress_a_connection_does_not_last_forever() {
    let folder = TempDir::new().unwrap();
    let program = Program::serve(folder.path(), &config_on(HOSTS[0]));
    let mut busy = dial(program.address("map"));
    let mut deaf = dial(program.address("map"));
    deaf.set_nonblocking(true).unwrap();
    let request = b"GET /derpmap.json HTTP/1.1\r\nHost: x\r\n\r\n";
    while deaf.write(&request.repeat(1_000)).is_ok() {}
    deaf.set_nonblocking(false).unwrap();
    let began = Instant::now();
    let mut answered = 0;
    while busy.write_all(request).is_ok() && is_open(&mut busy, false) {
        answered += 1;
        assert!(began.elapsed() < 3 * CONNECTION_TIME, "still open");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(answered > 10);
    // The answers that the system holds can be read, and then there is an end.
    assert!(!read_to_end(&mut deaf).is_empty());
    program.stop();
}

/// Whether the other side keeps the connection; sends it one more byte if it is one that drips.
fn is_open(stream: &mut TcpStream, drips: bool) -> bool {
    if drips && stream.write_all(b"a").is_err() {
        return false;
    }
    stream.set_nonblocking(true).unwrap();
    let mut rest = [0; 4_096];
    let open = loop {
        match stream.read(&mut rest) {
            Ok(0) => break false,
            Ok(_) => {}
            Err(error) => break error.kind() == ErrorKind::WouldBlock,
        }
    };
    stream.set_nonblocking(false).unwrap();
    open
}
