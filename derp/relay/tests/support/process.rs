//! The program as a process: started, looked at, signalled, ended by its pid.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::http;
use super::peer::{PATIENCE, Way};

/// Clock ticks in a second, as `/proc/PID/stat` counts; the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_derp-relay");

/// A run of the program, without a variable of the test's own environment.
pub(crate) fn command(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear();
    command
}

/// A running program. It is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    out: Captured,
    err: Captured,
    addresses: BTreeMap<String, Vec<SocketAddr>>,
}

/// What a program that has ended leaves.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    /// A relay for everybody on `host`, on any ports, with its state in `state`.
    pub(crate) fn serve(host: IpAddr, way: Way, state: &Path, more: &[impl AsRef<OsStr>]) -> Self {
        let mut arguments = serve_arguments(host, way, state);
        arguments.extend(more.iter().map(|argument| argument.as_ref().to_str().unwrap().into()));
        Self::start(command(&arguments))
    }

    /// Starts a program and waits until it says that it is ready.
    pub(crate) fn start(command: Command) -> Self {
        let mut program = Self::spawn(command);
        let give_up = Instant::now() + PATIENCE;
        loop {
            let out = program.out.text();
            if let Some(line) = out.lines().find(|line| line.starts_with("ready ")) {
                program.addresses = read_ready_line(line);
                return program;
            }
            let ended = program.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended at its start: {out}\n{}", program.err.text());
            assert!(Instant::now() < give_up, "never ready: {out}\n{}", program.err.text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts a program, whatever becomes of it.
    pub(crate) fn spawn(mut command: Command) -> Self {
        super::raise_descriptor_limit();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = Captured::of(child.stdout.take().unwrap());
        let err = Captured::of(child.stderr.take().unwrap());
        Self { child, out, err, addresses: BTreeMap::new() }
    }

    /// Runs a program to its end.
    pub(crate) fn run(command: Command) -> Ended {
        Self::spawn(command).ended()
    }

    /// Where it listens for `what`: `derp`, `http`, `stun` or `metrics`; the first address.
    pub(crate) fn address(&self, what: &str) -> SocketAddr {
        self.addresses(what)[0]
    }

    /// All addresses at which it listens for `what`.
    pub(crate) fn addresses(&self, what: &str) -> &[SocketAddr] {
        &self.addresses[what]
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output.
    pub(crate) fn out(&self) -> String {
        self.out.text()
    }

    /// What it has written to standard error.
    pub(crate) fn err(&self) -> String {
        self.err.text()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(mut self) -> Ended {
        let give_up = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < give_up, "does not end: {}\n{}", self.out(), self.err());
            std::thread::sleep(Duration::from_millis(2));
        };
        Ended { status, out: self.out.all(), err: self.err.all() }
    }

    /// Everything it counts, as Prometheus sees it.
    pub(crate) fn scrape(&self) -> String {
        let answer = http::get(self.address("metrics"), "/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// The value of a metric, given with its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        super::value(&self.scrape(), name)
    }

    /// Holds that a metric, given with its labels, comes to be `value`.
    pub(crate) fn counts(&self, name: &str, value: u32) {
        super::eventually(&format!("{name} {value}"), || {
            let now = self.metric(name);
            (now == f64::from(value)).then_some(()).ok_or(now)
        });
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Memory that is in use, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
    }

    /// Seconds of processor time used so far.
    pub(crate) fn processor_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name in parentheses may hold blanks; the state follows it as field 3.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = |field: usize| -> f64 {
            fields.split_whitespace().nth(field - 3).unwrap().parse().unwrap()
        };
        (ticks(14) + ticks(15)) / TICKS_PER_SECOND
    }

    /// Holds that it runs as before: no panic, and no flood of log lines.
    pub(crate) fn is_unharmed(&mut self) {
        assert!(self.is_running(), "ended: {}", self.err());
        let log = self.err();
        assert!(!log.contains("panicked"), "{log}");
        assert!(log.len() < 64 * 1024, "{} bytes of log: {}", log.len(), &log[..4_096]);
        // What it says of itself at INFO; what strangers do is counted, not told.
        assert!(log.lines().count() < 50, "{log}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already waited for in most cases, which kills nobody else.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Arguments of `serve` for a relay for everybody on `host`, on any ports.
pub(crate) fn serve_arguments(host: IpAddr, way: Way, state: &Path) -> Vec<String> {
    let any_port = SocketAddr::new(host, 0).to_string();
    let mut arguments = vec!["serve".to_owned()];
    let mut give = |flag: &str, value: &dyn Display| {
        arguments.extend([format!("--{flag}"), value.to_string()]);
    };
    for listener in ["derp", "http", "stun", "metrics"] {
        give(&format!("listen-{listener}"), &any_port);
    }
    give("key-file", &key_file(state).display());
    give("access", &"open");
    if way == Way::Plain {
        give("tls", &"off");
    } else {
        give("tls", &"self-signed");
        give("hostname", &host);
    }
    arguments
}

/// Where a relay with its state in `state` keeps its key.
pub(crate) fn key_file(state: &Path) -> PathBuf {
    state.join("derp.key")
}

/// `ready derp=A,B stun=none …`, by name.
fn read_ready_line(line: &str) -> BTreeMap<String, Vec<SocketAddr>> {
    let fields = line.split(' ').skip(1).map(|field| field.split_once('=').unwrap());
    let list = |text: &str| match text {
        "none" => Vec::new(),
        list => list.split(',').map(|address| address.parse().unwrap()).collect(),
    };
    fields.map(|(name, addresses)| (name.to_owned(), list(addresses))).collect()
}

/// What a program writes, collected by a thread of its own, so that it never waits for us.
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    collector: Option<std::thread::JoinHandle<()>>,
}

impl Captured {
    fn of(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let collector = std::thread::spawn(move || {
            let mut buffer = [0; 8 * 1024];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..len]);
            }
        });
        Self { bytes, collector: Some(collector) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// Everything, once the program has ended.
    fn all(&mut self) -> String {
        if let Some(collector) = self.collector.take() {
            collector.join().unwrap();
        }
        self.text()
    }
}
