//! `check`: loads what `serve` would load, and says what it would run.

use std::net::SocketAddr;
use std::path::Path;

use clap::ValueEnum;
use derp::limits::Limits;

use super::{ExitError, say};
use crate::access::Access;
use crate::config::{AccessConfig, Config, Home, Keys};
use crate::identity::Identity;
use crate::relay::StartError;
use crate::settings::{Size, Span};
use crate::tls::Certificates;

pub(super) fn run(keys: Keys, file: Option<&Path>) -> Result<(), ExitError> {
    let (config, log) = Config::load(keys, file)?;
    let mut report = String::new();
    let mut line = |name: &str, what: &str| report.push_str(&format!("{name:<12} {what}\n"));
    for (name, addresses) in [
        ("derp", &config.listen_derp),
        ("http", &config.listen_http),
        ("stun", &config.listen_stun),
        ("metrics", &config.listen_metrics),
    ] {
        line(name, &list(addresses));
    }
    // `check` changes nothing: a key or certificate that is still to be made is not made here.
    let public_key = if config.key_file.exists() {
        let key = Identity::load(&config.key_file).map_err(StartError::from)?.public();
        line("key", &format!("{key} from {}", config.key_file.display()));
        key
    } else {
        line("key", &format!("will be made in {}", config.key_file.display()));
        Identity::random()?.public()
    };
    match config.tls {
        None => line("tls", "off: a proxy in front has it"),
        Some(source) if source.is_to_be_made() => line("tls", "self-signed, will be made"),
        Some(source) => {
            let certificates = Certificates::load(source, public_key).map_err(StartError::from)?;
            line("tls", &certificates.pin());
            if let Some(name) = &config.hostname
                && !certificates.covers(name)
            {
                line("tls", &format!("WARNING: no certificate is valid for {name}"));
            }
        }
    }
    line("access", &describe(&config.access));
    Access::new(config.access).map_err(StartError::from)?;
    line(
        "handshakes",
        &match config.handshakes_per_address {
            0 => "no limit per address".to_owned(),
            most => format!("at most {most} per address"),
        },
    );
    let Limits { queue_bytes, queue_bytes_total, queue_age } = config.limits;
    line("queue", &format!("{} per client, {}", Size(queue_bytes), Span(queue_age)));
    line("queues", &format!("{} together", Size(queue_bytes_total)));
    line("shards", &config.shards.to_string());
    line(
        "home",
        match &config.home {
            Home::Default => "default",
            Home::Blank => "blank",
            Home::Redirect(url) => url.to_str().unwrap_or_default(),
        },
    );
    line("log", &format!("{}, {}", word(&log.level), word(&log.format)));
    say(report.trim_end());
    Ok(())
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(" ") }
}

fn describe(access: &AccessConfig) -> String {
    match access {
        AccessConfig::Nobody => "nobody".to_owned(),
        AccessConfig::Open => "open: everybody".to_owned(),
        AccessConfig::AllowList { file } => format!("allow-list {}", file.display()),
        AccessConfig::Verify { url, fail_open: false, .. } => format!("verify by {url}"),
        AccessConfig::Verify { url, fail_open: true, .. } => {
            format!("verify by {url}, open while it cannot be reached")
        }
    }
}

/// The word by which a setting is written.
fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
