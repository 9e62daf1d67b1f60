//! Why a run fails, in words for the person who started it.

use std::io;

use super::link::LinkError;
use super::target::TargetError;

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments cannot be run.
    #[error("{0}")]
    Usage(String),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A client does not get in.
    #[error("{done} of {all} clients are logged in, and the next is not: {error}")]
    Login {
        /// How many are in.
        done: usize,
        /// How many were to be.
        all: usize,
        /// Why not.
        error: LinkError,
    },
    /// A client does not get in in time.
    #[error("{done} of {all} clients are logged in, and the next is not within {seconds} s")]
    LoginTime {
        /// How many are in.
        done: usize,
        /// How many were to be.
        all: usize,
        /// The time that it has.
        seconds: u64,
    },
    /// A client falls out while it is needed.
    #[error("a client loses its connection: {0}")]
    Lost(LinkError),
    /// Packets that are not what was sent.
    #[error("{0} packets arrive corrupt, at the wrong client or without having been sent")]
    Corrupt(u64),
    /// The server's process.
    #[error("process {pid} of the server: {error}")]
    Meter {
        /// Which process.
        pid: u32,
        /// What is wrong.
        error: io::Error,
    },
    /// A server that was to be started.
    #[error("server {name}: {why}")]
    Server {
        /// Its label.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A file of records.
    #[error("{path}: {why}")]
    File {
        /// Which file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Nothing was measured before the run was ended.
    #[error("ended before anything was measured")]
    Nothing,
    /// The system, on the generator's side.
    #[error(
        "the generator's own system: {0}; `ulimit -n` and `sysctl net.ipv4.ip_local_port_range` bound it"
    )]
    System(#[from] io::Error),
    /// A thread of the generator has panicked: a fault of its own.
    #[error("a thread of the generator has panicked")]
    Thread,
}

impl Failure {
    /// The exit code: 2 for what the command line has to change, 1 for a run that failed.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Target(_) => 2,
            Self::Login { .. }
            | Self::LoginTime { .. }
            | Self::Lost(_)
            | Self::Corrupt(_)
            | Self::Meter { .. }
            | Self::Server { .. }
            | Self::File { .. }
            | Self::Nothing
            | Self::System(_)
            | Self::Thread => 1,
        }
    }
}
