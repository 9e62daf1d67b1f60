//! One thread's work: wait, receive a batch, answer it, count, and start over.
//!
//! Does: serves its sockets in turn until the stop signal. Does not: allocate after its start,
//! log a datagram, or wait anywhere but in `poll`.
//!
//! ```text
//! 1 poll     wake, sockets; the only place to wait
//! 2 stop     if wake is readable
//! 3 receive  up to BATCHES_PER_TURN batches of each readable socket
//! 4 answer   stun::binding::respond for each datagram
//! 5 send     the batch's answers, then publish the counters
//! ```

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::Socket;
use stun::binding::{Answer, MAX_REPLY_LEN, Rule, respond};

use crate::batch::{Datagram, Inbox, Outbox};
use crate::control::{Asked, Destination};
use crate::limits::{BATCH, BATCHES_PER_TURN, ERROR_REST, ERRORS_BEFORE_REST};
use crate::tally::{Counters, Tally};
use crate::wake::Wake;

/// [`ERROR_REST`] in the form that `poll` takes.
const REST: Timespec = Timespec { tv_sec: 0, tv_nsec: ERROR_REST.subsec_nanos() as _ };
const _: () = assert!(ERROR_REST.as_secs() == 0, "the whole rest is in the nanoseconds");

/// What a thread works with. The sockets are its own and are closed with it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) sockets: Vec<Socket>,
    pub(crate) rule: Rule,
    pub(crate) wake: Arc<Wake>,
    pub(crate) paused: Arc<AtomicBool>,
    pub(crate) tally: Arc<Tally>,
}

impl Worker {
    /// Works until the stop signal.
    ///
    /// # Errors
    ///
    /// Those of `poll`, which only a lack of kernel memory can cause.
    pub(crate) fn run(self) -> io::Result<()> {
        let mut desk = Desk {
            rule: self.rule,
            paused: &self.paused,
            tally: &self.tally,
            inbox: Inbox::new(),
            outbox: Outbox::new(),
            counters: Counters::default(),
            errors_in_a_row: 0,
        };
        let mut waits = Vec::with_capacity(1 + self.sockets.len());
        waits.push(PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN));
        for socket in &self.sockets {
            waits.push(PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN));
        }
        loop {
            wait(&mut waits, None)?;
            let Some((wake, sockets)) = waits.split_first_mut() else { return Ok(()) };
            if !wake.revents().is_empty() {
                return Ok(());
            }
            for (wait, socket) in sockets.iter().zip(&self.sockets) {
                if !wait.revents().is_empty() {
                    desk.serve(socket);
                }
            }
            if desk.errors_in_a_row >= ERRORS_BEFORE_REST {
                desk.errors_in_a_row = 0;
                wait(std::slice::from_mut(wake), Some(&REST))?;
            }
        }
    }
}

/// What stays on a thread's table from one batch to the next.
#[derive(Debug)]
struct Desk<'a> {
    rule: Rule,
    paused: &'a AtomicBool,
    tally: &'a Tally,
    inbox: Inbox,
    outbox: Outbox,
    counters: Counters,
    errors_in_a_row: u32,
}

impl Desk<'_> {
    /// Answers what waits at `socket`, but no more than one turn's worth.
    fn serve(&mut self, socket: &Socket) {
        for _ in 0..BATCHES_PER_TURN {
            let more = self.serve_batch(socket);
            self.tally.publish(&self.counters);
            if !more {
                return;
            }
        }
    }

    /// Answers one batch; returns whether there may be another.
    fn serve_batch(&mut self, socket: &Socket) -> bool {
        let datagrams = match self.inbox.receive(socket.as_fd()) {
            Ok(datagrams) => datagrams,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            // An ICMP error, or a lack of memory: it says nothing about the next datagram.
            Err(_) => {
                self.counters.read_error += 1;
                self.errors_in_a_row += 1;
                return false;
            }
        };
        self.errors_in_a_row = 0;
        let received = datagrams.len();
        if self.paused.load(Ordering::Relaxed) {
            self.counters.paused += received as u64;
            return received == BATCH;
        }
        for datagram in datagrams {
            let mut out = [0; MAX_REPLY_LEN];
            let Some((len, source, asked)) = answer(&datagram, self.rule, &mut out) else {
                self.counters.not_stun += 1;
                continue;
            };
            if source.ip().to_canonical().is_ipv4() {
                self.counters.ipv4 += 1;
            } else {
                self.counters.ipv6 += 1;
            }
            self.outbox.push(&out[..len], &datagram, asked);
        }
        let sent = self.outbox.send(socket.as_fd());
        self.counters.success += sent.taken;
        self.counters.write_error += sent.refused;
        received == BATCH
    }
}

/// Writes the answer to `datagram`, if there is one: its length, whom it is for, and which of our
/// addresses it leaves from.
fn answer(
    datagram: &Datagram<'_>,
    rule: Rule,
    out: &mut [u8; MAX_REPLY_LEN],
) -> Option<(usize, SocketAddr, Option<Asked>)> {
    if !datagram.is_whole {
        return None;
    }
    let source = datagram.source()?;
    let Answer::Reply(len) = respond(datagram.bytes, source, rule, out) else { return None };
    match datagram.destination() {
        Destination::Bound => Some((len, source, None)),
        Destination::One(asked) => Some((len, source, Some(asked))),
        // One request must not raise answers from every host of a network.
        Destination::Many => None,
    }
}

fn wait(waits: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<()> {
    loop {
        match poll(waits, timeout) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread;
    use std::time::{Duration, Instant};

    use stun::message::TransactionId;
    use stun::{request, response};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// STUN-5.5, fault-D32: read errors are counted, cost no second of silence each, and the
    /// request behind dozens of them is answered. (A socket of the real server is connected to
    /// nobody and hears of no ICMP error; this one is, so that there are errors to read.)
    #[test]
    fn request_behind_read_errors_is_answered() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let client = UdpSocket::bind(local).unwrap();
            let server = UdpSocket::bind(local).unwrap();
            // A client that listens to somebody else is not there for the server.
            client.connect(client.local_addr().unwrap()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            server.connect(client.local_addr().unwrap()).unwrap();
            let provoker = server.try_clone().unwrap();
            let worker = Worker {
                sockets: vec![server.into()],
                rule: Rule::Tailnode,
                wake: Arc::new(Wake::new().unwrap()),
                paused: Arc::default(),
                tally: Arc::default(),
            };
            let (wake, tally) = (Arc::clone(&worker.wake), Arc::clone(&worker.tally));
            let thread = thread::spawn(move || worker.run());

            let deadline = Instant::now() + PATIENCE;
            while tally.read().read_error < u64::from(ERRORS_BEFORE_REST) * 5 {
                assert!(Instant::now() < deadline, "{:?}", tally.read());
                // Fails with the very error that it provokes, if the worker has not taken it yet.
                provoker.send(b"into the void").ok();
                thread::sleep(Duration::from_micros(100));
            }
            client.connect(provoker.local_addr().unwrap()).unwrap();
            client.send(&request::encode(TransactionId::new([4; 12]))).unwrap();
            let mut answer = [0; 64];
            let len = loop {
                match client.recv(&mut answer) {
                    // What was last sent into the void may still arrive.
                    Ok(len) if answer[..len] == *b"into the void" => {}
                    Ok(len) => break len,
                    // The whole process may be stopped for a moment.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
                }
            };

            let mapped = response::decode(&answer[..len]).unwrap().mapped;
            assert_eq!(mapped, client.local_addr().unwrap());
            wake.signal().unwrap();
            thread.join().unwrap().unwrap();
            let counters = tally.read();
            assert_eq!((counters.success, counters.not_stun, counters.write_error), (1, 0, 0));
        }
    }
}
