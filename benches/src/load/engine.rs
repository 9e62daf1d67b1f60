//! One thread of the generator: an event loop over its clients.
//!
//! ```text
//! loop: 1 send what is due -> 2 sleep until something comes or is due -> 3 read what has come
//! ```
//!
//! Does: sends every packet when it is due, or as soon as the socket takes it, with the time at
//! which it was due inside; verifies and counts what arrives.
//! Does not: connect, measure the server, or decide what to send: that is the workload.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use derp::client::send_head;
use derp::key::NodePublic;
use mio::event;
use mio::{Events, Interest, Poll, Token};

use super::alarm::{Alarm, SHORTEST};
use super::arrival::{Counted, OnArrival};
use super::failure::Failure;
use super::link::{Link, LinkError, Received, Scratch};
use super::logins::wait;
use super::pace::Pace;
use super::payload::Label;
use super::run::Run;
use super::tally::{Arrivals, Tally};
use super::workload::{Flow, Reads, Workload};

/// Bytes that a flow sends at most before others have their turn.
const TURN: usize = 64 * 1024;

/// Reads of one client at most before others have their turn.
const READS: usize = 4;

/// Between two reads of a client that reads at a rate, in nanoseconds.
const SLOW_READ: u64 = 10_000_000;

/// Longest sleep: the end of a run may be moved.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// After the last packet that arrived, the wait for more, in nanoseconds.
const QUIET: u64 = 500_000_000;

/// The token of the alarm.
const ALARM: Token = Token(usize::MAX);

/// Something that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Send(usize),
    Read(usize),
}

/// The loop.
pub struct Engine {
    poll: Poll,
    alarm: Alarm,
    grain: u64,
    workload: Workload,
    /// By client; `None` for those that the server has closed.
    links: Vec<Option<Link>>,
    /// By client: the flow that it sends.
    flow_of: Vec<Option<usize>>,
    flows: Vec<Flow>,
    tasks: BinaryHeap<Reverse<(u64, Task)>>,
    /// Clients with more to read than they had turns for.
    unread: Vec<usize>,
    scratch: Scratch,
    /// Frames on their way to the socket.
    frames: Vec<u8>,
    counted: Counted,
    /// Packets that are counted somewhere and have not arrived.
    missing: u64,
    last_arrival: u64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("flows", &self.flows.len()).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine for clients that are logged in, in the order of the workload. It wakes up to
    /// send at multiples of `grain` nanoseconds only, or whenever something is due if that is 0.
    ///
    /// # Errors
    ///
    /// [`Failure::System`].
    pub fn new(workload: Workload, mut links: Vec<Link>, grain: u64) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let key = |links: &[Link], index: usize| {
            links.get(index).map_or(NodePublic::from_bytes([0; 32]), Link::key)
        };
        let mut flow_of = vec![None; links.len()];
        let mut flows = Vec::new();
        for (index, plan) in workload.flows.iter().enumerate() {
            flow_of[plan.from] = Some(index);
            flows.push(Flow {
                from: plan.from,
                source: key(&links, plan.from),
                destinations: plan.to.iter().map(|to| key(&links, *to)).collect(),
                counted_at: plan.counted_at,
                group: plan.group,
                pace: plan.pace,
                size: plan.size,
                sent: 0,
                arrivals: Arrivals::default(),
                waiting: false,
                held_until: 0,
            });
        }
        for (index, link) in links.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(link.stream(), Token(index), interest)?;
        }
        Ok(Self {
            poll,
            alarm,
            grain,
            workload,
            links: links.into_iter().map(Some).collect(),
            flow_of,
            flows,
            tasks: BinaryHeap::new(),
            unread: Vec::new(),
            scratch: Scratch::default(),
            frames: Vec::new(),
            counted: Counted::default(),
            missing: 0,
            last_arrival: 0,
        })
    }

    /// Plays the run to its end and returns what was counted.
    ///
    /// # Errors
    ///
    /// [`Failure`]: a client that is needed has lost its connection.
    pub fn play(mut self, run: &Run) -> Result<Counted, Failure> {
        self.begin(run);
        let mut events = Events::with_capacity(1_024);
        while !self.is_over(run) {
            self.do_due(run)?;
            self.sleep(run, &mut events)?;
            for index in std::mem::take(&mut self.unread) {
                self.read(index, run)?;
            }
            for event in &events {
                self.on_event(event, run)?;
            }
        }
        self.count_due(run);
        Ok(self.counted)
    }

    fn begin(&mut self, run: &Run) {
        let groups = self.flows.iter().map(|flow| flow.group + 1).max().unwrap_or_default();
        self.counted.groups = vec![vec![Tally::default(); run.phases()]; groups];
        for (index, plan) in self.workload.flows.iter().enumerate() {
            let flow = &mut self.flows[index];
            flow.pace = plan.pace.shifted(run.start(plan.phase));
            self.tasks.push(Reverse((flow.pace.due(0), Task::Send(index))));
        }
        for (index, client) in self.workload.clients.iter().enumerate() {
            if matches!(client.reads, Reads::AtRate(_)) {
                self.tasks.push(Reverse((0, Task::Read(index))));
            }
        }
    }

    fn is_over(&self, run: &Run) -> bool {
        let now = run.now();
        let quiet = self.missing == 0 || now > self.last_arrival.max(run.end()) + QUIET;
        now >= run.end() && (quiet || now >= run.last_call())
    }

    /// Does what is due, and nothing twice: the kernel's events must have their turn.
    fn do_due(&mut self, run: &Run) -> Result<(), Failure> {
        let now = run.now();
        for _ in 0..self.tasks.len() {
            let Some(Reverse((due, task))) = self.tasks.peek().copied() else { break };
            if due > now {
                break;
            }
            self.tasks.pop();
            match task {
                Task::Send(flow) => self.send(flow, run)?,
                Task::Read(index) => {
                    self.read(index, run)?;
                    if now < run.end() {
                        self.tasks.push(Reverse((now + SLOW_READ, Task::Read(index))));
                    }
                }
            }
        }
        Ok(())
    }

    fn sleep(&mut self, run: &Run, events: &mut Events) -> Result<(), Failure> {
        let due = self.tasks.peek().map_or(u64::MAX, |Reverse((due, _))| *due);
        let due = due.checked_next_multiple_of(self.grain).unwrap_or(due);
        let left = due.saturating_sub(run.now());
        let most = if left < SHORTEST || !self.unread.is_empty() {
            Duration::ZERO
        } else {
            if Duration::from_nanos(left) < LONGEST_SLEEP {
                self.alarm.set(due, run)?;
            }
            LONGEST_SLEEP
        };
        wait(&mut self.poll, events, most)?;
        Ok(())
    }

    fn on_event(&mut self, event: &event::Event, run: &Run) -> Result<(), Failure> {
        if event.token() == ALARM {
            return Ok(());
        }
        let Token(index) = event.token();
        if event.is_writable() {
            self.on_writable(index, run)?;
        }
        if event.is_read_closed()
            && let Some(Some(link)) = self.links.get_mut(index)
        {
            link.set_ending();
        }
        match self.workload.clients.get(index).map(|client| client.reads) {
            Some(Reads::Everything) if event.is_readable() => self.read(index, run),
            // What is still there is not read, so the end would not be found.
            Some(Reads::Nothing) if event.is_read_closed() => self.lose(index, LinkError::Closed),
            Some(_) | None => Ok(()),
        }
    }

    fn on_writable(&mut self, index: usize, run: &Run) -> Result<(), Failure> {
        let Some(Some(link)) = self.links.get_mut(index) else { return Ok(()) };
        if let Err(error) = link.on_writable(&mut self.scratch) {
            return self.lose(index, error);
        }
        if link.is_blocked() {
            return Ok(());
        }
        let Some(flow) = self.flow_of.get(index).copied().flatten() else { return Ok(()) };
        if std::mem::take(&mut self.flows[flow].waiting) {
            self.flows[flow].held_until = run.now();
            self.send(flow, run)?;
        }
        Ok(())
    }

    /// Sends the packets of a flow that are due, as many as fit in one turn.
    fn send(&mut self, index: usize, run: &Run) -> Result<(), Failure> {
        let (now, end) = (run.now(), run.end());
        let flow = &mut self.flows[index];
        let Some(Some(link)) = self.links.get_mut(flow.from) else { return Ok(()) };
        if link.is_blocked() {
            flow.waiting = true;
            return Ok(());
        }
        self.frames.clear();
        let mut frame_len = 0;
        while self.frames.len() < TURN {
            let due = match flow.pace {
                Pace::Open { .. } => flow.pace.due(flow.sent),
                Pace::Unlimited { .. } => now,
            };
            if due > now || due >= end {
                break;
            }
            let turn = flow.sent % flow.destinations.len().max(1) as u64;
            let to = usize::try_from(turn).ok().and_then(|turn| flow.destinations.get(turn));
            let Some(Ok(head)) = to.map(|to| send_head(to, flow.size)) else { break };
            let name = u32::try_from(index).unwrap_or(u32::MAX);
            frame_len = head.len() + flow.size;
            self.frames.extend_from_slice(&head);
            Label { flow: name, number: flow.sent, due }.write(flow.size, &mut self.frames);
            flow.sent += 1;
            let tally = &mut self.counted.groups[flow.group][run.phase_at(due)];
            tally.sent += 1;
            tally.sent_bytes += flow.size as u64;
            if flow.counted_at.is_some() {
                self.missing += 1;
            }
            // An unlimited sender is never late.
            if due >= flow.held_until && matches!(flow.pace, Pace::Open { .. }) {
                tally.late.add(now - due);
            }
        }
        if !self.frames.is_empty()
            && let Err(error) = link.send_in_pieces(&self.frames, frame_len, &mut self.scratch)
        {
            let from = flow.from;
            return self.lose(from, error);
        }
        if link.is_blocked() {
            flow.waiting = true;
        } else {
            let next = match flow.pace {
                Pace::Open { .. } => flow.pace.due(flow.sent),
                Pace::Unlimited { start } => start.max(now),
            };
            if next < end {
                self.tasks.push(Reverse((next, Task::Send(index))));
            }
        }
        Ok(())
    }

    /// Reads what a client has received, as far as it reads.
    fn read(&mut self, index: usize, run: &Run) -> Result<(), Failure> {
        let Some(Some(link)) = self.links.get_mut(index) else { return Ok(()) };
        let client = &self.workload.clients[index];
        let slow = match client.reads {
            Reads::Everything | Reads::Nothing => None,
            Reads::AtRate(rate) => {
                let bytes = rate.saturating_mul(SLOW_READ) / 1_000_000_000;
                // A read of nothing would look like the end.
                Some(usize::try_from(bytes).unwrap_or(usize::MAX).max(1))
            }
        };
        let mut arrived = 0;
        let mut more = Received::More;
        let mut turns = if slow.is_some() { 1 } else { READS };
        let mut echo = Vec::new();
        let mut lost = None;
        while more == Received::More && turns > 0 {
            turns -= 1;
            // Bytes have arrived when the kernel has them; what follows is our own time.
            let mut arrival = OnArrival {
                now: run.now(),
                run,
                index,
                flows: &mut self.flows,
                counted: &mut self.counted,
                missing: &mut self.missing,
                arrived: &mut arrived,
                echo: client.echoes.then_some(&mut echo),
            };
            let got = link.receive_up_to(slow.unwrap_or(usize::MAX), &mut self.scratch, |event| {
                arrival.on_event(&event);
            });
            match got {
                Ok(got) => more = got,
                Err(error) => {
                    lost = Some(error);
                    break;
                }
            }
        }
        if arrived > 0 {
            self.last_arrival = run.now();
            run.add_arrived(arrived);
        }
        if let Some(error) = lost {
            return self.lose(index, error);
        }
        if !echo.is_empty()
            && let Err(error) = link.send(&echo, &mut self.scratch)
        {
            return self.lose(index, error);
        }
        if more == Received::More && slow.is_none() {
            self.unread.push(index);
        }
        Ok(())
    }

    /// A client has lost its connection: a fault, if it is needed.
    fn lose(&mut self, index: usize, error: LinkError) -> Result<(), Failure> {
        if let Some(place) = self.links.get_mut(index) {
            *place = None;
        }
        if self.workload.clients[index].expendable {
            self.counted.closed += 1;
            return Ok(());
        }
        Err(Failure::Lost(error))
    }

    /// Counts what was due, sent or not.
    fn count_due(&mut self, run: &Run) {
        for flow in &self.flows {
            let phases = &mut self.counted.groups[flow.group];
            for (phase, tally) in phases.iter_mut().enumerate() {
                let before = |time| flow.pace.due_before(time).unwrap_or_default();
                let (start, end) = (run.start(phase).min(run.end()), run.end_of(phase));
                tally.due += before(end).saturating_sub(before(start));
            }
        }
    }
}
