//! An HTTP client that can also misbehave.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::program::PATIENCE;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Header fields as they came, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, "")
}

/// One request on a connection of its own.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    send(address, request.as_bytes()).unwrap_or_else(|| panic!("no answer to {method} {path}"))
}

/// Sends `bytes` as they are and reads to the end of the connection; `None` if nothing came.
pub(crate) fn send(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = dial(address);
    // The other side may close before it has read everything.
    let wrote = stream.write_all(bytes);
    let came = read_to_end(&mut stream);
    assert!(wrote.is_ok() || came.is_empty() || came.starts_with(b"HTTP/1.1 "), "{wrote:?}");
    (!came.is_empty()).then(|| parse(&came))
}

/// Everything until the connection ends, in whatever way.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut came = Vec::new();
    match stream.read_to_end(&mut came) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => panic!("still open"),
        Ok(_) | Err(_) => came,
    }
}

fn parse(came: &[u8]) -> Answer {
    let end = came.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&came[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Answer { status, headers, body: came[end + 4..].to_vec() }
}
