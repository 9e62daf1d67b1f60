//! Configuration files.

use std::path::Path;

use derp_relay::config::{Config, Keys};
use derp_relay::settings;

/// Any file is a configuration or an error on one line.
///
/// # Panics
///
/// If the error has several lines.
pub fn relay_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let names = Keys::names();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    match settings::parse::<Keys>(Path::new("relay.toml"), text, &known) {
        Ok(keys) => {
            if let Err(error) = Config::new(keys) {
                is_one_line(&error.to_string());
            }
        }
        Err(error) => is_one_line(&error.to_string()),
    }
}

/// As [`relay_config`], for the bridge.
///
/// # Panics
///
/// If the error has several lines.
pub fn bridge_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = coord_bridge::config::Config::parse(text) {
        is_one_line(&error.to_string());
    }
}

fn is_one_line(text: &str) {
    assert!(!text.contains('\n') && !text.is_empty(), "{text:?}");
}
