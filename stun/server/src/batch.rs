//! Datagrams in batches: one system call for up to [`BATCH`] of them, each way.
//!
//! Does: `recvmmsg` and `sendmmsg` with the buffers they need, allocated once, and the socket
//! options for packet information. Does not: look into a datagram, wait, or retry for ever.
//!
//! ```text
//! Inbox    BATCH x (bytes, source address, control bytes)   filled by the kernel
//! Outbox   up to BATCH x (answer, destination, control)     filled by the worker
//! ```
//!
//! Pointers for the kernel are set anew before every call and not used after it, so nothing
//! here refers to itself between two calls. Next on the packet path: `worker`.
#![expect(
    unsafe_code,
    reason = "recvmmsg, sendmmsg and IP_PKTINFO have no safe wrapper in our dependencies"
)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::{mem, ptr};

use stun::binding::MAX_REPLY_LEN;

use crate::control::{self, Asked, Destination};
use crate::limits::{BATCH, MAX_DATAGRAM_LEN};
use crate::sockaddr;

/// A datagram that has come, borrowed from the inbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    /// What it carries, up to [`MAX_DATAGRAM_LEN`].
    pub(crate) bytes: &'a [u8],
    /// Whether `bytes` is all of it.
    pub(crate) is_whole: bool,
    source: &'a [u8],
    control: &'a [u8],
}

impl Datagram<'_> {
    /// Address that it came from.
    pub(crate) fn source(&self) -> Option<SocketAddr> {
        sockaddr::decode(self.source)
    }

    /// Address that it was sent to.
    pub(crate) fn destination(&self) -> Destination {
        control::decode(self.control)
    }
}

/// Room for one datagram.
#[derive(Clone, Debug)]
struct Arrival {
    bytes: [u8; MAX_DATAGRAM_LEN],
    source: [u8; sockaddr::MAX_LEN],
    control: [u8; control::MAX_LEN],
}

/// Receive buffers of one thread.
#[derive(Debug)]
pub(crate) struct Inbox {
    arrivals: Vec<Arrival>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Inbox {
    /// Allocates all that will ever be needed.
    pub(crate) fn new() -> Self {
        let arrival = Arrival {
            bytes: [0; MAX_DATAGRAM_LEN],
            source: [0; sockaddr::MAX_LEN],
            control: [0; control::MAX_LEN],
        };
        Self { arrivals: vec![arrival; BATCH], vectors: no_vectors(), headers: no_headers() }
    }

    /// Takes what is waiting at `socket`, at most [`BATCH`] datagrams, without waiting for more.
    ///
    /// # Errors
    ///
    /// Those of `recvmmsg`; `WouldBlock` if nothing is waiting. The socket stays usable.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> io::Result<impl ExactSizeIterator<Item = Datagram<'_>>> {
        let slots = self.headers.iter_mut().zip(&mut self.vectors).zip(&mut self.arrivals);
        for ((header, vector), arrival) in slots {
            vector.iov_base = arrival.bytes.as_mut_ptr().cast();
            vector.iov_len = arrival.bytes.len();
            let message = &mut header.msg_hdr;
            message.msg_name = arrival.source.as_mut_ptr().cast();
            message.msg_namelen = c_len(sockaddr::MAX_LEN);
            message.msg_iov = vector;
            message.msg_iovlen = 1;
            message.msg_control = arrival.control.as_mut_ptr().cast();
            message.msg_controllen = control::MAX_LEN as _;
            message.msg_flags = 0;
        }
        // SAFETY: the first `BATCH` headers, which is all of them, point to one vector, one
        // address buffer and one control buffer each, with their true lengths, all distinct and
        // borrowed exclusively by `self` until the call is over. The kernel keeps no pointer.
        // A null timeout is allowed.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                c_len(BATCH),
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.headers.iter().zip(&self.arrivals).take(received).map(|(header, arrival)| {
            let message = &header.msg_hdr;
            Datagram {
                bytes: prefix(&arrival.bytes, header.msg_len as usize),
                is_whole: message.msg_flags & libc::MSG_TRUNC == 0,
                source: prefix(&arrival.source, message.msg_namelen as usize),
                control: prefix(&arrival.control, message.msg_controllen as _),
            }
        }))
    }
}

/// One answer on its way.
#[derive(Debug)]
struct Departure {
    answer: [u8; MAX_REPLY_LEN],
    answer_len: usize,
    to: [u8; sockaddr::MAX_LEN],
    to_len: usize,
    control: [u8; control::MAX_LEN],
    control_len: usize,
}

/// What became of the answers in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Answers that the kernel took.
    pub(crate) taken: u64,
    /// Answers that it refused; they are gone.
    pub(crate) refused: u64,
}

/// Answers of one thread that wait for the end of the batch.
#[derive(Debug)]
pub(crate) struct Outbox {
    departures: Vec<Departure>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Outbox {
    /// Allocates room for [`BATCH`] answers, as many as an inbox can call for.
    pub(crate) fn new() -> Self {
        Self { departures: Vec::with_capacity(BATCH), vectors: no_vectors(), headers: no_headers() }
    }

    /// Queues `answer` to where `request` came from, out of the address that it asked.
    pub(crate) fn push(&mut self, answer: &[u8], request: &Datagram<'_>, asked: Option<Asked>) {
        let mut departure = Departure {
            answer: [0; MAX_REPLY_LEN],
            answer_len: answer.len().min(MAX_REPLY_LEN),
            to: [0; sockaddr::MAX_LEN],
            to_len: request.source.len(),
            control: [0; control::MAX_LEN],
            control_len: 0,
        };
        copy(answer, &mut departure.answer);
        copy(request.source, &mut departure.to);
        if let Some(asked) = asked {
            departure.control_len = control::encode(asked, &mut departure.control);
        }
        self.departures.push(departure);
    }

    /// Sends all that is queued, and leaves the outbox empty whatever happens.
    ///
    /// Never waits. An answer that the kernel refuses (no route, a firewall rule) takes no other
    /// with it; a lack of buffer space, which the rest would meet too, ends the batch.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> Sent {
        let slots = self.headers.iter_mut().zip(&mut self.vectors).zip(&mut self.departures);
        let mut queued = 0;
        for ((header, vector), departure) in slots {
            vector.iov_base = departure.answer.as_mut_ptr().cast();
            vector.iov_len = departure.answer_len;
            let message = &mut header.msg_hdr;
            message.msg_name = departure.to.as_mut_ptr().cast();
            message.msg_namelen = c_len(departure.to_len);
            message.msg_iov = vector;
            message.msg_iovlen = 1;
            message.msg_control = departure.control.as_mut_ptr().cast();
            message.msg_controllen = departure.control_len as _;
            message.msg_flags = 0;
            queued += 1;
        }
        let mut sent = Sent::default();
        let mut rest = self.headers.get_mut(..queued).unwrap_or_default();
        while !rest.is_empty() {
            // SAFETY: each header in `rest` points to one vector, one address and one control
            // buffer with lengths within them, all borrowed exclusively by `self` until the call
            // is over. The kernel only reads them, and writes `msg_len` into the headers.
            let taken = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    c_len(rest.len()),
                    libc::MSG_DONTWAIT as _,
                )
            };
            let done = match usize::try_from(taken) {
                Ok(taken @ 1..) => {
                    sent.taken += taken as u64;
                    taken
                }
                // The kernel never takes none and reports no error; if it did, trying again
                // would be a busy loop.
                Ok(0) => refuse(&mut sent, rest.len()),
                Err(_) => match io::Error::last_os_error().raw_os_error() {
                    Some(libc::EINTR) => 0,
                    Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {
                        refuse(&mut sent, rest.len())
                    }
                    Some(_) | None => refuse(&mut sent, 1),
                },
            };
            rest = rest.get_mut(done..).unwrap_or_default();
        }
        self.departures.clear();
        sent
    }
}

/// Has the kernel say with every datagram which address it was sent to.
///
/// # Errors
///
/// Those of `setsockopt`.
pub(crate) fn report_destination(socket: BorrowedFd<'_>, local: SocketAddr) -> io::Result<()> {
    let (level, option) = match local {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: `on` is an initialised int that outlives the call, and its true size is given;
    // both options take an int. The kernel copies it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&on).cast(),
            c_len(size_of_val(&on)),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn refuse(sent: &mut Sent, count: usize) -> usize {
    sent.refused += count as u64;
    count
}

fn copy(from: &[u8], to: &mut [u8]) {
    for (slot, byte) in to.iter_mut().zip(from) {
        *slot = *byte;
    }
}

/// The kernel's lengths are within the buffers it was given; should one not be, nothing breaks.
fn prefix(buffer: &[u8], len: usize) -> &[u8] {
    buffer.get(..len).unwrap_or(buffer)
}

/// A length as the C interface takes it: `unsigned int` and `socklen_t` are the same type.
#[expect(clippy::cast_possible_truncation, reason = "all our buffers and batches are tiny")]
const fn c_len(len: usize) -> u32 {
    len as u32
}

fn no_vectors() -> Vec<libc::iovec> {
    vec![libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH]
}

fn no_headers() -> Vec<libc::mmsghdr> {
    // SAFETY: `mmsghdr` is a C structure of integers and pointers, for which zero is a value.
    // It cannot be written out, as its padding fields are private in some C libraries.
    vec![unsafe { mem::zeroed() }; BATCH]
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    /// STUN-5.6: an answer that cannot be sent takes none of its batch with it.
    #[test]
    fn refused_answer_takes_no_other_with_it() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let (server, client) = pair(local);
            let mut inbox = Inbox::new();
            let mut outbox = Outbox::new();
            client.send(b"request").unwrap();
            await_arrival(&server);
            let request = inbox.receive(server.as_fd()).unwrap().next().unwrap();
            let mut port_zero = request.source.to_vec();
            port_zero[2..4].fill(0);
            let unanswerable = Datagram { source: &port_zero, ..request };

            outbox.push(b"first", &request, None);
            outbox.push(b"lost", &unanswerable, None);
            outbox.push(b"third", &request, None);
            let sent = outbox.send(server.as_fd());

            assert_eq!(sent, Sent { taken: 2, refused: 1 });
            for expected in [b"first", b"third"] {
                let mut answer = [0; 16];
                // The whole process may be stopped for a moment.
                let received = std::iter::repeat_with(|| client.recv(&mut answer)).find(|it| {
                    !it.as_ref().is_err_and(|it| it.kind() == io::ErrorKind::Interrupted)
                });
                let len = received.unwrap().unwrap();
                assert_eq!(&answer[..len], expected);
            }
            assert_eq!(outbox.send(server.as_fd()), Sent::default(), "the outbox is empty");
        }
    }

    /// STUN-5.6: where the kernel has no room, the rest of the batch is given up at once. UDP on
    /// loopback always has room, so a socket of another kind stands in.
    #[test]
    fn lack_of_room_ends_the_batch() {
        let (near, _far) = UnixDatagram::pair().unwrap();
        let mut outbox = Outbox::new();
        let nowhere = Datagram { bytes: &[], is_whole: true, source: &[], control: &[] };
        let mut taken = 0;
        let last = loop {
            for _ in 0..BATCH {
                outbox.push(b"answer", &nowhere, None);
            }
            let sent = outbox.send(near.as_fd());
            assert_eq!(sent.taken + sent.refused, BATCH as u64);
            taken += sent.taken;
            if sent.refused > 0 {
                break sent;
            }
        };
        assert!(taken > 0 && last.refused > 0);
    }

    /// STUN-5.5: an error of the socket is returned, not waited out, and the next read works.
    #[test]
    fn read_error_is_over_with_the_next_read() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let (server, client) = pair(local);
            let mut inbox = Inbox::new();
            // A client that listens to somebody else is not there for the server.
            client.connect(client.local_addr().unwrap()).unwrap();
            server.connect(client.local_addr().unwrap()).unwrap();
            server.send(b"into the void").unwrap();

            await_arrival(&server);
            let error = inbox.receive(server.as_fd()).map(|arrived| arrived.len()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

            client.connect(server.local_addr().unwrap()).unwrap();
            client.send(b"request").unwrap();
            await_arrival(&server);
            let arrived = inbox.receive(server.as_fd()).unwrap().next().unwrap();
            assert_eq!((arrived.bytes, arrived.is_whole), (&b"request"[..], true));
            assert_eq!(arrived.source(), Some(client.local_addr().unwrap()));
            assert_eq!(arrived.destination(), Destination::Bound);
        }
    }

    /// Waits for a datagram or an error.
    fn await_arrival(socket: &UdpSocket) {
        let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
        let mut waits = [PollFd::new(socket, PollFlags::IN)];
        assert_eq!(poll(&mut waits, Some(&timeout)), Ok(1), "nothing comes");
    }

    fn pair(local: &str) -> (UdpSocket, UdpSocket) {
        let server = UdpSocket::bind(local).unwrap();
        let client = UdpSocket::bind(local).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        (server, client)
    }
}
