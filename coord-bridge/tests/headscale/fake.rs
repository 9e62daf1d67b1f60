//! An HTTP server that answers, or misbehaves, as a test says.
//!
//! Does: one thread per connection, kept alive as HTTP/1.1 does; remembers what it was asked.
//! Does not: know Headscale.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// The API key in it.
    pub(crate) key: Option<String>,
    pub(crate) body: String,
}

/// How it answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Answer {
        status: u16,
        content_type: String,
        body: String,
    },
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// This head, then bytes without end.
    Endless(&'static str),
    /// A good head, then one byte of the body now and then.
    Dribble,
    /// Nothing, and the connection stays open.
    Silence,
    /// The end of the connection at once.
    HangUp,
}

/// The server. It ends with the test.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

struct State {
    answer: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
    asked: Mutex<Vec<Request>>,
    streams: Mutex<Vec<TcpStream>>,
    is_over: AtomicBool,
    /// Bytes that [`Reply::Endless`] got rid of.
    sent: AtomicUsize,
}

impl State {
    fn remember(&self, request: &Request) {
        self.asked.lock().unwrap().push(request.clone());
    }
}

impl Reply {
    pub(crate) fn json(body: &str) -> Self {
        Self::answer(200, "application/json", body)
    }

    pub(crate) fn answer(status: u16, content_type: &str, body: &str) -> Self {
        Self::Answer { status, content_type: content_type.to_owned(), body: body.to_owned() }
    }
}

impl Fake {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            answer: Box::new(answer),
            asked: Mutex::default(),
            streams: Mutex::default(),
            is_over: AtomicBool::new(false),
            sent: AtomicUsize::new(0),
        });
        let accepting = std::thread::spawn({
            let state = Arc::clone(&state);
            move || accept(&listener, &state)
        });
        Self { address, state, accepting: Some(accepting) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.state.asked.lock().unwrap().clone()
    }

    /// How often it was asked this.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.asked().iter().filter(|it| it.method == method && it.path == path).count()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.streams.lock().unwrap().len()
    }

    /// Bytes that endless answers have got rid of, the system's buffers included.
    pub(crate) fn sent(&self) -> usize {
        self.state.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        for stream in self.state.streams.lock().unwrap().iter() {
            drop(stream.shutdown(Shutdown::Both));
        }
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    let mut talking = Vec::new();
    for stream in listener.incoming() {
        if state.is_over.load(Ordering::Relaxed) {
            break;
        }
        let stream = stream.unwrap();
        state.streams.lock().unwrap().push(stream.try_clone().unwrap());
        let state = Arc::clone(state);
        talking.push(std::thread::spawn(move || {
            // The other side may go away at any time.
            drop(converse(&stream, &state));
            drop(stream.shutdown(Shutdown::Both));
        }));
    }
    for thread in talking {
        drop(thread.join());
    }
}

fn converse(stream: &TcpStream, state: &State) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(request) = read_request(&mut reader)? {
        state.remember(&request);
        match (state.answer)(&request) {
            Reply::Answer { status, content_type, body } => {
                let head = head(status, &content_type, body.len());
                writer.write_all(format!("{head}{body}").as_bytes())?;
            }
            Reply::Raw(bytes) => return writer.write_all(&bytes),
            Reply::Endless(head) => {
                writer.write_all(head.as_bytes())?;
                loop {
                    let block = [b' '; 16 * 1024];
                    state.sent.fetch_add(writer.write(&block)?, Ordering::Relaxed);
                }
            }
            Reply::Dribble => {
                writer.write_all(head(200, "application/json", 1_000_000).as_bytes())?;
                loop {
                    writer.write_all(b" ")?;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            // Until the other side gives up.
            Reply::Silence => return reader.read(&mut [0]).map(drop),
            Reply::HangUp => return Ok(()),
        }
    }
    Ok(())
}

fn head(status: u16, content_type: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// The next request, or none if the connection ends before it.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let (mut length, mut key) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().map_err(io::Error::other)?,
            "authorization" => key = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(Some(Request { method, path, key, body }))
}
