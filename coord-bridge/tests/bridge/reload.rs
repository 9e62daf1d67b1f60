//! SIGHUP and SIGTERM.

use std::fs;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{dial, get};
use crate::map_file::with_file;
use crate::program::Program;
use crate::{HOSTS, config_on};

/// DERP-10.5: another configuration, another map, everywhere; the same one changes nothing.
#[test]
fn hangup_publishes_the_region_that_the_file_has_now() {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("derp.yaml");
        let config = with_file(&file, &config_on(host));
        let program = Program::serve(folder.path(), &config);
        let address = program.address("map");
        let first = get(address, "/derpmap.json");

        program.signal(Signal::HUP);
        program.wait_for_log("the map is the same", 1);
        assert_eq!(get(address, "/derpmap.json").header("etag"), first.header("etag"));

        let other = config.replace("derp.example.org", "new.example.org");
        fs::write(folder.path().join("bridge.toml"), other).unwrap();
        program.signal(Signal::HUP);
        program.wait_for_log("the map is another one", 1);

        let second = get(address, "/derpmap.json");
        assert!(second.text().contains("new.example.org"));
        assert_ne!(second.header("etag"), first.header("etag"));
        assert_eq!(get(address, "/derpmap.yaml").body, fs::read(&file).unwrap());
        assert_eq!(get(address, "/ready").status, 200);
        program.stop();
    }
}

/// DERP-10.1, DERP-10.4: whatever is wrong with the new file, the old map stays, everywhere, and
/// `/ready` says so without telling strangers more.
#[test]
fn hangup_keeps_the_map_when_the_file_is_faulty() {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let (file, toml) = (folder.path().join("derp.yaml"), folder.path().join("bridge.toml"));
        let config = with_file(&file, &config_on(host));
        let program = Program::serve(folder.path(), &config);
        let address = program.address("map");
        let map = get(address, "/derpmap.json");
        let yaml = fs::read(&file).unwrap();

        let faulty =
            ["[[", "[region]\nid = 999\n", "unknown = 1\n", "[[region.nodes]]\nhostname = \"\"\n"];
        for (count, text) in (1..).zip(faulty) {
            fs::write(&toml, text).unwrap();
            program.signal(Signal::HUP);
            program.wait_for_log("the map stays as it was", count);
            let ready = get(address, "/ready");
            assert_eq!(ready.status, 503, "{text}");
            assert!(ready.text().starts_with("not ready: the new configuration is refused"));
            assert!(!ready.text().contains("bridge.toml"));
        }
        fs::remove_file(&toml).unwrap();
        program.signal(Signal::HUP);
        program.wait_for_log("the map stays as it was", faulty.len() + 1);
        assert!(program.log().contains("bridge.toml") && program.log().contains("region.nodes"));

        let kept = get(address, "/derpmap.json");
        assert_eq!((kept.status, kept.body), (200, map.body));
        assert_eq!(fs::read(&file).unwrap(), yaml);
        assert_eq!(get(address, "/health").status, 200, "the process is well");

        fs::write(&toml, &config).unwrap();
        program.signal(Signal::HUP);
        program.wait_for_log("the map is the same", 1);
        assert_eq!(get(address, "/ready").status, 200);
        program.stop();
    }
}

/// Somebody removes the file, or writes something else: `/ready` tells, SIGHUP heals.
#[test]
fn hangup_writes_a_file_again_that_was_lost() {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("derp.yaml");
        let program = Program::serve(folder.path(), &with_file(&file, &config_on(host)));
        let address = program.address("map");
        let map = fs::read(&file).unwrap();
        for (count, harm) in (1..).zip([None, Some("regions: {}\n")]) {
            match harm {
                None => fs::remove_file(&file).unwrap(),
                Some(text) => fs::write(&file, text).unwrap(),
            }
            let ready = get(address, "/ready");
            assert_eq!(ready.status, 503);
            assert!(ready.text().contains("SIGHUP") && !ready.text().contains("derp.yaml"));

            program.signal(Signal::HUP);
            program.wait_for_log("the map is the same", count);

            assert_eq!(fs::read(&file).unwrap(), map);
            assert_eq!(get(address, "/ready").status, 200);
        }
        program.stop();
    }
}

/// The file comes first: where it cannot be written, no other map is served either.
#[test]
fn a_map_that_cannot_be_written_is_not_served() {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("below/derp.yaml");
        let config = with_file(&file, &config_on(host));
        let program = Program::serve(folder.path(), &config);
        let address = program.address("map");
        fs::remove_dir_all(folder.path().join("below")).unwrap();
        fs::write(folder.path().join("below"), "in the way").unwrap();

        let other = config.replace("derp.example.org", "new.example.org");
        fs::write(folder.path().join("bridge.toml"), other).unwrap();
        program.signal(Signal::HUP);
        program.wait_for_log("the map stays as it was", 1);

        assert!(program.log().contains("below/derp.yaml"));
        assert!(get(address, "/derpmap.json").text().contains("derp.example.org"));
        assert_eq!(get(address, "/ready").status, 503);
        program.stop();
    }
}

#[test]
fn hangup_says_which_changes_take_a_restart() {
    let folder = TempDir::new().unwrap();
    let program = Program::serve(folder.path(), &config_on(HOSTS[0]));
    let other = with_file(&folder.path().join("x"), &config_on(HOSTS[1]));
    fs::write(folder.path().join("bridge.toml"), other).unwrap();

    program.signal(Signal::HUP);
    program.wait_for_log("reloaded", 1);

    let waiting =
        ["map_listen", "map_file", "provisioning.listen", "admin_listen", "metrics_listen"];
    for key in waiting {
        assert!(program.log().contains(&format!("key=\"{key}\"")), "{}", program.log());
    }
    program.stop();
}

/// Also with connections that are open, idle, or half-way through a request.
#[test]
fn the_program_ends_cleanly_when_it_is_told_to() {
    for signal in [Signal::TERM, Signal::INT] {
        for host in HOSTS {
            let folder = TempDir::new().unwrap();
            let program = Program::serve(folder.path(), &config_on(host));
            let mut streams: Vec<_> =
                ["map", "register"].map(|name| dial(program.address(name))).into();
            for name in ["map", "register"] {
                let mut stream = dial(program.address(name));
                std::io::Write::write_all(&mut stream, b"GET /health HTTP/1.1\r\nHo").unwrap();
                streams.push(stream);
            }
            program.signal(signal);
            program.stop();
            for stream in &mut streams {
                assert_eq!(crate::client::read_to_end(stream), b"");
            }
        }
    }
}
