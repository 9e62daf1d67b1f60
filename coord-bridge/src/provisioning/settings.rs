//! What provisioning is to do, checked.

use std::path::PathBuf;
use std::time::Duration;

use super::limits::Rate;
use super::network::Network;

/// Owner of the keys unless told otherwise.
pub const DEFAULT_USER: &str = "sovran-deploy";

/// Administrator's user unless told otherwise.
pub const DEFAULT_ADMIN_USER: &str = "admin";

/// How long a key is valid unless told otherwise.
pub const DEFAULT_KEY_EXPIRY: Duration = Duration::from_secs(3_600);

/// Longest that a key may be valid: one that lies in an installer's log is a way in.
pub const MAX_KEY_EXPIRY: Duration = Duration::from_secs(7 * 86_400);

/// Shortest: a machine has to come up with it.
pub const MIN_KEY_EXPIRY: Duration = Duration::from_secs(60);

/// Registrations at once from one address, unless told otherwise.
pub const DEFAULT_RATE_LIMIT_MAX: u32 = 10;

/// Time in which as many come back, unless told otherwise.
pub const DEFAULT_RATE_LIMIT_WINDOW: Duration = Duration::from_secs(60);

/// Time after which a node that is not connected counts as stale, unless told otherwise.
pub const DEFAULT_STALE_AFTER: Duration = Duration::from_secs(86_400);

/// Time that records are kept after they are over, unless told otherwise.
pub const DEFAULT_RECORD_TTL: Duration = Duration::from_secs(30 * 86_400);

/// What provisioning is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where machines log in; never empty.
    pub login_server: String,
    /// Where they find the map, if they are to be told.
    pub map_url: Option<String>,
    /// Id of the region, which they are told.
    pub region_id: u64,
    /// Owner of the keys.
    pub user: String,
    /// Administrator's user, made if there is none; `None` for nobody.
    pub admin_user: Option<String>,
    /// How long a key is valid.
    pub key_expiry: Duration,
    /// File of the enrollment token.
    pub token_file: PathBuf,
    /// File of the administrator's token.
    pub admin_token_file: PathBuf,
    /// The enrollment token may list machines too.
    pub enroll_token_lists: bool,
    /// Registrations of one address.
    pub rate: Rate,
    /// Proxies that say truly who asks.
    pub trusted_proxies: Vec<Network>,
    /// What happens to the node of a machine that registers again.
    pub replace: Replace,
    /// Time after which a node that is not connected counts as stale.
    pub stale_after: Duration,
    /// Time after which a machine that is stale is deleted with its node; `None` for never.
    pub delete_stale_after: Option<Duration>,
    /// Time that records are kept after they are over.
    pub record_ttl: Duration,
    /// Folder that records of the provisioner before this one may be in.
    pub import_folder: Option<PathBuf>,
}

/// What happens to the node of a machine that registers again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// It stays; the new one gets another name where both want the same.
    #[default]
    Never,
    /// It is deleted if it is not connected.
    OfflineOnly,
}

impl Settings {
    /// Settings that say only where machines log in and where the state is.
    #[must_use]
    pub fn new(login_server: &str, state_dir: &std::path::Path) -> Self {
        Self {
            login_server: login_server.to_owned(),
            map_url: None,
            region_id: crate::config::DEFAULT_REGION_ID,
            user: DEFAULT_USER.to_owned(),
            admin_user: Some(DEFAULT_ADMIN_USER.to_owned()),
            key_expiry: DEFAULT_KEY_EXPIRY,
            token_file: state_dir.join("enroll-token"),
            admin_token_file: state_dir.join("admin-token"),
            enroll_token_lists: false,
            rate: Rate { burst: DEFAULT_RATE_LIMIT_MAX, window: DEFAULT_RATE_LIMIT_WINDOW },
            trusted_proxies: Vec::new(),
            replace: Replace::Never,
            stale_after: DEFAULT_STALE_AFTER,
            delete_stale_after: None,
            record_ttl: DEFAULT_RECORD_TTL,
            import_folder: Some(state_dir.to_owned()),
        }
    }
}
