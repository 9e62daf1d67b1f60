//! `check`: loads what `serve` would load, and says what it would run.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use derp::limits::Limits;

use super::{ExitError, say};
use crate::access::Access;
use crate::bridge;
use crate::config::{AccessConfig, BridgeConfig, Config, Home, Keys, VerifyConfig};
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
    if let AccessConfig::Verify(verify) = &config.access {
        for text in describe_verification(verify) {
            line("access", &text);
        }
    }
    Access::new(config.access).map_err(StartError::from)?;
    if let Some(bridge) = &config.bridge {
        bridge::check(bridge).map_err(StartError::from)?;
        for text in describe_bridge(bridge) {
            line("bridge", &text);
        }
    }
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
    let addresses = if config.log_addresses { "" } else { ", no addresses" };
    line("log", &format!("{}, {}{addresses}", word(&log.level), word(&log.format)));
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
        AccessConfig::Verify(verify) => {
            let urls: Vec<String> = verify.urls.iter().map(ToString::to_string).collect();
            let open = if verify.fail_open { ", open while it cannot be reached" } else { "" };
            format!("verify by {}{open}", urls.join(", "))
        }
    }
}

/// What `check` says of the rest, if verifiers are asked.
fn describe_verification(verify: &VerifyConfig) -> Vec<String> {
    let mut lines = vec![
        match verify.interval {
            Duration::ZERO => "connected nodes are not asked about again".to_owned(),
            interval => format!("connected nodes are asked about again within {}", Span(interval)),
        },
        format!("without an answer, known nodes enter for {}", Span(verify.grace)),
    ];
    if let Some(file) = &verify.known_file {
        lines.push(format!("known nodes are in {}", file.display()));
    }
    if let Some(file) = &verify.allow_list {
        lines.push(format!("nodes in {} enter unasked", file.display()));
    }
    lines
}

/// What `check` says of a bridge, if there is one.
fn describe_bridge(bridge: &BridgeConfig) -> [String; 4] {
    let told = |address: &str| if address.is_empty() { "as in DNS" } else { address }.to_owned();
    let port = |port: Option<i32>| port.map_or("as it listens".to_owned(), |port| port.to_string());
    let BridgeConfig { url, token_file, node_name, region_id, region_code, region_name, .. } =
        bridge;
    [
        format!("{url}, as {node_name} in region {region_id} {region_code} ({region_name})"),
        format!("token in {token_file}"),
        format!("IPv4 {}, IPv6 {}", told(&bridge.ipv4), told(&bridge.ipv6)),
        format!(
            "DERP port {}, STUN port {}",
            port(bridge.derp_port.map(i32::from)),
            port(bridge.stun_port)
        ),
    ]
}

/// The word by which a setting is written.
fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
