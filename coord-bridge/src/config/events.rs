//! Where events go, as it is written and as it is meant.
//!
//! Does: takes the tables `webhooks`, and refuses what would send events in the clear, or to two
//! webhooks of one name. Does not: open a file, or show a URL, which may be a secret.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hyper::Uri;
use serde::Deserialize;

use super::{DEFAULT_STATE_DIR, Keys, SecretFile};
use crate::events::EventsConfig;
use crate::events::webhook::WebhookConfig;
use crate::store::events::KINDS;

/// Most webhooks. Each has up to four threads while its name server does not answer.
pub const MAX_WEBHOOKS: usize = 16;

/// Most characters of a name, which is part of the name of a file.
const MAX_NAME_CHARS: usize = 63;

/// Name of the outlet that is no webhook.
const FILE_NAME: &str = "file";

/// The keys of [`WebhookKeys`], as in the file.
pub(super) const WEBHOOK_KEYS: [&str; 5] = [
    "webhooks.name",
    "webhooks.url",
    "webhooks.secret_file",
    "webhooks.events",
    "webhooks.allow_http",
];

/// Settings of one table `webhooks`. `name`, `url` and `secret_file` have to be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookKeys {
    /// Its name in log, metrics and state: lower-case letters, digits and hyphens. Another name
    /// begins with what is new.
    pub name: Option<String>,
    /// Where requests go: `https`, or `http` on this host.
    pub url: Option<String>,
    /// File with the secret that requests are signed with, or `credential:NAME`.
    pub secret_file: Option<SecretFile>,
    /// Kinds, or kinds with outcome such as `machine.joined`. Default all.
    pub events: Option<Vec<String>>,
    /// Sends events in the clear, over `http`, to another host. Default false.
    pub allow_http: Option<bool>,
}

/// Where events go. What is wrong is added to `faults`.
pub(super) fn events(keys: &Keys, faults: &mut Vec<String>) -> EventsConfig {
    let state_dir = keys.state_dir.clone().unwrap_or_else(|| DEFAULT_STATE_DIR.into());
    if keys.events_file.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        faults.push("events_file: empty; write the path of a file, or leave it out".to_owned());
    }
    if keys.webhooks.len() > MAX_WEBHOOKS {
        faults.push(format!("webhooks: at most {MAX_WEBHOOKS}"));
    }
    let mut names = BTreeSet::from([FILE_NAME.to_owned()]);
    let mut webhooks = Vec::new();
    for (place, keys) in keys.webhooks.iter().enumerate() {
        let before = faults.len();
        let fault = |key: &str, words: &str| format!("webhooks[{place}].{key}: {words}");
        let name = keys.name.clone().unwrap_or_default();
        if !is_name(&name) {
            faults.push(fault("name", "1 to 63 lower-case letters, digits and hyphens"));
        } else if !names.insert(name.clone()) {
            faults.push(fault("name", "another outlet has it already"));
        }
        let url = match url(keys) {
            Ok(url) => Some(url),
            Err(words) => {
                faults.push(fault("url", words));
                None
            }
        };
        if keys.secret_file.is_none() {
            faults.push(fault("secret_file", "missing; requests have to be signed"));
        }
        let wanted = keys.events.clone().unwrap_or_default();
        if let Some(unknown) = wanted.iter().find(|wanted| !is_known(wanted)) {
            let known: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
            let known = known.join(", ");
            faults.push(fault("events", &format!("{unknown:?} is no kind of event; {known}")));
        }
        if faults.len() == before
            && let (Some(url), Some(secret_file)) = (url, keys.secret_file.clone())
        {
            webhooks.push(WebhookConfig { name, url, secret_file, events: wanted });
        }
    }
    EventsConfig { file: keys.events_file.clone(), webhooks, state_dir }
}

fn url(keys: &WebhookKeys) -> Result<Uri, &'static str> {
    let text = keys.url.as_deref().unwrap_or_default();
    let url = text.parse::<Uri>().map_err(|_| "not a URL such as https://example.org/hook")?;
    let Some(host) = url.host() else { return Err("not a URL such as https://example.org/hook") };
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("names a user; receivers know requests by their signature");
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_here || keys.allow_http == Some(true) => Ok(url),
        Some("http") => Err("http to another host; use https, or set allow_http"),
        _ => Err("begins neither with https:// nor with http://"),
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Whether there are events of this kind; outcomes are many, and not looked at.
fn is_known(wanted: &str) -> bool {
    let kind = wanted.split_once('.').map_or(wanted, |(kind, _)| kind);
    KINDS.iter().any(|(known, _)| *known == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(change: impl FnOnce(&mut WebhookKeys)) -> Vec<String> {
        let mut webhook = WebhookKeys {
            name: Some("chat".to_owned()),
            url: Some("https://example.org/hook?key=SECRET".to_owned()),
            secret_file: Some("/run/secret".parse().unwrap()),
            ..WebhookKeys::default()
        };
        change(&mut webhook);
        let mut faults = Vec::new();
        let keys = Keys { webhooks: vec![webhook], ..Keys::default() };
        let config = events(&keys, &mut faults);
        assert_eq!(config.webhooks.len(), usize::from(faults.is_empty()));
        assert!(!format!("{faults:?} {config:?}").contains("SECRET"));
        faults
    }

    #[test]
    fn a_webhook_is_taken_or_refused_with_the_key_at_fault() {
        for url in ["http://127.0.0.1:1/x", "http://[::1]/", "http://localhost"] {
            assert_eq!(faults_of(|it| it.url = Some(url.to_owned())), Vec::<String>::new());
        }
        let wanted = || Some(vec!["machine.joined".to_owned(), "token".to_owned()]);
        assert!(faults_of(|it| it.events = wanted()).is_empty());
        let to_others = |it: &mut WebhookKeys| it.url = Some("http://example.org/".to_owned());
        assert!(
            faults_of(|it| {
                to_others(it);
                it.allow_http = Some(true);
            })
            .is_empty()
        );
        for (faults, key) in [
            (faults_of(to_others), "url"),
            (faults_of(|it| it.url = None), "url"),
            (faults_of(|it| it.url = Some("ftp://example.org".to_owned())), "url"),
            (faults_of(|it| it.url = Some("https://SECRET@example.org".to_owned())), "url"),
            (faults_of(|it| it.name = Some("../x".to_owned())), "name"),
            (faults_of(|it| it.name = Some("file".to_owned())), "name"),
            (faults_of(|it| it.name = None), "name"),
            (faults_of(|it| it.secret_file = None), "secret_file"),
            (faults_of(|it| it.events = Some(vec!["machin".to_owned()])), "events"),
        ] {
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with(&format!("webhooks[0].{key}: ")), "{faults:?}");
        }
    }
}
