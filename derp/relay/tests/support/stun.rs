//! One question to a STUN server.

use std::net::{SocketAddr, UdpSocket};

use stun::message::TransactionId;
use stun::{request, response};

use super::peer::PATIENCE;

/// Asks `server` which address it sees, and holds that it is the one that asked.
pub(crate) fn answers(server: SocketAddr) {
    let any: SocketAddr = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let id = TransactionId::new([9; 12]);
    socket.send_to(&request::encode(id), server).unwrap();
    let mut datagram = [0; 1_500];
    let (len, from) = socket.recv_from(&mut datagram).unwrap();
    let answer = response::decode(&datagram[..len]).unwrap();
    assert_eq!((from, answer.mapped), (server, socket.local_addr().unwrap()));
}
