//! The pages in a real browser: `tests/browser/check.mjs` drives a headless Chromium.
//!
//! `PICTURES=1 cargo test -p coord-bridge --test admin browser` writes `docs/pictures` again.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use coord_bridge::store::tokens::Profile;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::bench::Bench;
use crate::running::{Running, json as body_of};

/// Accessible in light and dark, 360 px wide without scrolling sideways, and all by keyboard.
#[test]
fn browser() {
    if let Err(reason) = prepare() {
        assert!(std::env::var("INTEROP").as_deref() != Ok("require"), "browser: {reason}");
        // Past the capture of the test harness: a test that did not run has to be seen.
        let line = format!("the pages are not tried in a browser: {reason}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let running = inhabited();
    let machines = body_of(&running.get("/api/v1/machines"));
    let machine = &machines["machines"][1];
    let details = json!({
        "token": running.bench.admin_token(),
        "machine": machine["id"],
        "host": machine["hostname"],
    });
    let file = running.bench.folder.path().join("details.json");
    std::fs::write(&file, details.to_string()).unwrap();
    let mut command = Command::new("node");
    command.current_dir(folder()).arg("check.mjs");
    command.arg(format!("http://{}", running.admin)).arg(&file);
    if std::env::var_os("PICTURES").is_some() {
        let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures");
        command.arg("--pictures").arg(pictures);
    }
    let done = command.output().unwrap();
    let (said, faults) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{said}\n{faults}");
    assert_eq!(said.matches("checked: ").count(), 2, "{said}");
    let after = body_of(&running.get(&format!("/api/v1/machines/{}", text_of(&machine["id"]))));
    assert_eq!(after["state"], "deleted", "what the keyboard did is done");
}

/// A bridge with machines in most states, tokens, and relays.
fn inhabited() -> Running {
    let bench = Bench::with(|settings| settings.rate.burst = 100);
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        for (hostname, hours) in [("sovran-live", 30), ("atlas-01", 3), ("atlas-02", 2)] {
            let made = bench.register(hostname).await.unwrap();
            bench.headscale.join(made.key.reveal(), hostname);
            bench.advance_and_reconcile(Duration::from_secs(3_600 * hours)).await;
        }
        let live = bench.machines().await[0].id.clone();
        let hour = Duration::from_secs(3_600);
        let made = bench.provisioning.create_key(Profile::Machine, hour, Some(&live)).await;
        bench.headscale.join(made.unwrap().key.reveal(), "sovran-desk");
        for hostname in ["rescue-7", "workbench", "kiosk-north"] {
            bench.register(hostname).await.unwrap();
        }
        bench.advance_and_reconcile(Duration::from_secs(240)).await;
    });
    drop(runtime);
    let running = Running::of(bench, None);
    for token in [
        r#"{"name": "batch-7", "quota": 20, "expires_in_seconds": 604800, "tags": ["tag:lab"]}"#,
        r#"{"name": "office", "profile": "iso", "sources": ["192.0.2.0/24"]}"#,
        r#"{"name": "last-year"}"#,
    ] {
        assert_eq!(running.post("/api/v1/tokens", token).status, 201);
    }
    assert_eq!(running.delete("/api/v1/tokens/last-year").status, 204);
    running
}

/// Sees to the modules that the script uses; or says what is missing.
fn prepare() -> Result<(), String> {
    let runs = |program: &str| match Command::new(program).arg("--version").output() {
        Ok(done) if done.status.success() => Ok(done),
        Ok(done) => Err(format!("{program} does not run: {}", text(&done.stderr).trim())),
        Err(error) => Err(format!("{program} cannot be run: {error}")),
    };
    let node = text(&runs("node")?.stdout);
    let major = node.trim_start_matches('v').split('.').next().and_then(|it| it.parse().ok());
    if major.is_none_or(|major: u32| major < 18) {
        return Err(format!("node {} is too old: 18 is needed", node.trim()));
    }
    let named = std::env::var("CHROMIUM").ok();
    let names =
        named.as_deref().into_iter().chain(["chromium", "chromium-browser", "google-chrome"]);
    if !names.into_iter().any(|name| runs(name).is_ok()) {
        return Err("no Chromium is installed".to_owned());
    }
    // As in the lock file, whose hashes npm compares.
    let done: Output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"])
        .current_dir(folder())
        .output()
        .map_err(|error| format!("npm cannot be run: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let errors = text(&done.stderr);
    Err(format!("its modules do not resolve: {}", errors.lines().next().unwrap_or_default()))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn text_of(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}
