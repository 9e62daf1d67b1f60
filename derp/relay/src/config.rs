//! What the relay is to do, checked.
//!
//! Does: puts file, variables and flags together, fills in what is absent, and refuses what
//! cannot work, all faults at once, each naming its key and the remedy.
//! Does not: open a file other than the configuration, or a socket.
//!
//! A program that embeds the relay makes a [`Config`] by [`Config::new`] and changes fields.

mod access;
mod bridge;
mod keys;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use derp::limits::{DEFAULT_QUEUE_BYTES_TOTAL, Limits, MIN_QUEUE_BYTES};
use hyper::header::HeaderValue;

pub use access::{
    AccessConfig, DEFAULT_TAILNET, DEFAULT_VERIFY_GRACE, DEFAULT_VERIFY_INTERVAL, MAX_TAILNET_LEN,
    MAX_VERIFIERS, ParseVerifyUrlError, VerifyConfig, VerifyUrl,
};
pub use bridge::{
    BridgeConfig, DEFAULT_BRIDGE_REGION_CODE, DEFAULT_BRIDGE_REGION_ID, DEFAULT_BRIDGE_REGION_NAME,
};
pub use keys::{AccessMode, Keys, LogAddresses, LogFormat, LogLevel, TlsMode, VARIABLE_PREFIX};

use crate::memory;
use crate::settings::{self, FileError, Listen, VariableError};
use crate::tls::certificate::{PemPair, Source};

/// Where the relay keeps its key unless told otherwise.
pub const DEFAULT_KEY_FILE: &str = "/var/lib/derp-relay/derp.key";

/// Connections before login that one source address may have.
pub const DEFAULT_HANDSHAKES_PER_ADDRESS: usize = 256;

/// Most packet threads: one per core of the largest hosts.
pub const MAX_SHARDS: u16 = 256;

const MIB: usize = 1024 * 1024;

/// Least that `queue_bytes_total` may be set to: one shard's clients can then still get a packet
/// of the largest size each.
pub const MIN_QUEUE_BYTES_TOTAL: usize = 8 * MIB;

/// Part of the memory that queues may take unless told otherwise, as a divisor.
const MEMORY_SHARE: usize = 4;

/// Bounds of `queue_age`: below, every packet dies in a busy moment; above, TCP inside the
/// tunnel has long sent it again.
pub const QUEUE_AGE_BOUNDS: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_secs(60));

/// What the relay is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where DERP listens.
    pub listen_derp: Vec<SocketAddr>,
    /// Where plain HTTP listens.
    pub listen_http: Vec<SocketAddr>,
    /// Where STUN listens.
    pub listen_stun: Vec<SocketAddr>,
    /// Where metrics and health listen.
    pub listen_metrics: Vec<SocketAddr>,
    /// Name that clients use, if known.
    pub hostname: Option<String>,
    /// Where the certificate comes from; `None` for no TLS.
    pub tls: Option<Source>,
    /// The relay's own key.
    pub key_file: PathBuf,
    /// Who may use the relay.
    pub access: AccessConfig,
    /// Bridge to tell of the relay, and to hear of nodes that are gone from.
    pub bridge: Option<BridgeConfig>,
    /// Whether log lines show the addresses of clients.
    pub log_addresses: bool,
    /// Connections before login that one source address may have; 0 for no limit.
    pub handshakes_per_address: usize,
    /// Bounds of queues.
    pub limits: Limits,
    /// Packet threads.
    pub shards: NonZeroU16,
    /// What `/` answers.
    pub home: Home,
}

/// How the program logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Least severe lines to print.
    pub level: LogLevel,
    /// Their form.
    pub format: LogFormat,
}

impl Log {
    /// What is given, and the default for what is not.
    #[must_use]
    pub fn new(level: Option<LogLevel>, format: Option<LogFormat>) -> Self {
        Self { level: level.unwrap_or_default(), format: format.unwrap_or_default() }
    }
}

/// What is at `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Home {
    /// A page that says what this is.
    Default,
    /// An empty page.
    #[default]
    Blank,
    /// A redirect to this `http://` or `https://` URL.
    Redirect(HeaderValue),
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The environment.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// Values that cannot work, alone or together.
    #[error("{0}")]
    Faults(Faults),
}

/// Everything that is wrong with a configuration, each in words with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Config {
    /// Puts together what flags and variables say with the file, if one is named.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], on one line.
    pub fn load(flags: Keys, file: Option<&Path>) -> Result<(Self, Log), ConfigError> {
        let names = Keys::names();
        let in_file = settings::gather::<Keys, ConfigError>(file, &names, VARIABLE_PREFIX, &names)?;
        let keys = flags.or(in_file);
        let log = Log::new(keys.log_level, keys.log_format);
        Ok((Self::new(keys)?, log))
    }

    /// Checks settings and fills in what is absent.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Faults`] with everything that is wrong.
    pub fn new(keys: Keys) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let tls_mode = keys.tls.unwrap_or(TlsMode::Files);
        let key_file = keys.key_file.clone().unwrap_or_else(|| DEFAULT_KEY_FILE.into());
        let tls = tls_source(&keys, tls_mode, &key_file, &mut faults);
        let own_tls = tls_mode != TlsMode::Off;
        let config = Self {
            listen_derp: Listen::addresses(keys.listen_derp.as_deref(), &[derp_default(own_tls)]),
            listen_http: Listen::addresses(keys.listen_http.as_deref(), http_default(own_tls)),
            listen_stun: Listen::addresses(keys.listen_stun.as_deref(), &STUN_DEFAULT),
            listen_metrics: Listen::addresses(keys.listen_metrics.as_deref(), &[METRICS_DEFAULT]),
            access: access::read(&keys, &key_file, &mut faults),
            bridge: bridge::read(&keys, &mut faults),
            log_addresses: keys.log_addresses != Some(LogAddresses::Off),
            limits: limits(&keys, &mut faults),
            shards: shards(&keys, &mut faults),
            home: home(&keys, &mut faults),
            handshakes_per_address: keys
                .handshakes_per_address
                .unwrap_or(DEFAULT_HANDSHAKES_PER_ADDRESS),
            hostname: keys.hostname,
            tls,
            key_file,
        };
        if config.listen_derp.is_empty() {
            faults.push("listen_derp: a relay without a DERP listener relays nothing".to_owned());
        }
        if faults.is_empty() { Ok(config) } else { Err(ConfigError::Faults(Faults(faults))) }
    }
}

const STUN_DEFAULT: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3_478),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 3_478),
];

const METRICS_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_091);

const HTTP_DEFAULT: [SocketAddr; 1] = [SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 80)];

const fn derp_default(own_tls: bool) -> SocketAddr {
    if own_tls {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 443)
    } else {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_010)
    }
}

const fn http_default(own_tls: bool) -> &'static [SocketAddr] {
    if own_tls { &HTTP_DEFAULT } else { &[] }
}

fn tls_source(
    keys: &Keys,
    mode: TlsMode,
    key_file: &Path,
    faults: &mut Vec<String>,
) -> Option<Source> {
    let certificates = keys.tls_cert.as_deref().unwrap_or_default();
    let private_keys = keys.tls_key.as_deref().unwrap_or_default();
    if mode != TlsMode::Files && !(certificates.is_empty() && private_keys.is_empty()) {
        faults.push(
            "tls_cert, tls_key: only `tls = \"files\"` reads them; set that or remove them"
                .to_owned(),
        );
    }
    if mode != TlsMode::Off && keys.hostname.is_none() {
        faults.push(
            "hostname: missing; give the name that clients use, or --tls off behind a proxy"
                .to_owned(),
        );
    }
    match mode {
        TlsMode::Off => None,
        TlsMode::SelfSigned => Some(Source::SelfSigned {
            name: keys.hostname.clone().unwrap_or_default(),
            folder: key_file.parent().unwrap_or(Path::new(".")).to_owned(),
        }),
        TlsMode::Files => {
            if certificates.is_empty() || certificates.len() != private_keys.len() {
                faults.push(format!(
                    "tls_cert, tls_key: {} and {} files; give one key per certificate and at \
                     least one pair, or choose --tls self-signed or --tls off",
                    certificates.len(),
                    private_keys.len()
                ));
            }
            let pairs = certificates.iter().zip(private_keys);
            let pair = |(certificate, key): (&PathBuf, &PathBuf)| PemPair {
                certificate: certificate.clone(),
                key: key.clone(),
            };
            Some(Source::Files(pairs.map(pair).collect()))
        }
    }
}

fn limits(keys: &Keys, faults: &mut Vec<String>) -> Limits {
    let mut limits = Limits::default();
    if let Some(size) = keys.queue_bytes {
        if size.0 < MIN_QUEUE_BYTES {
            faults.push(format!("queue_bytes: {size} is too little; at least 128KiB"));
        }
        limits.queue_bytes = size.0;
    }
    limits.queue_bytes_total = match keys.queue_bytes_total {
        Some(size) => {
            if size.0 < MIN_QUEUE_BYTES_TOTAL {
                faults.push(format!("queue_bytes_total: {size} is too little; at least 8MiB"));
            }
            size.0
        }
        None => memory::available().map_or(DEFAULT_QUEUE_BYTES_TOTAL, |bytes| {
            (bytes / MEMORY_SHARE / MIB * MIB).max(MIN_QUEUE_BYTES_TOTAL)
        }),
    };
    if let Some(age) = keys.queue_age {
        let (least, most) = QUEUE_AGE_BOUNDS;
        if !(least..=most).contains(&age.0) {
            faults.push(format!("queue_age: {age} is out of bounds; from 10ms to 1m"));
        }
        limits.queue_age = age.0;
    }
    limits
}

fn shards(keys: &Keys, faults: &mut Vec<String>) -> NonZeroU16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let half = u16::try_from(cores / 2).unwrap_or(MAX_SHARDS).min(MAX_SHARDS);
    let default = NonZeroU16::new(half).unwrap_or(NonZeroU16::MIN);
    match keys.shards {
        None => default,
        Some(count) => {
            NonZeroU16::new(count).filter(|count| count.get() <= MAX_SHARDS).unwrap_or_else(|| {
                faults.push(format!("shards: {count} is out of bounds; from 1 to {MAX_SHARDS}"));
                default
            })
        }
    }
}

fn home(keys: &Keys, faults: &mut Vec<String>) -> Home {
    match keys.home.as_deref() {
        None => Home::Blank,
        Some("blank") => Home::Blank,
        Some("default") => Home::Default,
        Some(text) => {
            let is_url = text.starts_with("https://") || text.starts_with("http://");
            match HeaderValue::from_str(text) {
                Ok(url) if is_url => Home::Redirect(url),
                Ok(_) | Err(_) => {
                    faults.push(format!("home: `{text}` is neither `default`, `blank` nor a URL"));
                    Home::Blank
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// check-T23: behind a proxy there is no port 80 of ours, and nothing listens to strangers.
    #[test]
    fn without_tls_only_loopback_is_served() {
        let keys =
            Keys { tls: Some(TlsMode::Off), access: Some(AccessMode::Open), ..Keys::default() };
        let config = Config::new(keys).unwrap();
        assert_eq!(config.listen_derp, ["127.0.0.1:8010".parse().unwrap()]);
        assert_eq!(config.listen_http, []);
        assert!(config.tls.is_none());
    }

    #[test]
    fn with_tls_the_usual_ports_are_served_in_both_families() {
        let keys = Keys {
            tls: Some(TlsMode::SelfSigned),
            hostname: Some("derp.example.org".to_owned()),
            access: Some(AccessMode::Open),
            ..Keys::default()
        };
        let config = Config::new(keys).unwrap();
        assert_eq!(config.listen_derp, ["[::]:443".parse().unwrap()]);
        assert_eq!(config.listen_http, ["[::]:80".parse().unwrap()]);
        assert_eq!(config.listen_stun, STUN_DEFAULT);
        assert_eq!(config.listen_metrics, ["127.0.0.1:9091".parse().unwrap()]);
    }

    /// DERP-8.3: nothing given is not everything allowed.
    #[test]
    fn nothing_configured_is_refused_with_every_fault_at_once() {
        let error = Config::new(Keys::default()).unwrap_err().to_string();
        for key in ["hostname: missing", "tls_cert, tls_key: ", "verify_url: missing"] {
            assert!(error.contains(key), "{error}");
        }
        assert!(!error.contains('\n'));
    }
}
