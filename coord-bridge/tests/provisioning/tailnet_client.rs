//! A machine with a `tailscale` that joins nothing and notes everything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use coord_bridge::enroll::{self, EnrollError, Enrolled, Machine, Order, ProvisionerUrl, Schedule};
use coord_bridge::headscale::Secret;
use tempfile::TempDir;

/// Pauses that a test can wait for.
pub(crate) const BRISK: Schedule = Schedule {
    tries: 3,
    try_time: Duration::from_secs(30),
    first_pause: Duration::from_millis(2),
    longest_pause: Duration::from_millis(4),
    join_time: Duration::from_secs(60),
};

pub(crate) struct TailnetClient {
    pub(crate) folder: TempDir,
}

impl TailnetClient {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        // A link: a file that was just written cannot be run while another test forks.
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provisioning/tailscale.sh");
        symlink(script, folder.path().join("tailscale")).unwrap();
        for name in ["tmp", "run"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What `tailscale` does from now on, in a word that it knows.
    pub(crate) fn set_mood(&self, mood: &str) {
        fs::write(self.path("tailscale.mood"), mood).unwrap();
    }

    /// What `tailscale` has noted.
    pub(crate) fn noted(&self, what: &str) -> String {
        fs::read_to_string(self.path(&format!("tailscale.{what}"))).unwrap_or_default()
    }

    /// `enroll` as a program, with these two files.
    pub(crate) fn command(&self, token: &str, url: &str, more: &[&str]) -> Command {
        fs::write(self.path("enroll-token"), token).unwrap();
        fs::write(self.path("provisioner-url"), url).unwrap();
        self.bare_command(more)
    }

    /// The same with whatever files there are.
    pub(crate) fn bare_command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coord-bridge"));
        command
            .arg("enroll")
            .arg("--token-file")
            .arg(self.path("enroll-token"))
            .arg("--tailscale")
            .arg(self.path("tailscale"))
            .args(more)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TMPDIR", self.path("tmp"))
            .env("RUNTIME_DIRECTORY", self.path("run"))
            .stdin(Stdio::null());
        if !more.contains(&"--url") {
            command.arg("--url-file").arg(self.path("provisioner-url"));
        }
        command
    }

    /// The same in this process: what came of it, and what was reported on the way.
    pub(crate) fn enroll(
        &self,
        token: &str,
        url: &str,
        schedule: Schedule,
        mut on_report: impl FnMut() + Send,
    ) -> (Result<Enrolled, EnrollError>, Vec<String>) {
        let order = Order {
            provisioner: ProvisionerUrl::parse(url).unwrap(),
            token: Secret::new(token.to_owned()),
            ca_file: None,
            machine: Machine {
                hostname: "one".to_owned(),
                is_named: false,
                mac: "unknown".to_owned(),
                id: None,
            },
            tailscale: self.path("tailscale"),
            schedule,
        };
        let mut reports = Vec::new();
        let mut report = |line: &str| {
            reports.push(line.to_owned());
            on_report();
        };
        let done = crate::http::runtime().block_on(enroll::enroll(&order, &mut report));
        (done, reports)
    }

    /// No file in the folders that programs write to.
    pub(crate) fn assert_left_nothing(&self) {
        for name in ["tmp", "run"] {
            let left: Vec<_> = fs::read_dir(self.path(name)).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}
