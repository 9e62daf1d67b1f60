//! The command line of the binary.

use std::net::SocketAddr;
use std::num::NonZero;

use stun_server::{Builder, Rule, Server};
use tracing_subscriber::filter::LevelFilter;

/// Where STUN is expected if nobody says otherwise; IPv6 only where the kernel has it.
const DEFAULT_LISTEN: [&str; 2] = ["0.0.0.0:3478", "[::]:3478"];

/// STUN server for Tailscale nodes.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub(crate) struct Args {
    /// UDP address to answer on, IP:PORT; repeatable. Port 0 takes a free one. An IPv6 address
    /// takes IPv6 clients only.
    ///
    /// Default: 0.0.0.0:3478 and, if the kernel has IPv6, [::]:3478.
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,

    /// Threads, each with one socket per address. Default: one per core.
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,

    /// Answer any RFC 8489 client, not only Tailscale nodes. An answer can then be 2.2 times as
    /// large as its request, which helps those who forge source addresses.
    #[arg(long)]
    any_client: bool,

    /// How much to log to standard error: off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: LevelFilter,
}

impl Args {
    /// The server that these arguments describe.
    pub(crate) fn server(&self) -> Builder {
        let mut builder = Server::builder();
        for address in &self.listen {
            builder = builder.listen(*address);
        }
        if self.listen.is_empty() {
            for address in DEFAULT_LISTEN.iter().filter_map(|text| text.parse().ok()) {
                builder = builder.listen_if_supported(address);
            }
        }
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        builder.rule(if self.any_client { Rule::Generic } else { Rule::Tailnode })
    }
}
