//! `serve`: publishes the map and registers machines until it is told to stop.

use std::sync::Arc;

use derp::map::DerpMap;
use derp_relay::cli::{Signal, Signals};
use derp_relay::logging;
use derp_relay::relay::Addresses;

use super::embedded::Embedded;
use super::{
    ConfigArguments, ExitError, list, raise_descriptor_limit, ready_fields, registration, relays,
    say, store, tell_systemd,
};
use crate::bridge::{Bridge, Listeners, Setup};
use crate::config::{Config, OWN_REGION_IDS};
use crate::events::Outlets;
use crate::events::webhook::{Pace, SetupError};
use crate::http::basic::Login;
use crate::lease::{self, Leadership, Lease};
use crate::map_file::MapFile;
use crate::provisioning::Provisioning;
use crate::publication::accord::Accord;
use crate::publication::{Change, Plan};
use crate::store::{Location, Store};

pub(super) fn run(arguments: &ConfigArguments) -> Result<(), ExitError> {
    let (config, log) = load(arguments)?;
    logging::start(log.level, log.format);
    // Signals are waited for before anything listens: none may find the program without a plan.
    let signals = Signals::new()?;
    warn_of(&config.plan.map);
    raise_descriptor_limit();
    let listeners = Listeners::open(&config.listen)?;
    // Without a map Headscale does not even start: registration must not stand in its way.
    let provisioning = registration::start(&config.registration).unwrap_or_else(|error| {
        tracing::error!(%error, "no machine can register until a restart; the map is published");
        None
    });
    let verify = relays::start(&config).unwrap_or_else(|error| {
        tracing::error!(%error, "no relay is told who may enter; the map is published");
        None
    });
    let lease = lead(&config).map_err(|error| {
        tracing::error!(%error, "this bridge does not lead until a restart");
    });
    // Without a lease nobody leads: another bridge may.
    let leadership = match &lease {
        Ok((lease, _)) => lease.leadership(),
        Err(()) => Leadership::new(|| false),
    };
    // A file has one bridge.
    let is_shared = matches!(config.registration.store, Location::Server(_));
    let accord = lease
        .as_ref()
        .ok()
        .filter(|_| is_shared)
        .map(|(_, store)| Accord { store: store.clone(), leadership: leadership.clone() });
    if let Some(provisioning) = &provisioning {
        provisioning.lead_by(leadership.clone());
    }
    let map_file = config.map_file.clone().map(MapFile::from);
    let map_login = config.map_login.as_ref().map(Login::read).transpose()?;
    // A relay that does not start must not take Headscale with it, which needs the map.
    let embedded = Embedded::start(&config, listeners.verify()).unwrap_or_else(|error| {
        tracing::error!(%error, "embedded_relay: no relay until a restart; the map is published");
        None
    });
    let plan = settled(embedded.as_ref(), &config);
    let live = verify.as_ref().map(|verify| verify.relays.live());
    // A receiver that cannot be must not stand in anybody's way either.
    let outlets = outlets(&config, provisioning.as_ref(), &leadership).unwrap_or_else(|error| {
        tracing::error!(%error, "no event is handed over until a restart");
        None
    });
    let setup = Setup {
        plan,
        live,
        map_login,
        map_file,
        provisioning,
        verify,
        admin_hosts: config.admin_hosts.clone(),
        outlets: outlets.clone(),
        accord,
    };
    let bridge = Bridge::start(listeners, setup)?;
    let relay = embedded.as_ref().map(relay_fields).unwrap_or_default();
    say(format!("ready {}{relay}\n", ready_fields(bridge.addresses())).as_bytes())?;
    tell_systemd();
    loop {
        match signals.next() {
            Signal::Stop => break,
            Signal::Reload => {
                if let Some(outlets) = &outlets {
                    outlets.reopen();
                }
                if let Some(embedded) = &embedded {
                    embedded.relay.reload();
                }
                reload(&bridge, embedded.as_ref(), &config, arguments);
            }
        }
    }
    // Whoever the relay sends away may need the map and an answer.
    if let Some(embedded) = embedded {
        embedded.relay.stop();
    }
    bridge.stop();
    drop(outlets);
    // Only now: what was begun as leader has ended.
    drop(lease);
    tracing::info!("stopped");
    Ok(())
}

/// What this bridge leads by, with a connection of its own: a crowd that registers must not cost
/// it the lead.
fn lead(config: &Config) -> Result<(Lease, Store), ExitError> {
    let store = store::open(&config.registration)?;
    Ok((Lease::strive(store.clone(), lease::Pace::default())?, store))
}

fn settled(embedded: Option<&Embedded>, config: &Config) -> Plan {
    match embedded {
        Some(embedded) => embedded.settled(config),
        None => config.plan.clone(),
    }
}

/// The end of the ready line where a relay runs too. Its metrics are not the bridge's.
fn relay_fields(embedded: &Embedded) -> String {
    let Addresses { derp, http, stun, metrics } = embedded.relay.addresses();
    format!(
        " derp={} stun={} http={} relay-metrics={}",
        list(derp),
        list(stun),
        list(http),
        list(metrics)
    )
}

/// Where events go, if they go anywhere.
fn outlets(
    config: &Config,
    provisioning: Option<&Arc<Provisioning>>,
    leadership: &Leadership,
) -> Result<Option<Arc<Outlets>>, SetupError> {
    let Some(provisioning) = provisioning else { return Ok(None) };
    let store = provisioning.store();
    Ok(Outlets::start(&config.events, store, leadership, Pace::default())?.map(Arc::new))
}

fn load(
    arguments: &ConfigArguments,
) -> Result<(Config, derp_relay::config::Log), crate::config::ConfigError> {
    Config::load(arguments.keys.clone(), arguments.config.as_deref())
}

/// Publishes the regions and upstreams that the configuration has now. Whatever is wrong, the old map stays.
fn reload(
    bridge: &Bridge,
    embedded: Option<&Embedded>,
    started_with: &Config,
    arguments: &ConfigArguments,
) {
    let config = match load(arguments) {
        Ok((config, _)) => config,
        Err(error) => {
            // Whoever has read the line shall find it at `/ready`.
            bridge.refuse_reload();
            tracing::error!(%error, "the map stays as it was");
            return;
        }
    };
    if let Some(why) = embedded.and_then(|embedded| embedded.objection(&config)) {
        bridge.refuse_reload();
        tracing::error!(error = why, "the map stays as it was");
        return;
    }
    for key in keys_that_wait(started_with, &config) {
        tracing::warn!(key, "has changed, and takes a restart to take effect");
    }
    warn_of(&config.plan.map);
    match bridge.publisher().adopt(settled(embedded, &config)) {
        Ok(Change::Replaced) => tracing::info!("reloaded; the map is another one"),
        Ok(Change::Same) => tracing::info!("reloaded; the map is the same"),
        Ok(Change::Waiting) => tracing::warn!("reloaded; the map waits for the disk"),
        Err(error) => tracing::error!(%error, "the map stays as it was"),
    }
}

/// Keys that differ and are read at the start only.
fn keys_that_wait(old: &Config, new: &Config) -> Vec<&'static str> {
    let listeners = old.listen.by_key().into_iter().zip(new.listen.by_key());
    listeners
        .map(|((key, old), (_, new))| (key, old == new))
        .chain([
            ("map_file", old.map_file == new.map_file),
            ("map_user, map_password_file", old.map_login == new.map_login),
            ("state_dir", old.plan.state_dir == new.plan.state_dir),
            ("admin_hosts", old.admin_hosts == new.admin_hosts),
            ("events_file, webhooks", old.events == new.events),
            ("provisioning, login_server, headscale, store", old.registration == new.registration),
            ("verify, relay_token_file", old.verify == new.verify),
            ("embedded_relay", old.embedded_relay == new.embedded_relay),
        ])
        .filter_map(|(key, same)| (!same).then_some(key))
        .collect()
}

/// What is no fault, and is seldom meant.
fn warn_of(map: &DerpMap) {
    for region in map.regions.values() {
        if region.nodes.iter().all(|node| node.stun_only) {
            tracing::warn!(
                id = region.id,
                "every node of the region is for STUN only: none relays"
            );
        }
        if !OWN_REGION_IDS.contains(&region.id) {
            tracing::warn!(
                id = region.id,
                "region.id is not from 900 to 999: it may replace one of Tailscale's regions"
            );
        }
        for node in region.nodes.iter().filter(|node| node.insecure_for_tests) {
            tracing::warn!(node = node.name, "clients do not check the certificate of this node");
        }
    }
}
