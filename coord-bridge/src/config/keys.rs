//! The settings of the bridge as they are written: every key once, for file, flag and variable.
//!
//! The comment of a key is its documentation: `--help` prints it. Each is optional here; what an
//! absent one means is in `config`. Nodes, further regions, upstreams and further Headscales are
//! lists of tables, so they are in the file only; so is the embedded relay, whose keys are those of
//! another program.

use std::path::PathBuf;

use clap::Args;
use derp_relay::config::{LogFormat, LogLevel};
use serde::Deserialize;

use derp_relay::settings::{self, Listen, Span, one_or_several};

use super::events::{WEBHOOK_KEYS, WebhookKeys};
use super::provisioning::ProvisioningKeys;
use super::upstream::{UPSTREAM_KEYS, UpstreamKeys};
use super::verify::{FURTHER_KEYS, VerifyKeys};
use super::{HeadscaleKeys, SecretFile};

/// What every environment variable of the bridge begins with.
pub const VARIABLE_PREFIX: &str = "COORD_BRIDGE_";

/// Settings of `serve` and `map`, from one source.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// Where the map is served; repeatable, or `none`. Default `127.0.0.1:8091`.
    #[arg(long, env = "COORD_BRIDGE_MAP_LISTEN", value_name = "IP:PORT", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_several")]
    pub map_listen: Option<Vec<Listen>>,

    /// File to keep the map in, as YAML for `derp.paths` of Headscale. Default none.
    #[arg(long, env = "COORD_BRIDGE_MAP_FILE", value_name = "FILE")]
    pub map_file: Option<PathBuf>,

    /// User for Basic authentication of whoever fetches the map; with `map_password_file`.
    /// Default none: everybody may.
    #[arg(long, env = "COORD_BRIDGE_MAP_USER", value_name = "NAME")]
    pub map_user: Option<String>,

    /// File with the password of `map_user`, or `credential:NAME`. Default none.
    #[arg(long, env = "COORD_BRIDGE_MAP_PASSWORD_FILE", value_name = "FILE")]
    pub map_password_file: Option<SecretFile>,

    /// Time between two rounds in which each node of ours is tried, at least 1s; 0 for no trials.
    /// Default `15s`.
    #[arg(long, env = "COORD_BRIDGE_MAP_PROBE_INTERVAL", value_name = "DURATION")]
    pub map_probe_interval: Option<Span>,

    /// The region that is published.
    #[command(flatten)]
    pub region: RegionKeys,

    /// Further regions, with the same keys. One without nodes gives names to a region whose relays
    /// register themselves.
    #[arg(skip)]
    pub regions: Vec<RegionKeys>,

    /// Maps of others whose regions are published too.
    #[arg(skip)]
    pub upstreams: Vec<UpstreamKeys>,

    /// The Headscale that machines register with.
    #[command(flatten)]
    pub headscale: HeadscaleKeys,

    /// Folder of the bridge's state. Default `/var/lib/coord-bridge`.
    #[arg(long, env = "COORD_BRIDGE_STATE_DIR", value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,

    /// Where machines log in: Headscale's `server_url`. Without it none is registered.
    #[arg(long, env = "COORD_BRIDGE_LOGIN_SERVER", value_name = "URL")]
    pub login_server: Option<String>,

    /// Where machines find the map, which they are told. Default none.
    #[arg(long, env = "COORD_BRIDGE_PUBLIC_MAP_URL", value_name = "URL")]
    pub public_map_url: Option<String>,

    /// PostgreSQL database for what the bridge remembers, `postgres://USER@HOST/DATABASE`.
    /// Default the file `bridge.sqlite` in `state_dir`.
    #[arg(long, env = "COORD_BRIDGE_STORE", value_name = "URL")]
    pub store: Option<String>,

    /// File with the password for `store`, or `credential:NAME`. Default none.
    #[arg(long, env = "COORD_BRIDGE_STORE_PASSWORD_FILE", value_name = "FILE")]
    pub store_password_file: Option<SecretFile>,

    /// Registration of machines.
    #[command(flatten)]
    pub provisioning: ProvisioningKeys,

    /// Where relays ask about nodes and hear of them; repeatable, or `none`. Only relays are to
    /// reach it. Default `127.0.0.1:8093`.
    #[arg(long, env = "COORD_BRIDGE_VERIFY_LISTEN", value_name = "IP:PORT", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_several")]
    pub verify_listen: Option<Vec<Listen>>,

    /// File of the token that relays show; made if there is none. Default `relay-token` in
    /// `state_dir`.
    #[arg(long, env = "COORD_BRIDGE_RELAY_TOKEN_FILE", value_name = "FILE")]
    pub relay_token_file: Option<PathBuf>,

    /// Whose nodes may use the relays.
    #[command(flatten)]
    pub verify: VerifyKeys,
    /// Where administrators and their programs are answered; repeatable, or `none`. Not for the
    /// public. Default `127.0.0.1:8092`.
    #[arg(long, env = "COORD_BRIDGE_ADMIN_LISTEN", value_name = "IP:PORT", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_several")]
    pub admin_listen: Option<Vec<Listen>>,

    /// Host names that the listener of administrators goes by, beside addresses and `localhost`;
    /// repeatable. Default none.
    #[arg(long, env = "COORD_BRIDGE_ADMIN_HOSTS", value_name = "NAME", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_several")]
    pub admin_hosts: Option<Vec<String>>,

    /// Where `/metrics` is answered; repeatable, or `none`. Default `127.0.0.1:9092`.
    #[arg(
        long,
        env = "COORD_BRIDGE_METRICS_LISTEN",
        value_name = "IP:PORT",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub metrics_listen: Option<Vec<Listen>>,

    /// File that every event is appended to, as a line of JSON; SIGHUP opens it anew. Default
    /// none.
    #[arg(long, env = "COORD_BRIDGE_EVENTS_FILE", value_name = "FILE")]
    pub events_file: Option<PathBuf>,

    /// Where events are sent to.
    #[arg(skip)]
    pub webhooks: Vec<WebhookKeys>,

    /// A relay in the same process, with the keys of `derp-relay`.
    #[arg(skip)]
    pub embedded_relay: Option<derp_relay::config::Keys>,

    /// Least severe log lines to print: trace, debug, info, warn or error. Default `info`.
    #[arg(long, env = "COORD_BRIDGE_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,

    /// Form of log lines. Default `text`.
    #[arg(long, env = "COORD_BRIDGE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Settings of the table `region`, and of each table `regions`.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegionKeys {
    /// Id of the region, from 900 to 999 for one's own. Default 999.
    #[arg(
        id = "region.id",
        long = "region-id",
        env = "COORD_BRIDGE_REGION__ID",
        value_name = "NUMBER"
    )]
    pub id: Option<u64>,

    /// Short name of the region. Default `own`.
    #[arg(
        id = "region.code",
        long = "region-code",
        env = "COORD_BRIDGE_REGION__CODE",
        value_name = "WORD"
    )]
    pub code: Option<String>,

    /// Name of the region for people. Default `Own relay`.
    #[arg(
        id = "region.name",
        long = "region-name",
        env = "COORD_BRIDGE_REGION__NAME",
        value_name = "TEXT"
    )]
    pub name: Option<String>,

    /// Degrees north, from -90 to 90; with `region.longitude`. Default unknown.
    #[arg(
        id = "region.latitude",
        long = "region-latitude",
        env = "COORD_BRIDGE_REGION__LATITUDE",
        value_name = "DEGREES",
        allow_negative_numbers = true
    )]
    pub latitude: Option<f64>,

    /// Degrees east, from -180 to 180; with `region.latitude`. Default unknown.
    #[arg(
        id = "region.longitude",
        long = "region-longitude",
        env = "COORD_BRIDGE_REGION__LONGITUDE",
        value_name = "DEGREES",
        allow_negative_numbers = true
    )]
    pub longitude: Option<f64>,

    /// Keeps clients from measuring the region and from making it their home; they still dial
    /// it for a peer whose home it is. Default false.
    #[arg(
        id = "region.no_measure_no_home",
        long = "region-no-measure-no-home",
        env = "COORD_BRIDGE_REGION__NO_MEASURE_NO_HOME",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub no_measure_no_home: Option<bool>,

    /// Out of use upstream, for clients of old: `no_measure_no_home` is what replaced it.
    /// Default false.
    #[arg(
        id = "region.avoid",
        long = "region-avoid",
        env = "COORD_BRIDGE_REGION__AVOID",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub avoid: Option<bool>,

    /// The relays of the region, the preferred one first.
    #[arg(skip)]
    pub nodes: Vec<NodeKeys>,
}

/// Settings of one table `region.nodes`. Only `hostname` has to be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeKeys {
    /// Name, unique in the map. Default: the region's id and a letter, `999a` for the first.
    pub name: Option<String>,
    /// DNS name or address by which clients reach it.
    pub hostname: Option<String>,
    /// Name that its certificate has instead, or `sha256-raw:` and the SHA-256 of the
    /// certificate. Default none: the certificate is for `hostname`.
    pub cert_name: Option<String>,
    /// IPv4 address, or `none` for no IPv4. Default: what DNS says of `hostname`.
    pub ipv4: Option<String>,
    /// IPv6 address, or `none` for no IPv6. Default: what DNS says of `hostname`.
    pub ipv6: Option<String>,
    /// TCP port of DERP. Default 443.
    pub derp_port: Option<i32>,
    /// UDP port of STUN, or -1 for no STUN. Default 3478.
    pub stun_port: Option<i32>,
    /// Whether it does STUN and nothing else. Default false.
    pub stun_only: Option<bool>,
    /// Whether its port 80 answers `/generate_204`, for captive-portal checks. Default false.
    pub can_port_80: Option<bool>,
    /// Whether clients skip all checks of its certificate. For tests; a pin in `cert_name` is
    /// as easy. Default false.
    pub insecure_for_tests: Option<bool>,
    /// Address for STUN in tests. Default none.
    pub stun_test_ip: Option<String>,
}

/// The keys of [`NodeKeys`], as in the file.
const NODE_KEYS: [&str; 11] = [
    "region.nodes.name",
    "region.nodes.hostname",
    "region.nodes.cert_name",
    "region.nodes.ipv4",
    "region.nodes.ipv6",
    "region.nodes.derp_port",
    "region.nodes.stun_port",
    "region.nodes.stun_only",
    "region.nodes.can_port_80",
    "region.nodes.insecure_for_tests",
    "region.nodes.stun_test_ip",
];

impl Keys {
    /// These settings, and those of `weaker` where there is none here.
    #[must_use]
    pub fn or(self, weaker: Self) -> Self {
        Self {
            map_listen: self.map_listen.or(weaker.map_listen),
            map_file: self.map_file.or(weaker.map_file),
            map_user: self.map_user.or(weaker.map_user),
            map_password_file: self.map_password_file.or(weaker.map_password_file),
            map_probe_interval: self.map_probe_interval.or(weaker.map_probe_interval),
            region: self.region.or(weaker.region),
            regions: if self.regions.is_empty() { weaker.regions } else { self.regions },
            upstreams: if self.upstreams.is_empty() { weaker.upstreams } else { self.upstreams },
            headscale: self.headscale.or(weaker.headscale),
            state_dir: self.state_dir.or(weaker.state_dir),
            login_server: self.login_server.or(weaker.login_server),
            public_map_url: self.public_map_url.or(weaker.public_map_url),
            store: self.store.or(weaker.store),
            store_password_file: self.store_password_file.or(weaker.store_password_file),
            provisioning: self.provisioning.or(weaker.provisioning),
            verify_listen: self.verify_listen.or(weaker.verify_listen),
            relay_token_file: self.relay_token_file.or(weaker.relay_token_file),
            verify: self.verify.or(weaker.verify),
            admin_listen: self.admin_listen.or(weaker.admin_listen),
            admin_hosts: self.admin_hosts.or(weaker.admin_hosts),
            metrics_listen: self.metrics_listen.or(weaker.metrics_listen),
            events_file: self.events_file.or(weaker.events_file),
            webhooks: if self.webhooks.is_empty() { weaker.webhooks } else { self.webhooks },
            embedded_relay: self.embedded_relay.or(weaker.embedded_relay),
            log_level: self.log_level.or(weaker.log_level),
            log_format: self.log_format.or(weaker.log_format),
        }
    }

    /// The keys that are flags and variables too, as in the file.
    #[must_use]
    pub fn names() -> Vec<String> {
        settings::names::<Self>()
    }

    /// All keys of the file.
    #[must_use]
    pub fn names_in_file() -> Vec<String> {
        let names = Self::names();
        let of_region = |name: &str| name.starts_with("region.");
        let single =
            names.iter().map(String::as_str).filter(|name| of_region(name)).chain(NODE_KEYS);
        let several = single.map(|name| name.replacen("region.", "regions.", 1));
        let several: Vec<String> = several.collect();
        let others = [&NODE_KEYS[..], &UPSTREAM_KEYS, &FURTHER_KEYS, &WEBHOOK_KEYS].concat();
        let others = others.into_iter().map(str::to_owned);
        let relay = derp_relay::config::Keys::names();
        let relay = relay.into_iter().map(|name| format!("embedded_relay.{name}"));
        names.into_iter().chain(several).chain(others).chain(relay).collect()
    }
}

impl RegionKeys {
    fn or(self, weaker: Self) -> Self {
        Self {
            id: self.id.or(weaker.id),
            code: self.code.or(weaker.code),
            name: self.name.or(weaker.name),
            latitude: self.latitude.or(weaker.latitude),
            longitude: self.longitude.or(weaker.longitude),
            no_measure_no_home: self.no_measure_no_home.or(weaker.no_measure_no_home),
            avoid: self.avoid.or(weaker.avoid),
            nodes: if self.nodes.is_empty() { weaker.nodes } else { self.nodes },
        }
    }
}
