//! Every constant that bounds memory or time in the server. All of them are ours.

use std::time::Duration;

/// Datagrams per system call. More than this brings no measurable gain, and a batch bounds how
/// long the first client of it waits for the last.
pub const BATCH: usize = 32;

/// Batches taken from one socket before the others of its thread get their turn.
pub const BATCHES_PER_TURN: usize = 8;

/// Bytes kept of one datagram; longer ones count as `not_stun`. A Tailscale node sends 40, and
/// RFC 8489 section 6.1 asks for less than 1280 (or 576) where the path is unknown.
/// Memory: `BATCH` of them per thread, 64 KiB.
pub const MAX_DATAGRAM_LEN: usize = 2_048;

/// Receive buffer asked of the kernel per socket, in bytes; `net.core.rmem_max` may cut it. The
/// kernel doubles it for its own needs and charges about 768 bytes per waiting request, so this
/// holds about 2 700 of them: some milliseconds of flood.
pub const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// Most threads, and so most sockets per listen address.
pub const MAX_THREADS: usize = 1_024;

/// Read errors in a row after which a thread rests for `ERROR_REST` before it tries again, since
/// a socket that fails for ever must not cost a core.
pub const ERRORS_BEFORE_REST: u32 = 16;

/// Length of that rest; a stop ends it early.
pub const ERROR_REST: Duration = Duration::from_millis(10);
