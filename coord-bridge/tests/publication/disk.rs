//! A disk that hangs: nobody waits for it but the thread that writes.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use coord_bridge::bridge::{Listeners, Setup};
use coord_bridge::map_file::{Disk, MapFile, WriteError};
use coord_bridge::publication::{Change, Plan};
use coord_bridge::published::Format;
use coord_bridge::relays::LiveNode;
use coord_bridge::{Addresses, Bridge};
use derp::map::DerpMap;
use tokio::sync::watch;

use crate::client::get;
use crate::{any, live, map, names, node, region, wait_until};

/// Questions at once: more than the bridge has threads for those who wait.
const MANY: usize = 24;

/// A disk of one file, which takes as long as it is told to.
#[derive(Debug, Default)]
struct SlowDisk {
    now: Mutex<Now>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Now {
    hangs: bool,
    writers: usize,
    readers: usize,
    /// What the file has had in it, one after the other.
    held: Vec<Vec<u8>>,
}

impl SlowDisk {
    fn hang(&self, hangs: bool) {
        self.now.lock().unwrap().hangs = hangs;
        self.moved.notify_all();
    }

    fn see<R>(&self, see: impl FnOnce(&Now) -> R) -> R {
        see(&self.now.lock().unwrap())
    }

    /// Counts who has come by `count`, and lets him go when the disk does not hang.
    fn pass(&self, count: fn(&mut Now) -> &mut usize, done: impl FnOnce(&mut Now)) {
        let mut now = self.now.lock().unwrap();
        *count(&mut now) += 1;
        let mut now = self.moved.wait_while(now, |now| now.hangs).unwrap();
        *count(&mut now) -= 1;
        done(&mut now);
    }
}

impl Disk for SlowDisk {
    fn write(&self, _: &Path, text: &[u8]) -> Result<bool, WriteError> {
        let is_other = self.see(|now| now.held.last().is_none_or(|held| held != text));
        self.pass(|now| &mut now.writers, |now| now.held.push(text.to_owned()));
        Ok(is_other)
    }

    fn holds(&self, _: &Path, text: &[u8]) -> bool {
        let mut holds = false;
        self.pass(
            |now| &mut now.readers,
            |now| holds = now.held.last().is_some_and(|held| held == text),
        );
        holds
    }
}

struct Case {
    disk: Arc<SlowDisk>,
    heard: watch::Sender<Arc<Vec<LiveNode>>>,
    bridge: Bridge,
}

impl Case {
    fn new() -> Self {
        let disk = Arc::new(SlowDisk::default());
        let (heard, live) = watch::channel(Arc::new(Vec::new()));
        let setup = Setup {
            plan: plan("configured"),
            live: Some(live),
            map_file: Some(MapFile::on("derp.yaml", Arc::<SlowDisk>::clone(&disk))),
            ..Setup::default()
        };
        let addresses = Addresses { map: vec![any()], ..Addresses::default() };
        let bridge = Bridge::start(Listeners::open(&addresses).unwrap(), setup).unwrap();
        Self { disk, heard, bridge }
    }

    fn hear(&self, name: &str) {
        self.heard.send_replace(Arc::new(vec![live(999, name)]));
    }

    fn knows(&self, name: &str) -> bool {
        self.bridge.publication().nodes.iter().any(|it| it.node.name == name)
    }

    fn served(&self) -> Vec<String> {
        let answer = get(self.bridge.addresses().map[0], "/derpmap.json");
        assert_eq!(answer.status, 200);
        let map = DerpMap::parse(&answer.body).unwrap();
        names(&map).into_iter().map(ToOwned::to_owned).collect()
    }

    fn ready(&self) -> (u16, String) {
        let answer = get(self.bridge.addresses().map[0], "/ready");
        (answer.status, answer.text().to_owned())
    }
}

/// A plan without probes: a relay is in while it is heard of.
fn plan(name: &str) -> Plan {
    Plan { map: map(vec![region(999, vec![node(999, name)])]), ..Plan::default() }
}

#[test]
fn what_is_known_and_served_goes_on_while_a_write_hangs() {
    let case = Case::new();
    wait_until("all is well", || case.ready().0 == 200);
    case.disk.hang(true);
    case.hear("one");
    wait_until("it is being written", || case.disk.see(|now| now.writers == 1));
    assert_eq!(case.served(), ["configured"], "the file comes first");

    // What comes meanwhile is taken in, and whoever asks is answered.
    for name in ["two", "three", "four"] {
        case.hear(name);
        wait_until("it is known", || case.knows(name));
        case.bridge.publisher().follow(case.bridge.publisher().verdicts());
    }
    assert_eq!(case.served(), ["configured"]);
    wait_until("that is told", || case.bridge.publication().file_error.is_some());
    let error = case.bridge.publication().file_error.clone().unwrap();
    assert!(error.contains("the disk has not taken the map"), "{error}");
    let (status, text) = case.ready();
    assert!(status == 503 && text.contains("cannot be written to its file"), "{text}");

    case.disk.hang(false);
    wait_until("all is well", || case.ready().0 == 200);
    wait_until("the last is served", || case.served() == ["configured", "four"]);
    case.disk.see(|now| {
        let has = |at: usize, name: &str| {
            let text = String::from_utf8_lossy(&now.held[at]).into_owned();
            text.contains(&format!("{name}.example.org"))
        };
        assert_eq!(now.held.len(), 3, "what was old when its turn came is not written");
        assert!(has(1, "one") && has(2, "four"));
        let served = case.bridge.edition();
        assert_eq!(now.held[2], served.rendering(Format::Yaml).bytes);
    });
    case.bridge.stop();
}

/// A disk that hangs takes one thread, however often somebody asks whether all is well.
#[test]
fn many_who_ask_wait_for_the_disk_in_one_thread() {
    let case = Case::new();
    wait_until("all is well", || case.ready().0 == 200);
    case.disk.hang(true);
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..MANY).map(|_| scope.spawn(|| case.ready())).collect();
        wait_until("somebody looks", || case.disk.see(|now| now.readers == 1));
        for answer in asked {
            let (status, text) = answer.join().unwrap();
            assert_eq!(status, 503);
            assert!(text.contains("cannot be read in time"), "{text}");
            assert_eq!(case.disk.see(|now| now.readers), 1);
        }
    });
    assert_eq!(case.served(), ["configured"]);
    case.disk.hang(false);
    wait_until("all is well", || case.ready().0 == 200);
    case.bridge.stop();
}

/// Whoever brings a plan waits a bounded time; the plan is published when the disk has taken it.
#[test]
fn a_plan_waits_for_the_disk_and_whoever_brings_it_does_not() {
    let case = Case::new();
    case.disk.hang(true);
    assert_eq!(case.bridge.publisher().adopt(plan("other")).unwrap(), Change::Waiting);
    assert_eq!(case.served(), ["configured"]);

    case.disk.hang(false);
    wait_until("it is published", || case.served() == ["other"]);
    assert_eq!(case.bridge.publisher().adopt(plan("other")).unwrap(), Change::Same);
    case.bridge.stop();
}
