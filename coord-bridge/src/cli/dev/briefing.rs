//! What `dev` tells its user before the self-test: where everything is, and what to paste where.

use std::fmt;
use std::path::Path;

use derp_relay::relay;

use crate::Addresses;
use crate::published::{Edition, Format};

/// How often Headscale shall look for another map. Each time costs a small message per node.
const UPDATE_FREQUENCY: &str = "10m";

/// A region that runs.
pub(super) struct Briefing<'a> {
    pub(super) relay: &'a relay::Addresses,
    pub(super) bridge: &'a Addresses,
    pub(super) pin: &'a str,
    pub(super) edition: &'a Edition,
    pub(super) map_file: &'a Path,
    /// Where the enrollment token is, if machines can register.
    pub(super) token_file: Option<&'a Path>,
    /// Nobody is asked who may use the relay.
    pub(super) is_open: bool,
    /// The configuration for commands.
    pub(super) beside: &'a Path,
}

impl fmt::Display for Briefing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = if self.is_open {
            "Everybody who reaches it may use it."
        } else {
            "Only nodes that Headscale knows may use it."
        };
        writeln!(f, "A region for trying out, on this host. {access}\n")?;
        self.addresses(f)?;
        writeln!(
            f,
            "\nCertificate of the relay, and its key: made once, kept in the state folder"
        )?;
        writeln!(f, "  CertName: {}", self.pin)?;
        self.for_headscale(f)?;
        for (format, name) in [(Format::Json, "JSON"), (Format::Yaml, "YAML")] {
            let bytes = &self.edition.rendering(format).bytes;
            writeln!(f, "\nMap in {name}\n\n{}", String::from_utf8_lossy(bytes).trim_end())?;
        }
        writeln!(f)
    }
}

impl Briefing<'_> {
    fn addresses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Addresses")?;
        let mut line = |name, what: &str| writeln!(f, "  {name:<13} {what}");
        for address in &self.relay.derp {
            line("DERP", &format!("{address}, TLS"))?;
        }
        for address in &self.relay.stun {
            line("STUN", &format!("{address}, UDP"))?;
        }
        for address in &self.relay.http {
            line("HTTP", &format!("http://{address}/generate_204"))?;
        }
        for address in &self.relay.metrics {
            line("metrics", &format!("http://{address}/metrics"))?;
        }
        for address in &self.bridge.map {
            line("map", &format!("http://{address}/derpmap.json"))?;
            line("", &format!("http://{address}/derpmap.yaml"))?;
        }
        line("map file", &self.map_file.display().to_string())?;
        for address in &self.bridge.provisioning {
            let note =
                if self.token_file.is_none() { " (503 without --headscale-url)" } else { "" };
            line("registration", &format!("http://{address}/register{note}"))?;
            line("health", &format!("http://{address}/health"))?;
        }
        for address in &self.bridge.verify {
            line("verify", &format!("http://{address}/verify"))?;
        }
        if let Some(file) = self.token_file {
            line("token", &file.display().to_string())?;
        }
        let state = self.map_file.parent().unwrap_or(self.map_file);
        line("state", &state.display().to_string())?;
        line("commands", &format!("coord-bridge check --config {}", self.beside.display()))
    }

    fn for_headscale(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(map) = self.bridge.map.first() {
            writeln!(f, "\nFor Headscale's config.yaml, in place of its `derp:` block: by HTTP\n")?;
            derp_block(
                f,
                "Fetched at the start of Headscale, which needs it then, and every 10 minutes.",
                &format!("  urls:\n    - http://{map}/derpmap.json\n  paths: []\n"),
            )?;
        }
        writeln!(f, "\nOr by file, where Headscale runs as the same user\n")?;
        derp_block(
            f,
            "Read at the start of Headscale, which needs it then, and every 10 minutes.",
            &format!("  urls: []\n  paths:\n    - {}\n", quoted(self.map_file)),
        )
    }
}

fn derp_block(f: &mut fmt::Formatter<'_>, when: &str, sources: &str) -> fmt::Result {
    write!(
        f,
        "# Region 999: the relay that `coord-bridge dev` runs. Other sources may stand beside it.\n\
         derp:\n\
         \x20 # Headscale's own relay would take the place of region 999.\n\
         \x20 server:\n\
         \x20   enabled: false\n\
         \x20 # {when}\n\
         {sources}\
         \x20 # Off unless set: without it the map is read once.\n\
         \x20 auto_update_enabled: true\n\
         \x20 update_frequency: {UPDATE_FREQUENCY}\n"
    )
}

/// A path as YAML takes it, whatever is in it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "''"))
}
