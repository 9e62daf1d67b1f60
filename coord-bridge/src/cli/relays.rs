//! The verify front and the channel to relays, put together from their settings.

use std::sync::Arc;
use std::time::Duration;

use super::{ExitError, store};
use crate::config::{Config, HeadscaleConfig, VerifyConfig};
use crate::headscale::{self, SetupError};
use crate::provisioning::clock::{Clock, SystemClock};
use crate::relays::{Journal, Relays};
use crate::verify::{Front, Rosters, Source, Verify};

/// Both as a bridge runs them; `None` where no relay is to ask.
///
/// # Errors
///
/// [`ExitError`], before anything is asked of Headscale.
pub(super) fn start(config: &Config) -> Result<Option<Verify>, ExitError> {
    if config.listen.verify.is_empty() {
        return Ok(None);
    }
    let verify = &config.verify;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let sources = sources(verify).unwrap_or_else(|error| {
        tracing::error!(%error, "nobody can say who may enter until a restart");
        Vec::new()
    });
    let settings = verify.settings;
    let rosters = Rosters::new(sources.len(), settings.refuse_expired, settings.max_age);
    let rosters = Arc::new(rosters);
    let store = Some(store::open(&config.registration)?);
    // Without a Headscale no node goes, and there is nothing to tell.
    let told = store.clone().filter(|_| !sources.is_empty());
    let journal = Journal::new(told, Arc::clone(&rosters), Arc::clone(&clock));
    let front = Front::new(sources, Arc::clone(&rosters), Arc::clone(&journal), Arc::clone(&clock));
    let relays = Relays::new(verify.relay_token_file.clone(), store, journal, rosters, clock);
    if let Err(error) = relays.ensure_token() {
        tracing::error!(%error, "no relay can register until there is a token");
    }
    Ok(Some(Verify { front, relays }))
}

/// All of them or none: without one of them its nodes would be strangers.
fn sources(verify: &VerifyConfig) -> Result<Vec<Source>, SetupError> {
    let source = |(name, headscale, interval): &(String, HeadscaleConfig, Duration)| {
        let headscale = headscale::connect(headscale)?;
        Ok(Source { name: name.clone(), headscale, interval: *interval })
    };
    verify.headscales.iter().map(source).collect()
}
