//! `serve`: runs the relay until it is told to stop.

use std::path::Path;

use super::{ExitError, Signal, Signals, ready_line, say};
use crate::config::{Config, Keys};
use crate::relay::Relay;
use crate::{logging, socket};

pub(super) fn run(keys: Keys, file: Option<&Path>) -> Result<(), ExitError> {
    let (config, log) = Config::load(keys, file)?;
    logging::start(log.level, log.format);
    // Signals are waited for before anything listens: none may find the program without a plan.
    let signals = Signals::new()?;
    raise_descriptor_limit();
    let relay = Relay::start(config)?;
    if let Some(pin) = relay.certificate_pin() {
        say(&format!("CertName: {pin}"));
    }
    tracing::info!(key = ?relay.public_key(), "relay key");
    say(&ready_line(relay.addresses()));
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "systemd does not hear that the relay is ready");
    }
    wait(&signals, &relay);
    relay.stop();
    tracing::info!("stopped");
    Ok(())
}

/// Waits for the signal to stop, and reloads on the way.
pub(super) fn wait(signals: &Signals, relay: &Relay) {
    loop {
        match signals.next() {
            Signal::Stop => return,
            Signal::Reload => relay.reload(),
        }
    }
}

pub(super) fn raise_descriptor_limit() {
    match socket::raise_descriptor_limit() {
        Ok(limit) => tracing::debug!(limit, "descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}
