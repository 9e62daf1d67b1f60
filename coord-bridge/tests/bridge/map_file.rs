//! The map's file: whole at every moment, readable for others, left alone where it is right.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tempfile::TempDir;

use crate::config_on;
use crate::program::{PATIENCE, Program, command, output, refusal};

/// DERP-10.5 and D-5 of the requirements: Headscale reads the file at any moment; a part of a
/// map, or an empty file, would take relays away or end Headscale.
#[test]
fn a_reader_never_sees_a_part_of_a_map_however_often_the_program_is_killed() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("derp.yaml");
    let configs = [600, 900].map(|nodes| with_file(&file, &many_nodes(nodes)));
    let paths = [0, 1].map(|n| folder.path().join(format!("{n}.toml")));
    let maps: Vec<Vec<u8>> = configs
        .iter()
        .zip(&paths)
        .map(|(config, path)| {
            fs::write(path, config).unwrap();
            output(&["map", "--format", "yaml", "--config", path.to_str().unwrap()]).stdout
        })
        .collect();
    assert_ne!(maps[0], maps[1]);
    let began = Instant::now();
    start(&paths[0]).stop();
    let lifetime = began.elapsed();
    assert_eq!(fs::read(&file).unwrap(), maps[0]);

    let done = Arc::new(AtomicBool::new(false));
    let reads = Arc::new([const { AtomicU64::new(0) }; 2]);
    let reader = {
        let (file, maps) = (file.clone(), maps.clone());
        let (done, reads) = (Arc::clone(&done), Arc::clone(&reads));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let found = fs::read(&file).unwrap();
                let which = maps.iter().position(|map| *map == found);
                let which = which.unwrap_or_else(|| panic!("a part: {} bytes", found.len()));
                reads[which].fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    // Killed at moments from its start to its end.
    for round in 0..60 {
        let path = paths[if round % 2 == 0 { 1 } else { 0 }].to_str().unwrap();
        let mut serve = command(&["serve", "--config", path]);
        let mut child = serve.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(lifetime * round / 60);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!reader.is_finished(), "the reader saw a part of a map");
    }
    for (path, count) in paths.iter().zip(reads.iter()) {
        start(path).stop();
        let (before, began) = (count.load(Ordering::Relaxed), Instant::now());
        while count.load(Ordering::Relaxed) == before {
            assert!(!reader.is_finished() && began.elapsed() < PATIENCE, "the reader has ended");
        }
    }
    done.store(true, Ordering::Relaxed);
    reader.join().unwrap();

    assert_eq!(fs::read(&file).unwrap(), maps[1]);
    let mut left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["0.toml", "1.toml", "derp.yaml"], "nothing is left behind");
}

/// Headscale runs as another user. A service manager's umask must not keep the map from it.
#[test]
fn others_may_read_the_file_whatever_the_umask() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("above/below/derp.yaml");
    let config = folder.path().join("bridge.toml");
    fs::write(&config, with_file(&file, &config_on("127.0.0.1"))).unwrap();
    let script = format!("umask 077; exec \"$0\" serve --config {:?}", config.to_str().unwrap());
    let mut serve = std::process::Command::new("sh");
    serve.args(["-c", &script]).arg(command(&[]).get_program());

    Program::start(serve).stop();

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&file), 0o644);
    assert_eq!(mode(file.parent().unwrap()), 0o755);
    assert_eq!(mode(file.parent().unwrap().parent().unwrap()), 0o755);
}

/// A file that was closed to others by hand is opened again: else Headscale ends at its start.
#[test]
fn a_file_that_others_cannot_read_is_written_again() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("derp.yaml");
    let config = with_file(&file, &config_on("127.0.0.1"));
    Program::serve(folder.path(), &config).stop();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

    Program::serve(folder.path(), &config).stop();

    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
}

#[test]
fn a_file_that_holds_the_map_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("derp.yaml");
    let config = with_file(&file, &config_on("127.0.0.1"));
    let stamp = || {
        let seen = fs::metadata(&file).unwrap();
        (seen.ino(), seen.mtime(), seen.mtime_nsec(), seen.ctime(), seen.ctime_nsec())
    };
    Program::serve(folder.path(), &config).stop();
    let before = stamp();

    Program::serve(folder.path(), &config).stop();
    assert_eq!(stamp(), before);

    Program::serve(folder.path(), &config.replace("derp.example.org", "new.example.org")).stop();
    assert_ne!(stamp().0, before.0, "another file took its place");
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    for place in ["file/derp.yaml", "folder", "folder/."] {
        let file = folder.path().join(place);
        let line = refusal(folder.path(), &with_file(&file, &config_on("127.0.0.1")));
        assert!(line.contains(&format!("cannot write the map to {}: ", file.display())), "{line}");
        assert!(line.contains("map_file"), "{line}");
    }
    let line = refusal(folder.path(), &format!("map_file = \"\"\n{}", config_on("127.0.0.1")));
    assert!(line.contains("cannot write the map to "), "{line}");
}

/// A file of another kind in its place is replaced, never written into.
#[test]
fn a_link_is_replaced_and_what_it_points_to_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let (file, other) = (folder.path().join("derp.yaml"), folder.path().join("other"));
    fs::write(&other, "precious").unwrap();
    std::os::unix::fs::symlink(&other, &file).unwrap();
    std::os::unix::fs::symlink(&other, folder.path().join(".derp.yaml.new")).unwrap();

    Program::serve(folder.path(), &with_file(&file, &config_on("127.0.0.1"))).stop();

    assert_eq!(fs::read(&other).unwrap(), b"precious");
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
}

fn start(config: &Path) -> Program {
    Program::start(command(&["serve", "--config", config.to_str().unwrap()]))
}

pub(crate) fn with_file(file: &Path, config: &str) -> String {
    format!("map_file = {:?}\n{config}", file.to_str().unwrap())
}

fn many_nodes(count: u32) -> String {
    let mut config = config_on("127.0.0.1");
    for number in 0..count {
        config.push_str(&format!("[[region.nodes]]\nhostname = \"n{number}.example.org\"\n"));
    }
    config
}
