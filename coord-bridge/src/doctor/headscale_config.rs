//! Headscale's configuration, held against the bridge's.
//!
//! Does: says which of its lines keep our map from clients, or take a port of ours.
//! Does not: read Headscale's environment, which weighs more; where `/debug/derp` answers, `map`
//! sees what Headscale really has.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use derp_relay::settings::Span;
use hyper::Uri;

use super::{Finding, Part};
use crate::config::Config;
use crate::headscale_file::{HeadscaleFile, Known};
use crate::publication::embedded::{ConfigFileError, EmbeddedSettings, Sight};

/// A map that changes is wanted sooner than this. Headscale's own default is 3 h.
const LONG: Duration = Duration::from_secs(3_600);

/// Ends of the paths of our maps.
const MAP_PATHS: [&str; 2] = ["/derpmap.json", "/derpmap.yaml"];

/// What a look at Headscale's embedded relay has shown.
pub(super) fn collision(
    settings: &EmbeddedSettings,
    sight: &Sight,
    own: &BTreeSet<u64>,
) -> Finding {
    let part = Part::Map;
    let tried = "Headscale's embedded relay";
    if let Some(found) = sight.collision(own) {
        return Finding::wrong(part, tried, found.finding(), found.to_string());
    }
    let file = match sight.error {
        Some(_) => "its configuration cannot be read",
        None => "its configuration is not named (--headscale-config, headscale.config_file)",
    };
    match (sight.configured, sight.answers) {
        (Some(_), _) | (None, Some(false)) => {
            Finding::good(part, tried, format!("no region {} of its own is seen", list(own)))
        }
        (None, Some(true)) => {
            let said = format!("answers; its id is not looked at: {file}");
            Finding::not_tried(part, tried, said)
        }
        (None, None) => {
            let url = match settings.url {
                Some(_) => "nobody answers at headscale.url",
                None => "there is no headscale.url",
            };
            Finding::not_tried(part, tried, format!("not looked at: {file}, and {url}"))
        }
    }
}

/// All lines of it that matter.
pub(super) fn look(
    config: &Config,
    file: Option<&Result<HeadscaleFile, ConfigFileError>>,
) -> Vec<Finding> {
    let part = Part::HeadscaleConfig;
    let file = match file {
        Some(Ok(file)) => file,
        Some(Err(error)) => {
            let remedy = "give this user a copy of it that he may read";
            return vec![Finding::wrong(part, "the file", error.to_string(), remedy)];
        }
        None => {
            let said = "not named: give --headscale-config FILE, or headscale.config_file";
            return vec![Finding::not_tried(part, "the file", said)];
        }
    };
    let mut findings = vec![updates(file), frequency(file), sources(config, file), server(file)];
    findings.push(metrics(config, file));
    findings
}

fn updates(file: &HeadscaleFile) -> Finding {
    let (part, tried) = (Part::HeadscaleConfig, "derp.auto_update_enabled");
    let why = "Headscale reads the map once, at its start, and never learns of a change";
    let remedy = "set it to true, and restart Headscale";
    match file.auto_update {
        Known::Is(true) => Finding::good(part, tried, "true"),
        Known::Is(false) => Finding::wrong(part, tried, format!("false: {why}"), remedy),
        Known::Absent => {
            Finding::wrong(part, tried, format!("absent, which means false: {why}"), remedy)
        }
        Known::Hidden => hidden(tried),
    }
}

fn frequency(file: &HeadscaleFile) -> Finding {
    let (part, tried) = (Part::HeadscaleConfig, "derp.update_frequency");
    let remedy = "10m is a good value: it costs a small message per node each time";
    match file.update_frequency {
        Known::Is(Duration::ZERO) => Finding::wrong(part, tried, "0, which means never", remedy),
        Known::Is(time) if time > LONG => {
            let said = format!("{}: a change of the map takes as long", Span(time));
            Finding::notice(part, tried, said, remedy)
        }
        Known::Is(time) => Finding::good(part, tried, Span(time).to_string()),
        Known::Absent => {
            let said = "absent: 3h, or 24h before 0.27; a change of the map takes as long";
            Finding::notice(part, tried, said, remedy)
        }
        Known::Hidden => hidden(tried),
    }
}

fn sources(config: &Config, file: &HeadscaleFile) -> Finding {
    let (part, tried) = (Part::HeadscaleConfig, "derp.urls, derp.paths");
    let urls = file.derp_urls.iter().filter(|url| is_ours(config, url));
    let paths = file.derp_paths.iter().filter(|path| {
        config.map_file.as_deref().is_some_and(|ours| is_same(ours, Path::new(path)))
    });
    let ours: Vec<&str> = urls.chain(paths).map(|it| without_password(it)).collect();
    if !ours.is_empty() {
        return Finding::good(part, tried, format!("{} is our map", ours.join(", ")));
    }
    let remedy = match (&config.map_file, config.listen.map.first()) {
        (Some(file), _) => format!("add {} to derp.paths", file.display()),
        (None, Some(map)) => format!("add http://{map}/derpmap.json to derp.urls"),
        (None, None) => "add our map to one of them".to_owned(),
    };
    let listed: Vec<&str> =
        file.derp_urls.iter().chain(&file.derp_paths).map(|it| without_password(it)).collect();
    if listed.iter().any(|it| MAP_PATHS.iter().any(|end| it.ends_with(end))) {
        let said = format!("{}: none at map_listen; is one our proxy?", listed.join(", "));
        return Finding::notice(part, tried, said, remedy);
    }
    let said = if listed.is_empty() { "empty".to_owned() } else { listed.join(", ") };
    Finding::wrong(part, tried, format!("our map is not among them: {said}"), remedy)
}

fn server(file: &HeadscaleFile) -> Finding {
    let (part, tried) = (Part::HeadscaleConfig, "derp.server");
    match (&file.embedded, &file.embedded_region_id) {
        (Known::Is(false) | Known::Absent, _) => Finding::good(part, tried, "off"),
        (Known::Hidden, _) => hidden(tried),
        (Known::Is(true), id) => {
            let said = format!("on, with region_id {id}");
            let remedy = "set enabled: false: clients would use both, and a region_id of ours \
                          replaces our region";
            Finding::notice(part, tried, said, remedy)
        }
    }
}

fn metrics(config: &Config, file: &HeadscaleFile) -> Finding {
    let (part, tried) = (Part::HeadscaleConfig, "metrics_listen_addr");
    let Some(theirs) = file.metrics_address() else {
        return match &file.metrics_listen_addr {
            Known::Absent => Finding::good(part, tried, "none"),
            Known::Hidden => hidden(tried),
            Known::Is(text) => {
                let said = format!("{text}: not compared, as it is no IP:PORT");
                Finding::not_tried(part, tried, said)
            }
        };
    };
    let mut clashes = config.listen.by_key().into_iter().filter_map(|(key, addresses)| {
        addresses.iter().find(|ours| clash(**ours, theirs)).map(|ours| (key, *ours))
    });
    match clashes.next() {
        Some((key, ours)) => Finding::wrong(
            part,
            tried,
            format!("{theirs} clashes with {key} {ours}: whoever starts later does not start"),
            "set another there, such as 127.0.0.1:9095",
        ),
        None => Finding::good(part, tried, format!("{theirs}, which is no port of ours")),
    }
}

fn hidden(tried: &str) -> Finding {
    let said = "filled in by a template: name the file as Headscale reads it";
    Finding::not_tried(Part::HeadscaleConfig, tried, said)
}

/// Whether a URL leads to our map: by the address that we listen on, or the one that we tell.
fn is_ours(config: &Config, url: &str) -> bool {
    let public = config.registration.settings.as_ref().and_then(|it| it.map_url.as_deref());
    let bare = |url| without_scheme(without_password(url)).to_owned();
    if public.is_some_and(|public| bare(public) == bare(url)) {
        return true;
    }
    let Ok(url) = url.parse::<Uri>() else { return false };
    let Some(host) = url.host() else { return false };
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let is_path = MAP_PATHS.contains(&url.path());
    is_path
        && config.listen.map.iter().any(|address| {
            let ip = address.ip().to_canonical();
            let is_host = match host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
                Ok(asked) => ip == asked || ip.is_unspecified(),
                Err(_) => host == "localhost" && (ip.is_loopback() || ip.is_unspecified()),
            };
            address.port() == port && is_host
        })
}

/// A URL without user and password, which are nobody's business. A password may have anything in
/// it, so of a URL with an `@` only what is behind the last one is left, without the scheme too.
fn without_password(url: &str) -> &str {
    match url.rsplit_once('@') {
        Some((_, host)) => host,
        None => url,
    }
}

fn without_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| -> PathBuf {
        std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
    };
    one == other || whole(one) == whole(other)
}

/// Whether two programs cannot both listen.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port()
        && one.port() != 0
        && (a == b || a.is_unspecified() || b.is_unspecified())
}

fn list(ids: &BTreeSet<u64>) -> String {
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;
    use crate::publication::embedded::Configured;

    /// Good is only what was looked at.
    #[test]
    fn a_collision_is_denied_only_where_somebody_has_looked() {
        let own = BTreeSet::from([905]);
        let unreadable = || {
            let (path, why) = (PathBuf::from("config.yaml"), "no permission".to_owned());
            Some(ConfigFileError { path, why })
        };
        let url = || Some((Uri::from_static("http://127.0.0.1:1"), None));
        for (configured, answers, error, url, state, said) in [
            (Some(Configured::Off), None, None, None, State::Good, "no region 905"),
            (None, Some(false), unreadable(), url(), State::Good, "no region 905"),
            (Some(Configured::On(905)), None, None, None, State::Wrong, "replaces it"),
            (None, Some(true), None, url(), State::NotTried, "its id is not looked at: "),
            (None, None, None, url(), State::NotTried, "not named"),
            (None, None, None, url(), State::NotTried, "nobody answers at headscale.url"),
            (None, None, unreadable(), None, State::NotTried, "cannot be read"),
            (None, None, unreadable(), None, State::NotTried, "there is no headscale.url"),
        ] {
            let settings = EmbeddedSettings { config_file: None, url };
            let found = collision(&settings, &Sight { configured, answers, error }, &own);
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.said.contains(said), "{said}: {found:?}");
        }
    }

    #[test]
    fn urls_of_our_listener_are_ours_whatever_stands_before_the_host() {
        let config = Config::parse("[[region.nodes]]\nhostname = \"derp.example.org\"\n").unwrap();
        for url in [
            "http://127.0.0.1:8091/derpmap.json",
            "http://localhost:8091/derpmap.json",
            "http://user:geheim@127.0.0.1:8091/derpmap.json",
        ] {
            assert!(is_ours(&config, url), "{url}");
        }
        for url in ["http://127.0.0.1:8092/derpmap.json", "https://controlplane/derpmap/default"] {
            assert!(!is_ours(&config, url), "{url}");
        }
        for url in [
            "http://u:geheim@host/derpmap.json",
            "http://u:ge@geheim@host",
            "http://u:g/geheim@host",
        ] {
            assert!(!without_password(url).contains("geheim"), "{url}");
        }
    }
}
