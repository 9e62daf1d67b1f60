//! Somebody else's map: where it is, how it is fetched, and what counts as one.
//!
//! Does: fetches a URL or reads a file, bounded in time and size, and takes nothing but a map
//! with regions in it: an error page, `{}` or `null` is no map, so the last good one stays.
//! Does not: keep it on disk (`copy`), or put it into ours (`compose`).

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use derp::map::{DerpMap, ParseMapError};
use derp_relay::tls::outgoing::TrustError;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode, Uri};

use super::compose::{Choice, sound};
use crate::config::SecretFile;
use crate::headscale::transport::{Ask, Fault, Transport};

/// Most bytes of a map. Ours: Tailscale's own, the largest in use, has some 60 KiB.
pub const MAX_UPSTREAM_LEN: usize = 256 * 1024;

/// Time for one fetch, from the connection to the last byte.
pub const FETCH_TIME: Duration = Duration::from_secs(30);

/// Most bytes of a password.
const MAX_PASSWORD_LEN: u64 = 1_024;

/// Most characters of other people's words in a fault.
const MAX_WORDS: usize = 200;

/// Where a map of somebody else's is, and what is taken of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Where it is fetched.
    pub source: Source,
    /// A file with a map for where nothing was ever fetched, or instead of fetching.
    pub file: Option<PathBuf>,
    /// Time between two fetches, which vary a little.
    pub interval: Duration,
    /// What is taken of it.
    pub choice: Choice,
}

/// Where a map comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file of [`UpstreamSettings::file`], and nothing else.
    File,
    /// HTTP or HTTPS.
    Url {
        /// The whole URL.
        url: Uri,
        /// Certificates to trust beside the system's.
        ca_file: Option<PathBuf>,
        /// Basic authentication: a user, and where its password lies.
        login: Option<(String, SecretFile)>,
    },
}

/// Why there is no map.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No answer.
    #[error("{0}")]
    Exchange(String),
    /// No answer in time.
    #[error("no whole answer within {} s", FETCH_TIME.as_secs())]
    TimedOut,
    /// An answer with another status than 200.
    #[error("answers {status}{place}")]
    Status {
        /// The status.
        status: StatusCode,
        /// Where a redirect leads to, in words.
        place: String,
    },
    /// Too many bytes.
    #[error("longer than {MAX_UPSTREAM_LEN} bytes")]
    TooLong,
    /// No map.
    #[error("{0}")]
    Parse(#[from] ParseMapError),
    /// A map, and nothing in it that could be published.
    #[error("a map without a region that could be published")]
    Empty,
    /// Certificates to trust.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A file of ours: the map, or a password.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A password that is a credential, where there are none.
    #[error("{0}")]
    Credential(#[from] crate::config::NoCredentials),
}

impl UpstreamSettings {
    /// What tells it from others, also over a restart. No password is in it.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.source, &self.file) {
            (Source::Url { url, .. }, _) => url.to_string(),
            (Source::File, Some(file)) => file.display().to_string(),
            (Source::File, None) => String::new(),
        }
    }

    /// Fetches or reads it.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`]; whoever has an older map keeps it.
    pub async fn fetch(&self) -> Result<DerpMap, UpstreamError> {
        let Source::Url { url, ca_file, login } = &self.source else {
            let settings = self.clone();
            let read = tokio::task::spawn_blocking(move || settings.read_file());
            return match read.await {
                Ok(Some(read)) => read,
                Ok(None) | Err(_) => Err(UpstreamError::Empty),
            };
        };
        let authorization =
            login.as_ref().map(|(user, password)| authorization(user, password)).transpose()?;
        let fetched = get(url, ca_file.as_deref(), authorization.as_ref());
        match tokio::time::timeout(FETCH_TIME, fetched).await {
            Ok(body) => read(&body?),
            Err(_) => Err(UpstreamError::TimedOut),
        }
    }

    /// The map in its file, if it has one. Blocks on the disk.
    pub fn read_file(&self) -> Option<Result<DerpMap, UpstreamError>> {
        let path = self.file.as_ref()?;
        let failed = |source| UpstreamError::Read { path: path.clone(), source };
        Some(read_bounded(path, MAX_UPSTREAM_LEN as u64).map_err(failed).and_then(|it| read(&it)))
    }
}

/// The map in `body`, without what is faulty in it.
///
/// # Errors
///
/// [`UpstreamError::Parse`] and [`UpstreamError::Empty`].
pub fn read(body: &[u8]) -> Result<DerpMap, UpstreamError> {
    if body.len() > MAX_UPSTREAM_LEN {
        return Err(UpstreamError::TooLong);
    }
    read_rendered(body)
}

/// The same of a text that we have rendered, which is longer than it came.
pub(super) fn read_rendered(body: &[u8]) -> Result<DerpMap, UpstreamError> {
    let map = sound(DerpMap::parse(body)?);
    if map.regions.is_empty() { Err(UpstreamError::Empty) } else { Ok(map) }
}

async fn get(
    url: &Uri,
    ca_file: Option<&std::path::Path>,
    authorization: Option<&HeaderValue>,
) -> Result<Vec<u8>, UpstreamError> {
    let transport = Transport::to_url(&origin(url), ca_file)?;
    let ask = Ask {
        method: Method::GET,
        path: url.path_and_query().map_or("/", |it| it.as_str()).to_owned(),
        body: None,
        // A connection of its own: nobody keeps one for hours.
        repeatable: false,
        max_answer: MAX_UPSTREAM_LEN,
    };
    let answer = transport.exchange(&ask, authorization).await.map_err(|fault| explain(&fault))?;
    if answer.status != StatusCode::OK {
        let place = answer.location.map(|it| format!(", to {}", cut(&it))).unwrap_or_default();
        return Err(UpstreamError::Status { status: answer.status, place });
    }
    Ok(answer.body.to_vec())
}

/// Scheme and host. The configuration has checked that there are both.
fn origin(url: &Uri) -> Uri {
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(hyper::http::uri::PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_else(|_| url.clone())
}

fn explain(fault: &Fault) -> UpstreamError {
    UpstreamError::Exchange(cut(&fault.to_string()))
}

/// What a request says for `user`, with the password as it is in its file now.
fn authorization(user: &str, password: &SecretFile) -> Result<HeaderValue, UpstreamError> {
    let path = password.locate()?;
    let failed = |source| UpstreamError::Read { path: path.clone(), source };
    let bytes = read_bounded(&path, MAX_PASSWORD_LEN).map_err(failed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| failed(std::io::Error::other("no text")))?;
    basic(user, text.trim_end_matches(['\r', '\n']))
        .ok_or_else(|| failed(std::io::Error::other("no text")))
}

/// What the `Authorization` header says by RFC 7617. Not shown in logs.
pub(crate) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

pub(crate) fn read_bounded(path: &std::path::Path, max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(std::io::Error::other(format!("longer than {max} bytes")));
    }
    Ok(bytes)
}

fn cut(words: &str) -> String {
    words.chars().take(MAX_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
