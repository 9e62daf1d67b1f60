//! Every limit of the core that bounds memory or time, with its unit and reason.
//!
//! Wire lengths are in `frame`. What an operator may set is in [`Limits`]; the rest is fixed.

use std::time::Duration;

use crate::limiter::Rate;

/// Bytes of data packets that may wait for one connection: thirty packets of 64 KiB fit, which
/// is what Tailscale's bandwidth probe keeps in flight. Source: DERP-5.3.
pub const DEFAULT_QUEUE_BYTES: usize = 2 * 1024 * 1024;

/// Least that `queue_bytes` may be set to: two packets of the largest size.
pub const MIN_QUEUE_BYTES: usize = 128 * 1024;

/// Bytes that all queues may hold together, where nobody says what the machine has: a quarter of
/// the smallest server that is sold.
pub const DEFAULT_QUEUE_BYTES_TOTAL: usize = 256 * 1024 * 1024;

/// Age at which a waiting packet is worthless: WireGuard has sent it again. Source: DERP-5.3.
pub const DEFAULT_QUEUE_AGE: Duration = Duration::from_millis(500);

/// Bytes of disco packets that may wait for one connection. Ours: path discovery is small.
pub const DISCO_LANE_BYTES: usize = 64 * 1024;

/// Disco packets that may wait for one connection. Ours.
pub const DISCO_LANE_PACKETS: usize = 256;

/// Longest packet, in bytes, that travels in the disco lane. Real ones fit in one Ethernet
/// frame; what is longer only looks like disco and may not crowd the lane. Ours.
pub const MAX_DISCO_LANE_PACKET: usize = 2_048;

/// Part of one write that disco may take before data, as a divisor. Ours.
pub const DISCO_SHARE: usize = 4;

/// Part of the free total that one queue may grow to, as a divisor. Ours: while an eighth is
/// free, a queue may have its whole 2 MiB on a machine of 1 GiB; and the closer the total, the
/// more the longest queues give up.
pub const TOTAL_SHARE: usize = 8;

/// Bytes that one flow sends before the next has its turn. Ours: one record's worth, half.
pub const FLOW_TURN: usize = 8 * 1024;

/// Delay that a flow's queue may have for good. Ours: a sender that can be held back is held
/// back for less (see [`PUSH_BACK_TIME`]), so that only one that cannot loses packets.
pub const DELAY_TARGET: Duration = Duration::from_millis(25);

/// Time for which a flow's delay has to be above the target before a packet is dropped. Source:
/// RFC 8289, section 4.3.
pub const DELAY_INTERVAL: Duration = Duration::from_millis(100);

/// Longest time for which a sender is held back, and in which its receiver must be able to take
/// what is too much. Source: docs/architecture.md, "Overload".
pub const PUSH_BACK_TIME: Duration = Duration::from_millis(20);

/// Bytes of packets on the way from one shard to another: ten milliseconds of 800 Mbit/s, since
/// the other thread may have to wait for its core that long.
pub const RING_BYTES: usize = 1024 * 1024;

/// Time for which a sender must have sent to one destination only, to be held back for it.
pub const SOLE_DESTINATION_TIME: Duration = Duration::from_millis(100);

/// Memory that a waiting packet costs beside its bytes, charged to its queue, in bytes.
pub const PACKET_OVERHEAD: usize = 32;

/// Sources per receiver that are told apart for `PeerGone`. A receiver that hears from more
/// is not told of the others' departure, and finds out from its own silence. Source: DERP-6.4.
pub const MAX_SOURCES: usize = 4_096;

/// `PeerGone` (not here) per sending connection: one a second, three at once. Source: DERP-4.5.
pub const NOT_HERE_RATE: Rate = Rate { interval: Duration::from_secs(1), burst: 3 };

/// Pings answered per connection: clients send one every few seconds at most; the rest is
/// counted and unanswered. Ours. Source: DERP-4.3.
pub const PING_RATE: Rate = Rate { interval: Duration::from_millis(100), burst: 20 };

/// Pongs that may wait for one connection. Ours. Source: DERP-4.3.
pub const MAX_PENDING_PONGS: usize = 8;

/// Shortest and longest time between keep-alives of one connection, drawn once by the shell.
/// Sent on the first tick after they are due, hence a second less than what clients are
/// promised (60 to 65 s). Source: DERP-4.1.
pub const KEEP_ALIVE_SECONDS: (u64, u64) = (60, 64);

/// Time in which a frame must be whole, from its first byte. Ours: a half frame holds memory.
pub const HALF_FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// Time without one byte accepted by a receiver for which something waits, after which its
/// connection is closed. Source: DERP-5.4.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Time after the login in which a change of home is not a move, but the first choice.
pub const HOME_SETTLE_TIME: Duration = Duration::from_secs(5);

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of data packets that may wait for one connection; at least [`MIN_QUEUE_BYTES`].
    pub queue_bytes: usize,
    /// Bytes that all queues of one shard may hold together, in whole segments.
    pub queue_bytes_total: usize,
    /// Age at which a waiting packet is dropped.
    pub queue_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_bytes: DEFAULT_QUEUE_BYTES,
            queue_bytes_total: DEFAULT_QUEUE_BYTES_TOTAL,
            queue_age: DEFAULT_QUEUE_AGE,
        }
    }
}
