//! What `init` prints, taken by a real Headscale.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::program::Real;
use crate::real::programs;

/// The `derp:` block for a configuration that is there: Headscale starts with it and has our relay,
/// and `check` sees that it does.
#[test]
fn headscale_takes_the_block_and_check_sees_it() {
    for program in programs() {
        // As it was before: on its own relay, with the id of ours.
        let mut real = Real::prepare(
            &program,
            "  server:\n    enabled: true\n    region_id: 999\n    stun_listen_addr: 127.0.0.1:0\n    \
             private_key_path: FOLDER/derp.key\n  urls: []\n  paths: []\n",
        );
        let theirs = real.folder().join("config.yaml");
        let out = TempDir::new().unwrap();
        let init = bridge(&["init", "--hostname", "127.0.0.1", "--headscale-config"])
            .arg(&theirs)
            .arg("--out")
            .arg(out.path().join("files"))
            .output()
            .unwrap();
        assert!(init.status.success(), "{init:?}");
        let read = |name| std::fs::read_to_string(out.path().join("files").join(name)).unwrap();

        // The bridge of those files, on ports of its own.
        let at = out.path().display();
        let mut serve =
            bridge(&["serve", "--map-listen", "127.0.0.1:0", "--verify-listen", "none"]);
        serve.args(["--admin-listen", "none", "--metrics-listen", "none"]);
        serve.args(["--provisioning-listen", "127.0.0.1:0", "--state-dir"]).arg(out.path());
        serve.arg("--config").arg(out.path().join("files/bridge.toml"));
        serve.arg("--headscale-api-key-file").arg(out.path().join("api-key"));
        let serve = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut serve = Ending(serve);
        let map = ready(&mut serve, "map=");
        let block = read("headscale-derp.yaml").replace("127.0.0.1:8091", &map);
        let config = std::fs::read_to_string(&theirs).unwrap();
        let (before, rest) = config.split_once("derp:\n").unwrap();
        let (_, after) = rest.split_once("disable_check_updates").unwrap();
        let config = format!("{before}{block}disable_check_updates{after}");
        std::fs::write(&theirs, &config).unwrap();

        let tested = Command::new(&program).arg("--config").arg(&theirs).arg("configtest").output();
        let tested = tested.unwrap();
        assert!(tested.status.success(), "{}: {tested:?}\n{block}", program.display());
        assert!(real.go_on_as(&program), "{}:\n{}", program.display(), real.log());
        assert!(real.derp_map().contains("127.0.0.1"), "{}", real.derp_map());

        std::fs::write(out.path().join("api-key"), real.new_api_key()).unwrap();
        let mut check =
            bridge(&["check", "--json", "--map-listen", &map, "--verify-listen", "none"]);
        check.args(["--admin-listen", "none", "--metrics-listen", "none", "--provisioning-listen"]);
        check.args(["127.0.0.1:0", "--state-dir"]).arg(out.path());
        check.arg("--config").arg(out.path().join("files/bridge.toml"));
        check.arg("--headscale-config").arg(&theirs);
        check.arg("--headscale-api-key-file").arg(out.path().join("api-key"));
        let found: Value = serde_json::from_slice(&check.output().unwrap().stdout).unwrap();
        for tried in [
            "headscale API",
            "headscale API key",
            "the map that Headscale has",
            "derp.auto_update_enabled",
            "derp.urls",
            "derp.server",
            "Headscale's embedded relay",
        ] {
            // A new key ends within a day, and that is soon.
            let wanted = if tried.ends_with("key") { "notice" } else { "good" };
            let all = found["findings"].as_array().unwrap();
            let one = all.iter().find(|it| it["tried"].as_str().unwrap().contains(tried)).unwrap();
            assert_eq!(one["state"], wanted, "{at}: {one:#}");
        }
        real.stop();
    }
}

/// A program that ends with the test.
struct Ending(std::process::Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn bridge(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coord-bridge"));
    command.args(arguments).stdin(Stdio::null());
    command.env("COORD_BRIDGE_MAP_PROBE_INTERVAL", "0");
    command
}

/// The address behind `name` in the ready line.
fn ready(program: &mut Ending, name: &str) -> String {
    let mut line = String::new();
    BufReader::new(program.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.split_whitespace().find_map(|it| it.strip_prefix(name)).unwrap().to_owned()
}
