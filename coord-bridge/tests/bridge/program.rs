//! Runs the program under test, and ends it with the test.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before a test fails. Far beyond what it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running program.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    /// What it has printed up to its `ready` line.
    pub(crate) said: Vec<String>,
    log: Arc<Mutex<String>>,
}

/// The program with these arguments, and without any setting from outside.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coord-bridge"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COORD_BRIDGE_") {
            command.env_remove(name);
        }
    }
    // The names in the maps of these tests are nobody's, and DNS is none of theirs.
    command.env("COORD_BRIDGE_MAP_PROBE_INTERVAL", "0");
    command
}

/// Runs the program to its end.
pub(crate) fn output(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Runs `serve` with this configuration, which must be refused: the one line on why.
pub(crate) fn refusal(folder: &Path, config: &str) -> String {
    let file = folder.join("bridge.toml");
    std::fs::write(&file, config).unwrap();
    let mut child = command(&["serve", "--config", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = wait(&mut child);
    let (mut said, mut log) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(status.code(), Some(2), "{config}\n{log}");
    assert_eq!(said, "", "nothing is ready");
    one_line(&log)
}

/// The only line of `log`.
pub(crate) fn one_line(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let [line] = lines.as_slice() else { panic!("not one line:\n{log}") };
    assert!(line.starts_with("coord-bridge: "), "{line}");
    (*line).to_owned()
}

impl Program {
    /// Starts `command` and waits until it is ready.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let log = Arc::new(Mutex::new(String::new()));
        let (mut errors, kept) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            let mut piece = [0; 4_096];
            while let Ok(length @ 1..) = errors.read(&mut piece) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        });
        let mut program = Self { child, lines, said: Vec::new(), log };
        while !program.said.last().is_some_and(|line| line.starts_with("ready ")) {
            match program.lines.recv_timeout(PATIENCE) {
                Ok(line) => program.said.push(line),
                Err(error) => panic!("not ready: {error}\n{}", program.log()),
            }
        }
        program
    }

    /// Starts `serve` with this configuration.
    pub(crate) fn serve(folder: &Path, config: &str) -> Self {
        let file = folder.join("bridge.toml");
        std::fs::write(&file, config).unwrap();
        Self::start(command(&["serve", "--config", file.to_str().unwrap()]))
    }

    /// All addresses behind `name=` in the ready line.
    pub(crate) fn addresses(&self, name: &str) -> Vec<SocketAddr> {
        let line = self.said.last().unwrap();
        let fields = line.split(' ').filter_map(|field| field.split_once('='));
        let value = fields.into_iter().find(|(found, _)| *found == name).unwrap().1;
        value.split(',').filter(|text| *text != "none").map(|text| text.parse().unwrap()).collect()
    }

    /// The first of them.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        self.addresses(name)[0]
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has logged `text`, `times` times.
    pub(crate) fn wait_for_log(&self, text: &str, times: usize) {
        let began = Instant::now();
        while self.log().matches(text).count() < times {
            assert!(began.elapsed() < PATIENCE, "no {text:?} in:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a service manager does: it must end cleanly.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = wait(&mut self.child);
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        wait(&mut self.child);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits for the end of `child`.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
