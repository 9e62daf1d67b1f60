//! The map: what it looks like, and that it is the same everywhere.

use std::path::{Path, PathBuf};

use derp::map::DerpMap;
use tempfile::TempDir;

use crate::client::{ask, get};
use crate::program::{Program, command, output};
use crate::{HOSTS, config_on};

/// The cases: `NAME.toml` is published as `NAME.json` and `NAME.yaml`.
const CASES: [&str; 4] = ["minimal", "full", "several_nodes", "odd_texts"];

/// DERP-10.3, DERP-10.5, DERP-10.6, DERP-10.7: byte for byte, in two runs of the program.
#[test]
fn maps_are_the_golden_ones_in_every_run() {
    for case in CASES {
        for (format, ending) in [("json", "json"), ("yaml", "yaml")] {
            let printed = print(&golden(case, "toml"), format);
            is_golden(&golden(case, ending), &printed);
            assert_eq!(print(&golden(case, "toml"), format), printed);
            let text = String::from_utf8(printed).unwrap();
            assert!(!text.contains("null") || case == "odd_texts", "{text}");
        }
    }
}

/// DERP-10.2, DERP-10.4: a map that is published can be read, and has no faults.
#[test]
fn maps_can_be_read_and_have_no_faults() {
    for case in CASES {
        let map = DerpMap::parse(&print(&golden(case, "toml"), "json")).unwrap();
        assert_eq!(map.validate(), Ok(()), "{case}");
    }
}

/// DERP-10.5: what `map` prints, what two runs of `serve` answer, and what the file holds.
#[test]
fn the_map_has_the_same_bytes_wherever_it_is_published() {
    for host in HOSTS {
        for case in CASES {
            let folder = TempDir::new().unwrap();
            let file = folder.path().join("derp.yaml");
            let any = format!("{host}:0");
            let config = golden(case, "toml");
            for _ in 0..2 {
                let program = Program::start(command(&[
                    "serve",
                    "--config",
                    config.to_str().unwrap(),
                    "--map-listen",
                    &any,
                    "--provisioning-listen",
                    &any,
                    "--verify-listen",
                    "none",
                    "--admin-listen",
                    &any,
                    "--metrics-listen",
                    &any,
                    "--map-file",
                    file.to_str().unwrap(),
                ]));
                let address = program.address("map");
                for (format, kind) in [("json", "application/json"), ("yaml", "application/yaml")] {
                    let answer = get(address, &format!("/derpmap.{format}"));
                    assert_eq!(answer.status, 200);
                    assert_eq!(answer.header("content-type"), Some(kind));
                    assert_eq!(answer.body, print(&config, format), "{case} {format}");
                }
                assert_eq!(std::fs::read(&file).unwrap(), print(&config, "yaml"));
                program.stop();
            }
        }
    }
}

/// A cache asks every time; it gets the map again only if that is another one.
#[test]
fn a_cache_can_ask_whether_its_map_is_still_the_one() {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let program = Program::serve(folder.path(), &config_on(host));
        let address = program.address("map");
        for path in ["/derpmap.json", "/derpmap.yaml"] {
            let whole = get(address, path);
            let tag = whole.header("etag").unwrap().to_owned();
            assert_eq!(whole.header("cache-control"), Some("no-cache"));
            let with =
                |known: &str| ask(address, "GET", path, &format!("If-None-Match: {known}\r\n"));
            for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
                let answer = with(&known);
                assert_eq!((answer.status, answer.text()), (304, ""), "{known}");
                assert_eq!(answer.header("etag"), Some(tag.as_str()));
            }
            for known in ["\"other\"", "", tag.trim_matches('"')] {
                assert_eq!(with(known).body, whole.body, "{known}");
            }
        }
        let [json, yaml] = ["/derpmap.json", "/derpmap.yaml"].map(|path| get(address, path));
        assert_ne!(json.header("etag"), yaml.header("etag"));
    }
}

/// Whoever reads only the beginning is no fault of the program's.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let config = golden("full", "toml");
    let binary = env!("CARGO_BIN_EXE_coord-bridge");
    let script = format!("'{binary}' map --config '{}' | true", config.display());
    let done = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
}

fn print(config: &Path, format: &str) -> Vec<u8> {
    let done = output(&["map", "--format", format, "--config", config.to_str().unwrap()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
    done.stdout
}

fn golden(case: &str, ending: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{case}.{ending}"))
}

fn is_golden(file: &Path, bytes: &[u8]) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, bytes).unwrap();
    }
    let golden = std::fs::read(file).unwrap_or_default();
    assert_eq!(
        String::from_utf8_lossy(bytes),
        String::from_utf8_lossy(&golden),
        "{}",
        file.display()
    );
}
