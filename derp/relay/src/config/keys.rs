//! The settings of the relay as they are written: every key once, for file, flag and variable.
//!
//! The comment of a key is its documentation: `--help` prints it. Each is optional here; what an
//! absent one means is in `config`.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use crate::settings::{self, Listen, SecretFile, Size, Span, one_or_several};

/// What every environment variable of the relay begins with.
pub const VARIABLE_PREFIX: &str = "DERP_RELAY_";

/// Settings of `serve` and `check`, from one source.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// Name that clients use: a DNS name or an IP address. Required unless `tls = "off"`.
    #[arg(long, env = "DERP_RELAY_HOSTNAME", value_name = "NAME")]
    pub hostname: Option<String>,

    /// Where DERP listens; repeatable. Default `[::]:443`, or `127.0.0.1:8010` without TLS.
    #[arg(long, env = "DERP_RELAY_LISTEN_DERP", value_name = "IP:PORT", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_several")]
    pub listen_derp: Option<Vec<Listen>>,

    /// Where plain HTTP listens, for captive-portal checks; repeatable, or `none`. Default
    /// `[::]:80`, or none without TLS: `/generate_204` is on the DERP listener too.
    #[arg(long, env = "DERP_RELAY_LISTEN_HTTP", value_name = "IP:PORT", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_several")]
    pub listen_http: Option<Vec<Listen>>,

    /// Where STUN listens, on UDP; repeatable, or `none`. Default `0.0.0.0:3478` and
    /// `[::]:3478`.
    #[arg(long, env = "DERP_RELAY_LISTEN_STUN", value_name = "IP:PORT", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_several")]
    pub listen_stun: Option<Vec<Listen>>,

    /// Where `/metrics`, `/health` and `/ready` listen; repeatable, or `none`. Default
    /// `127.0.0.1:9091`.
    #[arg(long, env = "DERP_RELAY_LISTEN_METRICS", value_name = "IP:PORT", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_several")]
    pub listen_metrics: Option<Vec<Listen>>,

    /// Where the relay's certificate comes from. Default `files`; never guessed from a port.
    #[arg(long, env = "DERP_RELAY_TLS", value_name = "MODE")]
    pub tls: Option<TlsMode>,

    /// Certificate chain in PEM form; repeatable, one `--tls-key` each. The name that a client
    /// asks for picks a pair; the first serves everybody else.
    #[arg(long, env = "DERP_RELAY_TLS_CERT", value_name = "FILE", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_several")]
    pub tls_cert: Option<Vec<PathBuf>>,

    /// Private key in PEM form of the certificate in the same place.
    #[arg(long, env = "DERP_RELAY_TLS_KEY", value_name = "FILE", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_several")]
    pub tls_key: Option<Vec<PathBuf>>,

    /// The relay's own key: derper's JSON or Headscale's text; made if it is missing. A
    /// self-signed certificate is kept beside it. Default `/var/lib/derp-relay/derp.key`.
    #[arg(long, env = "DERP_RELAY_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Who may use the relay. Default `verify`.
    #[arg(long, env = "DERP_RELAY_ACCESS", value_name = "MODE")]
    pub access: Option<AccessMode>,

    /// Whom `access = "verify"` asks: Headscale's `/verify` or the bridge's; repeatable. All are
    /// asked together, and the first yes counts. The tailnet's name is for logs and metrics.
    #[arg(
        long,
        env = "DERP_RELAY_VERIFY_URL",
        value_name = "[TAILNET=]URL",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub verify_url: Option<Vec<String>>,

    /// Time within which each connected node is asked about again, and cut off if it may no longer
    /// enter; from 1s to 1d, or 0 for never. Default 5m.
    #[arg(long, env = "DERP_RELAY_VERIFY_INTERVAL", value_name = "DURATION")]
    pub verify_interval: Option<Span>,

    /// Time after its last yes for which a node enters and stays although no verifier answers;
    /// from 1s to 30d. Default 1d.
    #[arg(long, env = "DERP_RELAY_VERIFY_GRACE", value_name = "DURATION")]
    pub verify_grace: Option<Span>,

    /// Lets everybody in while no verifier can be reached. Default false: an outage then keeps
    /// nodes out that were not let in lately, not strangers in.
    #[arg(long, env = "DERP_RELAY_VERIFY_FAIL_OPEN", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub verify_fail_open: Option<bool>,

    /// File of node keys that `access = "allow-list"` lets in, and `access = "verify"` without
    /// asking: one `nodekey:…` a line, `#` begins a comment.
    #[arg(long, env = "DERP_RELAY_ALLOW_LIST", value_name = "FILE")]
    pub allow_list: Option<PathBuf>,

    /// Certificates in PEM form to trust, beside the system's, for outgoing TLS.
    #[arg(long, env = "DERP_RELAY_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Bridge that is told of this relay and tells it of nodes that are gone: the URL of its
    /// `verify_listen`; with `bridge_token_file`. Default none: the relay goes by itself.
    #[arg(long, env = "DERP_RELAY_BRIDGE_URL", value_name = "URL")]
    pub bridge_url: Option<String>,

    /// File with the token that the bridge has for relays, or `credential:NAME`. Read again for
    /// each request, so it can be replaced at any time.
    #[arg(long, env = "DERP_RELAY_BRIDGE_TOKEN_FILE", value_name = "FILE")]
    pub bridge_token_file: Option<SecretFile>,

    /// Id of the region that the bridge is told, from 900 to 999 for one's own. Default 999.
    #[arg(long, env = "DERP_RELAY_BRIDGE_REGION_ID", value_name = "NUMBER")]
    pub bridge_region_id: Option<u64>,

    /// Short name of that region, where the bridge has none for it. Default `own`.
    #[arg(long, env = "DERP_RELAY_BRIDGE_REGION_CODE", value_name = "WORD")]
    pub bridge_region_code: Option<String>,

    /// Name of that region for people, where the bridge has none for it. Default `Own relay`.
    #[arg(long, env = "DERP_RELAY_BRIDGE_REGION_NAME", value_name = "TEXT")]
    pub bridge_region_name: Option<String>,

    /// Name of this relay in the map, unlike that of any other. Default the region's id, a hyphen
    /// and `hostname`.
    #[arg(long, env = "DERP_RELAY_BRIDGE_NODE_NAME", value_name = "NAME")]
    pub bridge_node_name: Option<String>,

    /// IPv4 address that the map is to have, or `none` for no IPv4. Default: what DNS says of
    /// `hostname`.
    #[arg(long, env = "DERP_RELAY_BRIDGE_IPV4", value_name = "ADDRESS")]
    pub bridge_ipv4: Option<String>,

    /// IPv6 address that the map is to have, or `none` for no IPv6. Default: what DNS says of
    /// `hostname`.
    #[arg(long, env = "DERP_RELAY_BRIDGE_IPV6", value_name = "ADDRESS")]
    pub bridge_ipv6: Option<String>,

    /// TCP port of DERP as clients see it. Default: that of the first `listen_derp`, or 443 with
    /// `tls = "off"`.
    #[arg(long, env = "DERP_RELAY_BRIDGE_DERP_PORT", value_name = "PORT")]
    pub bridge_derp_port: Option<u16>,

    /// UDP port of STUN as clients see it, or -1 for none. Default: that of the first
    /// `listen_stun`, if there is one.
    #[arg(
        long,
        env = "DERP_RELAY_BRIDGE_STUN_PORT",
        value_name = "PORT",
        allow_negative_numbers = true
    )]
    pub bridge_stun_port: Option<i32>,

    /// Connections of one source address (IPv6: of one /64) that have not logged in yet; 0 for
    /// no limit. Behind a proxy all clients share one address. Default 256; 4096 in all.
    #[arg(long, env = "DERP_RELAY_HANDSHAKES_PER_ADDRESS", value_name = "N")]
    pub handshakes_per_address: Option<usize>,

    /// Bytes of packets that may wait for one client; at least 128KiB. Default 2MiB: 30 packets of
    /// the largest size.
    #[arg(long, env = "DERP_RELAY_QUEUE_BYTES", value_name = "SIZE")]
    pub queue_bytes: Option<Size>,

    /// Bytes that may wait for all clients together; at least 8MiB. The more of it is used, the
    /// less any one client may have. Default a quarter of the memory, or of the control group's.
    #[arg(long, env = "DERP_RELAY_QUEUE_BYTES_TOTAL", value_name = "SIZE")]
    pub queue_bytes_total: Option<Size>,

    /// Age at which a waiting packet is dropped, from 10ms to 1m. Default 500ms.
    #[arg(long, env = "DERP_RELAY_QUEUE_AGE", value_name = "DURATION")]
    pub queue_age: Option<Span>,

    /// Packet threads, from 1 to 256. Default half the cores, at least one.
    #[arg(long, env = "DERP_RELAY_SHARDS", value_name = "N")]
    pub shards: Option<u16>,

    /// What `/` answers: `default` (a page that says what this is), `blank`, or a URL to send
    /// visitors to. Default `blank`.
    #[arg(long, env = "DERP_RELAY_HOME", value_name = "WHAT")]
    pub home: Option<String>,

    /// Least severe log lines to print: trace, debug, info, warn or error. Default `info`.
    #[arg(long, env = "DERP_RELAY_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,

    /// Form of log lines. Default `text`.
    #[arg(long, env = "DERP_RELAY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Whether log lines show the addresses of clients, `on` or `off`. Default `on`.
    #[arg(long, env = "DERP_RELAY_LOG_ADDRESSES", value_name = "MODE")]
    pub log_addresses: Option<LogAddresses>,
}

/// Where the relay's certificate comes from.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// No TLS: for a proxy in front that has it.
    Off,
    /// PEM files.
    Files,
    /// A certificate that the relay makes, trusted by its pin.
    SelfSigned,
}

/// Who may use the relay.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessMode {
    /// Nodes that the verifier knows.
    Verify,
    /// Everybody.
    Open,
    /// Nodes in a file.
    AllowList,
}

/// Least severe log lines to print.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Everything, packets too in debug builds.
    Trace,
    /// What happens to single connections.
    Debug,
    /// What an operator wants to know.
    #[default]
    Info,
    /// What an operator should look at.
    Warn,
    /// What does not work.
    Error,
}

/// Form of log lines.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One line of text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether log lines show the addresses of clients.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogAddresses {
    /// They do.
    On,
    /// They do not.
    Off,
}

impl Keys {
    /// These settings, and those of `weaker` where there is none here.
    #[must_use]
    pub fn or(self, weaker: Self) -> Self {
        Self {
            hostname: self.hostname.or(weaker.hostname),
            listen_derp: self.listen_derp.or(weaker.listen_derp),
            listen_http: self.listen_http.or(weaker.listen_http),
            listen_stun: self.listen_stun.or(weaker.listen_stun),
            listen_metrics: self.listen_metrics.or(weaker.listen_metrics),
            tls: self.tls.or(weaker.tls),
            tls_cert: self.tls_cert.or(weaker.tls_cert),
            tls_key: self.tls_key.or(weaker.tls_key),
            key_file: self.key_file.or(weaker.key_file),
            access: self.access.or(weaker.access),
            verify_url: self.verify_url.or(weaker.verify_url),
            verify_interval: self.verify_interval.or(weaker.verify_interval),
            verify_grace: self.verify_grace.or(weaker.verify_grace),
            verify_fail_open: self.verify_fail_open.or(weaker.verify_fail_open),
            allow_list: self.allow_list.or(weaker.allow_list),
            ca_file: self.ca_file.or(weaker.ca_file),
            bridge_url: self.bridge_url.or(weaker.bridge_url),
            bridge_token_file: self.bridge_token_file.or(weaker.bridge_token_file),
            bridge_region_id: self.bridge_region_id.or(weaker.bridge_region_id),
            bridge_region_code: self.bridge_region_code.or(weaker.bridge_region_code),
            bridge_region_name: self.bridge_region_name.or(weaker.bridge_region_name),
            bridge_node_name: self.bridge_node_name.or(weaker.bridge_node_name),
            bridge_ipv4: self.bridge_ipv4.or(weaker.bridge_ipv4),
            bridge_ipv6: self.bridge_ipv6.or(weaker.bridge_ipv6),
            bridge_derp_port: self.bridge_derp_port.or(weaker.bridge_derp_port),
            bridge_stun_port: self.bridge_stun_port.or(weaker.bridge_stun_port),
            handshakes_per_address: self.handshakes_per_address.or(weaker.handshakes_per_address),
            queue_bytes: self.queue_bytes.or(weaker.queue_bytes),
            queue_bytes_total: self.queue_bytes_total.or(weaker.queue_bytes_total),
            queue_age: self.queue_age.or(weaker.queue_age),
            shards: self.shards.or(weaker.shards),
            home: self.home.or(weaker.home),
            log_level: self.log_level.or(weaker.log_level),
            log_format: self.log_format.or(weaker.log_format),
            log_addresses: self.log_addresses.or(weaker.log_addresses),
        }
    }

    /// The names of all keys, as in the file.
    #[must_use]
    pub fn names() -> Vec<String> {
        settings::names::<Self>()
    }
}
