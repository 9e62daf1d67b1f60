//! The default ports, in a network namespace that the test makes: nothing else has them there.

use std::io::Write;
use std::process::Command;

use tempfile::TempDir;

/// Ways to make a namespace: as root, and as anybody.
const WAYS: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];

/// What runs inside. Ends what it starts.
const SCRIPT: &str = r#"
ip link set lo up || exit 1
run="$0"
cd "$1" || exit 1
trap 'kill -KILL $first 2>/dev/null' EXIT
"$run" dev --state-dir first >first.out 2>first.log &
first=$!
tries=0
until grep -q '^ready ' first.out; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] && kill -0 $first || { cat first.out first.log; exit 1; }
    sleep 0.1
done
"$run" dev --state-dir second >second.out 2>second.log
echo "second dev: $?"
grep -v ' INFO ' second.log
printf '[[region.nodes]]\nhostname = "derp.example.org"\n' >bridge.toml
"$run" serve --config bridge.toml >serve.out 2>serve.log
echo "serve: $?"
cat serve.log
"$run" serve --config bridge.toml --map-listen 127.0.0.1:0 >serve.out 2>serve.log
echo "serve elsewhere: $?"
cat serve.log
kill -TERM $first
wait $first
echo "first dev: $?"
cat first.out
"#;

/// Without any flag: the ports that documents and installers name. A second one, or `serve`, says
/// which port is taken; at 9090 it says who usually has it.
#[test]
fn the_default_ports_are_the_ones_that_are_documented() {
    let Some(unshare) = WAYS.into_iter().find(|unshare| has_loopback(unshare)) else {
        // Past the capture of the test harness: a test that did not run has to be seen.
        let why = "default ports: not run: no network namespace with `unshare` and `ip` here";
        writeln!(std::io::stderr(), "{why}").unwrap();
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut command = Command::new("unshare");
    command.args(unshare).args(["timeout", "--kill-after=5", "300", "sh", "-c", SCRIPT]);
    command.arg(env!("CARGO_BIN_EXE_coord-bridge")).arg(folder.path());
    let done = command.output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    check(&said);
}

/// Whether a namespace can be made in this way, with a loopback device that is up.
fn has_loopback(unshare: &[&str]) -> bool {
    let made =
        Command::new("unshare").args(unshare).args(["ip", "link", "set", "lo", "up"]).output();
    made.is_ok_and(|made| made.status.success())
}

fn check(said: &str) {
    let line = |text: &str| {
        said.lines()
            .find(|line| line.starts_with(text))
            .unwrap_or_else(|| panic!("{text}:\n{said}"))
    };
    assert_eq!(
        line("ready "),
        "ready derp=127.0.0.1:3340 stun=127.0.0.1:3478 http=127.0.0.1:3380 \
         metrics=127.0.0.1:9091 map=127.0.0.1:8091 register=127.0.0.1:9090"
    );
    assert!(said.contains("first dev: 0"), "{said}");
    let errors: Vec<&str> =
        said.lines().filter(|line| line.starts_with("coord-bridge: ")).collect();
    let [second, serve, elsewhere] = errors.as_slice() else { panic!("not three:\n{said}") };
    for (command, error) in [("second dev: 2", second), ("serve: 2", serve)] {
        line(command);
        assert!(error.contains("127.0.0.1:8091 (map_listen, --map-listen)"), "{error}");
        assert!(!error.contains("metrics_listen_addr"), "{error}");
    }
    line("serve elsewhere: 2");
    for part in ["127.0.0.1:9090 (provisioning.listen", "Headscale", "metrics_listen_addr"] {
        assert!(elsewhere.contains(part), "{elsewhere}");
    }
}
