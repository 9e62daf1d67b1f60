//! One question over UDP: from which address do you see me?

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use stun::message::TransactionId;
use stun::{request, response};

use super::{Fault, Seen, random};

/// How often to ask: datagrams get lost.
const TRIES: u32 = 5;

/// Time for one answer. Source: as long as all tries together have in [`super::STEP_TIME`].
const TRY_TIME: Duration = Duration::from_secs(1);

/// Room for any answer.
const MAX_ANSWER_LEN: usize = 1_500;

/// Asks `address`, up to [`TRIES`] times.
pub(super) fn ask(address: SocketAddr) -> Seen {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    // Only what comes from there reaches us.
    socket.connect(address)?;
    for _ in 0..TRIES {
        let id = TransactionId::new(random()?);
        let began = Instant::now();
        socket.send(&request::encode(id))?;
        if let Some(seen) = wait(&socket, id, began)? {
            let own = socket.local_addr()?;
            // Elsewhere something between us may translate addresses.
            if address.ip().is_loopback() && seen != own {
                return Err(Fault::Mapped { seen, own });
            }
            return Ok((began.elapsed(), format!("we are {seen}")));
        }
    }
    Err(Fault::TimedOut)
}

/// Waits for the answer to the question `id`.
fn wait(
    socket: &UdpSocket,
    id: TransactionId,
    began: Instant,
) -> Result<Option<SocketAddr>, Fault> {
    let mut datagram = [0; MAX_ANSWER_LEN];
    loop {
        let left = TRY_TIME.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut datagram) {
            Ok(length) => length,
            // The whole process was stopped for a moment.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let fault = Fault::from(error);
                return if matches!(fault, Fault::TimedOut) { Ok(None) } else { Err(fault) };
            }
        };
        match response::decode(datagram.get(..length).unwrap_or_default()) {
            Ok(answer) if answer.transaction_id == id => return Ok(Some(answer.mapped)),
            Err(fault @ response::DecodeError::Refused { transaction_id, .. })
                if transaction_id == id =>
            {
                return Err(Fault::Stun(fault));
            }
            // Noise, or the answer to an earlier try.
            Ok(_) | Err(_) => {}
        }
    }
}
