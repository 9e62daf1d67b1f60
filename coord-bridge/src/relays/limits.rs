//! How long, how often and how many: every bound of the channel.

use std::time::Duration;

/// Time between two heartbeats of a relay.
pub const HEARTBEAT_TIME: Duration = Duration::from_secs(10);

/// Time without a heartbeat after which a relay is not there: three were missed.
pub const LIVE_TIME: Duration = Duration::from_secs(30);

/// Time for which a relay that is not there is still listed.
pub const LISTED_TIME: Duration = Duration::from_secs(3_600);

/// How often somebody looks which relays are there.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Most relays, some 2 KiB each, and as many streams.
pub const MAX_RELAYS: usize = 64;

/// Most bytes of the name of a node or the code of a region: those of a DNS name.
pub const MAX_NAME_LEN: usize = 253;

/// Most bytes of the name of a region, and of a version.
pub const MAX_TEXT_LEN: usize = 128;

/// Time between two looks into the store. With what a look takes, a deletion by another process
/// reaches relays in a third of a second.
pub(super) const POLL_TIME: Duration = Duration::from_millis(250);

/// The same while the store does not work.
pub(super) const FAILED_POLL_TIME: Duration = Duration::from_secs(1);

/// Time for the store to take an event. Beyond that relays are told first, so that a node that is
/// gone loses its connection within a second.
pub(super) const WRITE_TIME: Duration = Duration::from_millis(400);

/// Events that are read at a time.
pub(super) const PAGE: i64 = 500;

/// Most events that a relay is told that was away; beyond that it asks about all nodes, which is
/// less work for everybody.
pub const MAX_BACKLOG: i64 = 1_000;

/// Events between the journal and the stream of a relay. Who is slower than that many is cut off,
/// and comes back for what it missed.
pub(super) const NEWS: usize = 1_024;

/// Lines between a stream and its socket.
pub(crate) const LINES: usize = 64;

/// Time for a relay to take a line.
pub(super) const SLOW_TIME: Duration = Duration::from_secs(10);

/// Time after which a relay that still has its stream has read what was taken from the queue: one
/// that hears nothing for 30 s drops its stream, and lines arrive in order.
pub(super) const READ_TIME: Duration = Duration::from_secs(40);

/// Time between two empty lines, by which both ends see that the other is there.
pub const KEEP_ALIVE_TIME: Duration = Duration::from_secs(10);

/// Most events that wait for a store that does not work, 32 bytes each; the oldest go.
pub(super) const MAX_UNWRITTEN: usize = 10_000;

/// Time within which several bridges find the same node gone, in ms.
pub(super) const REPEAT_MS: i64 = 60_000;

/// Time between two removals of old events.
pub(super) const PRUNE_TIME: Duration = Duration::from_secs(3_600);
