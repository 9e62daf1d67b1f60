//! What the tests of the whole relay share: a relay on any ports, and clients.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod http;
pub(crate) mod namespace;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod quiet;
pub(crate) mod stun;
pub(crate) mod trust;
pub(crate) mod uninterrupted;
pub(crate) mod verifier;

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use derp_relay::relay::Builder;
use derp_relay::{AccessConfig, Relay};
use peer::Way;

/// Loopback in both families. Every test that has an address runs on both.
pub(crate) const HOSTS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Lets this process have as many descriptors as the system allows: hundreds of connections with
/// both ends in one test are more than the thousand that a shell gives.
pub(crate) fn raise_descriptor_limit() {
    derp_relay::socket::raise_descriptor_limit().unwrap();
}

/// A running relay and the folder of its key.
pub(crate) struct Fixture {
    pub(crate) relay: Relay,
    pub(crate) derp: SocketAddr,
    _state: tempfile::TempDir,
}

impl Fixture {
    /// A relay for everybody on `host`, with `shards` packet threads.
    pub(crate) fn start(host: IpAddr, way: Way, shards: u16) -> Self {
        Self::with(host, way, |builder| builder.shards(NonZeroU16::new(shards).unwrap()))
    }

    /// A relay on `host` that is what `change` makes of the usual one.
    pub(crate) fn with(host: IpAddr, way: Way, change: impl FnOnce(Builder) -> Builder) -> Self {
        raise_descriptor_limit();
        let state = tempfile::tempdir().unwrap();
        let mut builder = Relay::builder()
            .listen_derp((host, 0).into())
            .listen_metrics((host, 0).into())
            .key_file(state.path().join("derp.key"))
            .access(AccessConfig::Open);
        if way != Way::Plain {
            builder = builder.self_signed(&host.to_string(), state.path());
        }
        let relay = change(builder).start().unwrap();
        let derp = relay.addresses().derp[0];
        Self { relay, derp, _state: state }
    }

    /// Holds that a metric, given with its labels, comes to be `value`: packet threads show
    /// their counters at the end of each turn.
    pub(crate) fn counts(&self, name: &str, value: u32) {
        eventually(&format!("{name} {value}"), || {
            let now = self.metric(name);
            (now == f64::from(value)).then_some(()).ok_or(now)
        });
    }

    /// The value of a metric, given with its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        value(&self.relay.metrics(), name)
    }
}

/// The value of a metric, given with its labels, in the text of a scrape.
pub(crate) fn value(scrape: &str, name: &str) -> f64 {
    let line = scrape.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in:\n{scrape}")).parse().unwrap()
}

/// Waits until something holds; `what` and the last obstacle are what a failure reports.
pub(crate) fn eventually<T, E: Debug>(what: &str, mut holds: impl FnMut() -> Result<T, E>) -> T {
    let give_up = Instant::now() + peer::PATIENCE;
    loop {
        match holds() {
            Ok(value) => return value,
            Err(obstacle) => {
                assert!(Instant::now() < give_up, "in vain: {what}: {obstacle:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// An address of `host` that stays this test's, whether anybody listens there or not.
pub(crate) fn quiet_address(host: IpAddr) -> SocketAddr {
    SocketAddr::new(host, quiet::port())
}

/// Numbers that look random and are the same in every run (xorshift).
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}
