//! Registration of machines, as it is written and as it is meant.
//!
//! Does: takes the keys of the table `provisioning`, and the variables of the provisioner before
//! this one where no key of ours says anything; fills in what is absent; refuses what cannot be.
//! Does not: open a file.
//!
//! Source: R-041.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use derp_relay::settings::{Listen, Span, one_or_several};
use serde::Deserialize;

use super::headscale::headscale;
use super::{DEFAULT_REGION_ID, HeadscaleConfig, Keys, SecretFile};
use crate::provisioning::limits::Rate;
use crate::provisioning::network::Network;
use crate::provisioning::settings::{
    DEFAULT_ADMIN_USER, DEFAULT_KEY_EXPIRY, DEFAULT_RATE_LIMIT_MAX, DEFAULT_RATE_LIMIT_WINDOW,
    DEFAULT_RECORD_TTL, DEFAULT_STALE_AFTER, DEFAULT_USER, MAX_KEY_EXPIRY, MIN_KEY_EXPIRY, Replace,
    Settings,
};
use crate::store::Location;

/// Folder of the bridge's state unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/coord-bridge";

/// Everything in this folder can be read by everybody.
const NIX_STORE: &str = "/nix/store";

/// Settings of the table `provisioning`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProvisioningKeys {
    /// Where machines register; repeatable, or `none`. Default `127.0.0.1:9090`.
    #[arg(
        id = "provisioning.listen",
        long = "provisioning-listen",
        env = "COORD_BRIDGE_PROVISIONING__LISTEN",
        value_name = "IP:PORT",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub listen: Option<Vec<Listen>>,

    /// User of Headscale's that the keys belong to; made if there is none. Default
    /// `sovran-deploy`.
    #[arg(
        id = "provisioning.user",
        long = "provisioning-user",
        env = "COORD_BRIDGE_PROVISIONING__USER",
        value_name = "NAME"
    )]
    pub user: Option<String>,

    /// User of Headscale's for administrators, made if there is none; or `none`. Default `admin`.
    #[arg(
        id = "provisioning.admin_user",
        long = "provisioning-admin-user",
        env = "COORD_BRIDGE_PROVISIONING__ADMIN_USER",
        value_name = "NAME"
    )]
    pub admin_user: Option<String>,

    /// How long a key is valid, from 1m to 7d. Default `1h`.
    #[arg(
        id = "provisioning.key_expiry",
        long = "provisioning-key-expiry",
        env = "COORD_BRIDGE_PROVISIONING__KEY_EXPIRY",
        value_name = "DURATION"
    )]
    pub key_expiry: Option<Span>,

    /// File of the enrollment token; made if there is none. Default `enroll-token` in
    /// `state_dir`.
    #[arg(
        id = "provisioning.token_file",
        long = "provisioning-token-file",
        env = "COORD_BRIDGE_PROVISIONING__TOKEN_FILE",
        value_name = "FILE"
    )]
    pub token_file: Option<PathBuf>,

    /// File of the token that lists machines, and that the listener of administrators asks for;
    /// made if there is none. Default `admin-token` in `state_dir`.
    #[arg(
        id = "provisioning.admin_token_file",
        long = "provisioning-admin-token-file",
        env = "COORD_BRIDGE_PROVISIONING__ADMIN_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub admin_token_file: Option<PathBuf>,

    /// Lets enrollment tokens list machines too, as the provisioner before this one did.
    /// Default false.
    #[arg(
        id = "provisioning.enroll_token_lists",
        long = "provisioning-enroll-token-lists",
        env = "COORD_BRIDGE_PROVISIONING__ENROLL_TOKEN_LISTS",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub enroll_token_lists: Option<bool>,

    /// Registrations of one address that pass at once; a token has 4 times as many, all together
    /// 16 times. Default 10.
    #[arg(
        id = "provisioning.rate_limit_max",
        long = "provisioning-rate-limit-max",
        env = "COORD_BRIDGE_PROVISIONING__RATE_LIMIT_MAX",
        value_name = "NUMBER"
    )]
    pub rate_limit_max: Option<u32>,

    /// Time in which as many come back, one after the other. Default `60s`.
    #[arg(
        id = "provisioning.rate_limit_window",
        long = "provisioning-rate-limit-window",
        env = "COORD_BRIDGE_PROVISIONING__RATE_LIMIT_WINDOW",
        value_name = "DURATION"
    )]
    pub rate_limit_window: Option<Span>,

    /// Proxies whose `X-Forwarded-For` or `X-Real-IP` is believed; repeatable. Default none.
    #[arg(
        id = "provisioning.trusted_proxies",
        long = "provisioning-trusted-proxies",
        env = "COORD_BRIDGE_PROVISIONING__TRUSTED_PROXIES",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub trusted_proxies: Option<Vec<String>>,

    /// What happens to the node of a machine that registers again. Default `never`.
    #[arg(
        id = "provisioning.replace",
        long = "provisioning-replace",
        env = "COORD_BRIDGE_PROVISIONING__REPLACE",
        value_name = "RULE"
    )]
    pub replace: Option<ReplaceKey>,

    /// Time after which a machine that is not connected counts as stale. Default `1d`.
    #[arg(
        id = "provisioning.stale_after",
        long = "provisioning-stale-after",
        env = "COORD_BRIDGE_PROVISIONING__STALE_AFTER",
        value_name = "DURATION"
    )]
    pub stale_after: Option<Span>,

    /// Time after which a machine that is stale is deleted, its node in Headscale too. Default
    /// never.
    #[arg(
        id = "provisioning.delete_stale_after",
        long = "provisioning-delete-stale-after",
        env = "COORD_BRIDGE_PROVISIONING__DELETE_STALE_AFTER",
        value_name = "DURATION"
    )]
    pub delete_stale_after: Option<Span>,

    /// Time that records of machines are kept after they are over. Default `30d`.
    #[arg(
        id = "provisioning.record_ttl",
        long = "provisioning-record-ttl",
        env = "COORD_BRIDGE_PROVISIONING__RECORD_TTL",
        value_name = "DURATION"
    )]
    pub record_ttl: Option<Span>,
}

/// What happens to the node of a machine that registers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplaceKey {
    /// It stays.
    Never,
    /// It is deleted if it is not connected.
    OfflineOnly,
}

/// Registration of machines, as it is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// What it is to do; `None` where it is not said where machines log in.
    pub settings: Option<Settings>,
    /// Whom machines register with, if anybody.
    pub headscale: Option<HeadscaleConfig>,
    /// Where the bridge keeps what it remembers.
    pub store: Location,
    /// Where the password for that lies.
    pub store_password_file: Option<SecretFile>,
}

impl Registration {
    /// Registration by `keys`. What is wrong is added to `faults`.
    #[must_use]
    pub fn new(keys: &Keys, faults: &mut Vec<String>) -> Self {
        let registration = Self {
            settings: settings(keys, faults),
            headscale: headscale(keys.headscale.clone(), faults),
            store: store(keys, faults),
            store_password_file: keys.store_password_file.clone(),
        };
        if registration.headscale.is_some() && keys.login_server.is_none() {
            faults.push(
                "login_server: missing beside headscale; write the URL that machines log in at, \
                 Headscale's server_url"
                    .to_owned(),
            );
        }
        registration
    }
}

/// Names of the variables of the provisioner before this one.
const OLD_VARIABLES: [&str; 6] = [
    "PROVISIONER_DATA_DIR",
    "HEADSCALE_USER",
    "KEY_EXPIRY",
    "RATE_LIMIT_MAX",
    "RATE_LIMIT_WINDOW",
    "HEADSCALE_URL",
];

/// Settings that the variables of the provisioner before this one give. What is wrong with them
/// is added to `faults`.
pub(super) fn old_variables(
    lookup: impl Fn(&str) -> Option<String>,
    faults: &mut Vec<String>,
) -> Keys {
    let [folder, user, expiry, max, window, login_server] =
        OLD_VARIABLES.map(|name| lookup(name).filter(|text| !text.trim().is_empty()));
    let mut span = |name: &str, text: Option<String>| {
        text?.parse::<Span>().map_err(|error| faults.push(format!("{name}: {error}"))).ok()
    };
    let key_expiry = span("KEY_EXPIRY", expiry);
    let rate_limit_window = span("RATE_LIMIT_WINDOW", window);
    let rate_limit_max = max.and_then(|text| {
        let fault = |_| faults.push("RATE_LIMIT_MAX: not a number such as 10".to_owned());
        text.trim().parse().map_err(fault).ok()
    });
    Keys {
        state_dir: folder.map(PathBuf::from),
        // Not where Headscale's API is: where machines log in.
        login_server,
        provisioning: ProvisioningKeys {
            user,
            key_expiry,
            rate_limit_max,
            rate_limit_window,
            ..ProvisioningKeys::default()
        },
        ..Keys::default()
    }
}

/// What provisioning is to do; `None` where it is not said where machines log in. What is wrong
/// is added to `faults`.
fn settings(keys: &Keys, faults: &mut Vec<String>) -> Option<Settings> {
    let state_dir = keys.state_dir.clone().unwrap_or_else(|| DEFAULT_STATE_DIR.into());
    let table = &keys.provisioning;
    let login_server = keys.login_server.as_deref().map(str::trim);
    for (key, url) in
        [("login_server", login_server), ("public_map_url", keys.public_map_url.as_deref())]
    {
        if url.is_some_and(|url| !is_url(url)) {
            faults.push(format!("{key}: not a URL that begins with http:// or https://"));
        }
    }
    let span = |key: Option<Span>, default| key.map_or(default, |span| span.0);
    let key_expiry = span(table.key_expiry, DEFAULT_KEY_EXPIRY);
    if !(MIN_KEY_EXPIRY..=MAX_KEY_EXPIRY).contains(&key_expiry) {
        faults.push(format!(
            "provisioning.key_expiry: {} is out of bounds; from {} to {}",
            Span(key_expiry),
            Span(MIN_KEY_EXPIRY),
            Span(MAX_KEY_EXPIRY)
        ));
    }
    let rate = Rate {
        burst: table.rate_limit_max.unwrap_or(DEFAULT_RATE_LIMIT_MAX),
        window: span(table.rate_limit_window, DEFAULT_RATE_LIMIT_WINDOW),
    };
    if rate.burst == 0 {
        faults.push("provisioning.rate_limit_max: 0 lets nobody in; at least 1".to_owned());
    }
    if rate.window > Duration::from_secs(86_400) {
        faults.push("provisioning.rate_limit_window: at most 1d".to_owned());
    }
    let mut file = |key: &str, path: &Option<PathBuf>, name: &str| {
        let path = path.clone().unwrap_or_else(|| state_dir.join(name));
        if path.starts_with(NIX_STORE) {
            faults
                .push(format!("provisioning.{key}: everybody can read {NIX_STORE}; name another"));
        }
        path
    };
    let token_file = file("token_file", &table.token_file, "enroll-token");
    let admin_token_file = file("admin_token_file", &table.admin_token_file, "admin-token");
    if token_file == admin_token_file {
        faults.push(
            "provisioning.admin_token_file: is provisioning.token_file too; name another, or set \
             enroll_token_lists"
                .to_owned(),
        );
    }
    let mut trusted_proxies = Vec::new();
    for text in table.trusted_proxies.iter().flatten() {
        match text.parse::<Network>() {
            Ok(network) => trusted_proxies.push(network),
            Err(error) => faults.push(format!("provisioning.trusted_proxies: {error}")),
        }
    }
    let admin_user = table.admin_user.as_deref().unwrap_or(DEFAULT_ADMIN_USER);
    let settings = Settings {
        login_server: login_server?.to_owned(),
        map_url: keys.public_map_url.clone(),
        region_id: keys.region.id.unwrap_or(DEFAULT_REGION_ID),
        user: table.user.clone().unwrap_or_else(|| DEFAULT_USER.to_owned()),
        admin_user: (admin_user != "none").then(|| admin_user.to_owned()),
        key_expiry,
        token_file,
        admin_token_file,
        enroll_token_lists: table.enroll_token_lists.unwrap_or_default(),
        rate,
        trusted_proxies,
        replace: match table.replace {
            None | Some(ReplaceKey::Never) => Replace::Never,
            Some(ReplaceKey::OfflineOnly) => Replace::OfflineOnly,
        },
        stale_after: span(table.stale_after, DEFAULT_STALE_AFTER),
        delete_stale_after: table.delete_stale_after.map(|span| span.0),
        record_ttl: span(table.record_ttl, DEFAULT_RECORD_TTL),
        import_folder: Some(state_dir),
    };
    Some(settings)
}

/// Where the store is. What is wrong is added to `faults`.
fn store(keys: &Keys, faults: &mut Vec<String>) -> Location {
    let state_dir = keys.state_dir.as_deref().unwrap_or(Path::new(DEFAULT_STATE_DIR));
    let file = Location::File(state_dir.join("bridge.sqlite"));
    let Some(url) = &keys.store else { return file };
    match url.parse() {
        Ok(server) => Location::Server(Box::new(server)),
        Err(error) => {
            faults.push(format!("store: {error}"));
            file
        }
    }
}

impl ProvisioningKeys {
    pub(super) fn or(self, weaker: Self) -> Self {
        Self {
            listen: self.listen.or(weaker.listen),
            user: self.user.or(weaker.user),
            admin_user: self.admin_user.or(weaker.admin_user),
            key_expiry: self.key_expiry.or(weaker.key_expiry),
            token_file: self.token_file.or(weaker.token_file),
            admin_token_file: self.admin_token_file.or(weaker.admin_token_file),
            enroll_token_lists: self.enroll_token_lists.or(weaker.enroll_token_lists),
            rate_limit_max: self.rate_limit_max.or(weaker.rate_limit_max),
            rate_limit_window: self.rate_limit_window.or(weaker.rate_limit_window),
            trusted_proxies: self.trusted_proxies.or(weaker.trusted_proxies),
            replace: self.replace.or(weaker.replace),
            stale_after: self.stale_after.or(weaker.stale_after),
            delete_stale_after: self.delete_stale_after.or(weaker.delete_stale_after),
            record_ttl: self.record_ttl.or(weaker.record_ttl),
        }
    }
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_variables(variables: &[(&str, &str)]) -> (Keys, Vec<String>) {
        let mut faults = Vec::new();
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned())
        };
        (old_variables(lookup, &mut faults), faults)
    }

    /// an existing unit can just swap what it starts.
    #[test]
    fn the_old_variables_hold_where_no_key_of_ours_does() {
        let (keys, faults) = from_variables(&[
            ("PROVISIONER_DATA_DIR", "/var/lib/sovran-provisioner"),
            ("HEADSCALE_USER", "deploy"),
            ("KEY_EXPIRY", "30m"),
            ("RATE_LIMIT_MAX", "20"),
            ("RATE_LIMIT_WINDOW", "120"),
            ("HEADSCALE_URL", "https://hs.example.org"),
        ]);
        assert!(faults.is_empty(), "{faults:?}");
        let mut faults = Vec::new();
        let ours = Keys {
            provisioning: ProvisioningKeys {
                user: Some("ours".to_owned()),
                ..ProvisioningKeys::default()
            },
            ..Keys::default()
        };
        let found = settings(&ours.or(keys), &mut faults).unwrap();
        assert_eq!(found.user, "ours");
        assert_eq!(found.login_server, "https://hs.example.org");
        assert_eq!(found.key_expiry, Duration::from_secs(1_800));
        assert_eq!(found.rate, Rate { burst: 20, window: Duration::from_secs(120) });
        assert_eq!(found.token_file, Path::new("/var/lib/sovran-provisioner/enroll-token"));
        assert_eq!(found.import_folder.unwrap(), Path::new("/var/lib/sovran-provisioner"));
    }

    #[test]
    fn old_variables_that_are_empty_or_wrong_are_not_taken() {
        let (keys, faults) = from_variables(&[("HEADSCALE_URL", ""), ("KEY_EXPIRY", " ")]);
        assert_eq!((keys, faults), (Keys::default(), Vec::new()));
        let (keys, faults) = from_variables(&[
            ("KEY_EXPIRY", "soon"),
            ("RATE_LIMIT_MAX", "-1"),
            ("RATE_LIMIT_WINDOW", "x"),
        ]);
        assert_eq!((keys, faults.len()), (Keys::default(), 3));
    }
}
