//! A server of somebody else's map, which answers as it is told, and dies.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::program::PATIENCE;

/// What it answers to every request.
#[derive(Clone, Debug)]
pub(crate) enum Mood {
    /// This status line and this body.
    Say(&'static str, Vec<u8>),
    /// A body that never ends.
    Flood,
    /// Nothing at all: the connection ends.
    HangUp,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    heads: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind(crate::ANY).unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, heads) = (Arc::new(Mutex::new(mood)), Arc::new(Mutex::new(Vec::new())));
        let (moods, seen) = (Arc::clone(&mood), Arc::clone(&heads));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let Some(head) = read_head(&stream) else { return };
                seen.lock().unwrap().push(head);
                let mood = moods.lock().unwrap().clone();
                // The other side may have had enough, which is what is tested.
                drop(answer(stream, mood));
            }
        });
        Self { address, mood, heads, thread: Some(thread) }
    }

    pub(crate) fn say(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A connection without a word ends it.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// `None` for whoever only connects.
fn read_head(stream: &TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    loop {
        let before = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if head[before..].trim().is_empty() {
            return Some(head);
        }
    }
}

fn answer(mut stream: TcpStream, mood: Mood) -> std::io::Result<()> {
    match mood {
        Mood::Say(status, body) => {
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n")?;
            stream.write_all(&body)
        }
        Mood::Flood => {
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(&[b' '; 16 * 1024])?;
            }
        }
        Mood::HangUp => Ok(()),
    }
}
