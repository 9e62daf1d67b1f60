//! A real Headscale: started with a configuration of its own on loopback, and ended by its id.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::fake::{Reply, Request};
use crate::recorded::Exchange;

/// How long anything may take before a test fails. Far beyond what it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running Headscale.
pub(crate) struct Real {
    program: PathBuf,
    child: Option<Child>,
    folder: TempDir,
    /// What it calls itself.
    pub(crate) version: String,
    pub(crate) address: SocketAddr,
    metrics: SocketAddr,
    nodes: usize,
    machines: Vec<Child>,
}

impl Real {
    pub(crate) fn start(program: &Path) -> Self {
        let mut real = Self::prepare(
            program,
            "  server:\n    enabled: false\n  urls: []\n  paths: [FOLDER/derp.yaml]\n  auto_update_enabled: false\n",
        );
        // It wants at least one region to start. Nobody listens there, and no name is looked up.
        let map = "regions:\n  999:\n    regionid: 999\n    regioncode: own\n    \
                   regionname: Own\n    nodes:\n      - {name: 999a, regionid: 999, hostname: \
                   127.0.0.1, ipv4: 127.0.0.1, ipv6: none, derpport: 1, stunport: -1}\n";
        std::fs::write(real.folder().join("derp.yaml"), map).unwrap();
        assert!(real.go_on_as(program), "{} does not start:\n{}", program.display(), real.log());
        real
    }

    /// Not started yet. `derp` are the lines of that block, with `FOLDER` for its folder.
    pub(crate) fn prepare(program: &Path, derp: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let (address, metrics) = (free_address(), free_address());
        let derp = derp.replace("FOLDER", folder.path().to_str().unwrap());
        let config = config(folder.path(), [address, metrics], &derp);
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        Self {
            program: program.to_owned(),
            child: None,
            folder,
            version: String::new(),
            address,
            metrics,
            nodes: 0,
            machines: Vec::new(),
        }
    }

    /// The folder with its configuration, `config.yaml`.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The map that it has, as its debug listener tells it.
    pub(crate) fn derp_map(&self) -> String {
        // The page of 0.27 and later, and that of 0.26.
        let pages = ["/debug/derp", "/debug/derpmap"];
        let mut answers = pages.map(|page| get(self.metrics, page).unwrap()).into_iter();
        answers.find(|it| it.status == 200).expect("Headscale shows its map").answer
    }

    /// Starts it and does not wait.
    pub(crate) fn spawn(&mut self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let mut command = self.command(&["serve"]);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until it is up; `false` if it ends instead.
    pub(crate) fn is_up(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        let began = Instant::now();
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if get(self.address, "/health").is_some_and(|it| it.status == 200) {
                return true;
            }
            assert!(began.elapsed() < PATIENCE, "not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts this program with the database, the port and the socket of the one before;
    /// `false` if it does not come up.
    pub(crate) fn go_on_as(&mut self, program: &Path) -> bool {
        self.program = program.to_owned();
        self.version = version(program);
        self.spawn();
        self.is_up()
    }

    /// Ends it as a service manager does.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > PATIENCE {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("headscale.sock")
    }

    pub(crate) fn new_api_key(&self) -> String {
        let said = self.run(&["apikeys", "create", "--expiration", "24h"]).unwrap();
        said.lines().rfind(|line| !line.trim().is_empty()).unwrap().trim().to_owned()
    }

    /// Ends every API key that there is.
    pub(crate) fn expire_api_keys(&self) {
        let said = self.run(&["apikeys", "list", "--output", "json"]).unwrap();
        let keys: serde_json::Value = serde_json::from_str(&said).unwrap();
        for key in keys.as_array().unwrap() {
            let prefix = key["prefix"].as_str().unwrap();
            // Since 0.28 lists show more than the prefix.
            let prefix = prefix.trim_start_matches("hskey-api-").trim_end_matches("-***");
            self.run(&["apikeys", "expire", &format!("--prefix={prefix}")]).unwrap();
        }
    }

    /// Makes a node as a client does that was registered by hand, as far as the API shows.
    pub(crate) fn join(&mut self, user: &str, name: &str) {
        self.nodes += 1;
        let bare = format!("{:024}", self.nodes);
        let tries = [bare.clone(), format!("hskey-authreq-{bare}")].map(|key| {
            let made = ["debug", "create-node", "--name", name, "--user", user, "--key", &key];
            self.run(&made)?;
            self.run(&["nodes", "register", "--user", user, "--key", &key])
        });
        assert!(tries.iter().any(Result::is_ok), "{tries:?}");
    }

    /// Lets a real Tailscale node join with this key, and waits until Headscale knows that it is
    /// connected; `false` if no such node can be built here.
    pub(crate) fn enroll(&mut self, name: &str, key: &str) -> bool {
        let Some(join) = join_program() else { return false };
        let key_file = self.folder.path().join("pre-auth-key");
        std::fs::write(&key_file, key).unwrap();
        let mut command = Command::new(join);
        command.args(["--control", &self.url(), "--name", name, "--key-file"]).arg(key_file);
        command.arg("--folder").arg(self.folder.path().join(name));
        // It tells Tailscale nothing, and looks for no router.
        command.env("TS_NO_LOGS_NO_SUPPORT", "true").env("TS_DISABLE_PORTMAPPER", "true");
        // It ends when its input does: with this process at the latest.
        self.machines.push(command.stdin(Stdio::piped()).spawn().unwrap());
        let began = Instant::now();
        loop {
            let listed = self.run(&["nodes", "list", "--output", "json"]).unwrap();
            let nodes: serde_json::Value = serde_json::from_str(&listed).unwrap();
            let mut nodes = nodes.as_array().into_iter().flatten();
            if nodes.any(|node| node["name"] == name && node["online"] == true) {
                return true;
            }
            assert!(began.elapsed() < PATIENCE, "{name} does not join:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its description of its own API, which only 0.30 has.
    pub(crate) fn openapi(&self) -> Option<String> {
        let answer = get(self.address, "/api/v1/openapi.json")?;
        let is_one = answer.status == 200 && answer.answer.contains("\"openapi\"");
        is_one.then_some(answer.answer)
    }

    /// Names of its nodes.
    pub(crate) fn node_names(&self) -> Vec<String> {
        self.of_nodes(&["name"])
    }

    /// Their own keys.
    pub(crate) fn node_keys(&self) -> Vec<String> {
        self.of_nodes(&["nodeKey", "node_key"])
    }

    /// A text of each of its nodes, which releases call one of `names`.
    fn of_nodes(&self, names: &[&str]) -> Vec<String> {
        let listed = self.run(&["nodes", "list", "--output", "json"]).unwrap();
        let nodes: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let nodes = nodes.as_array().into_iter().flatten();
        let text = |node: &serde_json::Value| {
            let found = names.iter().find_map(|name| node[*name].as_str());
            found.unwrap().to_owned()
        };
        nodes.map(text).collect()
    }

    /// What it has printed since it was started last.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Runs one of its commands: what it prints.
    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!("{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr)))
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.folder.path().join("config.yaml")).args(arguments);
        command.stdin(Stdio::null()).env("HOME", self.folder.path());
        command
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for child in self.machines.iter_mut().chain(&mut self.child) {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The Tailscale node of `interop/join`, built once; none, and a line that says so, without Go.
fn join_program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("join");
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(&program).arg("./join").current_dir(module);
        build.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly").env("CGO_ENABLED", "0");
        match build.output() {
            Ok(output) if output.status.success() => Some(program),
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr);
                let last = errors.lines().last().unwrap_or_default();
                crate::say(&format!("headscale: no machine joins: interop/join: {last}"));
                None
            }
            Err(error) => {
                crate::say(&format!("headscale: no machine joins: go build: {error}"));
                None
            }
        }
    });
    program.as_deref()
}

/// Asks the Headscale at `address` the same, and keeps question and answer.
pub(crate) fn pass_on(
    address: SocketAddr,
    request: &Request,
    heard: &Mutex<Vec<Exchange>>,
) -> Reply {
    let Some(exchange) = exchange(address, request) else { return Reply::HangUp };
    let reply = Reply::answer(exchange.status, &exchange.content_type, &exchange.answer);
    heard.lock().unwrap().push(exchange);
    reply
}

fn get(address: SocketAddr, path: &str) -> Option<Exchange> {
    let (method, path) = ("GET".to_owned(), path.to_owned());
    exchange(address, &Request { method, path, key: None, body: String::new() })
}

/// One exchange, by HTTP/1.0: the answer is what comes until the end.
pub(crate) fn exchange(address: SocketAddr, request: &Request) -> Option<Exchange> {
    let Request { method, path, key, body } = request.clone();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let form = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\n{key}{form}Content-Length: {length}\r\n\
         \r\n{body}"
    );
    stream.write_all(text.as_bytes()).ok()?;
    let mut came = String::new();
    stream.read_to_string(&mut came).ok()?;
    let (head, answer) = came.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let content_type = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map(|(_, value)| value.to_owned());
    Some(Exchange {
        method,
        path,
        body,
        status,
        content_type: content_type.unwrap_or_default(),
        answer: answer.to_owned(),
    })
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("version").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = said.split_whitespace();
    words.find(|word| word.starts_with('v') && word.contains('.')).unwrap_or("dev").to_owned()
}

/// An address that was free a moment ago: Headscale does not tell which port it got for port 0.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What all releases take.
fn config(folder: &Path, [address, metrics]: [SocketAddr; 2], derp: &str) -> String {
    let folder = folder.display();
    let grpc = free_address();
    format!(
        "server_url: http://{address}\n\
         listen_addr: {address}\n\
         metrics_listen_addr: {metrics}\n\
         grpc_listen_addr: {grpc}\n\
         grpc_allow_insecure: false\n\
         noise:\n  private_key_path: {folder}/noise.key\n\
         prefixes:\n  v4: 100.64.0.0/10\n  v6: fd7a:115c:a1e0::/48\n  allocation: sequential\n\
         derp:\n{derp}\
         disable_check_updates: true\n\
         database:\n  type: sqlite\n  sqlite:\n    path: {folder}/db.sqlite\n\
         log:\n  level: info\n\
         policy:\n  mode: file\n  path: \"\"\n\
         dns:\n  magic_dns: false\n  base_domain: tailnet.example\n  override_local_dns: false\n\
         unix_socket: {folder}/headscale.sock\n\
         unix_socket_permission: \"0700\"\n\
         logtail:\n  enabled: false\n"
    )
}
