//! The commands in the document of the API do what they say.

use std::path::Path;
use std::process::Command;

use crate::running::{Running, json};

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn the_commands_in_the_document_work() {
    if let Err(error) = Command::new("curl").arg("--version").output() {
        eprintln!("the commands of docs/api.md are not run: curl cannot be run: {error}");
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let script = blocks.collect::<String>();
    let calls = script.matches("curl ").count();
    assert!(calls > 6, "{script}");
    let running = Running::new();
    let done = Command::new("sh")
        .args(["-eu", "-c", &script])
        .env("BRIDGE", format!("http://{}", running.admin))
        .env("STATE_DIR", running.bench.folder.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let tokens = json(&running.get("/api/v1/tokens"));
    let made = tokens["tokens"].as_array().unwrap().iter().find(|it| it["name"] == "batch-7");
    assert!(made.unwrap()["revoked"].is_string(), "{tokens}");
    assert_eq!(running.bench.headscale.all_keys().len(), 1);
    assert!(running.bench.headscale.valid_keys().is_empty());
}
