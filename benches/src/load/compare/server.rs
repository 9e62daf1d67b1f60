//! A server that is started for one run and ended after it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::load::failure::Failure;
use crate::load::trust::Pin;

/// Time that a server has to start.
const START: Duration = Duration::from_secs(30);

/// Time that it has to end by itself.
const END: Duration = Duration::from_secs(5);

/// Lines of its output that are shown if it does not start.
const LAST_LINES: usize = 3;

/// What the line starts with that says that it is ready.
const READY: &str = "ready ";

/// What stands in front of the pin.
const PIN_NAME: &str = "CertName: ";

/// A server and how to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCommand {
    /// Its name in records.
    pub name: String,
    /// The program and its arguments.
    words: Vec<String>,
}

/// The text is no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write NAME=COMMAND, such as 'ours=derp-relay dev'; quotes must be closed")]
pub struct ParseServerError;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    /// Its name in records.
    pub name: String,
    /// Where DERP is.
    pub derp: Option<SocketAddr>,
    /// Where STUN is.
    pub stun: Option<SocketAddr>,
    /// The pin of its certificate.
    pub pin: Option<Pin>,
    child: Child,
}

impl FromStr for ServerCommand {
    type Err = ParseServerError;

    fn from_str(text: &str) -> Result<Self, ParseServerError> {
        let (name, command) = text.split_once('=').ok_or(ParseServerError)?;
        let words = words(command).filter(|words| !words.is_empty()).ok_or(ParseServerError)?;
        if name.is_empty() {
            return Err(ParseServerError);
        }
        Ok(Self { name: name.to_owned(), words })
    }
}

/// Splits a command as shells do, as far as blanks and quotes go.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (Some(_) | None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

impl Server {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    ///
    /// [`Failure::Server`], with the last it said.
    pub fn start(command: &ServerCommand) -> Result<Self, Failure> {
        let name = command.name.clone();
        let failure = |why: String| Failure::Server { name: command.name.clone(), why };
        let (program, arguments) =
            command.words.split_first().ok_or_else(|| failure("no command".to_owned()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failure(format!("{program}: {error}")))?;
        let (lines, said) = mpsc::channel();
        // Read to the end, or it would wait for room in the pipe.
        if let Some(out) = child.stdout.take() {
            listen(out, lines.clone());
        }
        if let Some(log) = child.stderr.take() {
            listen(log, lines);
        }
        let mut server = Self { name, derp: None, stun: None, pin: None, child };
        server.wait_until_ready(&said).map_err(failure)?;
        Ok(server)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&mut self, said: &Receiver<String>) -> Result<(), String> {
        let deadline = Instant::now() + START;
        let mut last = VecDeque::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match said.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("not ready within {} s", START.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let last: Vec<String> = last.into();
                    return Err(format!("ends before it is ready: {}", last.join(" / ")));
                }
            };
            if let Some((_, pin)) = line.split_once(PIN_NAME) {
                self.pin = pin.split_whitespace().next().and_then(|pin| pin.parse().ok());
            }
            if let Some(fields) = line.strip_prefix(READY) {
                self.derp = address(fields, "derp=");
                self.stun = address(fields, "stun=");
                // The two streams have no order: the pin may be behind, if not by long.
                while let Ok(line) = said.recv_timeout(Duration::from_millis(50)) {
                    if let Some((_, pin)) = line.split_once(PIN_NAME) {
                        self.pin = pin.split_whitespace().next().and_then(|pin| pin.parse().ok());
                    }
                }
                return Ok(());
            }
            last.push_back(line);
            if last.len() > LAST_LINES {
                last.pop_front();
            }
        }
    }

    fn end(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            kill_process(pid, Signal::TERM).unwrap_or_default();
        }
        let deadline = Instant::now() + END;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The first address of a field of the line `ready`, as one that can be connected to.
fn address(fields: &str, name: &str) -> Option<SocketAddr> {
    let field = fields.split_whitespace().find_map(|field| field.strip_prefix(name))?;
    let mut address: SocketAddr = field.split(',').next()?.parse().ok()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Some(address)
}

fn listen(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            // Nobody listens any more once it runs.
            drop(lines.send(line));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_at_blanks_outside_of_quotes() {
        let command: ServerCommand = "ours=relay serve  --name 'a b' \"c'd\" e=f".parse().unwrap();
        assert_eq!(command.name, "ours");
        assert_eq!(command.words, ["relay", "serve", "--name", "a b", "c'd", "e=f"]);
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for text in ["", "relay", "=relay", "ours=", "ours=  ", "ours=relay 'a"] {
            assert_eq!(text.parse::<ServerCommand>(), Err(ParseServerError), "{text:?}");
        }
    }

    #[test]
    fn a_wildcard_is_reached_on_loopback() {
        let line = "derp=[::]:443,0.0.0.0:443 stun=0.0.0.0:3478 http=none";
        assert_eq!(address(line, "derp=").unwrap().to_string(), "[::1]:443");
        assert_eq!(address(line, "stun=").unwrap().to_string(), "127.0.0.1:3478");
        assert_eq!(address(line, "http="), None);
    }

    #[test]
    fn a_server_is_found_ready_with_its_pin_and_ended() {
        let pin = format!("sha256-raw:{}", "0a".repeat(32));
        let script = format!(
            "sh=sh -c 'echo hello; echo \"log CertName: {pin}\" >&2; \
             echo ready derp=127.0.0.1:7 stun=none; exec sleep 60'"
        );
        let server = Server::start(&script.parse().unwrap()).unwrap();
        assert_eq!(server.derp.unwrap().port(), 7);
        assert_eq!(server.stun, None);
        assert_eq!(server.pin.unwrap().to_string(), pin);

        let folder = format!("/proc/{}", server.pid());
        drop(server);
        assert!(!std::path::Path::new(&folder).exists());
    }

    #[test]
    fn a_server_that_does_not_start_says_why() {
        let command = "sh=sh -c 'echo the port is taken >&2; exit 1'".parse().unwrap();
        let why = Server::start(&command).unwrap_err().to_string();
        assert!(why.contains("the port is taken"), "{why}");
        let missing = "no=/does/not/exist".parse().unwrap();
        assert!(Server::start(&missing).unwrap_err().to_string().contains("/does/not/exist"));
    }
}
