//! Headscale's embedded relay, whose region replaces ours where both have one id.
//!
//! Does: reads `derp.server` in Headscale's configuration where it is named, asks Headscale's
//! listener whether its embedded relay answers, and says what follows for our regions.
//! Does not: ask for an API key or a database, or keep the map from being published.
//!
//! | configuration says | `/derp` answers as Headscale's | finding |
//! |---|---|---|
//! | on, with an id of ours | either | collision |
//! | on, with another id, or not added to the map | either | none |
//! | off | yes | suspicion: it runs with something else |
//! | off | no | none |
//! | unknown | yes, and we have the id of Headscale's example | suspicion |
//! | unknown | no, or nobody answers | none |
//!
//! From outside nothing tells the id: `/derp`, `/derp/probe` and `/bootstrap-dns` are the same for
//! each. See docs/decisions/0053.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;

use super::upstream::read_bounded;
use crate::headscale::transport::{Ask, Transport};

/// Time between two looks: a person changes the configuration of Headscale, and restarts it.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Time for Headscale to answer.
pub const LOOK_TIME: Duration = Duration::from_secs(5);

/// Id of the embedded region in the example of Headscale's configuration; it has no default.
const EXAMPLE_ID: u64 = 999;

/// Most bytes of Headscale's configuration. Its example has 17 KiB.
const MAX_CONFIG_LEN: u64 = 1 << 20;

/// What Headscale says at `/derp` to whoever does not upgrade, byte for byte, since 0.26 at
/// least. Other relays, ours among them, end the same words with a line end.
const UPGRADE_WORDS: &[u8] = b"DERP requires connection upgrade";

/// Where to look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedSettings {
    /// Headscale's configuration, or a copy of it.
    pub config_file: Option<PathBuf>,
    /// Headscale's main listener, with certificates to trust beside the system's.
    pub url: Option<(Uri, Option<PathBuf>)>,
}

/// What stands between our regions and the clients. Displayed, it says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collision {
    /// Headscale's configuration has a region with this id of ours.
    Sure(u64),
    /// The embedded relay answers, and Headscale's configuration says that it is off.
    AgainstConfig,
    /// The embedded relay answers, and nobody says which id its region has.
    Suspected,
}

/// What Headscale's configuration says of its embedded relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configured {
    /// It is on, and this region is in the map.
    On(u64),
    /// It is on, and no region of it is in the map.
    NotAdded,
    /// It is off.
    Off,
}

/// Why a configuration says nothing.
#[derive(Debug, thiserror::Error)]
#[error("headscale.config_file: cannot use {}: {why}; name Headscale's config.yaml, or a copy of its `derp:` block that this user may read", path.display())]
pub struct ConfigFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sure(id) => write!(
                f,
                "Headscale's embedded relay has region {id} too, and replaces ours; set \
                 derp.server.enabled: false in Headscale's configuration, or another \
                 derp.server.region_id, and restart Headscale"
            ),
            Self::AgainstConfig => f.write_str(
                "Headscale's embedded relay answers, although derp.server.enabled is false in \
                 headscale.config_file; restart Headscale, and look for \
                 HEADSCALE_DERP_SERVER_ENABLED in its environment",
            ),
            Self::Suspected => write!(
                f,
                "Headscale's embedded relay answers, and would replace our region {EXAMPLE_ID} if \
                 it has that id; set derp.server.enabled: false in Headscale's configuration and \
                 restart it, or name that file in headscale.config_file if the id is another one"
            ),
        }
    }
}

impl Collision {
    /// The same without remedy, for strangers.
    #[must_use]
    pub const fn finding(&self) -> &'static str {
        match self {
            Self::Sure(_) => {
                "Headscale's embedded relay has the id of a region of ours, and replaces it"
            }
            Self::AgainstConfig | Self::Suspected => {
                "Headscale's embedded relay answers, and may replace a region of ours"
            }
        }
    }
}

/// What a look has shown.
#[derive(Debug, Default)]
pub struct Sight {
    /// What Headscale's configuration says; `None` where it is not named, or cannot be read.
    pub configured: Option<Configured>,
    /// Whether the embedded relay answers; `None` where there is nobody to ask, or nobody answers.
    pub answers: Option<bool>,
    /// Why the configuration says nothing.
    pub error: Option<ConfigFileError>,
}

impl Sight {
    /// What follows for regions with the ids `ours`.
    #[must_use]
    pub fn collision(&self, ours: &BTreeSet<u64>) -> Option<Collision> {
        judge(self.configured, self.answers == Some(true), ours)
    }
}

/// Looks once, for at most [`LOOK_TIME`] at Headscale. `ours` are ids of our regions.
///
/// # Errors
///
/// [`ConfigFileError`], beside what can be said without that file.
pub async fn look(
    settings: &EmbeddedSettings,
    ours: &BTreeSet<u64>,
) -> (Option<Collision>, Option<ConfigFileError>) {
    let sight = see(settings).await;
    (sight.collision(ours), sight.error)
}

/// The same look, before anything follows from it.
pub async fn see(settings: &EmbeddedSettings) -> Sight {
    let path = settings.config_file.clone();
    let read = tokio::task::spawn_blocking(move || path.map(|path| read_config(&path)));
    let (configured, error) = match read.await.ok().flatten() {
        None => (None, None),
        Some(Ok(configured)) => (Some(configured), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let answers = match &settings.url {
        Some((url, ca_file)) => answers(url, ca_file.as_deref()).await,
        None => None,
    };
    Sight { configured, answers, error }
}

/// What follows for regions with the ids `ours`.
#[must_use]
pub fn judge(
    configured: Option<Configured>,
    answers: bool,
    ours: &BTreeSet<u64>,
) -> Option<Collision> {
    match configured {
        Some(Configured::On(id)) => ours.contains(&id).then_some(Collision::Sure(id)),
        Some(Configured::NotAdded) => None,
        Some(Configured::Off) => answers.then_some(Collision::AgainstConfig),
        None => (answers && ours.contains(&EXAMPLE_ID)).then_some(Collision::Suspected),
    }
}

/// Reads Headscale's configuration. Blocks on the disk.
///
/// # Errors
///
/// [`ConfigFileError`].
pub fn read_config(path: &Path) -> Result<Configured, ConfigFileError> {
    let failed = |why: String| ConfigFileError { path: path.to_owned(), why };
    parse(&read_text(path)?).map_err(failed)
}

/// The text of Headscale's configuration. Blocks on the disk.
///
/// # Errors
///
/// [`ConfigFileError`], also for more than 1 MiB.
pub fn read_text(path: &Path) -> Result<String, ConfigFileError> {
    let failed = |why: String| ConfigFileError { path: path.to_owned(), why };
    let bytes =
        read_bounded(path, MAX_CONFIG_LEN).map_err(|error: io::Error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| failed("not UTF-8".to_owned()))
}

/// Reads the text of a configuration of Headscale's.
///
/// # Errors
///
/// Words for people.
pub fn parse(text: &str) -> Result<Configured, String> {
    let file: Option<File> = serde_saphyr::from_str(text).map_err(|error| {
        let words = error.to_string();
        words.lines().next().unwrap_or_default().chars().take(200).collect::<String>()
    })?;
    let server = file.and_then(|it| it.derp).and_then(|it| it.server).unwrap_or_default();
    if !server.enabled.is_some_and(|it| it.is_on()) {
        return Ok(Configured::Off);
    }
    if server.automatically_add_embedded_derp_region.is_some_and(|it| !it.is_on()) {
        return Ok(Configured::NotAdded);
    }
    Ok(Configured::On(server.region_id.unwrap_or_default()))
}

/// What matters to us in it; the rest is Headscale's business.
#[derive(Default, Deserialize)]
struct File {
    derp: Option<Derp>,
}

#[derive(Default, Deserialize)]
struct Derp {
    server: Option<Server>,
}

#[derive(Default, Deserialize)]
struct Server {
    enabled: Option<Flag>,
    region_id: Option<u64>,
    automatically_add_embedded_derp_region: Option<Flag>,
}

/// A flag as Headscale's reader takes it: also as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Text(String),
}

impl Flag {
    fn is_on(&self) -> bool {
        match self {
            Self::Bool(flag) => *flag,
            Self::Text(text) => matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"),
        }
    }
}

/// Whether the embedded relay of the Headscale at `url` answers. Anybody else is a no; `None` where
/// nobody answers.
async fn answers(url: &Uri, ca_file: Option<&Path>) -> Option<bool> {
    let transport = Transport::to_url(url, ca_file).ok()?;
    let ask = Ask {
        method: Method::GET,
        path: "/derp".to_owned(),
        body: None,
        repeatable: false,
        max_answer: UPGRADE_WORDS.len(),
    };
    let answer = tokio::time::timeout(LOOK_TIME, transport.exchange(&ask, None)).await;
    let answer = answer.ok()?.ok()?;
    Some(answer.status == StatusCode::UPGRADE_REQUIRED && *answer.body == *UPGRADE_WORDS)
}
