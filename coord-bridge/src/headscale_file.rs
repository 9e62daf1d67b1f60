//! Headscale's configuration, as far as it concerns its neighbours.
//!
//! Does: reads what is plain, tells it from what is absent and from what only a template engine or
//! a shell knows, and takes everything else for Headscale's own business.
//! Does not: fill in Headscale's defaults, or know of `HEADSCALE_…` in its environment, which
//! weighs more than the file.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::publication::embedded::{ConfigFileError, read_text};

/// Most characters of a reader's complaint that are passed on.
const MAX_WORDS: usize = 200;

/// One value of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Known<T> {
    /// It is not in the file, or empty: Headscale's default holds.
    #[default]
    Absent,
    /// It is this.
    Is(T),
    /// It is there, and only who fills in the file knows what it will be.
    Hidden,
}

/// What is read of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadscaleFile {
    /// Where clients log in.
    pub server_url: Known<String>,
    /// Where Headscale listens, `HOST:PORT`.
    pub listen_addr: Known<String>,
    /// Where its metrics are, `HOST:PORT`.
    pub metrics_listen_addr: Known<String>,
    /// Its Unix socket.
    pub unix_socket: Known<String>,
    /// Whether it does TLS by itself.
    pub has_own_tls: bool,
    /// URLs of maps.
    pub derp_urls: Vec<String>,
    /// Files of maps.
    pub derp_paths: Vec<String>,
    /// Whether the map is read again while it runs.
    pub auto_update: Known<bool>,
    /// How often.
    pub update_frequency: Known<Duration>,
    /// Whether it has a relay of its own.
    pub embedded: Known<bool>,
    /// The id of that relay's region.
    pub embedded_region_id: Known<u64>,
}

impl<T> Known<T> {
    /// The value, if the file says one.
    #[must_use]
    pub const fn get(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Hidden => None,
        }
    }

    fn read<U>(self, read: impl FnOnce(T) -> Option<U>) -> Known<U> {
        match self {
            Self::Absent => Known::Absent,
            Self::Hidden => Known::Hidden,
            Self::Is(value) => read(value).map_or(Known::Hidden, Known::Is),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Known<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Is(value) => value.fmt(f),
            Self::Hidden => f.write_str("filled in by a template"),
        }
    }
}

impl HeadscaleFile {
    /// Reads the file. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`ConfigFileError`].
    pub fn read(path: &Path) -> Result<Self, ConfigFileError> {
        let failed = |why| ConfigFileError { path: path.to_owned(), why };
        Self::parse(&read_text(path)?).map_err(failed)
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    ///
    /// Words for people, on one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file = from_yaml(text).or_else(|error| {
            let filled = without_templates(text);
            if filled == text { Err(error) } else { from_yaml(&filled) }
        })?;
        let derp = file.derp.unwrap_or_default();
        let server = derp.server.unwrap_or_default();
        Ok(Self {
            has_own_tls: [&file.tls_cert_path, &file.tls_letsencrypt_hostname]
                .into_iter()
                .any(|it| text_of(it.as_ref()) != Known::Absent),
            server_url: text_of(file.server_url.as_ref()),
            listen_addr: text_of(file.listen_addr.as_ref()),
            metrics_listen_addr: text_of(file.metrics_listen_addr.as_ref()),
            unix_socket: text_of(file.unix_socket.as_ref()),
            derp_urls: list_of(derp.urls),
            derp_paths: list_of(derp.paths),
            auto_update: text_of(derp.auto_update_enabled.as_ref()).read(|it| flag(&it)),
            update_frequency: text_of(derp.update_frequency.as_ref()).read(|it| go_duration(&it)),
            embedded: text_of(server.enabled.as_ref()).read(|it| flag(&it)),
            embedded_region_id: text_of(server.region_id.as_ref()).read(|it| it.parse().ok()),
        })
    }

    /// Where its metrics are, if the file says an address.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        address(self.metrics_listen_addr.get()?)
    }
}

/// `HOST:PORT` as Go takes it: without a host it is every address, and `localhost` is loopback.
#[must_use]
pub fn address(text: &str) -> Option<SocketAddr> {
    let text = match text.split_once(':') {
        Some(("", port)) => format!("0.0.0.0:{port}"),
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        Some(_) | None => text.to_owned(),
    };
    text.parse().ok()
}

/// A duration as Go writes it, `1h30m`; a bare number is nanoseconds there.
fn go_duration(text: &str) -> Option<Duration> {
    if let Ok(nanos) = text.parse() {
        return Some(Duration::from_nanos(nanos));
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, unit) = rest.split_at(end);
        let length = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let (unit, after) = unit.split_at(length);
        let in_seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * in_seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// A flag as Headscale's reader takes it.
fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn from_yaml(text: &str) -> Result<File, String> {
    let file: Result<Option<File>, _> = serde_saphyr::from_str(text);
    file.map(Option::unwrap_or_default).map_err(|error| {
        let words = error.to_string();
        words.lines().next().unwrap_or_default().chars().take(MAX_WORDS).collect()
    })
}

/// The same with values of Jinja, Go and Helm in quotes, and without their statements: neither is
/// YAML.
fn without_templates(text: &str) -> String {
    let line = |line: &str| {
        let bare = line.trim_start();
        if bare.starts_with("{%") || bare.starts_with("{{") || bare.starts_with("{#") {
            return String::new();
        }
        match line.split_once("{{") {
            Some((before, after)) if !before.contains(['"', '\'', '#']) => {
                let value = format!("{{{{{after}").replace(['"', '\''], "");
                format!("{before}\"{}\"", value.replace('\\', "").trim_end())
            }
            Some(_) | None => line.to_owned(),
        }
    };
    text.lines().map(|it| line(it) + "\n").collect()
}

fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("${") || text.contains("{%")
}

fn text_of(scalar: Option<&Scalar>) -> Known<String> {
    let text = match scalar {
        None => return Known::Absent,
        Some(Scalar::Bool(value)) => value.to_string(),
        Some(Scalar::Number(value)) => value.to_string(),
        Some(Scalar::Text(value)) => value.trim().to_owned(),
        Some(Scalar::Other(_)) => return Known::Hidden,
    };
    match text.as_str() {
        "" => Known::Absent,
        text if is_template(text) => Known::Hidden,
        _ => Known::Is(text),
    }
}

fn list_of(list: Option<List>) -> Vec<String> {
    let several = match list {
        None => return Vec::new(),
        Some(List::Several(several)) => several,
        Some(List::One(one)) => vec![one],
    };
    let text = |it: &Scalar| match it {
        Scalar::Text(text) => Some(text.clone()),
        Scalar::Bool(_) | Scalar::Number(_) | Scalar::Other(_) => None,
    };
    several.iter().filter_map(text).collect()
}

#[derive(Default, Deserialize)]
struct File {
    server_url: Option<Scalar>,
    listen_addr: Option<Scalar>,
    metrics_listen_addr: Option<Scalar>,
    unix_socket: Option<Scalar>,
    tls_cert_path: Option<Scalar>,
    tls_letsencrypt_hostname: Option<Scalar>,
    derp: Option<Derp>,
}

#[derive(Default, Deserialize)]
struct Derp {
    server: Option<Server>,
    urls: Option<List>,
    paths: Option<List>,
    auto_update_enabled: Option<Scalar>,
    update_frequency: Option<Scalar>,
}

#[derive(Default, Deserialize)]
struct Server {
    enabled: Option<Scalar>,
    region_id: Option<Scalar>,
}

/// A value of whatever kind: one that we cannot use must not take the others with it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Number(i64),
    Text(String),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum List {
    Several(Vec<Scalar>),
    One(Scalar),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_is_read_and_the_rest_is_left() {
        let file = HeadscaleFile::parse(
            "server_url: https://hs.example.org:443\nlisten_addr: 0.0.0.0:8080\n\
             metrics_listen_addr: :9090\nunknown: [1, {a: b}]\nnoise: {private_key_path: x}\n\
             derp:\n  server: {enabled: \"true\", region_id: 999}\n  urls: [http://a/, 7]\n  \
             paths: /etc/derp.yaml\n  update_frequency: 1h30m\n",
        )
        .unwrap();
        assert_eq!(file.server_url.get().unwrap(), "https://hs.example.org:443");
        assert_eq!(file.metrics_address(), "0.0.0.0:9090".parse().ok());
        assert_eq!((file.embedded, file.embedded_region_id), (Known::Is(true), Known::Is(999)));
        assert_eq!(file.derp_urls, ["http://a/"]);
        assert_eq!(file.derp_paths, ["/etc/derp.yaml"]);
        assert_eq!(file.update_frequency, Known::Is(Duration::from_secs(5_400)));
        assert_eq!((file.auto_update, file.unix_socket), (Known::Absent, Known::Absent));
        assert!(!file.has_own_tls);
    }

    #[test]
    fn templates_hide_their_values_and_nothing_else() {
        let file = HeadscaleFile::parse(
            "{% if production %}\nserver_url: {{ server_url }}\n{% endif %}\n\
             listen_addr: ${LISTEN}\nunix_socket: \"{{ socket }}\"\n\
             metrics_listen_addr: 127.0.0.1:9090\nderp:\n  auto_update_enabled: {{ auto | \
             default(\"yes\") }}\n  update_frequency: 10m\n",
        )
        .unwrap();
        assert_eq!(file.server_url, Known::Hidden);
        assert_eq!((&file.listen_addr, &file.unix_socket), (&Known::Hidden, &Known::Hidden));
        assert_eq!(file.auto_update, Known::Hidden);
        assert_eq!(file.update_frequency, Known::Is(Duration::from_secs(600)));
        assert!(file.metrics_address().is_some());
    }

    #[test]
    fn what_is_no_yaml_is_said_to_be_none() {
        for text in ["a: [", "\t- x: :", "- a\n- b\n"] {
            let words = HeadscaleFile::parse(text).unwrap_err();
            assert!(!words.is_empty() && !words.contains('\n'), "{words}");
        }
        assert_eq!(HeadscaleFile::parse(""), Ok(HeadscaleFile::default()));
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [("3h", 10_800), ("24h0m0s", 86_400), ("10m", 600), ("0", 0)] {
            assert_eq!(go_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["10", "x", "10q", "h"] {
            assert_ne!(go_duration(text), Some(Duration::from_secs(10)), "{text}");
        }
    }
}
