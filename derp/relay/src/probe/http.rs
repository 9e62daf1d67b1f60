//! One GET over plain HTTP.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use super::stream::Timed;
use super::{Fault, Seen, random};

/// Most bytes of an answer that are read.
const MAX_ANSWER_LEN: u64 = 2 * 1024 * 1024;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status line and header fields, without the empty line at the end.
    pub head: String,
    /// The rest.
    pub body: Vec<u8>,
}

impl Answer {
    /// The status, 0 where there is none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    /// The value of a header field, by its name in any letter case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Asks for `path` at `address`, with further header lines, each with its line end.
///
/// Asks in HTTP/1.0, so that the end of the connection is the end of the answer. Blocks for up
/// to [`STEP_TIME`](super::STEP_TIME) to connect, and as long for the rest.
///
/// # Errors
///
/// [`Fault`], where what comes is no HTTP.
pub fn get(address: SocketAddr, path: &str, headers: &str) -> Result<Answer, Fault> {
    let mut socket = Timed::connect(address)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n");
    socket.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    socket.take(MAX_ANSWER_LEN).read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end.filter(|_| bytes.starts_with(b"HTTP/1.")) else {
        return Err(Fault::Http("something that is no HTTP".to_owned()));
    };
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    Ok(Answer { head, body: bytes.split_off(end + 4) })
}

/// The check for captive portals, as Tailscale's clients do it.
pub(super) fn challenge(address: SocketAddr) -> Seen {
    let began = Instant::now();
    let challenge = format!("ts_{:016x}", u64::from_be_bytes(random()?));
    let answer = get(address, "/generate_204", &format!("X-Tailscale-Challenge: {challenge}\r\n"))?;
    let expected = format!("response {challenge}");
    if answer.status() == 204 && answer.header("X-Tailscale-Response") == Some(expected.as_str()) {
        Ok((began.elapsed(), "the challenge is answered".to_owned()))
    } else {
        let line = answer.head.lines().next().unwrap_or_default();
        Err(Fault::Http(format!("{line}, not 204 with the response to the challenge")))
    }
}
