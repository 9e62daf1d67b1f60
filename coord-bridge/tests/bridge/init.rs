//! `init`: files to begin with, which our own programs take.

use std::path::Path;
use std::process::Output;

use coord_bridge::Config;
use coord_bridge::headscale_file::{HeadscaleFile, Known};
use derp_relay::config as relay;
use tempfile::TempDir;

use crate::program::{command, one_line};

const FILES: [&str; 5] =
    ["relay.toml", "bridge.toml", "headscale-derp.yaml", "nginx.conf", "Caddyfile"];

/// As in Headscale's example, shortened.
const EXAMPLE: &str = "server_url: https://headscale.example.org:443\n\
    listen_addr: 127.0.0.1:8080\nmetrics_listen_addr: 127.0.0.1:9090\n\
    unix_socket: /var/run/headscale/headscale.sock\nnoise:\n  private_key_path: /x\nderp:\n  \
    server:\n    enabled: true\n    region_id: 999\n  urls:\n    - \
    https://controlplane.tailscale.com/derpmap/default\n    - https://u:geheim@maps.example.org/m\n  \
    paths: [/etc/headscale/it's mine.yaml]\n";

#[test]
fn what_is_printed_is_what_our_programs_take() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out");
    let done = init(folder.path(), EXAMPLE, &["--hostname", "127.0.0.1", "--out"], Some(&out));
    assert!(done.status.success(), "{done:?}");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();

    let bridge = Config::parse(&read("bridge.toml")).unwrap();
    assert_eq!(bridge.plan.map.regions[&999].nodes[0].host_name, "127.0.0.1");
    let settings = bridge.registration.settings.unwrap();
    assert_eq!(settings.login_server, "https://headscale.example.org:443");
    let register = bridge.listen.provisioning[0];
    assert_ne!(register.port(), 9_090, "Headscale has it");
    assert!(read("bridge.toml").contains("url = \"http://127.0.0.1:8080\"\n"));

    let keys: relay::Keys = read_relay(&read("relay.toml"));
    let built = relay::Config::new(keys).unwrap();
    assert_eq!(built.bridge.unwrap().url.port_u16(), Some(bridge.listen.verify[0].port()));

    let block = HeadscaleFile::parse(&read("headscale-derp.yaml")).unwrap();
    assert_eq!((block.embedded, block.auto_update), (Known::Is(false), Known::Is(true)));
    let ours = format!("http://{}/derpmap.json", bridge.listen.map[0]);
    assert_eq!(
        block.derp_urls,
        ["https://controlplane.tailscale.com/derpmap/default", ours.as_str()],
        "what was there stays"
    );
    assert_eq!(block.derp_paths, ["/etc/headscale/it's mine.yaml"]);
    for name in ["nginx.conf", "Caddyfile"] {
        assert!(read(name).contains(&built.listen_derp[0].to_string()), "{name}");
    }
    let all: String = FILES.map(read).concat();
    assert!(!all.contains("geheim") && all.contains("URLs with a password"), "{all}");
}

/// Without a folder it is printed, and what could not be known is marked.
#[test]
fn what_is_not_known_is_marked() {
    let folder = TempDir::new().unwrap();
    let template = "server_url: {{ url }}\nlisten_addr: ${LISTEN}\nwhatever: {a: [1, 2]}\n";
    let done = init(folder.path(), template, &["--hostname", "derp.invalid"], None);
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8(done.stdout).unwrap();
    for name in FILES {
        assert!(said.contains(&format!("# ---- {name}: ")), "{said}");
    }
    for marked in [
        "# CHECK: server_url is filled in by a template in Headscale's configuration.\n\
         login_server = \"https://headscale.example.org\"\n",
        "# CHECK: listen_addr is filled in by a template, or no IP:PORT.\n\
         url = \"http://127.0.0.1:8080\"\n",
        "# CHECK: DNS gives no address",
    ] {
        assert!(said.contains(marked), "{marked}\n{said}");
    }
    // Guesses are settings that parse, too.
    let text = said.split("# ---- ").find(|part| part.starts_with("bridge.toml")).unwrap();
    Config::parse(text.split_once('\n').unwrap().1).unwrap();
}

/// Where Headscale does TLS by itself on 443 there is no room for a proxy: both of its files say so.
#[test]
fn a_port_that_headscale_has_is_marked_for_the_proxy() {
    let own_tls = "tls_letsencrypt_hostname: headscale.example.org\n";
    for (listen, tls, said) in [
        ("0.0.0.0:443", own_tls, "Headscale has port 443 itself"),
        ("0.0.0.0:443", "", "Headscale has port 443 itself"),
        ("'{{ listen }}'", own_tls, "its port is not known"),
        ("0.0.0.0:8443", own_tls, ""),
        ("'{{ listen }}'", "", ""),
        ("127.0.0.1:8080", "", ""),
    ] {
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("out");
        let config =
            format!("server_url: https://headscale.example.org\nlisten_addr: {listen}\n{tls}");
        let done = init(folder.path(), &config, &["--hostname", "127.0.0.1", "--out"], Some(&out));
        assert!(done.status.success(), "{done:?}");
        for name in ["nginx.conf", "Caddyfile"] {
            let text = std::fs::read_to_string(out.join(name)).unwrap();
            let first = text.lines().next().unwrap();
            assert_eq!(first.starts_with("# CHECK: "), !said.is_empty(), "{listen} {tls} {text}");
            assert!(first.contains(said), "{listen} {tls} {text}");
        }
    }
}

#[test]
fn nothing_is_overwritten_and_then_nothing_is_written() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("Caddyfile"), "mine").unwrap();
    let done = init(folder.path(), EXAMPLE, &["--hostname", "derp.invalid", "--out"], Some(&out));
    assert_eq!(done.status.code(), Some(2));
    let line = one_line(&String::from_utf8(done.stderr).unwrap());
    assert!(line.contains("Caddyfile") && line.contains("nothing is overwritten"), "{line}");
    assert_eq!(std::fs::read_to_string(out.join("Caddyfile")).unwrap(), "mine");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);

    for (text, hostname) in [("a: [", "derp.invalid"), (EXAMPLE, "a\"; b"), (EXAMPLE, "")] {
        let done = init(folder.path(), text, &["--hostname", hostname], None);
        assert_eq!(done.status.code(), Some(2), "{text} {hostname}");
    }
}

fn init(folder: &Path, config: &str, arguments: &[&str], out: Option<&Path>) -> Output {
    let file = folder.join("config.yaml");
    std::fs::write(&file, config).unwrap();
    let mut command = command(&["init", "--headscale-config", file.to_str().unwrap()]);
    command.args(arguments).args(out).output().unwrap()
}

fn read_relay(text: &str) -> relay::Keys {
    let names = relay::Keys::names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    derp_relay::settings::parse(Path::new("relay.toml"), text, &names).unwrap()
}
