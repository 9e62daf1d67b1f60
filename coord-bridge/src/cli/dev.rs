//! `dev`: a whole region for trying out, in one process, that needs no configuration.

mod briefing;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use derp::map::{DerpMap, NO_ADDRESS, Node, Region};
use derp_relay::cli::{
    DEV_DERP_PORT, DEV_HTTP_PORT, DEV_METRICS_PORT, DEV_STUN_PORT, Signal, Signals, ready_line,
    state_folder,
};
use derp_relay::config::{Faults, LogFormat, LogLevel};
use derp_relay::{AccessConfig, Relay, logging, relay};

use self::briefing::Briefing;
use super::{ExitError, raise_descriptor_limit, ready_fields, registration, say, tell_systemd};
use crate::Addresses;
use crate::bridge::{Bridge, Listeners, Setup};
use crate::config::{
    ConfigError, DEFAULT_MAP_LISTEN, DEFAULT_PROVISIONING_LISTEN, DEFAULT_REGION_ID, HeadscaleKeys,
    Keys, Registration, SecretFile,
};
use crate::publication::Plan;
use crate::self_test::{self, Subject};

/// Name of the region's node.
const NODE_NAME: &str = "999a";

/// Name of the map's file in the state folder.
const MAP_FILE: &str = "derp.yaml";

#[derive(clap::Args)]
pub(super) struct DevArguments {
    /// Where DERP listens, on TCP. Port 0 takes any free one, here and below.
    #[arg(long, value_name = "IP:PORT", default_value_t = at(DEV_DERP_PORT))]
    listen_derp: SocketAddr,

    /// Where STUN listens, on UDP, at the same IP as DERP.
    #[arg(long, value_name = "IP:PORT", default_value_t = at(DEV_STUN_PORT))]
    listen_stun: SocketAddr,

    /// Where plain HTTP listens, for captive-portal checks.
    #[arg(long, value_name = "IP:PORT", default_value_t = at(DEV_HTTP_PORT))]
    listen_http: SocketAddr,

    /// Where `/metrics`, `/health` and `/ready` of the relay listen.
    #[arg(long, value_name = "IP:PORT", default_value_t = at(DEV_METRICS_PORT))]
    listen_metrics: SocketAddr,

    /// Where the map is served.
    #[arg(long, value_name = "IP:PORT", default_value_t = DEFAULT_MAP_LISTEN)]
    map_listen: SocketAddr,

    /// Where machines register.
    #[arg(long, value_name = "IP:PORT", default_value_t = DEFAULT_PROVISIONING_LISTEN)]
    provisioning_listen: SocketAddr,

    /// Folder for the relay's key and certificate, so that a map that was pasted somewhere stays
    /// right, and for the map as a file. Default `$XDG_STATE_HOME/coord-bridge`, or
    /// `~/.local/state/coord-bridge`.
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,

    /// Where Headscale's API is, and where machines log in. Without it `/register` answers 503.
    #[arg(long, value_name = "URL", requires = "headscale_api_key_file")]
    headscale_url: Option<String>,

    /// File with an API key of `headscale apikeys create`.
    #[arg(long, value_name = "FILE", requires = "headscale_url")]
    headscale_api_key_file: Option<SecretFile>,
}

/// Why no map can say where the relay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A wildcard.
    #[error(
        "--listen-derp {0}: the map has to name one address of this host; give that, such as \
         127.0.0.1:3340"
    )]
    Unspecified(SocketAddr),
    /// DERP and STUN at different addresses.
    #[error(
        "--listen-stun {stun}: the map has one address for DERP and STUN; give {}, as for \
         --listen-derp, or both", derp.ip()
    )]
    Different {
        /// Where DERP was to listen.
        derp: SocketAddr,
        /// Where STUN was to listen.
        stun: SocketAddr,
    },
}

pub(super) fn run(arguments: &DevArguments) -> Result<(), ExitError> {
    logging::start(LogLevel::Info, LogFormat::Text);
    let signals = Signals::new()?;
    check_addresses(arguments)?;
    raise_descriptor_limit();
    let folder = arguments.state_dir.clone().unwrap_or_else(|| state_folder("coord-bridge"));
    let registration = registration_of(arguments, &folder)?;
    // All that can be refused comes before anything is written.
    let listeners = Listeners::open(&Addresses {
        map: vec![arguments.map_listen],
        provisioning: vec![arguments.provisioning_listen],
        ..Addresses::default()
    })?;
    let relay = start_relay(arguments, &folder)?;
    let map = map(&relay);
    let map_file = std::path::absolute(folder.join(MAP_FILE))?;
    let provisioning = registration.as_ref().map(registration::start).transpose()?.flatten();
    let setup = Setup {
        plan: Plan { map, ..Plan::default() },
        map_file: Some(map_file.clone()),
        provisioning,
        ..Setup::default()
    };
    let bridge = Bridge::start(listeners, setup)?;
    let edition = bridge.edition();
    let briefing = Briefing {
        relay: relay.addresses(),
        bridge: bridge.addresses(),
        pin: &relay.certificate_pin().unwrap_or_default(),
        edition: &edition,
        map_file: &map_file,
        token_file: token_file(registration.as_ref()),
    };
    say(briefing.to_string().as_bytes())?;

    let findings = match bridge.addresses().map.first() {
        Some(&map) => {
            let http = relay.addresses().http.first().copied();
            self_test::run(Subject { edition: &edition, map, http })
        }
        None => self_test::Findings::default(),
    };
    say(format!("Self-test, as a client does it\n{findings}\n").as_bytes())?;
    if let Some(failure) = findings.failure() {
        return Err(ExitError::SelfTest(failure));
    }
    let ready = format!("{} {}\n", ready_line(relay.addresses()), ready_fields(bridge.addresses()));
    say(ready.as_bytes())?;
    tell_systemd();
    loop {
        match signals.next() {
            Signal::Stop => break,
            Signal::Reload => relay.reload(),
        }
    }
    bridge.stop();
    relay.stop();
    tracing::info!("stopped");
    Ok(())
}

const fn at(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn check_addresses(arguments: &DevArguments) -> Result<(), AddressError> {
    let (derp, stun) = (arguments.listen_derp, arguments.listen_stun);
    if derp.ip().is_unspecified() {
        return Err(AddressError::Unspecified(derp));
    }
    if stun.ip() != derp.ip() {
        return Err(AddressError::Different { derp, stun });
    }
    if !derp.ip().is_loopback() {
        tracing::warn!(%derp, "everybody who reaches this address may use the relay");
    }
    Ok(())
}

fn start_relay(arguments: &DevArguments, folder: &Path) -> Result<Relay, relay::StartError> {
    Relay::builder()
        .listen_derp(arguments.listen_derp)
        .listen_stun(arguments.listen_stun)
        .listen_http(arguments.listen_http)
        .listen_metrics(arguments.listen_metrics)
        .self_signed(&arguments.listen_derp.ip().to_string(), folder)
        .key_file(folder.join("derp.key"))
        .access(AccessConfig::Open)
        .start()
}

/// Registration with the Headscale that the flags name, if they do.
fn registration_of(
    arguments: &DevArguments,
    folder: &Path,
) -> Result<Option<Registration>, ConfigError> {
    let Some(url) = arguments.headscale_url.clone() else { return Ok(None) };
    let keys = Keys {
        state_dir: Some(folder.to_owned()),
        login_server: Some(url.clone()),
        headscale: HeadscaleKeys {
            url: Some(url),
            api_key_file: arguments.headscale_api_key_file.clone(),
            ..HeadscaleKeys::default()
        },
        ..Keys::default()
    };
    let mut faults = Vec::new();
    let registration = Registration::new(&keys, &mut faults);
    if faults.is_empty() {
        Ok(Some(registration))
    } else {
        Err(ConfigError::Faults(Faults(faults)))
    }
}

fn token_file(registration: Option<&Registration>) -> Option<&Path> {
    Some(registration?.settings.as_ref()?.token_file.as_path())
}

/// The map by which clients on this host find `relay`.
fn map(relay: &Relay) -> DerpMap {
    let addresses = relay.addresses();
    let derp = addresses.derp.first().copied().unwrap_or(at(0));
    let stun = addresses.stun.first().copied().unwrap_or(at(0));
    let ip = derp.ip().to_string();
    let (ipv4, ipv6) = if derp.is_ipv4() {
        (ip.clone(), NO_ADDRESS.to_owned())
    } else {
        (NO_ADDRESS.to_owned(), ip.clone())
    };
    let node = Node {
        name: NODE_NAME.to_owned(),
        region_id: DEFAULT_REGION_ID,
        host_name: ip,
        cert_name: relay.certificate_pin().unwrap_or_default(),
        ipv4,
        ipv6,
        derp_port: derp.port().into(),
        stun_port: stun.port().into(),
        ..Node::default()
    };
    let region = Region {
        id: DEFAULT_REGION_ID,
        code: "dev".to_owned(),
        name: "Relay on this host".to_owned(),
        nodes: vec![node],
        ..Region::default()
    };
    DerpMap { regions: [(DEFAULT_REGION_ID, region)].into(), ..DerpMap::default() }
}

/// Faults of files name the flags of `derp-relay`; here another one decides.
pub(super) const fn of_dev(error: &relay::StartError) -> &'static str {
    match error {
        relay::StartError::Identity(_) | relay::StartError::Certificate(_) => {
            " (`dev` keeps key and certificate in the folder --state-dir)"
        }
        relay::StartError::Listen(_)
        | relay::StartError::Stun(_)
        | relay::StartError::Access(_)
        | relay::StartError::Bridge(_)
        | relay::StartError::System(_) => "",
    }
}
