//! Many logins at a time, and how long each takes.
//!
//! Does: keeps so many under way, or starts them at a rate whether the server keeps up or not.
//! Does not: hold clients that are in; it hands them out.

use std::io;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use super::alarm::Alarm;
use super::failure::Failure;
use super::link::{Link, LinkError, Scratch};
use super::pace::Pace;
use super::run::Run;
use super::workload::Client;

/// Time that one login has, in seconds.
const LOGIN_SECONDS: u64 = 20;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// Longest that the loop sleeps before it looks for logins that have run out of time.
const LOOK: Duration = Duration::from_millis(50);

/// The token of the alarm.
const ALARM: Token = Token(usize::MAX);

/// Logins to be made.
#[derive(Debug)]
pub struct Logins<'a> {
    /// Who logs in, in this order.
    pub clients: &'a [Client],
    /// How many may be under way.
    pub concurrency: usize,
    /// When each starts; `None` for as soon as there is room. A paced login that has to wait for
    /// room is late from then on: its time counts from when it was due.
    pub pace: Option<Pace>,
    /// Whether the first failure ends it.
    pub strict: bool,
}

/// What came of them.
#[derive(Debug, Default)]
pub struct LoginCount {
    /// Clients that got in.
    pub done: usize,
    /// Clients that did not.
    pub failed: usize,
    /// Why the last of those did not.
    pub last_error: Option<LinkError>,
}

/// A login under way.
struct Pending {
    index: usize,
    link: Link,
    since: u64,
}

impl Logins<'_> {
    /// Makes them all; `opened` gets the index of each client, its connection and the time that
    /// it took in nanoseconds. `goes_on` is asked now and then, and ends it by saying no.
    ///
    /// # Errors
    ///
    /// [`Failure`], if strict; otherwise only for faults of the generator itself.
    pub fn run(
        &self,
        run: &Run,
        mut opened: impl FnMut(usize, Link, u64),
        mut goes_on: impl FnMut(&LoginCount) -> bool,
    ) -> Result<LoginCount, Failure> {
        let mut poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let mut events = Events::with_capacity(1_024);
        let mut scratch = Scratch::default();
        let mut slots: Vec<Option<Pending>> = Vec::new();
        let mut free: Vec<usize> = Vec::new();
        let mut count = LoginCount::default();
        let mut started = 0;
        let mut looked = run.now();

        while count.done + count.failed < self.clients.len() {
            let now = run.now();
            let under_way = slots.len() - free.len();
            let room = self.concurrency.max(1).saturating_sub(under_way);
            for _ in 0..room {
                let due = self.pace.map_or(now, |pace| pace.due(started as u64));
                let Some(client) = self.clients.get(started).filter(|_| due <= now) else { break };
                let slot = free.pop().unwrap_or_else(|| {
                    slots.push(None);
                    slots.len() - 1
                });
                let dialed = Link::dial(&client.target, client.dialing).and_then(|mut link| {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(link.stream(), Token(slot), interest)?;
                    Ok(link)
                });
                match dialed {
                    Ok(link) => {
                        let pending = Pending { index: started, link, since: due };
                        slots[slot] = Some(pending);
                    }
                    Err(error) => {
                        free.push(slot);
                        self.fail(&mut count, error)?;
                    }
                }
                started += 1;
            }

            let has_room = slots.len() - free.len() < self.concurrency.max(1);
            if let Some(pace) = self.pace.filter(|_| has_room && started < self.clients.len()) {
                alarm.set(pace.due(started as u64), run)?;
            }
            wait(&mut poll, &mut events, LOOK)?;

            for event in &events {
                let Token(slot) = event.token();
                let Some(place) = slots.get_mut(slot) else { continue };
                let Some(pending) = place else { continue };
                if event.is_read_closed() {
                    pending.link.set_ending();
                }
                match advance(&mut pending.link, &mut scratch) {
                    Ok(false) => {}
                    Ok(true) => {
                        let took = run.now().saturating_sub(pending.since);
                        if let Some(mut pending) = place.take() {
                            poll.registry().deregister(pending.link.stream())?;
                            count.done += 1;
                            opened(pending.index, pending.link, took);
                        }
                        free.push(slot);
                    }
                    Err(error) => {
                        *place = None;
                        free.push(slot);
                        self.fail(&mut count, error)?;
                    }
                }
            }

            let now = run.now();
            if now.saturating_sub(looked) >= SECOND / 20 {
                looked = now;
                for (slot, place) in slots.iter_mut().enumerate() {
                    let late = |it: &mut Pending| now > it.since + LOGIN_SECONDS * SECOND;
                    if place.as_mut().is_some_and(late) {
                        *place = None;
                        free.push(slot);
                        if self.strict {
                            let (done, all) = (count.done, self.clients.len());
                            return Err(Failure::LoginTime { done, all, seconds: LOGIN_SECONDS });
                        }
                        count.failed += 1;
                        count.last_error = Some(io::Error::from(io::ErrorKind::TimedOut).into());
                    }
                }
                if !goes_on(&count) {
                    break;
                }
            }
        }
        Ok(count)
    }

    fn fail(&self, count: &mut LoginCount, error: LinkError) -> Result<(), Failure> {
        if self.strict {
            return Err(Failure::Login { done: count.done, all: self.clients.len(), error });
        }
        count.failed += 1;
        count.last_error = Some(error);
        Ok(())
    }
}

/// Goes as far as the socket allows; says whether the client is in.
fn advance(link: &mut Link, scratch: &mut Scratch) -> Result<bool, LinkError> {
    use super::link::Received;
    link.on_writable(scratch)?;
    if link.is_connecting() {
        return Ok(false);
    }
    while !link.is_open() {
        if link.receive(scratch, |_| {})? == Received::All {
            break;
        }
    }
    Ok(link.is_open())
}

pub(super) fn wait(poll: &mut Poll, events: &mut Events, most: Duration) -> io::Result<()> {
    match poll.poll(events, Some(most)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        done => done,
    }
}
