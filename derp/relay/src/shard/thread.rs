//! The loop of one packet thread.
//!
//! Does: waits for sockets and neighbours, moves bytes between them and the core, in a fixed
//! order: 1 arrivals and keys that are revoked, 2 packets and messages from other shards, 3 reads, 4 the clock, 5 writes,
//! 6 closes, 7 packets and messages to other shards, 8 counters. When the arena is full between
//! two reads, 5 and 7 come in between.
//! Does not: decide anything about a frame; that is `derp::shard`.

mod busy;
mod read;
mod write;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use derp::id::{ConnId, ShardId};
use derp::key::NodePublic;
use derp::limits::KEEP_ALIVE_SECONDS;
use derp::shard::{Arrival, CloseReason, Setup, Shard};
use derp::time::Time;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::arena::Arena;
use super::directory::SharedDirectory;
use super::link::Link;
use super::mailbox::{Mailbox, WAKE};
use super::socket::Socket;
use crate::handover::Handover;
use crate::socket::USER_TIMEOUT;
use busy::Busy;
use read::Reader;
use write::Writer;

/// Events taken from the kernel at once.
const EVENTS: usize = 1_024;

pub(super) struct Thread {
    id: ShardId,
    shards: u16,
    core: Shard,
    poll: Poll,
    mailboxes: Arc<[Mailbox]>,
    directory: Arc<SharedDirectory>,
    stopping: Arc<AtomicBool>,
    epoch: Instant,
    now: Time,
    sockets: Vec<Option<Box<Socket>>>,
    /// Sockets with bytes that a turn has left unread.
    unread: Vec<ConnId>,
    /// Sockets that would have taken more than a turn allows.
    unwritten: Vec<ConnId>,
    arena: Arena,
    reader: Reader,
    writer: Writer,
    /// Bytes that sockets hold back, in either direction: part of the total of all queues.
    held: usize,
    /// Shards to be woken at the end of this turn.
    to_wake: Vec<bool>,
    busy: Busy,
}

impl Thread {
    pub(super) fn new(
        setup: Setup,
        poll: Poll,
        mailboxes: Arc<[Mailbox]>,
        directory: Arc<SharedDirectory>,
        stopping: Arc<AtomicBool>,
        epoch: Instant,
    ) -> Self {
        let now = time_since(epoch);
        let shards = usize::from(setup.shards);
        let mut thread = Self {
            id: setup.id,
            shards: setup.shards,
            core: Shard::new(setup, now),
            poll,
            mailboxes,
            directory,
            stopping,
            epoch,
            now,
            sockets: Vec::new(),
            unread: Vec::new(),
            unwritten: Vec::new(),
            arena: Arena::new(),
            reader: Reader::default(),
            writer: Writer::default(),
            held: 0,
            to_wake: vec![false; shards],
            busy: Busy::new(Instant::now()),
        };
        thread.ask_for_room();
        thread
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.stopping.load(Ordering::Acquire) {
            let timeout = self.timeout();
            self.busy.pause();
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "a packet thread cannot wait for its sockets");
                break;
            }
            self.busy.resume();
            self.turn(&events);
        }
        for socket in self.sockets.drain(..).flatten() {
            socket.finish();
        }
    }

    fn turn(&mut self, events: &Events) {
        self.now = time_since(self.epoch);
        if let Some(mailbox) = self.mailbox() {
            mailbox.looking();
        }
        // 1. Keys to close are taken first and closed after the arrivals: who was handed over
        // before a key was revoked is then there to be closed.
        let closings: BTreeSet<NodePublic> =
            std::iter::from_fn(|| self.mailbox().and_then(Mailbox::next_closing)).collect();
        while let Some(handover) = self.mailbox().and_then(Mailbox::next_arrival) {
            self.welcome(handover);
        }
        if !closings.is_empty() {
            self.core.close_keys(&closings, self.now, &*self.directory);
        }
        // 2
        self.ask_for_room();
        self.take_from_rings();
        // 3
        let unread = std::mem::take(&mut self.unread);
        for conn in unread {
            self.read(conn);
        }
        for event in events {
            self.note_event(event);
        }
        // 4
        if self.core.next_tick() <= self.now {
            self.core.on_tick(self.now, &*self.directory);
        }
        self.core.on_push_back_timeout(self.now);
        // 5
        for conn in std::mem::take(&mut self.unwritten) {
            self.flush(conn);
        }
        self.empty_arena();
        // 6
        while let Some((conn, reason)) = self.core.poll_closed() {
            self.close_for(conn, reason);
        }
        // 7
        self.give_to_rings();
        // 8
        if let Some(mailbox) = self.mailboxes.get(self.id.index()) {
            mailbox.publish(&self.core.counters());
            if let Some(share) = self.busy.share() {
                mailbox.publish_busy(share);
            }
        }
    }

    /// How long the kernel may let the thread sleep.
    fn timeout(&self) -> Duration {
        if !self.unread.is_empty() || !self.unwritten.is_empty() {
            return Duration::ZERO;
        }
        let now = time_since(self.epoch);
        let tick = self.core.next_tick().since(now);
        let push_back = self.core.push_back_timeout().map(|until| until.since(now));
        push_back.map_or(tick, |push_back| push_back.min(tick)) + Duration::from_millis(1)
    }

    fn mailbox(&self) -> Option<&Mailbox> {
        self.mailboxes.get(self.id.index())
    }

    fn welcome(&mut self, handover: Handover) {
        let Handover { socket, transport, plaintext, ciphertext, permit, .. } = handover;
        // An old client on a dead path is let go of later than one that has not logged in.
        if let Err(error) = SockRef::from(&socket).set_tcp_user_timeout(Some(USER_TIMEOUT)) {
            tracing::debug!(%error, "TCP_USER_TIMEOUT cannot be set");
        }
        let arrival = Arrival {
            key: handover.client_key,
            server_info: handover.server_info,
            login_deadline: self.now + handover.deadline.saturating_duration_since(Instant::now()),
            keep_alive: keep_alive_interval(),
            not_ideal: !handover.ideal,
        };
        let conn = self.core.attach(arrival, self.now, &*self.directory);
        let mut stream = mio::net::TcpStream::from_std(socket);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(conn.slot as usize);
        if let Err(error) = self.poll.registry().register(&mut stream, token, interest) {
            tracing::warn!(%error, "a connection cannot be watched; closing it");
            self.core.detach(conn, self.now, &*self.directory);
            self.ended();
            return;
        }
        let link = Link::from(transport);
        let socket = Box::new(Socket::new(conn, stream, link, ciphertext, permit));
        self.held += socket.held();
        let place = conn.slot as usize;
        if self.sockets.len() <= place {
            self.sockets.resize_with(place + 1, || None);
        }
        if let Some(slot) = self.sockets.get_mut(place) {
            *slot = Some(socket);
        }
        if !plaintext.is_empty() {
            self.receive_copied(conn, &plaintext);
        }
    }

    fn note_event(&mut self, event: &mio::event::Event) {
        if event.token() == WAKE {
            return;
        }
        let Some(Some(socket)) = self.sockets.get_mut(event.token().0) else { return };
        let conn = socket.conn;
        if event.is_writable() {
            socket.set_writable();
            if socket.is_blocked() {
                self.unwritten.push(conn);
            }
        }
        let Some(socket) = self.socket(conn) else { return };
        let ending = event.is_read_closed() || event.is_error();
        if event.is_readable() || ending {
            socket.set_readable(ending);
            if !socket.listed {
                self.read(conn);
            }
        }
    }

    /// Lets go of a connection that has ended by itself.
    fn end(&mut self, conn: ConnId) {
        self.core.detach(conn, self.now, &*self.directory);
        self.drop_socket(conn);
    }

    /// Lets go of a connection that the core has closed.
    fn close_for(&mut self, conn: ConnId, reason: CloseReason) {
        tracing::debug!(?reason, "closed a connection");
        self.drop_socket(conn);
    }

    fn drop_socket(&mut self, conn: ConnId) {
        let Some(slot) = self.sockets.get_mut(conn.slot as usize) else { return };
        if let Some(socket) = slot.take_if(|socket| socket.conn == conn) {
            self.held -= socket.held();
            socket.finish();
            self.ended();
        }
    }

    fn ended(&self) {
        if let Some(mailbox) = self.mailbox() {
            mailbox.ended();
        }
    }

    fn socket(&mut self, conn: ConnId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(conn.slot as usize)?.as_deref_mut()?;
        (socket.conn == conn).then_some(socket)
    }

    /// Messages first into a list, then packets, then the list: see `derp::shard`.
    fn take_from_rings(&mut self) {
        let mailboxes = Arc::clone(&self.mailboxes);
        let Some(mailbox) = mailboxes.get(self.id.index()) else { return };
        let messages: Vec<_> = std::iter::from_fn(|| mailbox.next_message()).collect();
        for from in self.others() {
            while let Some(batch) = mailbox.next_batch(from) {
                self.core.on_batch(from, batch, self.now);
            }
        }
        for message in messages {
            self.core.on_message(message, self.now, &*self.directory);
        }
    }

    /// Writes what was read, puts what cannot be written into queues, and empties the arena.
    fn empty_arena(&mut self) {
        while let Some(conn) = self.core.poll_ready() {
            self.flush(conn);
        }
        self.core.set_held_outside(self.held);
        self.core.end_turn(self.arena.bytes(), self.now);
        self.arena.clear();
        // What had to wait for the packets of this turn.
        while let Some(conn) = self.core.poll_ready() {
            self.flush(conn);
        }
        while let Some((from, batch)) = self.core.poll_spent() {
            if let Some(mailbox) = self.mailbox() {
                mailbox.give_back(from, batch);
            }
        }
        while let Some(conn) = self.core.poll_resumed() {
            self.read_later(conn);
        }
    }

    fn give_to_rings(&mut self) {
        let mailboxes = Arc::clone(&self.mailboxes);
        // Packets before messages: see `derp::shard`.
        for to in self.others() {
            let Some(mailbox) = mailboxes.get(to.index()) else { continue };
            if !self.core.has_batch(to) {
                continue;
            }
            let batch = self.core.take_batch(to, mailbox.spare(self.id));
            if mailbox.put(self.id, batch).is_err() {
                tracing::error!("a ring between packet threads had no room that it had promised");
            }
            self.mark_to_wake(to);
        }
        while let Some((to, message)) = self.core.poll_message() {
            if let Some(mailbox) = mailboxes.get(to.index()) {
                mailbox.post(message);
                self.mark_to_wake(to);
            }
        }
        for (mailbox, wake) in mailboxes.iter().zip(&mut self.to_wake) {
            if std::mem::take(wake) {
                mailbox.wake();
            }
        }
        self.ask_for_room();
    }

    /// The other shards of the relay.
    fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.id;
        (0..self.shards).map(ShardId).filter(move |id| *id != own)
    }

    fn mark_to_wake(&mut self, to: ShardId) {
        if let Some(wake) = self.to_wake.get_mut(to.index()) {
            *wake = true;
        }
    }

    fn ask_for_room(&mut self) {
        for to in self.others() {
            let room = self.mailboxes.get(to.index()).map_or(0, |mailbox| mailbox.room(self.id));
            self.core.set_room(to, room);
        }
    }
}

fn time_since(epoch: Instant) -> Time {
    Time::from_micros(u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// Draws the keep-alive interval of one connection, in whole seconds.
fn keep_alive_interval() -> Duration {
    let (shortest, longest) = KEEP_ALIVE_SECONDS;
    // Without randomness all connections keep the shortest interval, which is harmless.
    let drawn = getrandom::u64().unwrap_or_default() % (longest - shortest + 1);
    Duration::from_secs(shortest + drawn)
}
