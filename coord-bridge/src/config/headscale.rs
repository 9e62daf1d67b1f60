//! Which Headscale the bridge asks, and how it gets there.
//!
//! Does: takes a URL with an API key, or a socket, and refuses half of either.
//! Does not: open anything. Another Headscale beside the first would be another
//! [`HeadscaleConfig`]; nothing here is there once only.

use std::path::PathBuf;

use clap::Args;
use hyper::Uri;
use serde::Deserialize;

use super::SecretFile;

/// Settings of the table `headscale`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadscaleKeys {
    /// Where Headscale's API is, for any release from 0.26; with `headscale.api_key_file`.
    /// Default none: no machine can register.
    #[arg(
        id = "headscale.url",
        long = "headscale-url",
        env = "COORD_BRIDGE_HEADSCALE__URL",
        value_name = "URL"
    )]
    pub url: Option<String>,

    /// Headscale's Unix socket instead, for releases from 0.30: no API key is needed, and calls
    /// cost Headscale a hundredth. Default none.
    #[arg(
        id = "headscale.socket",
        long = "headscale-socket",
        env = "COORD_BRIDGE_HEADSCALE__SOCKET",
        value_name = "PATH"
    )]
    pub socket: Option<PathBuf>,

    /// File with an API key of `headscale apikeys create`, or `credential:NAME` for one that
    /// systemd hands over. Read again for each call, so it can be replaced at any time.
    #[arg(
        id = "headscale.api_key_file",
        long = "headscale-api-key-file",
        env = "COORD_BRIDGE_HEADSCALE__API_KEY_FILE",
        value_name = "FILE"
    )]
    pub api_key_file: Option<SecretFile>,

    /// Certificates to trust beside the system's, as PEM, for an `https` URL. Default none.
    #[arg(
        id = "headscale.ca_file",
        long = "headscale-ca-file",
        env = "COORD_BRIDGE_HEADSCALE__CA_FILE",
        value_name = "FILE"
    )]
    pub ca_file: Option<PathBuf>,

    /// Headscale's configuration, or a copy of its `derp:` block, to see whether its embedded
    /// relay has the id of a region of ours. Default none.
    #[arg(
        id = "headscale.config_file",
        long = "headscale-config-file",
        env = "COORD_BRIDGE_HEADSCALE__CONFIG_FILE",
        value_name = "FILE"
    )]
    pub config_file: Option<PathBuf>,
}

/// One Headscale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadscaleConfig {
    /// How to get there.
    pub reach: Reach,
}

/// How to get to a Headscale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Over TCP, and TLS if the URL says so, with an API key.
    Url {
        /// Where the API is: scheme, host, and maybe a path that goes before all others.
        url: Uri,
        /// Where the API key lies.
        api_key: SecretFile,
        /// Certificates to trust beside the system's.
        ca_file: Option<PathBuf>,
    },
    /// Over a Unix socket, whose permissions are the key.
    Socket(PathBuf),
}

impl HeadscaleKeys {
    /// These settings, and those of `weaker` where there is none here.
    #[must_use]
    pub(super) fn or(self, weaker: Self) -> Self {
        Self {
            url: self.url.or(weaker.url),
            socket: self.socket.or(weaker.socket),
            api_key_file: self.api_key_file.or(weaker.api_key_file),
            ca_file: self.ca_file.or(weaker.ca_file),
            config_file: self.config_file.or(weaker.config_file),
        }
    }
}

/// The Headscale of these settings, if they name one. What is wrong is added to `faults`.
pub(super) fn headscale(keys: HeadscaleKeys, faults: &mut Vec<String>) -> Option<HeadscaleConfig> {
    let mut fault = |text: &str| faults.push(text.to_owned());
    let reach = match (keys.url, keys.socket) {
        (Some(_), Some(_)) => {
            fault("headscale.url, headscale.socket: two ways to one Headscale; give one of them");
            return None;
        }
        (Some(text), None) => {
            let url = base(&text);
            if let Err(words) = url {
                fault(&format!("headscale.url: {words}"));
            }
            if keys.api_key_file.is_none() {
                fault(
                    "headscale.api_key_file: missing; write the path of a file with a key of \
                     `headscale apikeys create`",
                );
            }
            Reach::Url { url: url.ok()?, api_key: keys.api_key_file?, ca_file: keys.ca_file }
        }
        (None, socket) => {
            let of_no_use = if socket.is_some() {
                "of no use with headscale.socket; leave it out"
            } else {
                "of no use without headscale.url; give that too"
            };
            if keys.api_key_file.is_some() {
                fault(&format!("headscale.api_key_file: {of_no_use}"));
            }
            if keys.ca_file.is_some() {
                fault(&format!("headscale.ca_file: {of_no_use}"));
            }
            Reach::Socket(socket?)
        }
    };
    Some(HeadscaleConfig { reach })
}

/// Reads the URL of an API. The text itself is not shown: it may hold a password.
fn base(text: &str) -> Result<Uri, &'static str> {
    let wrong = "no http:// or https:// URL with a host; write one such as http://127.0.0.1:8080";
    let url: Uri = text.parse().map_err(|_| wrong)?;
    let authority = url.authority().ok_or(wrong)?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
        return Err(wrong);
    }
    if authority.as_str().contains('@') {
        return Err("a user name or password is in it; Headscale takes an API key only, from \
                    headscale.api_key_file");
    }
    if url.query().is_some() || text.contains('#') {
        return Err("a query or fragment is in it; leave it out");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(keys: HeadscaleKeys) -> Result<Option<HeadscaleConfig>, Vec<String>> {
        let mut faults = Vec::new();
        let config = headscale(keys, &mut faults);
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }

    fn url(text: &str) -> HeadscaleKeys {
        HeadscaleKeys {
            url: Some(text.to_owned()),
            api_key_file: Some(SecretFile::Path("key".into())),
            ..HeadscaleKeys::default()
        }
    }

    #[test]
    fn nothing_is_no_headscale_and_no_fault() {
        assert_eq!(judge(HeadscaleKeys::default()), Ok(None));
    }

    #[test]
    fn a_url_needs_a_key_and_a_socket_needs_none() {
        assert!(judge(url("https://hs.example.org/below")).is_ok_and(|config| config.is_some()));
        let socket = HeadscaleKeys { socket: Some("hs.sock".into()), ..HeadscaleKeys::default() };
        assert_eq!(
            judge(socket.clone()),
            Ok(Some(HeadscaleConfig { reach: Reach::Socket("hs.sock".into()) }))
        );

        let without_key = HeadscaleKeys { api_key_file: None, ..url("http://hs") };
        let both = HeadscaleKeys { socket: Some("hs.sock".into()), ..url("http://hs") };
        let key = Some(SecretFile::Path("key".into()));
        let key_with_socket = HeadscaleKeys { api_key_file: key.clone(), ..socket };
        let key_only = HeadscaleKeys { api_key_file: key, ..HeadscaleKeys::default() };
        let ca_only = HeadscaleKeys { ca_file: Some("ca".into()), ..HeadscaleKeys::default() };
        for (keys, said) in [
            (without_key, "headscale.api_key_file: missing"),
            (both, "headscale.url, headscale.socket: two ways"),
            (key_with_socket, "headscale.api_key_file: of no use with headscale.socket"),
            (key_only, "headscale.api_key_file: of no use without headscale.url"),
            (ca_only, "headscale.ca_file: of no use without headscale.url"),
        ] {
            let faults = judge(keys).unwrap_err();
            assert!(faults.len() == 1 && faults[0].starts_with(said), "{said}: {faults:?}");
        }
    }

    #[test]
    fn a_wrong_url_is_refused_and_not_shown() {
        for text in [
            "",
            "hs.example.org",
            "ftp://hs",
            "http://",
            "/api",
            "http://u:geheim@hs",
            "http://hs?geheim",
            "http://hs/#geheim",
        ] {
            let faults = judge(url(text)).unwrap_err();
            assert!(faults[0].starts_with("headscale.url: "), "{text}: {faults:?}");
            assert!(!faults[0].contains("geheim"), "{faults:?}");
        }
    }
}
