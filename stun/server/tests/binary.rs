//! The binary as an operator and a supervisor see it.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "../../../derp/relay/tests/support/uninterrupted.rs"]
mod uninterrupted;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stun::message::TransactionId;
use stun::{request, response};
use uninterrupted::uninterrupted;

const PATIENCE: Duration = Duration::from_secs(60);

/// STUN-5.14: the `ready` line names what was bound, both families are answered, and SIGTERM
/// and SIGINT end the program with 0.
#[test]
fn program_says_ready_answers_and_stops_cleanly() {
    for end in [Signal::TERM, Signal::INT] {
        let mut program = Program::start(&["--listen", "127.0.0.1:0", "--listen", "[::1]:0"]);
        let [v4, v6] = program.addresses[..] else { panic!("{:?}", program.addresses) };
        ask(v4);
        ask(v6);

        program.signal(end);

        assert_eq!(program.exit_code(), Some(0));
        assert_eq!(program.rest_of_stdout(), "");
    }
}

/// STUN-5.16: SIGHUP, sent to every service alike for a reload, does not end the program.
#[test]
fn hangup_is_survived() {
    let mut program = Program::start(&["--listen", "127.0.0.1:0", "--listen", "[::1]:0"]);

    program.signal(Signal::HUP);
    for address in program.addresses.clone() {
        ask(address);
    }
    program.signal(Signal::TERM);

    assert_eq!(program.exit_code(), Some(0));
}

/// STUN-5.14, STUN-5.3: a taken port is exit code 2 and one line with the address and a remedy.
#[test]
fn taken_port_is_explained_in_one_line() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let other = UdpSocket::bind(listen).unwrap();
        let taken = other.local_addr().unwrap().to_string();

        let output = run(&["--listen", &taken]);

        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(&taken) && line.contains("in use: stop"), "{line}");
        assert!(output.stdout.is_empty());
    }
}

/// STUN-5.3: two programs of the same user cannot share a port without knowing.
#[test]
fn second_program_on_a_port_is_refused() {
    let first = Program::start(&["--listen", "127.0.0.1:0", "--listen", "[::1]:0"]);
    for taken in &first.addresses {
        let second = run(&["--listen", &taken.to_string()]);

        assert_eq!(second.status.code(), Some(2));
        ask(*taken);
    }
}

/// STUN-5.14: a mistyped command line is exit code 2.
#[test]
fn bad_arguments_are_refused() {
    for arguments in [
        &["--listen", "localhost"][..],
        &["--listen", "127.0.0.1"],
        &["--threads", "0"],
        &["--threads", "1025", "--listen", "127.0.0.1:0"],
        &["--log-level", "loud"],
        &["--unknown"],
        &["argument"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
}

/// STUN-3.4, STUN-5.14: `--any-client` answers a request of 20 bytes.
#[test]
fn any_client_is_answered_on_request() {
    let program = Program::start(&[
        "--any-client",
        "--threads=1",
        "--log-level=off",
        "--listen=127.0.0.1:0",
        "--listen=[::1]:0",
    ]);
    let mut plain = request::encode(TransactionId::new([3; 12]))[..20].to_vec();
    plain[3] = 0;
    for address in &program.addresses {
        exchange(*address, &plain);
    }
}

/// A running program; killed if a test ends without stopping it.
struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    addresses: Vec<SocketAddr>,
}

impl Program {
    /// Starts the program and waits for its `ready` line.
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stun-server"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, stdout, addresses: Vec::new() };
        let mut line = String::new();
        program.stdout.read_line(&mut line).unwrap();
        let list = line.strip_prefix("ready stun=").unwrap().trim_end();
        program.addresses = list.split(',').map(|address| address.parse().unwrap()).collect();
        program
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        end_in_time(&mut self.child);
        self.child.wait().unwrap().code()
    }

    fn rest_of_stdout(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if the program has ended, as it should have.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs the program to its end, which must come by itself.
fn run(arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_stun-server"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    end_in_time(&mut child);
    child.wait_with_output().unwrap()
}

/// Waits for the end of `child`, and kills it if that does not come.
fn end_in_time(child: &mut Child) {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the program does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn ask(server: SocketAddr) {
    exchange(server, &request::encode(TransactionId::new([3; 12])));
}

fn exchange(server: SocketAddr, request: &[u8]) {
    let local = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(local).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(request).unwrap();
    let mut answer = [0; 256];
    let len = uninterrupted(|| socket.recv(&mut answer)).unwrap();
    let response = response::decode(&answer[..len]).unwrap();
    assert_eq!(response.mapped, socket.local_addr().unwrap());
}
