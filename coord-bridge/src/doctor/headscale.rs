//! Headscale's API: which release answers, whether it takes the key, and for how long.
//!
//! Does: asks each Headscale of the configuration, with the client that the bridge uses.
//! Does not: make a user or a key.

use std::time::{Duration, SystemTime};

use super::{Finding, Part};
use crate::config::{Config, HeadscaleConfig};
use crate::headscale::{
    Adapter, Client, Failure, FailureKind, Headscale, KeysBy, Limits, SetupError,
};
use crate::provisioning::clock::millis;
use crate::provisioning::timestamp;

/// A key that ends sooner is worth a line: a month is enough to see it in time.
const SOON: Duration = Duration::from_secs(30 * 86_400);

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.verify.headscales.is_empty() {
        let said = "headscale.url, headscale.socket: none is given; only the map is served";
        findings.push(Finding::not_tried(Part::Headscale, "Headscale", said));
    }
    for (place, (name, headscale, _)) in config.verify.headscales.iter().enumerate() {
        findings.extend(try_one(name, headscale, (place == 0).then_some(config)).await);
    }
    findings
}

/// `of` is the configuration whose machines register there, if any do.
async fn try_one(name: &str, headscale: &HeadscaleConfig, of: Option<&Config>) -> Vec<Finding> {
    let part = Part::Headscale;
    let client = match Client::new(headscale, Limits::default()) {
        Ok(client) => client,
        Err(SetupError::Credentials(error)) => {
            let said = format!("{error}: only the unit has the API key");
            return vec![Finding::not_tried(part, name, said)];
        }
        Err(error @ SetupError::Trust(_)) => {
            let remedy = "correct ca_file";
            return vec![Finding::wrong(part, name, error.to_string(), remedy)];
        }
    };
    if let Err(failure) = client.check().await {
        return vec![failed(name, &failure)];
    }
    let release = client.adapter().map_or("an unknown release", release);
    let said = format!("answers as {release} does, and takes what it is shown");
    let mut findings = vec![Finding::good(part, format!("{name} API"), said)];
    findings.push(key_end(name, client.api_key_end().await));
    let settings = of.and_then(|config| config.registration.settings.as_ref());
    let users = settings.into_iter().flat_map(|it| [Some(&it.user), it.admin_user.as_ref()]);
    for user in users.flatten() {
        findings.push(find_user(&client, name, user).await);
    }
    findings
}

fn failed(name: &str, failure: &Failure) -> Finding {
    let part = Part::Headscale;
    let tried = format!("{name} API");
    let said = failure.to_string();
    match failure.kind {
        FailureKind::Unauthorized => Finding::wrong(
            part,
            tried,
            format!("the API key is not one of Headscale's, or has ended: {said}"),
            "on Headscale's host: `headscale apikeys create --expiration 8760h`, and put the last \
             line into the key's file; no restart is needed",
        ),
        FailureKind::Unreachable => {
            Finding::wrong(part, tried, said, "start Headscale, or correct headscale.url or socket")
        }
        FailureKind::Unintelligible => {
            Finding::wrong(part, tried, said, "correct headscale.url: it is the root of Headscale")
        }
        FailureKind::Paused | FailureKind::Refused | FailureKind::Faulty => {
            Finding::wrong(part, tried, said, "see Headscale's own log")
        }
    }
}

const fn release(adapter: Adapter) -> &'static str {
    match adapter {
        Adapter::Http => "0.30",
        Adapter::Gateway(KeysBy::Id) => "0.28 and 0.29",
        Adapter::Gateway(KeysBy::Text) => "0.26 and 0.27",
    }
}

fn key_end(name: &str, end: Result<Option<SystemTime>, Failure>) -> Finding {
    let part = Part::Headscale;
    let tried = format!("{name} API key");
    let end = match end {
        Ok(Some(end)) => end,
        Ok(None) => {
            let said = "there is none, or Headscale does not list when it ends";
            return Finding::not_tried(part, tried, said);
        }
        Err(failure) => return Finding::not_tried(part, tried, failure.to_string()),
    };
    let said = format!("valid until {}", timestamp::write(millis(end)));
    match end.duration_since(SystemTime::now()) {
        Ok(left) if left > SOON => Finding::good(part, tried, said),
        Ok(_) | Err(_) => Finding::notice(
            part,
            tried,
            format!("{said}, which is soon"),
            "make another in time: `headscale apikeys create --expiration 8760h`",
        ),
    }
}

async fn find_user(client: &Client, name: &str, user: &str) -> Finding {
    let part = Part::Headscale;
    let tried = format!("{name} user {user}");
    match client.user(user).await {
        Ok(Some(found)) => Finding::good(part, tried, format!("is there, with id {}", found.id.0)),
        Ok(None) => {
            Finding::not_tried(part, tried, "is not there yet; made when a machine registers")
        }
        Err(failure) => failed(name, &failure),
    }
}
