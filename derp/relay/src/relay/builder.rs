//! How a program that embeds a relay describes it.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use derp::limits::Limits;

use super::{Relay, StartError};
use crate::config::{
    AccessConfig, BridgeConfig, Config, DEFAULT_HANDSHAKES_PER_ADDRESS, DEFAULT_KEY_FILE, Home,
};
use crate::tls::certificate::{PemPair, Source};

/// A relay that has not been started. Listens nowhere and lets nobody in until told.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder(Config);

impl Default for Builder {
    fn default() -> Self {
        Self(Config {
            listen_derp: Vec::new(),
            listen_http: Vec::new(),
            listen_stun: Vec::new(),
            listen_metrics: Vec::new(),
            hostname: None,
            tls: None,
            key_file: DEFAULT_KEY_FILE.into(),
            access: AccessConfig::Nobody,
            bridge: None,
            log_addresses: true,
            handshakes_per_address: DEFAULT_HANDSHAKES_PER_ADDRESS,
            limits: Limits::default(),
            shards: NonZeroU16::MIN,
            home: Home::Blank,
        })
    }
}

impl Builder {
    /// Adds an address for DERP. Port 0 takes any free one.
    pub fn listen_derp(mut self, address: SocketAddr) -> Self {
        self.0.listen_derp.push(address);
        self
    }

    /// Adds an address for plain HTTP.
    pub fn listen_http(mut self, address: SocketAddr) -> Self {
        self.0.listen_http.push(address);
        self
    }

    /// Adds an address for STUN.
    pub fn listen_stun(mut self, address: SocketAddr) -> Self {
        self.0.listen_stun.push(address);
        self
    }

    /// Adds an address for `/metrics`, `/health` and `/ready`.
    pub fn listen_metrics(mut self, address: SocketAddr) -> Self {
        self.0.listen_metrics.push(address);
        self
    }

    /// Takes the certificates from PEM files. Without this and [`Builder::self_signed`] there is
    /// no TLS.
    pub fn certificates(mut self, pairs: Vec<PemPair>) -> Self {
        self.0.tls = Some(Source::Files(pairs));
        self
    }

    /// Makes a certificate for `name` and keeps it in `folder`.
    pub fn self_signed(mut self, name: &str, folder: impl Into<PathBuf>) -> Self {
        self.0.tls = Some(Source::SelfSigned { name: name.to_owned(), folder: folder.into() });
        self.0.hostname = Some(name.to_owned());
        self
    }

    /// Keeps the relay's own key in this file; made if it is missing.
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.key_file = path.into();
        self
    }

    /// Says who may use the relay. Without this: nobody.
    pub fn access(mut self, access: AccessConfig) -> Self {
        self.0.access = access;
        self
    }

    /// Tells a bridge of the relay, and obeys what it says of nodes that are gone.
    pub fn bridge(mut self, bridge: BridgeConfig) -> Self {
        self.0.bridge = Some(bridge);
        self
    }

    /// Leaves the addresses of clients out of log lines.
    pub const fn hide_addresses(mut self) -> Self {
        self.0.log_addresses = false;
        self
    }

    /// Sets the number of packet threads. Default: one.
    pub const fn shards(mut self, shards: NonZeroU16) -> Self {
        self.0.shards = shards;
        self
    }

    /// Bounds what may wait for one client: bytes, and the age at which it is dropped.
    pub const fn queue(mut self, bytes: usize, age: Duration) -> Self {
        self.0.limits.queue_bytes = bytes;
        self.0.limits.queue_age = age;
        self
    }

    /// Bounds what may wait for all clients together, in bytes. Default 256 MiB.
    pub const fn queue_total(mut self, bytes: usize) -> Self {
        self.0.limits.queue_bytes_total = bytes;
        self
    }

    /// Sets how many connections of one source address may be before their login; 0 for no limit.
    pub const fn handshakes_per_address(mut self, count: usize) -> Self {
        self.0.handshakes_per_address = count;
        self
    }

    /// Sets what `/` answers. Default: an empty page.
    pub fn home(mut self, home: Home) -> Self {
        self.0.home = home;
        self
    }

    /// Starts the relay.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running.
    pub fn start(self) -> Result<Relay, StartError> {
        Relay::start(self.0)
    }
}
