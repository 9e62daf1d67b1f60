//! `map`: prints the map.

use super::{ConfigArguments, ExitError, say};
use crate::config::Config;
use crate::published::{Edition, Format};

pub(super) fn run(arguments: ConfigArguments, format: Format) -> Result<(), ExitError> {
    let (config, _) = Config::load(arguments.keys, arguments.config.as_deref())?;
    say(&Edition::new(config.map).rendering(format).bytes)
}
