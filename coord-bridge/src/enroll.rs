//! The other end of registration: a machine that wants into the tailnet.
//!
//! ```text
//! inputs (token, URL) -+-> provisioner: POST /register, again and again -> tailscale up
//! machine (who I am)  -+      schedule: when                               tailscale ip -4
//! ```
//!
//! Does: what the live system's script does, from the same two files, so that it can take its
//! place. Neither the token nor the key is ever in arguments, variables, output or a file system.
//! Does not: stay; it ends with the machine in the tailnet, or says why not. Whoever starts it
//! (systemd) starts it again.
//!
//! For operators: `docs/provisioning.md`, section Machines.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use derp_relay::tls::outgoing::TrustError;

use crate::config::NoCredentials;
use crate::headscale::Secret;

pub mod inputs;
pub mod machine;
mod provisioner;
mod schedule;
mod tailscale;

pub use inputs::ProvisionerUrl;
pub use machine::Machine;
pub use schedule::Schedule;

/// What it takes to enroll.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where to register.
    pub provisioner: ProvisionerUrl,
    /// The enrollment token.
    pub token: Secret,
    /// Certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Who wants in.
    pub machine: Machine,
    /// The program `tailscale`: a path, or a name to be found in `PATH`.
    pub tailscale: PathBuf,
    /// How often and how long to try.
    pub schedule: Schedule,
}

/// A machine that is in the tailnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Its name.
    pub hostname: String,
    /// Id of its record at the provisioner, if that gives one.
    pub machine_id: Option<String>,
    /// Where it has logged in.
    pub login_server: String,
    /// When the key that it used ends, as the provisioner wrote it.
    pub expires_at: Option<String>,
    /// Where the provisioner publishes its DERP map.
    pub derp_map_url: Option<String>,
    /// Its address in the tailnet. None where `tailscale ip -4` has none.
    pub tailscale_ip: Option<Ipv4Addr>,
}

/// Why a machine is not in the tailnet.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// A file is there and is of no use.
    #[error("{what} in {place}: {words}")]
    Input {
        /// Token or URL.
        what: &'static str,
        /// The file, as it was named.
        place: String,
        /// What is wrong with it.
        words: String,
    },
    /// The URL is none.
    #[error("the provisioner's URL {0}")]
    Url(&'static str),
    /// The name is none.
    #[error("--hostname: must be 1 to 63 letters, digits or hyphens")]
    Hostname,
    /// The token is a credential, and there are none.
    #[error(transparent)]
    Credentials(#[from] NoCredentials),
    /// A certificate could not be checked.
    #[error("{}", .0.to_string().replacen("ca_file", "--ca-file", 1))]
    Trust(#[from] TrustError),
    /// The provisioner does not want this machine, and will not the next time either.
    #[error("{place} {words}")]
    Refused {
        /// The provisioner.
        place: String,
        /// What it said, and what to do.
        words: String,
    },
    /// All tries are used up.
    #[error("{place} has given no key in {tries} tries; the last time it {words}")]
    GaveUp {
        /// The provisioner.
        place: String,
        /// How often it was asked.
        tries: u32,
        /// What it said the last time.
        words: String,
    },
    /// There is a key, and no way into the tailnet.
    #[error("{program} up: {words}")]
    Tailscale {
        /// The program, as it was named.
        program: String,
        /// What it said.
        words: String,
    },
    /// The system.
    #[error("the system does not let it run: {0}")]
    System(#[from] std::io::Error),
}

impl EnrollError {
    /// Whether arguments or files have to change.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::Input { .. }
            | Self::Url(_)
            | Self::Hostname
            | Self::Credentials(_)
            | Self::Trust(_) => true,
            Self::Refused { .. }
            | Self::GaveUp { .. }
            | Self::Tailscale { .. }
            | Self::System(_) => false,
        }
    }
}

/// Registers, and joins the tailnet. `report` gets a line, without secrets, whenever something
/// does not work and is tried again.
///
/// # Errors
///
/// [`EnrollError`].
pub async fn enroll(
    order: &Order,
    report: &mut (dyn FnMut(&str) + Send),
) -> Result<Enrolled, EnrollError> {
    let grant = provisioner::register(order, report).await?;
    tailscale::up(&order.tailscale, &grant, order.schedule.join_time).await?;
    let tailscale_ip = match tailscale::address(&order.tailscale).await {
        Ok(address) => Some(address),
        Err(words) => {
            report(&format!("in the tailnet, but `tailscale ip -4`: {words}"));
            None
        }
    };
    Ok(Enrolled {
        hostname: grant.hostname,
        machine_id: grant.machine_id,
        login_server: grant.login_server,
        expires_at: grant.expires_at,
        derp_map_url: grant.derp_map_url,
        tailscale_ip,
    })
}
