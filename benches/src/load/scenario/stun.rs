//! STUN requests as Tailscale's clients send them, at a rate that the server has no say in.
//!
//! Does: sends from several ports, finds every answer's request by its transaction id, and
//! checks the address in it. Does not: send a lost request again.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use clap::Args;
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;
use serde_json::{Map, Value};
use socket2::{Domain, Protocol, Socket, Type};
use stun::message::TransactionId;
use stun::{request, response};

use super::{Bench, Common, Measured, Scenario, fields};
use crate::load::alarm::{Alarm, SHORTEST};
use crate::load::failure::Failure;
use crate::load::figure::Figures;
use crate::load::logins::wait;
use crate::load::meter::Meter;
use crate::load::pace::Pace;
use crate::load::quantity::Frequency;
use crate::load::run::Run;
use crate::load::tally::{Arrival, Arrivals, Tally};

/// The phase that counts.
const MEASURED: usize = 1;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// Bytes that the kernel may hold for a port: answers must not get lost on our side.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Room for any answer.
const MAX_ANSWER_LEN: usize = 1_500;

/// Requests in one go at most.
const TURN: usize = 64;

/// Longest sleep: the end of a run may be moved.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// Wait for answers after the last request, in nanoseconds.
const DRAIN: u64 = 300_000_000;

/// The token of the alarm.
const ALARM: Token = Token(usize::MAX);

/// STUN requests: CPU for each, loss, latency. The target is the STUN address.
#[derive(Args, Clone, Debug, Serialize)]
pub struct Stun {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    /// Requests a second.
    #[arg(long, default_value = "20K", value_name = "PER-SECOND")]
    rate: Frequency,
    /// Ports that they come from, in turn.
    #[arg(long, default_value_t = 16, value_name = "N")]
    ports: usize,
}

impl Scenario for Stun {
    fn name(&self) -> &'static str {
        "stun"
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn parameters(&self) -> Map<String, Value> {
        fields(self)
    }

    fn measure(
        &self,
        bench: &Bench,
        each: &mut dyn FnMut(Measured) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let run = Arc::new(Run::new(Instant::now(), &self.common.phases()));
        let asker = Asker::new(bench.target.address, self.ports, self.rate)?;
        let thread = {
            let run = Arc::clone(&run);
            thread::spawn(move || asker.play(&run))
        };
        let setting = &bench.setting;
        let read = || setting.server.as_ref().map(Meter::read).transpose();
        let mut costs = Vec::new();
        for phase in 0..run.phases() {
            let before = (read()?, Meter::own().read()?, run.now());
            while run.now() < run.end_of(phase) && !thread.is_finished() {
                if setting.stop.is_asked() {
                    run.stop();
                }
                let left = run.end_of(phase).saturating_sub(run.now());
                thread::sleep(Duration::from_millis(100).min(Duration::from_nanos(left)));
                setting.progress.traffic(&run);
            }
            costs.push((before, (read()?, Meter::own().read()?, run.now())));
        }
        setting.progress.clear();
        let (phases, corrupt) = thread.join().map_err(|_| Failure::Thread)??;
        if corrupt > 0 {
            return Err(Failure::Corrupt(corrupt));
        }
        let tally = phases.get(MEASURED).cloned().unwrap_or_default();
        let Some((before, after)) = costs.get(MEASURED) else { return Err(Failure::Nothing) };
        let seconds = after.2.saturating_sub(before.2) as f64 / SECOND as f64;
        if seconds <= 0.0 {
            return Err(Failure::Nothing);
        }
        let mut figures = Figures::default();
        figures.add("answers_per_s", tally.received as f64 / seconds);
        figures.add("loss_percent", crate::load::figure::loss_percent(&tally));
        figures.add_latencies(crate::load::figure::ROUND_TRIP, &tally.latency);
        let cpu =
            before.0.zip(after.0).map(|(before, after)| after.cpu_seconds - before.cpu_seconds);
        figures.add_some("cpu_us_per_answer", cpu.map(|cpu| cpu * 1e6 / tally.received as f64));
        figures.add_some("server_cores", cpu.map(|cpu| cpu / seconds));
        figures.add("generator_cores", (after.1.cpu_seconds - before.1.cpu_seconds) / seconds);
        figures.add_some("generator_late_p99_us", tally.late.percentile(99.0));
        each(Measured { varied: Map::new(), figures })
    }
}

/// A port that requests come from.
struct Port {
    socket: UdpSocket,
    own: SocketAddr,
}

/// The thread that asks.
struct Asker {
    poll: Poll,
    alarm: Alarm,
    ports: Vec<Port>,
    pace: Pace,
    sent: u64,
    arrivals: Arrivals,
    phases: Vec<Tally>,
    corrupt: u64,
}

impl Asker {
    fn new(server: SocketAddr, ports: usize, rate: Frequency) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let mut bound = Vec::new();
        for index in 0..ports.max(1) {
            let mut port = Port::open(server)?;
            poll.registry().register(&mut port.socket, Token(index), Interest::READABLE)?;
            bound.push(port);
        }
        Ok(Self {
            poll,
            alarm,
            ports: bound,
            pace: Pace::of_interval(SECOND / rate.0.max(1), 0),
            sent: 0,
            arrivals: Arrivals::default(),
            phases: Vec::new(),
            corrupt: 0,
        })
    }

    fn play(mut self, run: &Run) -> Result<(Vec<Tally>, u64), Failure> {
        self.phases = vec![Tally::default(); run.phases()];
        let mut events = Events::with_capacity(256);
        loop {
            let now = run.now();
            let missing = self.phases.iter().any(|tally| tally.lost() > 0);
            if now >= run.end() && (!missing || now >= run.end() + DRAIN) {
                return Ok((self.phases, self.corrupt));
            }
            self.ask(run)?;
            let due = self.pace.due(self.sent);
            let most = if due >= run.end() {
                LONGEST_SLEEP
            } else if due.saturating_sub(run.now()) < SHORTEST {
                Duration::ZERO
            } else {
                self.alarm.set(due, run)?;
                LONGEST_SLEEP
            };
            wait(&mut self.poll, &mut events, most)?;
            for event in &events {
                self.hear(event.token(), run)?;
            }
        }
    }

    /// Sends the requests that are due.
    fn ask(&mut self, run: &Run) -> Result<(), Failure> {
        for _ in 0..TURN {
            let (now, due) = (run.now(), self.pace.due(self.sent));
            if due > now || due >= run.end() {
                break;
            }
            let turn = usize::try_from(self.sent).unwrap_or(usize::MAX) % self.ports.len();
            match self.ports[turn].socket.send(&request::encode(id(self.sent))) {
                Ok(_) => {}
                // Nothing is lost on the way: it is due until it is sent.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What came back for an earlier one: nobody listens.
                Err(error) => return Err(Failure::Lost(error.into())),
            }
            self.sent += 1;
            let tally = &mut self.phases[run.phase_at(due)];
            tally.sent += 1;
            tally.late.add(now - due);
        }
        Ok(())
    }

    /// Takes the answers of one port.
    fn hear(&mut self, Token(index): Token, run: &Run) -> Result<(), Failure> {
        let Some(port) = self.ports.get(index) else { return Ok(()) };
        let mut datagram = [0; MAX_ANSWER_LEN];
        loop {
            let len = match port.socket.recv(&mut datagram) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Failure::Lost(error.into())),
            };
            let now = run.now();
            let answer = response::decode(datagram.get(..len).unwrap_or_default());
            let number = answer.ok().filter(|answer| answer.mapped == port.own);
            let number = number.and_then(|answer| number_of(answer.transaction_id));
            let Some(number) = number.filter(|number| *number < self.sent) else {
                self.corrupt += 1;
                continue;
            };
            let due = self.pace.due(number);
            let tally = &mut self.phases[run.phase_at(due)];
            match self.arrivals.add(number) {
                Arrival::Again => tally.repeated += 1,
                Arrival::Late | Arrival::InOrder => {
                    tally.received += 1;
                    tally.latency.add(now.saturating_sub(due));
                    run.add_arrived(len as u64);
                }
            }
        }
    }
}

impl Port {
    fn open(server: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        socket.bind(&any.into())?;
        // Only what comes from there reaches us.
        socket.connect(&server.into())?;
        let socket = UdpSocket::from_std(socket.into());
        let own = socket.local_addr()?;
        Ok(Self { socket, own })
    }
}

/// What transaction ids of ours start with.
const ID_PREFIX: [u8; 4] = *b"load";

fn id(number: u64) -> TransactionId {
    let mut bytes = [0; 12];
    let (prefix, rest) = bytes.split_at_mut(ID_PREFIX.len());
    prefix.copy_from_slice(&ID_PREFIX);
    rest.copy_from_slice(&number.to_be_bytes());
    TransactionId::new(bytes)
}

fn number_of(id: TransactionId) -> Option<u64> {
    let bytes = id.bytes();
    let rest = bytes.strip_prefix(&ID_PREFIX)?;
    Some(u64::from_be_bytes(*rest.first_chunk()?))
}
