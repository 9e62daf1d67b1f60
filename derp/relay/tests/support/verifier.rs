//! A verifier: a small HTTP server that keeps every question, and answers as a test wants.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// One question, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) head: String,
    pub(crate) body: String,
}

/// What a verifier does with a question.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Sends these bytes, and waits for the next question.
    Bytes(Vec<u8>),
    /// Sends these bytes, and closes the connection without a word about that.
    LastBytes(Vec<u8>),
    /// Sends these bytes, and then more of the last one for ever.
    Endless(Vec<u8>),
    /// Says nothing, and keeps the connection open.
    Silence,
}

impl Reply {
    /// An answer with this status line and body.
    pub(crate) fn answer(status: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
        Self::Bytes((head + body).into_bytes())
    }

    pub(crate) fn allow() -> Self {
        Self::answer("200 OK", r#"{"Allow":true}"#)
    }

    pub(crate) fn deny() -> Self {
        Self::answer("200 OK", r#"{"Allow":false}"#)
    }
}

/// A running verifier. It ends when this is dropped, connections included.
pub(crate) struct Verifier {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    stopping: AtomicBool,
    questions: Mutex<Vec<Question>>,
    connections: Mutex<Vec<Connection>>,
}

impl Shared {
    fn keep(&self, question: &Question) {
        self.questions.lock().unwrap().push(question.clone());
    }
}

impl Verifier {
    /// A verifier on any port of `host`.
    pub(crate) fn start(
        host: IpAddr,
        reply: impl Fn(&Question) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_at((host, 0).into(), None, reply)
    }

    /// A verifier at `address`, over TLS if a configuration for that is given.
    pub(crate) fn start_at(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        reply: impl Fn(&Question) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            None,
        )
        .unwrap();
        // A verifier that restarts takes its port again at once.
        listener.set_reuse_address(true).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(1_024).unwrap();
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            questions: Mutex::default(),
            connections: Mutex::default(),
        });
        let for_acceptor = Arc::clone(&shared);
        let acceptor =
            std::thread::spawn(move || accept(&listener, &for_acceptor, &tls, &Arc::new(reply)));
        Self { address, scheme, shared, acceptor: Some(acceptor) }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/verify", self.scheme, self.address)
    }

    /// All questions so far.
    pub(crate) fn questions(&self) -> Vec<Question> {
        self.shared.questions.lock().unwrap().clone()
    }

    /// Connections that were ever made.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// Closes the listener and all connections.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the acceptor, which then looks whether it has to stop.
        drop(TcpStream::connect(self.address));
        acceptor.join().unwrap();
        for connection in self.shared.connections.lock().unwrap().iter() {
            drop(connection.0.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.end();
    }
}

/// One socket for all who hold it, at the price of one descriptor.
#[derive(Clone)]
struct Connection(Arc<TcpStream>);

impl Read for Connection {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(out)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    tls: &Option<Arc<ServerConfig>>,
    reply: &Arc<impl Fn(&Question) -> Reply + Send + Sync + 'static>,
) {
    loop {
        let (socket, _) = listener.accept().unwrap();
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let connection = Connection(Arc::new(socket));
        shared.connections.lock().unwrap().push(connection.clone());
        let (shared, reply, tls) = (Arc::clone(shared), Arc::clone(reply), tls.clone());
        std::thread::spawn(move || {
            // The other end may go at any time.
            drop(match tls {
                None => converse(connection.clone(), &shared, &*reply),
                Some(config) => {
                    let tls = ServerConnection::new(config).unwrap();
                    converse(StreamOwned::new(tls, connection.clone()), &shared, &*reply)
                }
            });
            // Others hold this socket too.
            drop(connection.0.shutdown(Shutdown::Both));
        });
    }
}

/// Answers questions on one connection until it ends.
fn converse(
    mut stream: impl Read + Write,
    shared: &Shared,
    reply: &impl Fn(&Question) -> Reply,
) -> io::Result<()> {
    loop {
        let question = read_question(&mut stream)?;
        shared.keep(&question);
        match reply(&question) {
            Reply::Bytes(bytes) => {
                stream.write_all(&bytes)?;
                stream.flush()?;
            }
            Reply::LastBytes(bytes) => {
                stream.write_all(&bytes)?;
                return stream.flush();
            }
            Reply::Endless(bytes) => {
                stream.write_all(&bytes)?;
                let last = [bytes[bytes.len() - 1]; 16];
                loop {
                    stream.write_all(&last)?;
                    stream.flush()?;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Reply::Silence => {
                // Until the other end gives up.
                stream.read_exact(&mut [0])?;
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}

fn read_question(stream: &mut impl Read) -> io::Result<Question> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(Question { head, body })
}
