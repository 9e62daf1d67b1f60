//! What the bridge is to do, checked.
//!
//! Does: puts file, variables and flags together, fills in what is absent, makes the map, and
//! refuses what cannot work, all faults at once, each naming its key and the remedy.
//! Does not: open a file other than the configuration, or a socket.
//!
//! ```text
//! bridge.toml -> Keys --or--> Config { plan, listeners, map_file, registration, verify }
//! flags, variables -^
//! ```

mod embedded_relay;
mod events;
mod headscale;
mod keys;
mod provisioning;
mod region;
mod upstream;
mod verify;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use derp_relay::config::{Faults, Log};
use derp_relay::settings::{self, Listen};

use crate::addresses::Addresses;
use crate::publication::embedded::EmbeddedSettings;
use crate::publication::{DEFAULT_PROBE_INTERVAL, Plan};

use crate::events::EventsConfig;
pub use derp_relay::config::ConfigError;
pub use derp_relay::settings::{
    CREDENTIALS_VARIABLE, NoCredentials, ParseSecretFileError, SecretFile,
};

pub use embedded_relay::EmbeddedRelay;
pub(crate) use embedded_relay::reachable;
pub use events::{MAX_WEBHOOKS, WebhookKeys};
pub use headscale::{HeadscaleConfig, HeadscaleKeys, Reach};
pub use keys::{Keys, NodeKeys, RegionKeys, VARIABLE_PREFIX};
pub use provisioning::{DEFAULT_STATE_DIR, ProvisioningKeys, Registration, ReplaceKey};
pub use region::{DEFAULT_REGION_CODE, DEFAULT_REGION_ID, DEFAULT_REGION_NAME, OWN_REGION_IDS};
pub use upstream::{DEFAULT_UPSTREAM_INTERVAL, MAX_UPSTREAMS, MIN_UPSTREAM_INTERVAL, UpstreamKeys};
pub use verify::{FIRST_HEADSCALE, FurtherKeys, VerifyConfig, VerifyKeys};

/// Where the map is served unless told otherwise.
pub const DEFAULT_MAP_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_091);

/// Where machines register unless told otherwise: the port that installers know.
pub const DEFAULT_PROVISIONING_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_090);

/// Where relays ask about nodes unless told otherwise.
pub const DEFAULT_VERIFY_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_093);
/// Where administrators are answered unless told otherwise.
pub const DEFAULT_ADMIN_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_092);

/// Where metrics are scraped unless told otherwise.
pub const DEFAULT_METRICS_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_092);

/// What the bridge is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where it listens.
    pub listen: Addresses,
    /// File that the map is kept in.
    pub map_file: Option<PathBuf>,
    /// What is published.
    pub plan: Plan,
    /// Who may fetch the map; without it everybody.
    pub map_login: Option<MapLogin>,
    /// Registration of machines.
    pub registration: Registration,
    /// The verify front and the channel to relays.
    pub verify: VerifyConfig,
    /// Names that the listener of administrators goes by.
    pub admin_hosts: Vec<String>,
    /// Where events go.
    pub events: EventsConfig,
    /// A relay in the same process.
    pub embedded_relay: Option<EmbeddedRelay>,
}

/// A user, and where its password lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapLogin {
    /// The user.
    pub user: String,
    /// Where its password lies.
    pub password_file: SecretFile,
}

/// Shortest time between two rounds of probes: each costs a relay a login.
pub const MIN_PROBE_INTERVAL: Duration = Duration::from_secs(1);

impl Config {
    /// Puts together what flags and variables say with the file, if one is named.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], on one line.
    pub fn load(flags: Keys, file: Option<&Path>) -> Result<(Self, Log), ConfigError> {
        let (in_file, names) = (Keys::names_in_file(), Keys::names());
        let keys = flags.or(settings::gather::<Keys, ConfigError>(
            file,
            &in_file,
            VARIABLE_PREFIX,
            &names,
        )?);
        let mut faults = Vec::new();
        let old = provisioning::old_variables(|name| std::env::var(name).ok(), &mut faults);
        if !faults.is_empty() {
            return Err(ConfigError::Faults(Faults(faults)));
        }
        let keys = keys.or(old);
        let log = Log::new(keys.log_level, keys.log_format);
        Ok((Self::new(keys)?, log))
    }

    /// Reads the text of a file, as [`Config::load`] would without flags and variables. No IO.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] and [`ConfigError::Faults`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let names = Keys::names_in_file();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Self::new(settings::parse(Path::new("bridge.toml"), text, &names)?)
    }

    /// Checks settings and fills in what is absent.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Faults`] with everything that is wrong.
    pub fn new(mut keys: Keys) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let registration = Registration::new(&keys, &mut faults);
        let has_headscale = registration.headscale.is_some() || !keys.verify.headscales.is_empty();
        let embedded_relay = EmbeddedRelay::new(&mut keys, has_headscale, &mut faults);
        let plan = plan(&keys, &registration, &mut faults);
        let verify = VerifyConfig::new(&keys, registration.headscale.as_ref(), &mut faults);
        let events = events::events(&keys, &mut faults);
        let map_login = map_login(keys.map_user, keys.map_password_file, &mut faults);
        let listen = Addresses {
            map: Listen::addresses(keys.map_listen.as_deref(), &[DEFAULT_MAP_LISTEN]),
            provisioning: Listen::addresses(
                keys.provisioning.listen.as_deref(),
                &[DEFAULT_PROVISIONING_LISTEN],
            ),
            verify: Listen::addresses(keys.verify_listen.as_deref(), &[DEFAULT_VERIFY_LISTEN]),
            admin: Listen::addresses(keys.admin_listen.as_deref(), &[DEFAULT_ADMIN_LISTEN]),
            metrics: Listen::addresses(keys.metrics_listen.as_deref(), &[DEFAULT_METRICS_LISTEN]),
        };
        let config = Self {
            listen,
            map_file: keys.map_file,
            plan,
            map_login,
            registration,
            verify,
            admin_hosts: keys.admin_hosts.unwrap_or_default(),
            events,
            embedded_relay,
        };
        if config.listen.map.is_empty() && config.map_file.is_none() {
            faults.push(
                "map_listen, map_file: nothing publishes the map; give an address or a file"
                    .to_owned(),
            );
        }
        if let Some((address, [later, earlier])) = config.listen.taken_twice() {
            faults.push(format!("{later}: {earlier} has {address} already; give another port"));
        }
        if faults.is_empty() { Ok(config) } else { Err(ConfigError::Faults(Faults(faults))) }
    }
}

fn plan(keys: &Keys, registration: &Registration, faults: &mut Vec<String>) -> Plan {
    let (map, named) = region::map(keys.region.clone(), keys.regions.clone(), faults);
    let probe_interval = keys.map_probe_interval.map_or(DEFAULT_PROBE_INTERVAL, |span| span.0);
    if !probe_interval.is_zero() && probe_interval < MIN_PROBE_INTERVAL {
        faults.push("map_probe_interval: out of bounds; at least 1s, or 0 for none".to_owned());
    }
    let url = registration.headscale.as_ref().and_then(|headscale| match &headscale.reach {
        Reach::Url { url, ca_file, .. } => Some((url.clone(), ca_file.clone())),
        Reach::Socket(_) => None,
    });
    Plan {
        map,
        named,
        probe_interval: (!probe_interval.is_zero()).then_some(probe_interval),
        upstreams: upstream::upstreams(keys.upstreams.clone(), faults),
        embedded: EmbeddedSettings { config_file: keys.headscale.config_file.clone(), url },
        state_dir: Some(keys.state_dir.clone().unwrap_or_else(|| DEFAULT_STATE_DIR.into())),
    }
}

fn map_login(
    user: Option<String>,
    password_file: Option<SecretFile>,
    faults: &mut Vec<String>,
) -> Option<MapLogin> {
    match (user, password_file) {
        (Some(user), Some(password_file)) => {
            if !upstream::is_user(&user) {
                faults.push(format!("map_user: {}", upstream::USER_WORDS));
            }
            return Some(MapLogin { user, password_file });
        }
        (Some(_), None) => {
            faults.push("map_password_file: missing; map_user needs one".to_owned());
        }
        (None, Some(_)) => faults.push("map_user: missing; a password needs one".to_owned()),
        (None, None) => {}
    }
    None
}
