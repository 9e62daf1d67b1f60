//! The store, for commands: opened beside a bridge that runs.

use std::time::SystemTime;

use super::{ConfigArguments, ExitError};
use crate::config::{Config, Registration};
use crate::headscale::Secret;
use crate::provisioning::clock::millis;
use crate::store::{Location, Store};

/// The store of this registration, with the password that belongs to it.
///
/// # Errors
///
/// [`ExitError`], where the password cannot be read or the system has no thread left.
pub(super) fn open(registration: &Registration) -> Result<Store, ExitError> {
    Ok(Store::new(location(registration)?)?)
}

/// Where it is, with the password that belongs to it.
///
/// # Errors
///
/// [`ExitError`], where the password cannot be read.
pub(super) fn location(registration: &Registration) -> Result<Location, ExitError> {
    Ok(match (&registration.store, &registration.store_password_file) {
        (Location::Server(server), Some(file)) => {
            let path = file.locate()?;
            let text = std::fs::read_to_string(&path)
                .map_err(|source| ExitError::Password { path, source })?;
            let password = Secret::new(text.trim_end_matches(['\r', '\n']).to_owned());
            Location::Server(Box::new(server.as_ref().clone().with_password(&password)))
        }
        (location, _) => location.clone(),
    })
}

/// The configuration, and its store.
///
/// # Errors
///
/// [`ExitError`].
pub(super) fn load(arguments: ConfigArguments) -> Result<(Config, Store), ExitError> {
    let (config, _) = Config::load(arguments.keys, arguments.config.as_deref())?;
    let store = open(&config.registration)?;
    Ok((config, store))
}

/// Now, as the store has it.
pub(super) fn now_ms() -> i64 {
    millis(SystemTime::now())
}
