//! `dev`: a whole region for trying out, in one process, that needs no configuration.

mod beside;
mod briefing;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use derp::map::NO_ADDRESS;
use derp_relay::cli::{
    DEV_DERP_PORT, DEV_HTTP_PORT, DEV_METRICS_PORT, DEV_STUN_PORT, Signal, Signals, ready_line,
    state_folder,
};
use derp_relay::config::{self as relay, AccessMode, LogFormat, LogLevel, TlsMode};
use derp_relay::logging;
use derp_relay::relay::StartError;
use derp_relay::settings::{Listen, Span};

use self::beside::Beside;
use self::briefing::Briefing;
use super::embedded::Embedded;
use super::{
    ExitError, raise_descriptor_limit, ready_fields, registration, relays, say, tell_systemd,
};
use crate::bridge::{Bridge, Listeners, Setup};
use crate::config::{
    Config, DEFAULT_MAP_LISTEN, DEFAULT_PROVISIONING_LISTEN, DEFAULT_VERIFY_LISTEN, EmbeddedRelay,
    HeadscaleKeys, Keys, ProvisioningKeys, RegionKeys, Registration, SecretFile,
};
use crate::self_test::{self, Subject};

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

    /// Where relays ask who may enter, once there is a Headscale to say so.
    #[arg(long, value_name = "IP:PORT", default_value_t = DEFAULT_VERIFY_LISTEN)]
    verify_listen: SocketAddr,

    /// Folder for the relay's key and certificate, so that a map that was pasted somewhere stays
    /// right, and for the map as a file. Default `$XDG_STATE_HOME/coord-bridge`, or
    /// `~/.local/state/coord-bridge`.
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,

    /// Where Headscale's API is, and where machines log in. Without it everybody may use the
    /// relay, and `/register` answers 503.
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
    let config = Config::new(keys(arguments, &folder)?)?;
    // All that can be refused comes before anything is written.
    let listeners = Listeners::open(&config.listen)?;
    let embedded = Embedded::start(&config, listeners.verify())?;
    let embedded = embedded.ok_or_else(|| ExitError::SelfTest("there is no relay".to_owned()))?;
    let relay = &embedded.relay;
    let verify = if arguments.headscale_url.is_some() { relays::start(&config)? } else { None };
    let live = verify.as_ref().map(|verify| verify.relays.live());
    let provisioning = match arguments.headscale_url {
        Some(_) => registration::start(&config.registration)?,
        None => None,
    };
    let setup = Setup {
        plan: embedded.settled(&config),
        live,
        map_file: config.map_file.clone().map(Into::into),
        provisioning,
        verify,
        ..Setup::default()
    };
    let bridge = Bridge::start(listeners, setup)?;
    let edition = bridge.edition();
    let headscale =
        arguments.headscale_url.as_deref().zip(arguments.headscale_api_key_file.as_ref());
    let beside = beside::write(&Beside {
        folder: &folder,
        addresses: bridge.addresses(),
        edition: &edition,
        headscale,
    })?;
    let briefing = Briefing {
        relay: relay.addresses(),
        bridge: bridge.addresses(),
        pin: &relay.certificate_pin().unwrap_or_default(),
        edition: &edition,
        map_file: config.map_file.as_deref().unwrap_or(&folder),
        token_file: token_file(&config.registration),
        is_open: !asks_us(&config),
        beside: &beside,
    };
    say(briefing.to_string().as_bytes())?;

    let findings = match bridge.addresses().map.first() {
        Some(&map) => {
            let http = relay.addresses().http.first().copied();
            let is_open = !asks_us(&config);
            self_test::run(Subject { edition: &edition, map, http, is_open })
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
    embedded.relay.stop();
    bridge.stop();
    tracing::info!("stopped");
    Ok(())
}

/// What `dev` does, as a configuration of `serve`.
fn keys(arguments: &DevArguments, folder: &Path) -> Result<Keys, ExitError> {
    let url = arguments.headscale_url.clone();
    let ip = arguments.listen_derp.ip();
    let (ipv4, ipv6) = match ip {
        IpAddr::V4(_) => (ip.to_string(), NO_ADDRESS.to_owned()),
        IpAddr::V6(_) => (NO_ADDRESS.to_owned(), ip.to_string()),
    };
    let only = |address| Some(vec![Listen::At(address)]);
    let nowhere = || Some(vec![Listen::Nowhere]);
    let relay = relay::Keys {
        hostname: Some(ip.to_string()),
        listen_derp: only(arguments.listen_derp),
        listen_stun: only(arguments.listen_stun),
        listen_http: only(arguments.listen_http),
        listen_metrics: only(arguments.listen_metrics),
        tls: Some(TlsMode::SelfSigned),
        shards: Some(1),
        access: Some(if url.is_some() { AccessMode::Verify } else { AccessMode::Open }),
        bridge_ipv4: Some(ipv4),
        bridge_ipv6: Some(ipv6),
        ..relay::Keys::default()
    };
    Ok(Keys {
        map_listen: only(arguments.map_listen),
        map_file: Some(std::path::absolute(folder.join(MAP_FILE))?),
        map_probe_interval: Some(Span(Duration::ZERO)),
        region: RegionKeys {
            code: Some("dev".to_owned()),
            name: Some("Relay on this host".to_owned()),
            ..RegionKeys::default()
        },
        state_dir: Some(folder.to_owned()),
        login_server: url.clone(),
        provisioning: ProvisioningKeys {
            listen: only(arguments.provisioning_listen),
            ..ProvisioningKeys::default()
        },
        verify_listen: if url.is_some() { only(arguments.verify_listen) } else { nowhere() },
        admin_listen: nowhere(),
        metrics_listen: nowhere(),
        headscale: HeadscaleKeys {
            url,
            api_key_file: arguments.headscale_api_key_file.clone(),
            ..HeadscaleKeys::default()
        },
        embedded_relay: Some(relay),
        ..Keys::default()
    })
}

fn asks_us(config: &Config) -> bool {
    config.embedded_relay.as_ref().is_some_and(EmbeddedRelay::asks_us)
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
    if !derp.ip().is_loopback() && arguments.headscale_url.is_none() {
        tracing::warn!(%derp, "everybody who reaches this address may use the relay");
    }
    Ok(())
}

fn token_file(registration: &Registration) -> Option<&Path> {
    registration.headscale.as_ref()?;
    Some(registration.settings.as_ref()?.token_file.as_path())
}

/// Faults of files name the flags of `derp-relay`; here another one decides.
pub(super) const fn of_folder(error: &StartError) -> &'static str {
    match error {
        StartError::Identity(_) | StartError::Certificate(_) => {
            " (key and certificate are kept in the folder --state-dir)"
        }
        StartError::Listen(_)
        | StartError::Stun(_)
        | StartError::Access(_)
        | StartError::Bridge(_)
        | StartError::System(_) => "",
    }
}
