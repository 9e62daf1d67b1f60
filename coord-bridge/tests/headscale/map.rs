//! The map and a real Headscale: killed bridges, refreshes, restarts, and the embedded relay.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coord_bridge::publication::embedded::{self, Collision, Configured, EmbeddedSettings};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::program::{PATIENCE, Real};
use crate::real::programs;

/// When the bridge is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    BeforeHeadscale,
    WhileHeadscaleStarts,
    BeforeARefresh,
    WhileItWritesAnotherMap,
    WhileHeadscaleRestarts,
}

const MOMENTS: [Moment; 5] = [
    Moment::BeforeHeadscale,
    Moment::WhileHeadscaleStarts,
    Moment::BeforeARefresh,
    Moment::WhileItWritesAnotherMap,
    Moment::WhileHeadscaleRestarts,
];

/// A bridge as a process that can be killed.
struct Bridge {
    folder: TempDir,
    child: Child,
}

impl Bridge {
    /// Serves region 999, with its file at `map_file`.
    fn start(map_file: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        write_config(folder.path(), map_file, "first.example.org");
        let mut command = Command::new(env!("CARGO_BIN_EXE_coord-bridge"));
        command.args(["serve", "--config"]).arg(folder.path().join("bridge.toml"));
        command.env("COORD_BRIDGE_MAP_PROBE_INTERVAL", "0");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready "), "{line}");
        Self { folder, child }
    }

    /// As a power cut would.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Has it write another map, and does not wait.
    fn change(&self, map_file: &Path) {
        write_config(self.folder.path(), map_file, "second.example.org");
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // It was killed already, in most tests.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn write_config(folder: &Path, map_file: &Path, host: &str) {
    let text = format!(
        "map_listen = \"127.0.0.1:0\"\nverify_listen = \"none\"\nadmin_listen = \"none\"\n\
         metrics_listen = \"none\"\nmap_file = \"{}\"\n[provisioning]\nlisten = \
         \"127.0.0.1:0\"\n[[region.nodes]]\nhostname = \"{host}\"\n",
        map_file.display()
    );
    std::fs::write(folder.join("bridge.toml"), text).unwrap();
}

/// A file beside the bridge's, by whose changes a refresh is seen.
fn write_marker(file: &Path, mark: &str) {
    let text = format!(
        "regions:\n  900:\n    regionid: 900\n    regioncode: mark\n    regionname: Mark\n    \
         nodes:\n      - {{name: 900a, regionid: 900, hostname: {mark}.example.org}}\n"
    );
    std::fs::write(file, text).unwrap();
}

/// Holds that Headscale has region 999, with a node of ours.
fn has_region_999(real: &Real, when: &str) {
    let map = real.derp_map();
    assert!(
        map.contains("999") && (map.contains("first.example") || map.contains("second.example")),
        "{when}: {map}"
    );
}

fn wait_for_mark(real: &Real, mark: &str) {
    let began = Instant::now();
    while !real.derp_map().contains(&format!("{mark}.example.org")) {
        assert!(began.elapsed() < PATIENCE, "no refresh:\n{}", real.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Must hold: the bridge killed at five moments, and Headscale starts, refreshes, restarts.
#[test]
fn region_999_outlives_a_killed_bridge() {
    for program in programs() {
        for moment in MOMENTS {
            outlive(&program, moment);
        }
    }
}

fn outlive(program: &Path, moment: Moment) {
    let derp = "  server:\n    enabled: false\n  urls: []\n  paths: [FOLDER/own/derp.yaml, \
                FOLDER/mark.yaml]\n  auto_update_enabled: true\n  update_frequency: 1s\n";
    let mut real = Real::prepare(program, derp);
    let file: PathBuf = real.folder().join("own/derp.yaml");
    let marker = real.folder().join("mark.yaml");
    write_marker(&marker, "one");
    let mut bridge = Bridge::start(&file);

    if moment == Moment::BeforeHeadscale {
        bridge.kill();
    }
    real.spawn();
    if moment == Moment::WhileHeadscaleStarts {
        bridge.kill();
    }
    assert!(real.is_up(), "{moment:?}:\n{}", real.log());
    has_region_999(&real, &format!("{moment:?}, start"));

    if moment == Moment::BeforeARefresh {
        bridge.kill();
    }
    if moment == Moment::WhileItWritesAnotherMap {
        bridge.change(&file);
        bridge.kill();
    }
    write_marker(&marker, "two");
    wait_for_mark(&real, "two");
    has_region_999(&real, &format!("{moment:?}, refresh"));

    real.stop();
    if moment == Moment::WhileHeadscaleRestarts {
        bridge.kill();
    }
    real.spawn();
    assert!(real.is_up(), "{moment:?}:\n{}", real.log());
    has_region_999(&real, &format!("{moment:?}, restart"));
}

/// What `embedded` knows Headscale's relay by is what real programs say, and only when it is on.
#[test]
fn the_embedded_relay_is_seen() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ours = [999].into();
    for program in programs() {
        for is_on in [true, false] {
            let derp = format!(
                "  server:\n    enabled: {is_on}\n    region_id: 999\n    region_code: hs\n    \
                 region_name: Embedded\n    stun_listen_addr: 127.0.0.1:0\n    private_key_path: \
                 FOLDER/derp.key\n    automatically_add_embedded_derp_region: true\n    \
                 verify_clients: true\n  urls: []\n  paths: [FOLDER/mark.yaml]\n  \
                 auto_update_enabled: false\n"
            );
            let mut real = Real::prepare(&program, &derp);
            write_marker(&real.folder().join("mark.yaml"), "one");
            real.spawn();
            assert!(real.is_up(), "{}", real.log());

            let url = Some((real.url().parse().unwrap(), None));
            let by_url = EmbeddedSettings { config_file: None, url };
            let (seen, _) = runtime.block_on(embedded::look(&by_url, &ours));
            assert_eq!(seen, is_on.then_some(Collision::Suspected), "{}", program.display());

            let config = real.folder().join("config.yaml");
            let configured = if is_on { Configured::On(999) } else { Configured::Off };
            assert_eq!(embedded::read_config(&config).unwrap(), configured);
            let by_file = EmbeddedSettings { config_file: Some(config), ..by_url };
            let (seen, _) = runtime.block_on(embedded::look(&by_file, &ours));
            assert_eq!(seen, is_on.then_some(Collision::Sure(999)));
        }
    }
}
