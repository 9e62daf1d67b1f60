//! Connections that never come to a login: silent, slow, or stuck half way.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustls::ClientConnection;

use crate::support::HOSTS;
use crate::support::peer::{UPGRADE, Way, client_hello, dial, private, read_frame, upgrade};
use crate::support::process::{Program, command, serve_arguments};
use crate::{NOTHING, relays};

/// When a connection has to be over that has not logged in, with much room for a busy machine. A
/// deadline that started anew with each byte would be over after forty seconds at the earliest.
const DEADLINE: std::ops::Range<Duration> = Duration::from_secs(9)..Duration::from_secs(30);

/// Strangers that are there while a good client comes and goes; there are more.
const CROWD: usize = 200;

/// How far a connection comes, and how it goes on from there.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Says nothing at all.
    Silent,
    /// Begins a TLS record, or a request, and says no more.
    ThreeBytes,
    /// Says hello and leaves the answer unanswered.
    HalfHandshake,
    /// Says hello a byte a second.
    SlowHello,
    /// Sends the request a byte a second, in a record each where there is TLS.
    SlowHead,
    /// Asks for the upgrade, and sends its `ClientInfo` a byte a second.
    SlowInfo,
}

/// DERP-3.5, check-H14: with two hundred of them open at each address, on every listener, good
/// clients log in as before; and each is closed at its deadline.
#[test]
fn slow_and_silent_strangers_hinder_nobody_and_are_closed_in_time() {
    std::thread::scope(|scope| {
        for way in [Way::Plain, Way::Tls13] {
            scope.spawn(move || meet_strangers(way));
        }
    });
}

fn meet_strangers(way: Way) {
    let state = tempfile::tempdir().unwrap();
    let mut relay = both_families(way, state.path());
    let habits: &[Habit] = match way {
        Way::Plain => &[Habit::Silent, Habit::ThreeBytes, Habit::SlowHead, Habit::SlowInfo],
        Way::Tls12 | Way::Tls13 => &[
            Habit::Silent,
            Habit::ThreeBytes,
            Habit::HalfHandshake,
            Habit::SlowHello,
            Habit::SlowHead,
            Habit::SlowInfo,
        ],
    };
    let mut strangers = Vec::new();
    for place in 0..HOSTS.len() {
        for number in 0..160 {
            let derp = relay.addresses("derp")[place];
            strangers.push(Stranger::new(derp, way, habits[number % habits.len()]));
        }
        for number in 0..40 {
            let habit = [Habit::Silent, Habit::SlowHead][number % 2];
            strangers.push(Stranger::new(relay.addresses("http")[place], Way::Plain, habit));
        }
        for number in 0..10 {
            let habit = [Habit::Silent, Habit::SlowHead][number % 2];
            strangers.push(Stranger::new(relay.addresses("metrics")[place], Way::Plain, habit));
        }
    }

    let begun = Instant::now();
    let mut served_beside_a_crowd = false;
    for second in 0.. {
        for stranger in &mut strangers {
            stranger.go_on();
        }
        if second % 3 == 0 && second < 9 {
            relays(&relay, way);
            relay.scrape();
            strangers.iter_mut().for_each(Stranger::look);
            let left = strangers.iter().filter(|stranger| stranger.closed.is_none()).count();
            served_beside_a_crowd |= left >= CROWD;
        }
        if strangers.iter().all(|stranger| stranger.closed.is_some()) {
            break;
        }
        assert!(begun.elapsed() < DEADLINE.end, "some are still open");
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(100));
            strangers.iter_mut().for_each(Stranger::look);
        }
    }

    assert!(served_beside_a_crowd, "good clients had to wait until strangers were gone");
    for stranger in &strangers {
        let lived = stranger.closed.unwrap() - stranger.opened;
        assert!(DEADLINE.contains(&lived), "{way:?} {:?}: {lived:?}", stranger.habit);
    }
    relay.counts("derp_connections_pending", 0);
    relay.is_unharmed();
}

/// Silent connections to the metrics listener, however many, do not hold up a scrape: the oldest
/// make place.
#[test]
fn a_silent_crowd_does_not_hold_up_a_scrape() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let relay = Program::serve(host, Way::Plain, state.path(), NOTHING);
        let metrics = relay.address("metrics");
        // They end by themselves after a while: a slow machine gets more tries.
        let in_time = (0..5).any(|_| {
            let begun = Instant::now();
            let crowd: Vec<_> = (0..200).map(|_| TcpStream::connect(metrics).unwrap()).collect();
            for _ in 0..5 {
                relay.scrape();
            }
            drop(crowd);
            begun.elapsed() < DEADLINE.start / 2
        });
        assert!(in_time, "a scrape has to wait until strangers are closed");
    }
}

/// DERP-3.9: a connection that is kept for HTTP has its ten seconds from each answer.
#[test]
fn a_kept_connection_is_closed_ten_seconds_after_its_last_answer() {
    std::thread::scope(|scope| {
        for host in HOSTS {
            scope.spawn(move || keep_a_connection(host));
        }
    });
}

fn keep_a_connection(host: IpAddr) {
    let state = tempfile::tempdir().unwrap();
    let relay = Program::serve(host, Way::Tls13, state.path(), NOTHING);
    let mut stream = dial(relay.address("derp"), Way::Tls13);
    let mut asked = Instant::now();
    for _ in 0..2 {
        asked = Instant::now();
        stream.write_all(b"GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "));
        std::thread::sleep(Duration::from_secs(3));
    }

    let ended = stream.read_to_end(&mut Vec::new());

    let waited = asked.elapsed();
    assert!(ended.is_ok() && DEADLINE.contains(&waited), "{ended:?} {waited:?}");
}

/// One of many strangers, looked after without a thread of its own.
struct Stranger {
    habit: Habit,
    socket: TcpStream,
    opened: Instant,
    closed: Option<Instant>,
    /// What it still wants to say, one piece a second.
    pieces: std::vec::IntoIter<Vec<u8>>,
}

impl Stranger {
    fn new(address: SocketAddr, way: Way, habit: Habit) -> Self {
        let opened = Instant::now();
        let one_by_one = |bytes: &[u8]| bytes.iter().map(|byte| vec![*byte]).collect();
        let (socket, pieces): (TcpStream, Vec<Vec<u8>>) = match (habit, way) {
            (Habit::Silent, _) => (TcpStream::connect(address).unwrap(), Vec::new()),
            (Habit::ThreeBytes, Way::Plain) => {
                (TcpStream::connect(address).unwrap(), vec![b"GET".to_vec()])
            }
            (Habit::ThreeBytes, _) => {
                (TcpStream::connect(address).unwrap(), vec![vec![0x16, 3, 1]])
            }
            (Habit::HalfHandshake, _) => {
                (TcpStream::connect(address).unwrap(), vec![client_hello()])
            }
            (Habit::SlowHello, _) => {
                (TcpStream::connect(address).unwrap(), one_by_one(&client_hello()[..40]))
            }
            (Habit::SlowHead, Way::Plain) => {
                (TcpStream::connect(address).unwrap(), one_by_one(&UPGRADE[..40]))
            }
            (Habit::SlowHead, _) => {
                let mut stream = dial(address, way);
                let mut socket = stream.socket().try_clone().unwrap();
                let tls = stream.tls().unwrap();
                while tls.is_handshaking() {
                    tls.complete_io(&mut socket).unwrap();
                }
                (socket, sealed_one_by_one(tls, &UPGRADE[..40]))
            }
            (Habit::SlowInfo, _) => {
                let mut stream = dial(address, way);
                upgrade(&mut *stream);
                read_frame(&mut *stream).unwrap();
                let key = private(7).public();
                let mut info = vec![0x02, 0, 0, 0, 100];
                info.extend(key.as_bytes());
                let socket = stream.socket().try_clone().unwrap();
                let pieces = match stream.tls() {
                    Some(tls) => sealed_one_by_one(tls, &info),
                    None => one_by_one(&info),
                };
                (socket, pieces)
            }
        };
        socket.set_nonblocking(true).unwrap();
        Self { habit, socket, opened, closed: None, pieces: pieces.into_iter() }
    }

    /// Says its next piece, if it is not closed yet.
    fn go_on(&mut self) {
        if self.closed.is_none()
            && let Some(piece) = self.pieces.next()
        {
            // An end is noticed by looking.
            drop(self.socket.write_all(&piece));
        }
    }

    /// Looks whether the relay has closed the connection.
    fn look(&mut self) {
        if self.closed.is_some() {
            return;
        }
        loop {
            match self.socket.read(&mut [0; 4_096]) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => {
                    self.closed = Some(Instant::now());
                    return;
                }
            }
        }
    }
}

/// A record for each byte.
fn sealed_one_by_one(tls: &mut ClientConnection, bytes: &[u8]) -> Vec<Vec<u8>> {
    let seal = |byte: &u8| {
        tls.writer().write_all(&[*byte]).unwrap();
        let mut record = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut record).unwrap();
        }
        record
    };
    bytes.iter().map(seal).collect()
}

/// A relay that listens in both families for everything.
fn both_families(way: Way, state: &std::path::Path) -> Program {
    let mut serve = serve_arguments(HOSTS[0], way, state);
    let second: IpAddr = HOSTS[1];
    for what in ["derp", "http", "stun", "metrics"] {
        serve.extend([format!("--listen-{what}"), SocketAddr::new(second, 0).to_string()]);
    }
    Program::start(command(&serve))
}
