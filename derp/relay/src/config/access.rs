//! Who may use the relay, as the operator has set it.
//!
//! Does: reads `access` and the keys that belong to it, and refuses those that do not.
//! Does not: open a file or ask a verifier; that is `access` one level up.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{AccessMode, Keys};
use crate::settings::Span;

/// What a tailnet is called that has no name.
pub const DEFAULT_TAILNET: &str = "default";

/// Longest name of a tailnet, in bytes: that of a DNS label. It is a value of metric labels.
pub const MAX_TAILNET_LEN: usize = 63;

/// Most verifiers: each login asks all of them.
pub const MAX_VERIFIERS: usize = 16;

/// Time within which each connected node is asked about again.
pub const DEFAULT_VERIFY_INTERVAL: Duration = Duration::from_secs(300);

/// Bounds of `verify_interval`, 0 apart: below, verifiers have nothing else to do; above, it is
/// never.
const INTERVAL_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));

/// Time for which a node stays known after its last yes.
pub const DEFAULT_VERIFY_GRACE: Duration = Duration::from_secs(86_400);

/// Bounds of `verify_grace`: below, the restart of a verifier cuts everybody off; above, a node
/// that was removed during an outage enters for a month.
const GRACE_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(30 * 86_400));

/// File beside the relay's key that holds the nodes that were let in lately.
const KNOWN_FILE: &str = "known-nodes";

/// Who may use the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessConfig {
    /// Nobody: what a program has to change before its relay is of use.
    Nobody,
    /// Everybody.
    Open,
    /// The nodes in a file.
    AllowList {
        /// The file.
        file: PathBuf,
    },
    /// The nodes that a verifier knows.
    Verify(VerifyConfig),
}

/// Access by the word of verifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyConfig {
    /// Whom to ask.
    pub urls: Vec<VerifyUrl>,
    /// Lets everybody in while none of them can be reached.
    pub fail_open: bool,
    /// Certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Nodes that enter unasked.
    pub allow_list: Option<PathBuf>,
    /// Time within which each connected node is asked about again; 0 for never.
    pub interval: Duration,
    /// Time after its last yes for which a node enters and stays although nobody answers.
    pub grace: Duration,
    /// Keeps who was let in over a restart; `None` for not at all.
    pub known_file: Option<PathBuf>,
}

impl VerifyConfig {
    /// Asks `urls`, with defaults for the rest; keeps nothing over a restart.
    #[must_use]
    pub const fn new(urls: Vec<VerifyUrl>) -> Self {
        Self {
            urls,
            fail_open: false,
            ca_file: None,
            allow_list: None,
            interval: DEFAULT_VERIFY_INTERVAL,
            grace: DEFAULT_VERIFY_GRACE,
            known_file: None,
        }
    }
}

/// A verifier and the tailnet that it speaks for, written `[TAILNET=]URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyUrl {
    /// Its name: letters, digits, `-`, `_` and `.`, at most [`MAX_TAILNET_LEN`]; if it has one.
    tailnet: Option<String>,
    /// Where to ask.
    pub url: String,
}

/// Why a text is no [`VerifyUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseVerifyUrlError {
    /// The name is none.
    #[error("`{0}` is not the name of a tailnet; at most 63 letters, digits, `-`, `_` and `.`")]
    Tailnet(String),
    /// The rest is none.
    #[error("`{0}` is not an http:// or https:// URL")]
    Url(String),
}

impl VerifyUrl {
    /// The name of the tailnet, [`DEFAULT_TAILNET`] if it has none.
    #[must_use]
    pub fn tailnet(&self) -> &str {
        self.tailnet.as_deref().unwrap_or(DEFAULT_TAILNET)
    }
}

impl std::str::FromStr for VerifyUrl {
    type Err = ParseVerifyUrlError;

    fn from_str(text: &str) -> Result<Self, ParseVerifyUrlError> {
        // A URL may hold a `=` of its own, behind the `:` of its scheme.
        let (tailnet, url) = match text.split_once('=') {
            Some((name, url)) if !name.contains(':') => (Some(name), url),
            Some(_) | None => (None, text),
        };
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if let Some(name) = tailnet
            && !((1..=MAX_TAILNET_LEN).contains(&name.len()) && name.bytes().all(is_of_name))
        {
            return Err(ParseVerifyUrlError::Tailnet(name.to_owned()));
        }
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(ParseVerifyUrlError::Url(url.to_owned()));
        }
        Ok(Self { tailnet: tailnet.map(str::to_owned), url: url.to_owned() })
    }
}

impl fmt::Display for VerifyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tailnet {
            Some(tailnet) => write!(f, "{tailnet}={}", self.url),
            None => f.write_str(&self.url),
        }
    }
}

/// Reads what `keys` say of access. What the relay has to remember lies beside its key.
pub(super) fn read(keys: &Keys, key_file: &Path, faults: &mut Vec<String>) -> AccessConfig {
    let mode = keys.access.unwrap_or(AccessMode::Verify);
    let mut only_verify_reads = |key: &str, given: bool| {
        if given && mode != AccessMode::Verify {
            let fault = "only `access = \"verify\"` reads it; set that or remove it";
            faults.push(format!("{key}: {fault}"));
        }
    };
    only_verify_reads("verify_url", keys.verify_url.is_some());
    only_verify_reads("verify_interval", keys.verify_interval.is_some());
    only_verify_reads("verify_grace", keys.verify_grace.is_some());
    only_verify_reads("verify_fail_open", keys.verify_fail_open.is_some());
    // A bridge may be of a private authority as well.
    only_verify_reads("ca_file", keys.ca_file.is_some() && keys.bridge_url.is_none());
    match mode {
        AccessMode::Open => {
            if keys.allow_list.is_some() {
                faults.push(
                    "allow_list: only `access = \"allow-list\"` and `access = \"verify\"` read \
                     it; set one of them or remove it"
                        .to_owned(),
                );
            }
            AccessConfig::Open
        }
        AccessMode::AllowList => {
            if keys.allow_list.is_none() {
                faults.push(
                    "allow_list: missing; give the file of node keys with --allow-list".to_owned(),
                );
            }
            AccessConfig::AllowList { file: keys.allow_list.clone().unwrap_or_default() }
        }
        AccessMode::Verify => AccessConfig::Verify(VerifyConfig {
            urls: urls(keys, faults),
            fail_open: keys.verify_fail_open.unwrap_or(false),
            ca_file: keys.ca_file.clone(),
            allow_list: keys.allow_list.clone(),
            interval: interval(keys, faults),
            grace: grace(keys, faults),
            known_file: Some(key_file.with_file_name(KNOWN_FILE)),
        }),
    }
}

fn urls(keys: &Keys, faults: &mut Vec<String>) -> Vec<VerifyUrl> {
    let texts = keys.verify_url.as_deref().unwrap_or_default();
    if texts.is_empty() {
        faults.push(
            "verify_url: missing; give Headscale's with --verify-url \
             https://headscale.example.org/verify, or choose --access open or allow-list"
                .to_owned(),
        );
    }
    if texts.len() > MAX_VERIFIERS {
        faults.push(format!("verify_url: {} of them; at most {MAX_VERIFIERS}", texts.len()));
    }
    let mut urls = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(url) => urls.push(url),
            Err(error) => faults.push(format!("verify_url: {error}")),
        }
    }
    urls
}

fn interval(keys: &Keys, faults: &mut Vec<String>) -> Duration {
    let Some(span) = keys.verify_interval else { return DEFAULT_VERIFY_INTERVAL };
    let (least, most) = INTERVAL_BOUNDS;
    if !span.0.is_zero() && !(least..=most).contains(&span.0) {
        let bounds = format!("from {} to {}, or 0 for never", Span(least), Span(most));
        faults.push(format!("verify_interval: {span} is out of bounds; {bounds}"));
    }
    span.0
}

fn grace(keys: &Keys, faults: &mut Vec<String>) -> Duration {
    let Some(span) = keys.verify_grace else { return DEFAULT_VERIFY_GRACE };
    let (least, most) = GRACE_BOUNDS;
    if !(least..=most).contains(&span.0) {
        let bounds = format!("from {} to {}", Span(least), Span(most));
        faults.push(format!("verify_grace: {span} is out of bounds; {bounds}"));
    }
    span.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_before_the_url_and_may_be_absent() {
        for (text, tailnet, url) in [
            ("http://x/verify", "default", "http://x/verify"),
            ("https://x/v?tailnet=y", "default", "https://x/v?tailnet=y"),
            ("home=http://x/verify", "home", "http://x/verify"),
            ("a-1_b.c=https://x/v?tailnet=y", "a-1_b.c", "https://x/v?tailnet=y"),
        ] {
            let parsed: VerifyUrl = text.parse().unwrap();
            assert_eq!((parsed.tailnet(), &*parsed.url), (tailnet, url));
            assert_eq!(parsed.to_string(), text);
        }
        let long = format!("{}=http://x/", "x".repeat(64));
        for text in ["=http://x/", "two words=http://x/", "a\"=http://x/", "é=http://x/", &long] {
            let error = text.parse::<VerifyUrl>().unwrap_err();
            assert!(matches!(error, ParseVerifyUrlError::Tailnet(_)), "{text}");
        }
        for text in ["", "x", "home=", "home=x", "home=ftp://x/", "headscale.example.org"] {
            let error = text.parse::<VerifyUrl>().unwrap_err();
            assert!(matches!(error, ParseVerifyUrlError::Url(_)), "{text}");
        }
    }
}
