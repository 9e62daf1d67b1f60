//! One question to a STUN server.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use stun::message::TransactionId;
use stun::{request, response};

use super::eventually;

/// Time after which a client asks again: a datagram may be lost, above all behind a flood.
const AGAIN: Duration = Duration::from_secs(1);

/// Asks `server` which address it sees, and holds that it is the one that asked.
pub(crate) fn answers(server: SocketAddr) {
    let any: SocketAddr = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(AGAIN)).unwrap();
    let id = TransactionId::new([9; 12]);
    let mut datagram = [0; 1_500];
    let (len, from) = eventually("an answer", || {
        socket.send_to(&request::encode(id), server)?;
        socket.recv_from(&mut datagram)
    });
    let answer = response::decode(&datagram[..len]).unwrap();
    assert_eq!((from, answer.mapped), (server, socket.local_addr().unwrap()));
}
