//! Settings: what is taken, what is refused, and how that is said.

use std::path::Path;

use coord_bridge::Config;
use coord_bridge::config::{
    FurtherKeys, HeadscaleKeys, Keys, NodeKeys, ProvisioningKeys, RegionKeys, UpstreamKeys,
    VerifyKeys, WebhookKeys,
};
use tempfile::TempDir;

use crate::client::{ask, get};
use crate::program::{Program, command, one_line, output, refusal};
use crate::{HOSTS, config_on};

/// Other tests run at the same time, and the default ports are there once.
const NO_MORE: &str =
    "verify_listen = \"none\"\nadmin_listen = \"none\"\nmetrics_listen = \"none\"\n";

const NODE: &str = "[[region.nodes]]\nhostname = \"derp.example.org\"\n";

/// DERP-10.1: Headscale would take every relay from every client.
#[test]
fn a_region_without_nodes_is_refused_since_an_empty_map_would_be_published() {
    let folder = TempDir::new().unwrap();
    for config in ["", "[region]\nid = 999\n", "[region]\nnodes = []\n"] {
        let line = refusal(folder.path(), config);
        assert!(line.contains("region.nodes: ") && line.contains("empty map"), "{line}");
    }
    let done = output(&["serve"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(one_line(&String::from_utf8(done.stderr).unwrap()).contains("region.nodes"));
}

#[test]
fn an_unknown_key_is_an_error_with_a_hint() {
    let folder = TempDir::new().unwrap();
    for (config, said) in [
        ("map_lisen = \"127.0.0.1:1\"", "1: unknown key `map_lisen`; did you mean `map_listen`?"),
        (
            "[embedded_relay]\nhost_name = \"a\"",
            "2: unknown key `embedded_relay.host_name`; did you mean `embedded_relay.hostname`?",
        ),
        ("[region]\nidd = 1", "2: unknown key `region.idd`; did you mean `region.id`?"),
        (
            "[[region.nodes]]\nhost_name = \"a\"",
            "2: unknown key `region.nodes.host_name`; did you mean `region.nodes.hostname`?",
        ),
        (
            "[provisioning]\nlistn = \"none\"",
            "2: unknown key `provisioning.listn`; did you mean `provisioning.listen`?",
        ),
    ] {
        let line = refusal(folder.path(), config);
        assert!(line.ends_with(&format!("bridge.toml:{said}")), "{line}");
    }
}

/// DERP-10.4: every fault with its key and a remedy, all of them on one line.
#[test]
fn all_faults_are_told_at_once() {
    let folder = TempDir::new().unwrap();
    let line = refusal(
        folder.path(),
        "map_listen = \"none\"\n\
         [region]\nid = 0\ncode = \"\"\nname = \" \"\nlatitude = 91.0\n\
         [[region.nodes]]\n\
         [[region.nodes]]\nname = \"x\"\nhostname = \"two words\"\nipv4 = \"none\"\nipv6 = \"none\"\n\
         [[region.nodes]]\nname = \"x\"\nhostname = \"a\"\ncert_name = \"sha256-raw:00\"\n\
         ipv4 = \"2001:db8::1\"\nipv6 = \"203.0.113.7\"\nderp_port = 65536\nstun_port = -2\n\
         stun_test_ip = \"here\"\n\
         [[region.nodes]]\nname = \"\"\nhostname = \"line\\nbreak\"\n",
    );
    for said in [
        "region.code: empty",
        "region.name: empty",
        "region.longitude: missing",
        "region.id: 0 is out of bounds",
        "region.latitude, region.longitude: no place on Earth",
        "region.nodes[0].hostname: missing; write",
        "region.nodes[1].hostname: `two words` is neither",
        "region.nodes[1].ipv4, ipv6: both `none`",
        "region.nodes[2].name: `x` is another node's",
        "region.nodes[2].cert_name: `sha256-raw:00` is neither",
        "region.nodes[2].ipv4: `2001:db8::1` is no IPv4 address; write one such as",
        "region.nodes[2].ipv6: `203.0.113.7` is no IPv6 address; write one such as",
        "region.nodes[2].derp_port: 65536 is out of bounds; from 1 to 65535",
        "region.nodes[2].stun_port: -2 is out of bounds; from 1 to 65535",
        "region.nodes[2].stun_test_ip: `here` is no address",
        "region.nodes[3].name: empty",
        "region.nodes[3].hostname: `line\\nbreak` is neither",
        "map_listen, map_file: nothing publishes the map",
    ] {
        assert!(line.contains(said), "{said:?} in {line}");
    }
}

/// Addresses are literals or `none`, and absent where DNS is to say; names are no literals.
#[test]
fn addresses_are_literals_or_none() {
    let with = |lines: &str| Config::parse(&format!("{NODE}{lines}\n"));
    for good in ["ipv4 = \"203.0.113.7\"", "ipv6 = \"2001:db8::7\"", "ipv6 = \"none\"", ""] {
        assert!(with(good).is_ok(), "{good}");
    }
    for bad in [
        "ipv4 = \"derp.example.org\"",
        "ipv4 = \"0300.1.1.1\"",
        "ipv6 = \"no\"",
        "ipv6 = \"::1%1\"",
    ] {
        assert!(with(bad).unwrap_err().to_string().contains("region.nodes[0].ipv"), "{bad}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_line() {
    let folder = TempDir::new().unwrap();
    for (config, said) in [
        ("\nmap_listen = 8091", "bridge.toml:2: map_listen: "),
        ("map_listen = \"localhost:1\"", "bridge.toml:1: map_listen: not an address to listen on"),
        ("[region]\nid = \"999\"", "bridge.toml:2: id: "),
        ("[region]\nid = -1", "bridge.toml:2: id: "),
        ("[[region.nodes]]\nderp_port = \"443\"", "bridge.toml:2: derp_port: "),
        ("[region\n", "bridge.toml:1: "),
        ("log_level = \"loud\"", "bridge.toml:1: log_level: "),
    ] {
        let line = refusal(folder.path(), config);
        assert!(line.contains(said), "{line}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing.toml");
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    for file in [missing.as_path(), folder.path(), binary.as_path()] {
        for command in ["serve", "map"] {
            let done = output(&[command, "--config", file.to_str().unwrap()]);
            assert_eq!(done.status.code(), Some(2));
            let line = one_line(&String::from_utf8(done.stderr).unwrap());
            assert!(line.contains(&format!("cannot read {}: ", file.display())), "{line}");
            assert!(done.stdout.is_empty());
        }
    }
}

#[test]
fn a_flag_weighs_more_than_a_variable_and_that_more_than_the_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bridge.toml");
    let table = "[region]\nid = 901\ncode = \"file\"\nname = \"File\"\n";
    std::fs::write(&file, format!("{table}{NODE}")).unwrap();

    let mut map = command(&["map", "--region-id", "903", "--format", "json"]);
    map.env("COORD_BRIDGE_CONFIG", &file);
    map.env("COORD_BRIDGE_REGION__ID", "902").env("COORD_BRIDGE_REGION__CODE", "variable");
    let done = map.output().unwrap();

    let map = derp::map::DerpMap::parse(&done.stdout).unwrap();
    let region = &map.regions[&903];
    assert_eq!((region.code.as_str(), region.name.as_str()), ("variable", "File"));
    assert_eq!(region.nodes[0].name, "903a");
}

/// What the file may hold is what its reader knows: no key is forgotten in either list, and the
/// golden example has them all.
#[test]
fn every_key_of_the_file_is_known_and_taken() {
    let fields = [
        ("", serde_json::from_str::<Keys>("{\"?\":1}").unwrap_err().to_string()),
        ("region.", serde_json::from_str::<RegionKeys>("{\"?\":1}").unwrap_err().to_string()),
        ("region.nodes.", serde_json::from_str::<NodeKeys>("{\"?\":1}").unwrap_err().to_string()),
        ("regions.", serde_json::from_str::<RegionKeys>("{\"?\":1}").unwrap_err().to_string()),
        ("regions.nodes.", serde_json::from_str::<NodeKeys>("{\"?\":1}").unwrap_err().to_string()),
        ("upstreams.", serde_json::from_str::<UpstreamKeys>("{\"?\":1}").unwrap_err().to_string()),
        (
            "provisioning.",
            serde_json::from_str::<ProvisioningKeys>("{\"?\":1}").unwrap_err().to_string(),
        ),
        ("verify.", serde_json::from_str::<VerifyKeys>("{\"?\":1}").unwrap_err().to_string()),
        (
            "verify.headscales.",
            serde_json::from_str::<FurtherKeys>("{\"?\":1}").unwrap_err().to_string(),
        ),
        ("headscale.", serde_json::from_str::<HeadscaleKeys>("{\"?\":1}").unwrap_err().to_string()),
        ("webhooks.", serde_json::from_str::<WebhookKeys>("{\"?\":1}").unwrap_err().to_string()),
        (
            "embedded_relay.",
            serde_json::from_str::<derp_relay::config::Keys>("{\"?\":1}").unwrap_err().to_string(),
        ),
    ];
    let mut known: Vec<String> = Vec::new();
    for (table, error) in &fields {
        let names = error.split('`').skip(3).step_by(2);
        known.extend(names.map(|name| format!("{table}{name}")));
    }
    let tables = known.clone();
    known.retain(|name| !tables.iter().any(|it| it.starts_with(&format!("{name}."))));
    known.sort();
    let mut names = Keys::names_in_file();
    names.sort();
    assert_eq!(names, known);

    let full = include_str!("../golden/full.toml");
    assert!(Config::parse(full).is_ok());
    // The keys of the relay are held by tests of its own.
    for name in names.iter().filter(|name| !name.starts_with("embedded_relay.")) {
        let key = format!("\n{} = ", name.rsplit('.').next().unwrap());
        // Stands in the way of the URL, and of whoever fetches the map, as tests of their own hold.
        let elsewhere = ["headscale.socket", "map_user", "map_password_file"];
        assert!(full.contains(&key) || elsewhere.contains(&name.as_str()), "{name}");
    }
}

/// One way to Headscale, not two, and the whole of it.
#[test]
fn headscale_is_named_by_url_and_key_or_by_socket() {
    let login = "login_server = \"https://hs.example.org\"\n";
    let with = |lines: &str| Config::parse(&format!("{login}{NODE}[headscale]\n{lines}\n"));
    let nowhere = Config::parse(&format!("{NODE}[headscale]\nsocket = \"s\"\n")).unwrap_err();
    assert!(nowhere.to_string().contains("login_server: missing"), "{nowhere}");
    for good in [
        "",
        "socket = \"/run/headscale/headscale.sock\"",
        "url = \"http://127.0.0.1:8080\"\napi_key_file = \"/run/secrets/key\"",
        "url = \"https://hs.example.org\"\napi_key_file = \"credential:headscale-api-key\"",
    ] {
        let config = with(good).unwrap();
        assert_eq!(config.registration.headscale.is_some(), !good.is_empty(), "{good}");
    }
    for (bad, said) in [
        ("url = \"http://127.0.0.1:8080\"", "headscale.api_key_file: missing"),
        ("url = \"hs\"\napi_key_file = \"key\"", "headscale.url: no http:// or https:// URL"),
        (
            "url = \"http://hs\"\nsocket = \"s\"\napi_key_file = \"k\"",
            "headscale.url, headscale.socket: ",
        ),
        ("api_key_file = \"credential:a/b\"", "api_key_file: "),
    ] {
        let error = with(bad).unwrap_err().to_string();
        assert!(error.contains(said), "{bad}: {error}");
    }
}

/// Each key is a flag, a variable and a key of the file, but for lists of tables.
#[test]
fn flags_and_variables_have_the_names_of_the_keys() {
    let help = String::from_utf8(output(&["serve", "--help"]).stdout).unwrap();
    for key in Keys::names() {
        // Set for all of these tests, so it is shown with its value.
        let help = help.replace(
            "[env: COORD_BRIDGE_MAP_PROBE_INTERVAL=0]",
            "[env: COORD_BRIDGE_MAP_PROBE_INTERVAL=]",
        );
        let flag = format!("--{}", key.replace(['.', '_'], "-"));
        assert!(help.contains(&flag), "{flag}");
        let variable = format!("COORD_BRIDGE_{}", key.replace('.', "__").to_uppercase());
        assert!(help.contains(&format!("[env: {variable}=]")), "{variable}");
    }
}

#[test]
fn a_mistyped_variable_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bridge.toml");
    std::fs::write(&file, NODE).unwrap();
    let mut map = command(&["map", "--config", file.to_str().unwrap()]);
    let done = map.env("COORD_BRIDGE_REGION_ID", "900").output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    let line = one_line(&String::from_utf8(done.stderr).unwrap());
    assert!(line.contains("did you mean `COORD_BRIDGE_REGION__ID`?"), "{line}");
}

#[test]
fn wrong_usage_ends_with_code_2() {
    for arguments in [&[][..], &["sreve"], &["map", "--format", "xml"], &["serve", "--port", "1"]] {
        let done = output(arguments);
        assert_eq!(done.status.code(), Some(2), "{arguments:?}");
        assert!(done.stdout.is_empty());
    }
}

#[test]
fn several_listeners_or_none_can_be_given() {
    let folder = TempDir::new().unwrap();
    let several = HOSTS.map(|host| format!("\"{host}:0\"")).join(", ");
    let program = Program::serve(
        folder.path(),
        &format!("map_listen = [{several}]\n{NO_MORE}[provisioning]\nlisten = []\n{NODE}"),
    );
    let addresses = program.addresses("map");
    assert_eq!(addresses.iter().map(|it| it.is_ipv4()).collect::<Vec<_>>(), [true, false]);
    for address in addresses {
        assert_eq!(get(address, "/health").status, 200);
    }
    assert_eq!(program.addresses("register"), []);
    program.stop();

    let file = folder.path().join("derp.yaml");
    let config = config_on(HOSTS[0]).replacen("127.0.0.1:0", "none", 1);
    let program = Program::serve(
        folder.path(),
        &format!("map_file = {:?}\n{config}", file.to_str().unwrap()),
    );
    assert_eq!(program.addresses("map"), []);
    assert!(file.exists());
    program.stop();
}

/// The seeds of the fuzzing corpus stay what they were made to be.
#[test]
fn seeds_of_the_corpus_are_read_without_harm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/bridge_config");
    let mut good = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read(entry.unwrap().path()).unwrap();
        if let Ok(config) = Config::parse(&String::from_utf8_lossy(&text)) {
            assert_eq!(config.plan.map.validate(), Ok(()));
            good += 1;
        }
    }
    assert!(good > 1, "{good}");
}

/// with keys and remedies, all at once.
#[test]
fn settings_of_registration_are_checked() {
    let config = Config::parse(&format!(
        "login_server = \"https://hs.example.org\"\n[provisioning]\nkey_expiry = \"1d\"\n\
         admin_user = \"none\"\ntrusted_proxies = \"127.0.0.1\"\n{NODE}"
    ));
    let settings = config.unwrap().registration.settings.unwrap();
    assert_eq!(settings.key_expiry.as_secs(), 86_400);
    assert_eq!((settings.admin_user, settings.user.as_str()), (None, "sovran-deploy"));
    assert_eq!((settings.rate.burst, settings.rate.window.as_secs()), (10, 60));
    assert_eq!(settings.token_file.to_str(), Some("/var/lib/coord-bridge/enroll-token"));
    assert!(settings.trusted_proxies[0].contains("127.0.0.1".parse().unwrap()));
    assert_eq!(
        Config::parse(NODE).unwrap().registration.settings,
        None,
        "machines would log in nowhere"
    );

    let faults = Config::parse(&format!(
        "login_server = \"hs.example.org\"\npublic_map_url = \"derp\"\n\
         store = \"postgres://bridge:geheim@db/bridge\"\n\
         [provisioning]\nkey_expiry = \"1s\"\nrate_limit_max = 0\nrate_limit_window = \"9d\"\n\
         token_file = \"/nix/store/x/token\"\nadmin_token_file = \"/nix/store/x/token\"\n\
         trusted_proxies = [\"10.0.0.0/8\", \"proxy\"]\n{NODE}"
    ));
    let line = faults.unwrap_err().to_string();
    for key in [
        "login_server: ",
        "public_map_url: ",
        "store: has a password",
        "provisioning.key_expiry: 1s is out of bounds; from 1m to 7d",
        "provisioning.rate_limit_max: ",
        "provisioning.rate_limit_window: ",
        "provisioning.token_file: everybody can read",
        "provisioning.admin_token_file: everybody can read",
        "provisioning.admin_token_file: is provisioning.token_file too",
        "provisioning.trusted_proxies: not a network",
    ] {
        assert!(line.contains(key), "{key}: {line}");
    }
    assert!(!line.contains("geheim"), "{line}");
}

/// Whatever keeps machines from registering, Headscale finds its map.
#[test]
fn a_registration_that_cannot_begin_leaves_the_map() {
    let folder = TempDir::new().unwrap();
    let program = Program::serve(
        folder.path(),
        &format!(
            "map_listen = \"127.0.0.1:0\"\n{NO_MORE}login_server = \"https://hs.example.org\"\n{NODE}\
             [headscale]\nurl = \"http://127.0.0.1:1\"\napi_key_file = \"credential:none\"\n\
             [provisioning]\nlisten = \"127.0.0.1:0\"\n"
        ),
    );
    assert_eq!(get(program.address("map"), "/derpmap.json").status, 200);
    assert_eq!(ask(program.address("register"), "POST", "/register", "").status, 503);
    program.wait_for_log("LoadCredential=none:", 1);
    program.stop();
}

/// O5.3: who is asked about nodes, how often and how strictly.
#[test]
fn settings_of_the_verify_front_are_checked() {
    let headscale = "login_server = \"https://hs.example.org\"\n[headscale]\nsocket = \"s\"\n";
    let verify = Config::parse(&format!("{headscale}{NODE}")).unwrap().verify;
    let [(name, _, interval)] = &verify.headscales[..] else { panic!("{verify:?}") };
    assert_eq!((name.as_str(), interval.as_secs()), ("headscale", 4));
    assert!(!verify.settings.refuse_expired);
    assert_eq!(verify.relay_token_file.to_str(), Some("/var/lib/coord-bridge/relay-token"));

    let further = "[[verify.headscales]]\nname = \"work\"\nurl = \"http://hs\"\n\
                   api_key_file = \"key\"\n";
    let verify = Config::parse(&format!("{further}{NODE}")).unwrap().verify;
    let [(name, _, interval)] = &verify.headscales[..] else { panic!("{verify:?}") };
    assert_eq!((name.as_str(), interval.as_secs()), ("work", 25));
    assert!(Config::parse(NODE).unwrap().verify.headscales.is_empty());

    let faults = Config::parse(&format!(
        "[verify]\ninterval = \"10ms\"\nmax_age = \"9d\"\n\
         [[verify.headscales]]\nname = \"headscale\"\nurl = \"http://hs\"\n\
         [[verify.headscales]]\nname = \"two words\"\n\
         {further}{further}{NODE}"
    ));
    let line = faults.unwrap_err().to_string();
    for key in [
        "verify.interval: 10ms is out of bounds; from 1s to 1h",
        "verify.max_age: 9d is out of bounds; from 10s to 1d",
        "verify.headscales[0].name: headscale is another one's",
        "verify.headscales[0].api_key_file: missing",
        "verify.headscales[1].name: write",
        "verify.headscales[1].url, verify.headscales[1].socket: missing",
        "verify.headscales[3].name: work is another one's",
    ] {
        assert!(line.contains(key), "{key}: {line}");
    }
}
