//! The real `/verify`: each program of `HEADSCALE_BIN`, `PATH[:PATH…]`; tried with 0.26 to 0.30.
//!
//! Nodes are made by Headscale's own `debug create-node`, which tells only the public half of their
//! keys. So what stands between the relay and Headscale here puts such a key in the place of a
//! client's, and passes on the answer as it is, to the byte.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use derp_relay::VerifyConfig;

use crate::support::peer::{Peer, Way, private};
use crate::support::verifier::{Question, Reply, Verifier};
use crate::support::{eventually, quiet_address};
use crate::{asking, holds_outcome, relay, verifying};

/// DERP-8.1, DERP-8.2, DERP-8.6, DERP-8.7: its nodes enter, others do not, one that is deleted is cut
/// off, and one that is not comes back when Headscale is gone.
#[test]
#[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
fn headscale_says_who_enters_and_who_goes() {
    let Some(paths) = std::env::var_os("HEADSCALE_BIN").filter(|paths| !paths.is_empty()) else {
        println!("skipped: HEADSCALE_BIN names no Headscale to ask");
        return;
    };
    for program in std::env::split_paths(&paths) {
        println!("beside {}", program.display());
        says_who_enters_and_who_goes(&program);
    }
}

fn says_who_enters_and_who_goes(program: &Path) {
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let headscale = Headscale::start(program);
    let url = format!("http://{}/verify", headscale.address);
    let direct = relay(host, Way::Plain, &url, false);
    assert!(Peer::try_connect(direct.derp, Way::Plain, private(3)).is_err());
    holds_outcome(&direct, "denied", 1);

    let nodes = ["one", "two"].map(|name| headscale.new_node(name));
    let asked = headscale.address;
    let verifier = Verifier::start(host, move |question| {
        let mut question = question.clone();
        for (number, node) in (1..).zip(&nodes) {
            let client = private(number).public().to_string();
            question.body = question.body.replace(&client, node);
        }
        pass_on(asked, &question)
    });
    let url = verifier.url();
    let interval = Duration::from_secs(1);
    let relay = verifying(host, Way::Plain, VerifyConfig { interval, ..asking(&[&url]) });
    let mut one = Peer::connect(relay.derp, Way::Plain, 1);
    let mut two = Peer::connect(relay.derp, Way::Plain, 2);
    assert!(Peer::try_connect(relay.derp, Way::Plain, private(3)).is_err());
    one.send_packet(&two.key, b"admitted by Headscale");
    assert_eq!(two.packet().1, b"admitted by Headscale");

    headscale.run(&["nodes", "delete", "--identifier", "1", "--force"]);

    one.is_closed();
    assert!(Peer::try_connect(relay.derp, Way::Plain, private(1)).is_err());
    relay.counts(r#"derp_access_cut_offs{cause="denied"}"#, 1);
    drop(headscale);
    relay.relay.access().forget(&two.key);
    Peer::connect(relay.derp, Way::Plain, 2).is_up();
    assert!(Peer::try_connect(relay.derp, Way::Plain, private(3)).is_err());
    relay.counts(r#"derp_access{outcome="last_known_good"}"#, 1);
}

/// Asks the question, and answers with what comes back; with nothing if nobody is there.
fn pass_on(address: SocketAddr, question: &Question) -> Reply {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        let (length, body) = (question.body.len(), &question.body);
        let head = format!("Host: {address}\r\nContent-Length: {length}\r\nConnection: close");
        write!(stream, "POST /verify HTTP/1.1\r\n{head}\r\n\r\n{body}")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    Reply::LastBytes(ask().unwrap_or_default())
}

/// A running Headscale with one user. It is killed when this is dropped.
struct Headscale {
    program: PathBuf,
    address: SocketAddr,
    server: Child,
    folder: tempfile::TempDir,
}

impl Headscale {
    fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let [address, metrics, grpc] = [0; 3].map(|_| quiet_address(host));
        let at = folder.path().display();
        let map = "regions: {999: {regionid: 999, regioncode: t, regionname: t, nodes: \
                   [{name: 999a, regionid: 999, hostname: 127.0.0.1}]}}\n";
        fs::write(folder.path().join("map.yaml"), map).unwrap();
        let config = format!(
            "server_url: http://{address}\nlisten_addr: {address}\n\
             metrics_listen_addr: {metrics}\ngrpc_listen_addr: {grpc}\n\
             noise: {{private_key_path: {at}/noise.key}}\n\
             prefixes: {{v4: 100.64.0.0/10, v6: \"fd7a:115c:a1e0::/48\"}}\n\
             database: {{type: sqlite, sqlite: {{path: {at}/db.sqlite}}}}\n\
             unix_socket: {at}/socket\n\
             derp: {{server: {{enabled: false}}, urls: [], paths: [{at}/map.yaml]}}\n\
             dns: {{magic_dns: false, base_domain: t.example, override_local_dns: false}}\n\
             disable_check_updates: true\nlog: {{level: warn}}\n"
        );
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        let mut serve = call(program, folder.path(), &["serve"]);
        serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = serve.spawn().unwrap();
        let headscale = Self { program: program.to_owned(), address, server, folder };
        eventually("Headscale listens", || TcpStream::connect(address).map(drop));
        headscale.run(&["users", "create", "alice"]);
        headscale
    }

    /// Registers a node; returns its public key.
    fn new_node(&self, name: &str) -> String {
        let plain = format!("ABCDEFGHIJKLMNOPQRSTUV{}", &name[..2]);
        // As releases up to 0.28 want it, and later ones.
        [plain.clone(), format!("hskey-authreq-{plain}")]
            .iter()
            .find_map(|key| {
                let registration = ["--user", "alice", "--key", key, "--output", "json"];
                let create =
                    [&["debug", "create-node", "--name", name], &registration[..]].concat();
                let told = self.try_run(&create).ok()?;
                let (_, node) = told.split_once("nodekey:")?;
                self.run(&[&["nodes", "register"], &registration[..]].concat());
                Some(format!("nodekey:{}", &node[..64]))
            })
            .expect("Headscale takes one of the two forms")
    }

    fn run(&self, arguments: &[&str]) {
        self.try_run(arguments).unwrap();
    }

    fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let ended = call(&self.program, self.folder.path(), arguments).output();
        let ended = ended.map_err(|error| error.to_string())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ended.status.success() {
            Ok(said(&ended.stdout))
        } else {
            Err(format!("{arguments:?}: {}{}", said(&ended.stdout), said(&ended.stderr)))
        }
    }
}

impl Drop for Headscale {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

fn call(program: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).arg("--config").arg(folder.join("config.yaml")).env_clear();
    command
}
