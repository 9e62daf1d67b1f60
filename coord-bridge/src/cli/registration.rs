//! Registration of machines, put together from its settings.

use std::future::Future;
use std::sync::Arc;

use super::{ConfigArguments, ExitError, store};
use crate::config::{Config, Registration};
use crate::headscale;
use crate::provisioning::Provisioning;

/// Registration as a bridge runs it; `None` where nobody is to register.
///
/// # Errors
///
/// [`ExitError`], before anything is asked of Headscale.
pub(super) fn start(registration: &Registration) -> Result<Option<Arc<Provisioning>>, ExitError> {
    match open(registration) {
        Ok(provisioning) => Ok(Some(provisioning)),
        Err(ExitError::NoHeadscale) => {
            tracing::warn!(
                "headscale.url, headscale.socket: missing; /register answers 503 until one is given"
            );
            Ok(None)
        }
        Err(ExitError::LoginServer) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Does `work` with the registration of this configuration, beside a bridge that runs.
///
/// # Errors
///
/// [`ExitError`].
pub(super) fn with<T, F>(
    arguments: ConfigArguments,
    work: impl FnOnce(Arc<Provisioning>) -> F,
) -> Result<T, ExitError>
where
    F: Future<Output = Result<T, ExitError>>,
{
    let (config, _) = Config::load(arguments.keys, arguments.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let provisioning = open(&config.registration)?;
    runtime.block_on(work(provisioning))
}

fn open(registration: &Registration) -> Result<Arc<Provisioning>, ExitError> {
    let settings = registration.settings.clone().ok_or(ExitError::LoginServer)?;
    let headscale = registration.headscale.as_ref().ok_or(ExitError::NoHeadscale)?;
    let headscale = headscale::connect(headscale)?;
    Ok(Provisioning::new(settings, store::open(registration)?, headscale)?)
}
