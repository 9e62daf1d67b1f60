//! What can be measured, and what all of it has in common.
//!
//! | module | measures |
//! |---|---|
//! | [`throughput`] | pairs of clients at an offered rate; also over a mesh |
//! | [`latency`] | the round trip of a pair, alone or beside load |
//! | [`idle`] | what clients cost that do nothing |
//! | [`handshakes`] | what logins cost, and what they do to a flow beside them |
//! | [`fan_in`] | receivers that do not keep up, and what they do to a flow beside them |
//! | [`stun`] | STUN requests |
//!
//! Does: turns arguments into a target and a setting, spreads clients over source addresses.
//! Does not: print or write records; that is `cli`.

pub mod fan_in;
pub mod handshakes;
pub mod idle;
pub mod latency;
pub mod stun;
pub mod throughput;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};

use super::failure::Failure;
use super::figure::Figures;
use super::meter::Meter;
use super::payload::{MAX_LEN, MIN_LEN};
use super::progress::Progress;
use super::quantity::{Size, Span, nanos};
use super::stop::Stop;
use super::target::{Target, Trust};
use super::trial::Setting;
use super::trust::Pin;
use super::workload::Workload;

/// Clients of one source address at most: it has some 28,000 ports, and closed connections hold
/// theirs for a minute.
const CLIENTS_PER_SOURCE: usize = 8_000;

/// Logins of one source address at a time at most; relays bound them.
const LOGINS_PER_SOURCE: usize = 128;

/// What every scenario takes.
#[derive(Args, Clone, Debug, Serialize)]
pub struct Common {
    /// Server under test.
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip)]
    pub target: Option<String>,
    /// How to know it. Default: pin with --pin, ca with --ca-file, and off without either.
    #[arg(long, value_name = "HOW")]
    #[serde(skip)]
    pub tls: Option<TlsMode>,
    /// Fingerprint of its certificate, as `CertName` in a DERP map.
    #[arg(long, value_name = "sha256-raw:HEX")]
    #[serde(skip)]
    pub pin: Option<Pin>,
    /// PEM file of the authorities that may have signed its certificate.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub ca_file: Option<PathBuf>,
    /// Its process, if it is on this host: CPU and memory are measured there.
    #[arg(long)]
    #[serde(skip)]
    pub pid: Option<u32>,
    /// Its name in records and plots.
    #[arg(long, default_value = "server")]
    #[serde(skip)]
    pub label: String,
    /// File that records are appended to, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub out: Option<PathBuf>,
    /// Print records instead of tables.
    #[arg(long)]
    #[serde(skip)]
    pub json: bool,
    /// Time that is measured.
    #[arg(long, default_value = "10s")]
    pub duration: Span,
    /// Time before it, with the same load.
    #[arg(long, default_value = "2s")]
    pub warm_up: Span,
    /// How often to measure.
    #[arg(long, default_value_t = 1, value_name = "N")]
    #[serde(skip)]
    pub repeat: usize,
    /// Threads of the generator that carry load.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
    /// Set the clock for sending to multiples of this: the generator is cheaper, and packets are
    /// up to so much late, which counts as latency.
    #[arg(long, default_value = "0us", value_name = "SPAN")]
    pub grain: Span,
    /// Logins at a time.
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub concurrency: usize,
}

/// How a server is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsMode {
    /// There is no TLS.
    Off,
    /// By --pin.
    Pin,
    /// By --ca-file.
    Ca,
    /// Not at all: any certificate will do.
    Insecure,
}

/// A server to be measured, and with what.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The server.
    pub target: Arc<Target>,
    /// Everything else.
    pub setting: Setting,
}

/// What came of one measurement.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What it was measured with, where scenarios take several values in turn.
    pub varied: Map<String, Value>,
    /// The figures.
    pub figures: Figures,
}

/// Something that can be measured.
pub trait Scenario {
    /// Its name in records.
    fn name(&self) -> &'static str;

    /// What it has in common with others.
    fn common(&self) -> &Common;

    /// Its own parameters, for the record.
    fn parameters(&self) -> Map<String, Value>;

    /// Measures once; `each` gets one result for every load point.
    ///
    /// # Errors
    ///
    /// [`Failure`], of the run or of `each`.
    fn measure(
        &self,
        bench: &Bench,
        each: &mut dyn FnMut(Measured) -> Result<(), Failure>,
    ) -> Result<(), Failure>;
}

impl Common {
    /// How the server is known.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] for flags that do not fit together.
    pub fn trust(&self) -> Result<Trust, Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        match (self.tls, self.pin, &self.ca_file) {
            (_, Some(_), Some(_)) => usage("--pin and --ca-file exclude each other"),
            (None | Some(TlsMode::Pin), Some(pin), None) => Ok(Trust::Pin(pin)),
            (None | Some(TlsMode::Ca), None, Some(path)) => Ok(Trust::Authorities(path.clone())),
            (None | Some(TlsMode::Off), None, None) => Ok(Trust::Plain),
            (Some(TlsMode::Insecure), None, None) => Ok(Trust::Anybody),
            (Some(TlsMode::Pin), None, _) => usage("--tls pin needs --pin sha256-raw:HEX"),
            (Some(TlsMode::Ca), _, None) => usage("--tls ca needs --ca-file FILE"),
            (Some(_), _, _) => {
                usage("--tls off and --tls insecure take neither --pin nor --ca-file")
            }
        }
    }

    /// The server and everything else, as the flags have it.
    ///
    /// # Errors
    ///
    /// [`Failure`] for flags that cannot be used.
    pub fn bench(&self, stop: &Stop, progress: &Progress) -> Result<Bench, Failure> {
        let Some(text) = &self.target else {
            return Err(Failure::Usage("--target HOST:PORT is missing".to_owned()));
        };
        let meter = self.pid.map(Meter::new);
        self.bench_at(text, &self.trust()?, meter, stop, &progress.titled(&self.label))
    }

    /// A server that is found otherwise, and everything else as the flags have it.
    ///
    /// # Errors
    ///
    /// [`Failure`] for flags that cannot be used.
    pub fn bench_at(
        &self,
        target: &str,
        trust: &Trust,
        server: Option<Meter>,
        stop: &Stop,
        progress: &Progress,
    ) -> Result<Bench, Failure> {
        let target = Arc::new(Target::new(target, trust)?);
        let setting = Setting {
            server,
            concurrency: self.concurrency,
            grain: nanos(self.grain.0),
            stop: stop.clone(),
            progress: progress.clone(),
        };
        Ok(Bench { target, setting })
    }

    /// Warm-up, then what is measured.
    #[must_use]
    pub const fn phases(&self) -> [Duration; 2] {
        [self.warm_up.0, self.duration.0]
    }

    /// One workload for each thread.
    #[must_use]
    pub fn workloads(&self) -> Vec<Workload> {
        vec![Workload::default(); self.threads.max(1)]
    }
}

/// Everything in `parameters`, and whether there is TLS.
#[must_use]
pub fn with_transport(mut parameters: Map<String, Value>, target: &Target) -> Map<String, Value> {
    parameters.insert("tls".to_owned(), target.tls.is_some().into());
    parameters
}

/// The fields of serializable arguments.
pub(super) fn fields(arguments: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(arguments) {
        Ok(Value::Object(map)) => map,
        Ok(_) | Err(_) => Map::new(),
    }
}

/// A packet size that can be sent.
///
/// # Errors
///
/// [`Failure::Usage`].
pub(super) fn packet_len(size: Size) -> Result<usize, Failure> {
    if (MIN_LEN..=MAX_LEN).contains(&size.0) {
        Ok(size.0)
    } else {
        Err(Failure::Usage(format!("--packet takes {MIN_LEN} to {MAX_LEN} bytes")))
    }
}

/// The address that client `index` of so many connects from; `None` for whichever the system
/// takes. On IPv4 loopback there are millions to choose from, elsewhere there is no choice.
pub(super) fn source(
    target: &Target,
    index: usize,
    clients: usize,
    concurrency: usize,
) -> Option<IpAddr> {
    let IpAddr::V4(address) = target.address.ip() else { return None };
    let sources = clients.div_ceil(CLIENTS_PER_SOURCE).max(concurrency.div_ceil(LOGINS_PER_SOURCE));
    if !address.is_loopback() || sources <= 1 {
        return None;
    }
    let host = u8::try_from(2 + index % sources.min(250)).ok()?;
    Some(Ipv4Addr::new(127, 0, 0, host).into())
}
