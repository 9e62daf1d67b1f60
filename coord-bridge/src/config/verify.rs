//! Whom the verify front asks, and how strictly, as the operator has set it.
//!
//! Does: reads the table `verify` and what belongs to it, and puts the Headscale that machines
//! register with before all others.
//! Does not: open a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use derp_relay::settings::Span;
use serde::Deserialize;

use super::headscale::headscale;
use super::provisioning::DEFAULT_STATE_DIR;
use super::{HeadscaleConfig, HeadscaleKeys, Keys, Reach, SecretFile};
use crate::verify::Settings;
use crate::verify::limits::{
    DEFAULT_INTERVAL, DEFAULT_MAX_AGE, DEFAULT_SOCKET_INTERVAL, INTERVAL_BOUNDS, MAX_AGE_BOUNDS,
    MAX_HEADSCALES,
};

/// Name of the Headscale that machines register with.
pub const FIRST_HEADSCALE: &str = "headscale";

/// Name of the relays' token in the bridge's folder.
pub(super) const RELAY_TOKEN_FILE: &str = "relay-token";

/// Longest name of a Headscale.
const MAX_NAME_LEN: usize = 63;

/// Settings of the table `verify`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyKeys {
    /// Time between two looks at the nodes of a Headscale, from 1s to 1h: how long a node stays
    /// that was deleted without the bridge. Default 25s, and 4s over a Unix socket.
    #[arg(
        id = "verify.interval",
        long = "verify-interval",
        env = "COORD_BRIDGE_VERIFY__INTERVAL",
        value_name = "DURATION"
    )]
    pub interval: Option<Span>,

    /// Keeps nodes out whose own key has expired, which Headscale lets in until they are deleted.
    /// Default false.
    #[arg(
        id = "verify.refuse_expired",
        long = "verify-refuse-expired",
        env = "COORD_BRIDGE_VERIFY__REFUSE_EXPIRED",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub refuse_expired: Option<bool>,

    /// Age up to which the last list of nodes is believed while Headscale gives no newer one,
    /// from 10s to 1d. Default 1h.
    #[arg(
        id = "verify.max_age",
        long = "verify-max-age",
        env = "COORD_BRIDGE_VERIFY__MAX_AGE",
        value_name = "DURATION"
    )]
    pub max_age: Option<Span>,

    /// Further Headscales whose nodes may use the relays.
    #[arg(skip)]
    pub headscales: Vec<FurtherKeys>,
}

/// Settings of one table `verify.headscales`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FurtherKeys {
    /// Its name, for logs.
    pub name: Option<String>,
    /// Where its API is; with `api_key_file`.
    pub url: Option<String>,
    /// Its Unix socket instead.
    pub socket: Option<PathBuf>,
    /// File with an API key of it, or `credential:NAME`.
    pub api_key_file: Option<SecretFile>,
    /// Certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// The keys of [`FurtherKeys`], as in the file.
pub(super) const FURTHER_KEYS: [&str; 5] = [
    "verify.headscales.name",
    "verify.headscales.url",
    "verify.headscales.socket",
    "verify.headscales.api_key_file",
    "verify.headscales.ca_file",
];

/// What the verify front and the channel to relays are to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyConfig {
    /// Whose nodes may use the relays: name, way to it, and time between two looks.
    pub headscales: Vec<(String, HeadscaleConfig, Duration)>,
    /// How strictly.
    pub settings: Settings,
    /// File of the token that relays show.
    pub relay_token_file: PathBuf,
}

impl VerifyConfig {
    /// What `keys` say, with `first` before all others. What is wrong is added to `faults`.
    pub(super) fn new(
        keys: &Keys,
        first: Option<&HeadscaleConfig>,
        faults: &mut Vec<String>,
    ) -> Self {
        let table = &keys.verify;
        let mut spans = |key: &str, span: Option<Span>, bounds: (Duration, Duration)| {
            let (least, most) = bounds;
            if let Some(span) = span.filter(|span| !(least..=most).contains(&span.0)) {
                let bounds = format!("from {} to {}", Span(least), Span(most));
                faults.push(format!("verify.{key}: {span} is out of bounds; {bounds}"));
            }
            span.map(|span| span.0)
        };
        let interval = spans("interval", table.interval, INTERVAL_BOUNDS);
        let max_age = spans("max_age", table.max_age, MAX_AGE_BOUNDS);
        let state_dir = keys.state_dir.as_deref().unwrap_or(Path::new(DEFAULT_STATE_DIR));
        let token_file = keys.relay_token_file.clone();
        let first = first.map(|first| (FIRST_HEADSCALE.to_owned(), first.clone()));
        let all = first.into_iter().chain(further(&table.headscales, faults));
        let with_interval = |(name, headscale): (String, HeadscaleConfig)| {
            let default = match headscale.reach {
                Reach::Url { .. } => DEFAULT_INTERVAL,
                Reach::Socket(_) => DEFAULT_SOCKET_INTERVAL,
            };
            (name, headscale, interval.unwrap_or(default))
        };
        Self {
            headscales: all.map(with_interval).collect(),
            settings: Settings {
                refuse_expired: table.refuse_expired.unwrap_or_default(),
                max_age: max_age.unwrap_or(DEFAULT_MAX_AGE),
            },
            relay_token_file: token_file.unwrap_or_else(|| state_dir.join(RELAY_TOKEN_FILE)),
        }
    }
}

fn further(list: &[FurtherKeys], faults: &mut Vec<String>) -> Vec<(String, HeadscaleConfig)> {
    if list.len() >= MAX_HEADSCALES {
        faults.push(format!(
            "verify.headscales: {} of them; at most {}",
            list.len(),
            MAX_HEADSCALES - 1
        ));
    }
    let mut all: Vec<(String, HeadscaleConfig)> = Vec::new();
    for (place, keys) in list.iter().enumerate() {
        let key = format!("verify.headscales[{place}]");
        let name = keys.name.clone().unwrap_or_default();
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=MAX_NAME_LEN).contains(&name.len()) || !name.bytes().all(is_of_name) {
            faults.push(format!("{key}.name: write 1 to 63 letters, digits, `-`, `_` and `.`"));
        } else if name == FIRST_HEADSCALE || all.iter().any(|(other, _)| *other == name) {
            faults.push(format!("{key}.name: {name} is another one's already; write another"));
        }
        let found = HeadscaleKeys {
            url: keys.url.clone(),
            socket: keys.socket.clone(),
            api_key_file: keys.api_key_file.clone(),
            ca_file: keys.ca_file.clone(),
            config_file: None,
        };
        let mut of_this = Vec::new();
        let config = headscale(found, &mut of_this);
        if config.is_none() && of_this.is_empty() {
            of_this.push("headscale.url, headscale.socket: missing; give one of them".to_owned());
        }
        faults.extend(of_this.iter().map(|fault| fault.replace("headscale.", &format!("{key}."))));
        all.extend(config.map(|config| (name, config)));
    }
    all
}

impl VerifyKeys {
    pub(super) fn or(self, weaker: Self) -> Self {
        Self {
            interval: self.interval.or(weaker.interval),
            refuse_expired: self.refuse_expired.or(weaker.refuse_expired),
            max_age: self.max_age.or(weaker.max_age),
            headscales: if self.headscales.is_empty() {
                weaker.headscales
            } else {
                self.headscales
            },
        }
    }
}
