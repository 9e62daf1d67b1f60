//! `dev`: a relay for trying out, on loopback, that needs no configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use derp::map::{DerpMap, Node, Region};

use super::serve::{raise_descriptor_limit, wait};
use super::{ExitError, Signals, ready_line, say};
use crate::config::{AccessConfig, LogFormat, LogLevel};
use crate::logging;
use crate::relay::{Relay, StartError};

/// Port of DERP, as derper's `-dev`.
pub const DEV_DERP_PORT: u16 = 3_340;

/// Port of STUN.
pub const DEV_STUN_PORT: u16 = 3_478;

/// Port of plain HTTP.
pub const DEV_HTTP_PORT: u16 = 3_380;

/// Port of metrics and health.
pub const DEV_METRICS_PORT: u16 = 9_091;

/// Where a program for trying out keeps its key and certificate: the user's state folder.
///
/// `$XDG_STATE_HOME/NAME`, or `~/.local/state/NAME`; a folder of the working directory where
/// there is no home.
#[must_use]
pub fn state_folder(name: &str) -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(state) = variable("XDG_STATE_HOME") {
        return PathBuf::from(state).join(name);
    }
    match variable("HOME") {
        Some(home) => PathBuf::from(home).join(".local/state").join(name),
        None => PathBuf::from(format!(".{name}")),
    }
}

pub(super) fn run() -> Result<(), ExitError> {
    logging::start(LogLevel::Info, LogFormat::Text);
    let signals = Signals::new()?;
    raise_descriptor_limit();
    let folder = state_folder("derp-relay");
    let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let relay = Relay::builder()
        .listen_derp(at(DEV_DERP_PORT))
        .listen_http(at(DEV_HTTP_PORT))
        .listen_stun(at(DEV_STUN_PORT))
        .listen_metrics(at(DEV_METRICS_PORT))
        .self_signed("127.0.0.1", &folder)
        .key_file(folder.join("derp.key"))
        .access(AccessConfig::Open)
        .start()
        .map_err(ExitError::Dev)?;
    say(&format!("state in {}", folder.display()));
    if let Some(pin) = relay.certificate_pin() {
        say(&format!("CertName: {pin}"));
        say(&format!("DERP map:\n{}", map(pin).to_json()));
    }
    say(&ready_line(relay.addresses()));
    wait(&signals, &relay);
    relay.stop();
    Ok(())
}

/// What to do instead of what `serve` would be told: `dev` has none of its flags.
pub(super) const fn hint(error: &StartError) -> &'static str {
    match error {
        StartError::Listen(_) | StartError::Stun(_) => {
            " (`dev` listens on fixed ports; `serve` on any)"
        }
        StartError::Identity(_) | StartError::Certificate(_) => {
            " (`dev` keeps key and certificate in $XDG_STATE_HOME/derp-relay, else in \
             ~/.local/state/derp-relay)"
        }
        StartError::Access(_) | StartError::Bridge(_) | StartError::System(_) => "",
    }
}

/// The map by which clients on this host find the relay.
fn map(pin: String) -> DerpMap {
    let node = Node {
        name: "999a".to_owned(),
        region_id: 999,
        host_name: "127.0.0.1".to_owned(),
        cert_name: pin,
        ipv4: "127.0.0.1".to_owned(),
        ipv6: "none".to_owned(),
        derp_port: DEV_DERP_PORT.into(),
        stun_port: DEV_STUN_PORT.into(),
        ..Node::default()
    };
    let region = Region {
        id: 999,
        code: "dev".to_owned(),
        name: "Relay on this host".to_owned(),
        nodes: vec![node],
        ..Region::default()
    };
    DerpMap { regions: [(999, region)].into(), ..DerpMap::default() }
}
