//! Several regions, maps of others, and a password, by the program.

use std::fs;
use std::net::SocketAddr;

use derp::map::DerpMap;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{ask, get};
use crate::program::{Program, output, refusal};
use crate::{HOSTS, config_on};

/// A second region, whose relay's host name is this.
fn second(host: &str) -> String {
    format!(
        "[[regions]]\nid = 998\ncode = \"far\"\nname = \"Far away\"\n\
         [[regions.nodes]]\nhostname = \"{host}\"\n"
    )
}

fn ids(address: SocketAddr) -> Vec<u64> {
    let map = DerpMap::parse(&get(address, "/derpmap.json").body).unwrap();
    map.regions.into_keys().collect()
}

#[test]
fn hangup_takes_regions_and_maps_of_others() {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let theirs = folder.path().join("theirs.json");
        let node = r#"{"Name":"7a","RegionID":7,"HostName":"seven.example.org"}"#;
        let text = format!(r#"{{"Regions":{{"7":{{"RegionID":7,"Nodes":[{node}]}}}}}}"#);
        fs::write(&theirs, text).unwrap();
        let own = format!("state_dir = \"{}\"\n{}", folder.path().display(), config_on(host));
        let program = Program::serve(folder.path(), &own);
        let address = program.address("map");
        assert_eq!(ids(address), [999]);

        let upstream = format!("[[upstreams]]\nfile = \"{}\"\n", theirs.display());
        let more = [own.clone(), second("far.example.org"), upstream].concat();
        fs::write(folder.path().join("bridge.toml"), more).unwrap();
        program.signal(Signal::HUP);
        program.wait_for_log("the map is another one", 1);
        assert_eq!(ids(address), [7, 998, 999]);

        fs::write(folder.path().join("bridge.toml"), own).unwrap();
        program.signal(Signal::HUP);
        program.wait_for_log("the map is another one", 2);
        assert_eq!(ids(address), [999]);
        program.stop();
    }
}

/// `regions` alone is enough, and names may be given for relays that are still to come.
#[test]
fn the_table_region_is_not_needed_beside_others() {
    let folder = TempDir::new().unwrap();
    let config = [
        "map_listen = \"127.0.0.1:0\"\nverify_listen = \"none\"\nadmin_listen = \"none\"\n\
         metrics_listen = \"none\"\n[provisioning]\nlisten = \"127.0.0.1:0\"\n"
            .to_owned(),
        second("far.example.org"),
        "[[regions]]\nid = 997\ncode = \"later\"\nname = \"Later\"\n".to_owned(),
    ];
    let program = Program::serve(folder.path(), &config.concat());
    assert_eq!(ids(program.address("map")), [998]);
    program.stop();
}

#[test]
fn faults_of_regions_and_maps_of_others_name_their_table() {
    let folder = TempDir::new().unwrap();
    let own = config_on(HOSTS[0]);
    let upstream = |text: &str| format!("[[upstreams]]\n{text}\n");
    for (more, said) in [
        (second("two words"), "regions[0].nodes[0].hostname: `two words`"),
        (second("a").replace("998", "999"), "regions[0].id: 999 is the id of region already"),
        (second("a").replace("far", ""), "regions[0].code: empty"),
        ("[[regions]]\nidd = 1\n".to_owned(), "unknown key `regions.idd`"),
        (upstream(""), "upstreams[0].url: missing"),
        (upstream("url = \"ftp://x\""), "upstreams[0].url: no http:// or https:// URL"),
        (upstream("url = \"http://u:geheim@x\""), "upstreams[0].url: a user name or password"),
        (upstream("url = \"http://x\"\ninterval = \"1s\""), "upstreams[0].interval: out of"),
        (upstream("url = \"http://x\"\nuser = \"me\""), "upstreams[0].password_file: missing"),
        (
            [upstream("url = \"http://x\""), upstream("url = \"http://x\"")].concat(),
            "upstreams[1]: the same",
        ),
        (upstream("urls = \"http://x\""), "unknown key `upstreams.urls`"),
        (upstream("url = \"http://x\"").repeat(9), "upstreams: 9 tables; at most 8"),
    ] {
        let line = refusal(folder.path(), &[own.clone(), more].concat());
        assert!(line.contains(said), "{said}: {line}");
        assert!(!line.contains("geheim"), "{line}");
    }
    for (more, said) in [
        ("map_user = \"me\"\n", "map_password_file: missing"),
        ("map_password_file = \"x\"\n", "map_user: missing"),
        ("map_user = \"a:b\"\nmap_password_file = \"x\"\n", "map_user: empty, or with a colon"),
        ("map_user = \"me\"\nmap_password_file = \"/none/x\"\n", "cannot read map_password_file"),
    ] {
        let line = refusal(folder.path(), &[more, &own].concat());
        assert!(line.contains(said), "{said}: {line}");
    }
    let flags = ["serve", "--map-probe-interval", "1ms", "--map-listen", "127.0.0.1:0"];
    let refused = output(&flags);
    assert_eq!(refused.status.code(), Some(2));
    let log = String::from_utf8(refused.stderr).unwrap();
    assert!(log.contains("map_probe_interval: out of bounds; at least 1s"), "{log}");
}

/// Refusals are no JSON: Headscale would take it for a map.
#[test]
fn the_map_takes_a_password_where_one_is_set() {
    for host in HOSTS {
        let folder = TempDir::new().unwrap();
        let password = folder.path().join("password");
        fs::write(&password, "geheim: ä\n").unwrap();
        let config = format!(
            "map_user = \"me\"\nmap_password_file = \"{}\"\n{}",
            password.display(),
            config_on(host)
        );
        let program = Program::serve(folder.path(), &config);
        let address = program.address("map");
        // me:geheim: ä
        let right = "bWU6Z2VoZWltOiDDpA==";
        for path in ["/derpmap.json", "/derpmap.yaml"] {
            for scheme in ["Basic", "basic", "BASIC "] {
                let header = format!("Authorization: {scheme} {right}\r\n");
                let answer = ask(address, "GET", path, &header);
                assert_eq!(answer.status, 200, "{header}");
                assert!(answer.text().contains("derp.example.org"));
            }
            for header in [
                String::new(),
                "Authorization: Basic\r\n".to_owned(),
                "Authorization: Basic bWU6Z2VoZWlt\r\n".to_owned(),
                format!("Authorization: Bearer {right}\r\n"),
                format!("Authorization: Basic {right}A\r\n"),
                format!("Authorization: Basic {right}\r\nAuthorization: Basic x\r\n"),
                format!("If-None-Match: *\r\nAuthorization: Basic {}\r\n", "A".repeat(4_000)),
            ] {
                let answer = ask(address, "GET", path, &header);
                assert_eq!(answer.status, 401, "{header}");
                let scheme = answer.header("www-authenticate").unwrap();
                assert!(scheme.starts_with("Basic realm="), "{scheme}");
                assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
                assert!(serde_json::from_slice::<serde_json::Value>(&answer.body).is_err());
            }
        }
        assert_eq!(get(address, "/health").status, 200);
        assert_eq!(get(address, "/ready").status, 200);
        assert!(!program.log().contains("geheim"));
        program.stop();
    }
}
