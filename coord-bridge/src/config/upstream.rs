//! Other people's maps, as they are written and as they are meant.
//!
//! Does: takes the tables `upstreams`, fills in what is absent, refuses what cannot be.
//! Does not: fetch, or open a file.

use std::path::PathBuf;
use std::time::Duration;

use derp_relay::settings::Span;
use hyper::Uri;
use serde::Deserialize;

use super::SecretFile;
use crate::publication::compose::Choice;
use crate::publication::upstream::{Source, UpstreamSettings};

/// Time between two fetches unless told otherwise. Tailscale's map changes some times a month.
pub const DEFAULT_UPSTREAM_INTERVAL: Duration = Duration::from_secs(3_600);

/// Shortest time between two fetches: other people's servers are not ours to load.
pub const MIN_UPSTREAM_INTERVAL: Duration = Duration::from_secs(10);

/// Most upstreams. Each is at most 256 KiB, and all are sent to each client.
pub const MAX_UPSTREAMS: usize = 8;

/// Settings of one table `upstreams`: a map of somebody else's, whose regions are published
/// beside ours. Either `url` or `file` has to be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamKeys {
    /// Where the map is, in JSON, such as `https://controlplane.tailscale.com/derpmap/default`.
    pub url: Option<String>,
    /// A file with a map in JSON, for where nothing was ever fetched; without `url`, the map.
    pub file: Option<PathBuf>,
    /// Certificates to trust beside the system's, as PEM. Default none.
    pub ca_file: Option<PathBuf>,
    /// User for Basic authentication; with `password_file`. Default none.
    pub user: Option<String>,
    /// File with the password of `user`, or `credential:NAME`.
    pub password_file: Option<SecretFile>,
    /// Time between two fetches, at least 10s. Default `1h`.
    pub interval: Option<Span>,
    /// Ids of the regions that are taken. Default all.
    pub keep: Vec<u64>,
    /// Ids of regions that are not taken.
    pub drop: Vec<u64>,
    /// Keeps clients from making these regions their home while there is one of ours; they still
    /// dial them for peers whose home they are. Default false.
    pub prefer_own: Option<bool>,
}

/// The keys of [`UpstreamKeys`], as in the file.
pub(super) const UPSTREAM_KEYS: [&str; 9] = [
    "upstreams.url",
    "upstreams.file",
    "upstreams.ca_file",
    "upstreams.user",
    "upstreams.password_file",
    "upstreams.interval",
    "upstreams.keep",
    "upstreams.drop",
    "upstreams.prefer_own",
];

/// The upstreams of these settings. What is wrong with them is added to `faults`.
pub(super) fn upstreams(
    tables: Vec<UpstreamKeys>,
    faults: &mut Vec<String>,
) -> Vec<UpstreamSettings> {
    if tables.len() > MAX_UPSTREAMS {
        faults.push(format!("upstreams: {} tables; at most {MAX_UPSTREAMS}", tables.len()));
    }
    let mut upstreams: Vec<UpstreamSettings> = Vec::new();
    for (place, keys) in tables.into_iter().enumerate() {
        let upstream = upstream(keys, |key, words| {
            faults.push(format!("upstreams[{place}].{key}: {words}"));
        });
        let Some(upstream) = upstream else { continue };
        if upstreams.iter().any(|earlier| earlier.name() == upstream.name()) {
            faults.push(format!("upstreams[{place}]: the same as an earlier one; remove it"));
        }
        upstreams.push(upstream);
    }
    upstreams
}

fn upstream(keys: UpstreamKeys, mut fault: impl FnMut(&str, &str)) -> Option<UpstreamSettings> {
    let interval = keys.interval.map_or(DEFAULT_UPSTREAM_INTERVAL, |span| span.0);
    if interval < MIN_UPSTREAM_INTERVAL {
        fault("interval", "out of bounds; at least 10s");
    }
    let login = match (keys.user, keys.password_file) {
        (Some(user), Some(password)) => {
            if !is_user(&user) {
                fault("user", USER_WORDS);
            }
            Some((user, password))
        }
        (None, None) => None,
        (Some(_), None) => {
            fault("password_file", "missing; a user needs one");
            None
        }
        (None, Some(_)) => {
            fault("user", "missing; a password needs one");
            None
        }
    };
    let source = match keys.url {
        Some(text) => match url(&text) {
            Ok(url) => Source::Url { url, ca_file: keys.ca_file, login },
            Err(words) => {
                fault("url", words);
                return None;
            }
        },
        None if keys.file.is_some() => {
            if keys.ca_file.is_some() || login.is_some() {
                fault("ca_file, user", "of no use without a URL; leave them out");
            }
            Source::File
        }
        None => {
            fault("url", "missing; write where the map is, or give a file");
            return None;
        }
    };
    let choice = Choice {
        keep: keys.keep.into_iter().collect(),
        drop: keys.drop.into_iter().collect(),
        prefer_own: keys.prefer_own.unwrap_or_default(),
    };
    Some(UpstreamSettings { source, file: keys.file, interval, choice })
}

/// What is wrong with a user of Basic authentication.
pub(super) const USER_WORDS: &str = "empty, or with a colon or a control character in it";

/// Whether Basic authentication can say this name.
pub(super) fn is_user(user: &str) -> bool {
    !user.is_empty() && !user.contains(|c: char| c == ':' || c.is_control())
}

/// Reads the URL of a map. The text itself is not shown: it may hold a password.
fn url(text: &str) -> Result<Uri, &'static str> {
    let wrong = "no http:// or https:// URL with a host";
    let url: Uri = text.parse().map_err(|_| wrong)?;
    let authority = url.authority().ok_or(wrong)?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
        return Err(wrong);
    }
    if authority.as_str().contains('@') {
        return Err("a user name or password is in it; write them to user and password_file");
    }
    Ok(url)
}
