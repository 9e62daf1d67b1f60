//! Runs one package of the Go module in this folder, as part of `cargo test`.
//!
//! Included by the tests that build the programs under test. Where Go is missing or too old, or
//! its modules do not resolve, one line says so; `INTEROP=require` makes that an error.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Runs the Go tests of `package` with the programs under test in `programs`, by variable.
///
/// # Panics
///
/// If a test fails, or is skipped, or nothing can run and `INTEROP=require` is set.
pub(crate) fn run(package: &str, programs: &[(&str, &str)]) {
    let module = std::fs::read_to_string(folder().join("go.mod")).unwrap();
    let wanted = module.lines().find_map(|line| line.strip_prefix("go ")).unwrap();
    if let Some(reason) = obstacle(wanted) {
        assert!(std::env::var("INTEROP").as_deref() != Ok("require"), "interop: {reason}");
        // Past the capture of the test harness: a suite that did not run has to be seen.
        let line = format!("interop {package}: not run: {reason}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let output = go(&["test", "-count=1", "-timeout=10m", "-v", package])
        // Read once, when the test process starts: nodes may not talk directly.
        .env("TS_DEBUG_ALWAYS_USE_DERP", "true")
        .envs(programs.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "go test {package}:\n{text}\n{errors}");
    assert!(!text.contains("--- SKIP"), "a test did not run:\n{text}");
    assert!(text.contains("--- PASS"), "no test ran:\n{text}\n{errors}");
}

/// Why the Go tests, which want a Go of version `wanted`, cannot run here.
fn obstacle(wanted: &str) -> Option<String> {
    let Ok(version) = go(&["env", "GOVERSION"]).output() else {
        return Some(format!("no Go is installed (at least {wanted} is needed)"));
    };
    let installed = String::from_utf8_lossy(&version.stdout).trim().replacen("go", "", 1);
    if numbers(&installed) < numbers(wanted) {
        return Some(format!("Go {installed} is too old (at least {wanted} is needed)"));
    }
    match go(&["mod", "download"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().last().unwrap_or_default();
            Some(format!("its modules do not resolve: {last}"))
        }
        Err(error) => Some(format!("go mod download: {error}")),
    }
}

fn go(arguments: &[&str]) -> Command {
    let mut command = Command::new("go");
    // Neither another toolchain nor another version of a module than the committed ones.
    command.args(arguments).current_dir(folder());
    command.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly");
    command
}

fn folder() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut folders = package.ancestors().map(|folder| folder.join("interop"));
    folders.find(|folder| folder.join("go.mod").exists()).unwrap()
}

/// The numbers of a version, for comparison.
fn numbers(version: &str) -> Vec<u32> {
    version.split(['.', ' ', '-']).map_while(|part| part.parse().ok()).collect()
}
