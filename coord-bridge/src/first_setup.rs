//! The first set-up beside a Headscale that is there: files to begin with, out of its configuration.
//!
//! ```text
//! config.yaml -> HeadscaleFile -> Facts -> relay.toml, bridge.toml, headscale-derp.yaml,
//! DNS --------------------------^          nginx.conf, Caddyfile
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `facts` | what is known, and what has to be asked of a person |
//! | `texts` | the files |
//!
//! Does: takes what the configuration says, picks ports that are not taken there, and marks what
//! could not be known with [`MARK`]. Keeps sources of maps that are there already.
//! Does not: change a file, or print a URL that has a password in it.

mod facts;
mod texts;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub use facts::Facts;

/// What a line begins with that a person has to look at.
pub const MARK: &str = "# CHECK: ";

/// A file of the set-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StarterFile {
    /// Its name in a folder.
    pub name: &'static str,
    /// Where it goes, for people.
    pub place: &'static str,
    /// What is in it.
    pub text: String,
}

/// The files, from what is known.
#[must_use]
pub fn files(facts: &Facts) -> Vec<StarterFile> {
    let file = |name, place, text| StarterFile { name, place, text };
    vec![
        file("relay.toml", "/etc/derp-relay/relay.toml", texts::relay(facts)),
        file("bridge.toml", "/etc/coord-bridge/bridge.toml", texts::bridge(facts)),
        file(
            "headscale-derp.yaml",
            "Headscale's config.yaml, in place of its `derp:` block",
            texts::derp_block(facts),
        ),
        file("nginx.conf", "nginx: a file of its own in its `http` block", texts::nginx(facts)),
        file("Caddyfile", "Caddy, instead of nginx: beside what is there", texts::caddy(facts)),
    ]
}

/// How many lines a person has to look at.
#[must_use]
pub fn marks(files: &[StarterFile]) -> usize {
    files.iter().map(|file| file.text.matches(MARK).count()).sum()
}

/// What DNS says of a relay's name: an address of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// The IPv6 address.
    pub ipv6: Option<IpAddr>,
}

impl Resolved {
    /// The first of each family. Addresses of this host only are none that clients could use.
    #[must_use]
    pub fn of(addresses: &BTreeSet<IpAddr>) -> Self {
        let first = |is: fn(&IpAddr) -> bool| {
            addresses.iter().copied().find(|ip| is(ip) && !ip.is_loopback() && !ip.is_unspecified())
        };
        Self { ipv4: first(IpAddr::is_ipv4), ipv6: first(IpAddr::is_ipv6) }
    }
}
