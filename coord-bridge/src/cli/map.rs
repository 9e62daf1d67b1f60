//! `map`: prints the map of the configuration alone: what is published before anything else.

use super::{ConfigArguments, ExitError, say};
use crate::config::Config;
use crate::published::{Edition, Format};

pub(super) fn run(arguments: ConfigArguments, format: Format) -> Result<(), ExitError> {
    let (config, _) = Config::load(arguments.keys, arguments.config.as_deref())?;
    say(&Edition::new(config.plan.map).rendering(format).bytes)
}
