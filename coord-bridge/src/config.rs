//! What the bridge is to do, checked.
//!
//! Does: puts file, variables and flags together, fills in what is absent, makes the map, and
//! refuses what cannot work, all faults at once, each naming its key and the remedy.
//! Does not: open a file other than the configuration, or a socket.
//!
//! ```text
//! bridge.toml -> Keys --or--> Config { map, listeners, map_file, registration }
//! flags, variables -^
//! ```

mod headscale;
mod keys;
mod provisioning;
mod region;
mod secret_file;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use derp::map::DerpMap;
use derp_relay::config::{Faults, Log};
use derp_relay::settings::{self, Listen};

use crate::addresses::Addresses;

pub use derp_relay::config::ConfigError;
pub use headscale::{HeadscaleConfig, HeadscaleKeys, Reach};
pub use keys::{Keys, NodeKeys, RegionKeys, VARIABLE_PREFIX};
pub use provisioning::{DEFAULT_STATE_DIR, ProvisioningKeys, Registration, ReplaceKey};
pub use region::{DEFAULT_REGION_CODE, DEFAULT_REGION_ID, DEFAULT_REGION_NAME, OWN_REGION_IDS};
pub use secret_file::{CREDENTIALS_VARIABLE, NoCredentials, ParseSecretFileError, SecretFile};

/// Where the map is served unless told otherwise.
pub const DEFAULT_MAP_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8_091);

/// Where machines register unless told otherwise: the port that installers know.
pub const DEFAULT_PROVISIONING_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_090);

/// What the bridge is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where it listens.
    pub listen: Addresses,
    /// File that the map is kept in.
    pub map_file: Option<PathBuf>,
    /// The map, without faults.
    pub map: DerpMap,
    /// Registration of machines.
    pub registration: Registration,
}

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
    pub fn new(keys: Keys) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let registration = Registration::new(&keys, &mut faults);
        let map = region::map(keys.region, &mut faults);
        let listen = Addresses {
            map: Listen::addresses(keys.map_listen.as_deref(), &[DEFAULT_MAP_LISTEN]),
            provisioning: Listen::addresses(
                keys.provisioning.listen.as_deref(),
                &[DEFAULT_PROVISIONING_LISTEN],
            ),
        };
        let config = Self { listen, map_file: keys.map_file, map, registration };
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
