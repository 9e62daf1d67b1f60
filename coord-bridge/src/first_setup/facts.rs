//! What is known of a host that a set-up is made for.

use std::net::SocketAddr;

use hyper::Uri;

use super::Resolved;
use crate::config::{
    DEFAULT_ADMIN_LISTEN, DEFAULT_MAP_LISTEN, DEFAULT_METRICS_LISTEN, DEFAULT_PROVISIONING_LISTEN,
    DEFAULT_VERIFY_LISTEN, reachable,
};
use crate::headscale_file::{HeadscaleFile, Known, address};

/// Where Headscale's example listens.
const EXAMPLE_LISTEN: &str = "127.0.0.1:8080";

/// Where clients log in, where nobody says it.
const EXAMPLE_SERVER_URL: &str = "https://headscale.example.org";

/// Where clients look for HTTPS, and for a relay.
const HTTPS_PORT: u16 = 443;

/// A value, and whether somebody has to look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guess {
    pub(super) value: String,
    /// Why it is not known; empty where it is.
    pub(super) doubt: String,
}

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub(super) login_server: Guess,
    pub(super) headscale_url: Guess,
    pub(super) socket: Option<String>,
    pub(super) hostname: Guess,
    /// Why a proxy may not get its port; empty where it does.
    pub(super) proxy_doubt: &'static str,
    pub(super) resolved: Resolved,
    /// Sources of maps that stay, without ours and without those that are not to be shown.
    pub(super) urls: Vec<String>,
    pub(super) paths: Vec<String>,
    pub(super) hidden_urls: usize,
    pub(super) had_embedded: bool,
    pub(super) map: SocketAddr,
    pub(super) verify: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) register: SocketAddr,
    pub(super) relay: SocketAddr,
    pub(super) relay_metrics: SocketAddr,
}

impl Facts {
    /// The name of the relay that follows from `hostname` and the file: to be resolved by who calls.
    #[must_use]
    pub fn relay_name(file: &HeadscaleFile, hostname: Option<&str>) -> String {
        guess_hostname(file, hostname).value
    }

    /// What follows from Headscale's configuration, the name that clients are to use if it is
    /// given, and what DNS says of it.
    #[must_use]
    pub fn new(file: &HeadscaleFile, hostname: Option<&str>, resolved: Resolved) -> Self {
        let mut taken: Vec<u16> = [&file.listen_addr, &file.metrics_listen_addr]
            .into_iter()
            .filter_map(|it| address(it.get()?))
            .map(|address| address.port())
            .collect();
        let mut free = |default: SocketAddr| {
            let port = (default.port()..=u16::MAX).find(|port| !taken.contains(port));
            let port = port.unwrap_or(default.port());
            taken.push(port);
            SocketAddr::new(default.ip(), port)
        };
        let (map, admin, metrics) =
            (free(DEFAULT_MAP_LISTEN), free(DEFAULT_ADMIN_LISTEN), free(DEFAULT_METRICS_LISTEN));
        let verify = free(DEFAULT_VERIFY_LISTEN);
        let loopback = |port| SocketAddr::new(DEFAULT_MAP_LISTEN.ip(), port);
        let relay_metrics = free(loopback(9_091));
        let relay = free(loopback(8_010));
        let register = free(DEFAULT_PROVISIONING_LISTEN);
        let has_password = |url: &&String| {
            url.parse::<Uri>()
                .map_or(true, |url| url.authority().is_some_and(|it| it.as_str().contains('@')))
        };
        let ours = format!("http://{map}/derpmap.json");
        let others = file.derp_urls.iter().filter(|url| **url != ours);
        let (hidden, urls): (Vec<&String>, Vec<&String>) = others.partition(has_password);
        Self {
            login_server: login_server(file),
            headscale_url: headscale_url(file),
            socket: file.unix_socket.get().cloned(),
            hostname: guess_hostname(file, hostname),
            proxy_doubt: proxy_doubt(file),
            resolved,
            urls: urls.into_iter().cloned().collect(),
            paths: file.derp_paths.clone(),
            hidden_urls: hidden.len(),
            had_embedded: matches!(file.embedded, Known::Is(true) | Known::Hidden),
            map,
            verify,
            admin,
            metrics,
            register,
            relay,
            relay_metrics,
        }
    }
}

impl Guess {
    fn known(value: impl Into<String>) -> Self {
        Self { value: value.into(), doubt: String::new() }
    }

    fn doubted(value: impl Into<String>, doubt: impl Into<String>) -> Self {
        Self { value: value.into(), doubt: doubt.into() }
    }
}

fn login_server(file: &HeadscaleFile) -> Guess {
    match file.server_url.get() {
        Some(url) if host(url).is_some() && !url.contains(char::is_control) => {
            Guess::known(url.trim_end_matches('/'))
        }
        Some(_) => Guess::doubted(EXAMPLE_SERVER_URL, "server_url is no URL with a host"),
        None => Guess::doubted(
            EXAMPLE_SERVER_URL,
            format!("server_url is {} in Headscale's configuration", file.server_url),
        ),
    }
}

fn headscale_url(file: &HeadscaleFile) -> Guess {
    let login = login_server(file);
    if file.has_own_tls {
        let doubt = "Headscale does TLS by itself, so it is asked at its public name";
        return Guess { doubt: doubt.to_owned(), ..login };
    }
    match file.listen_addr.get().and_then(|text| address(text)) {
        Some(at) => Guess::known(format!("http://{}", reachable(at))),
        None => Guess::doubted(
            format!("http://{EXAMPLE_LISTEN}"),
            format!("listen_addr is {}, or no IP:PORT", file.listen_addr),
        ),
    }
}

/// A Headscale without a proxy before it is where the relay's proxy would be.
fn proxy_doubt(file: &HeadscaleFile) -> &'static str {
    let port = file.listen_addr.get().and_then(|text| address(text)).map(|at| at.port());
    match port {
        Some(HTTPS_PORT) => {
            "Headscale has port 443 itself, and a proxy cannot listen there beside it: put Headscale \
             behind the proxy too, on another port and without TLS, or give one of them another \
             address or port"
        }
        None if file.has_own_tls => {
            "Headscale does TLS by itself, and its port is not known: where that is 443, no proxy can \
             listen there beside it"
        }
        Some(_) | None => "",
    }
}

fn guess_hostname(file: &HeadscaleFile, hostname: Option<&str>) -> Guess {
    if let Some(hostname) = hostname {
        return Guess::known(hostname);
    }
    let login = login_server(file);
    let name = host(&login.value).unwrap_or_default();
    let domain = match name.split_once('.') {
        Some((_, domain)) if is_domain(domain) && name.parse::<std::net::IpAddr>().is_err() => {
            domain.to_owned()
        }
        Some(_) | None => "example.org".to_owned(),
    };
    let doubt = "a name of the relay's own, that leads to this host; give it with --hostname";
    Guess::doubted(format!("derp.{domain}"), doubt)
}

/// Of two labels at least, in letters that mean nothing else in any of the files.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
    };
    text.contains('.') && text.split('.').all(is_label)
}

fn host(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    matches!(url.scheme_str(), Some("http" | "https")).then_some(())?;
    let is_plain = url.authority().is_some_and(|it| !it.as_str().contains('@'));
    url.host().filter(|host| is_plain && !host.is_empty()).map(str::to_owned)
}
