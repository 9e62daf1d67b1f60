//! How long, how often and how many: every bound of the verify front.

use std::time::Duration;

/// Time between two looks at a Headscale that is asked with an API key. With the time of a look it
/// keeps a deletion that nobody tells of below 30 s.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(25);

/// The same over Headscale's Unix socket, where a look costs a hundredth: below 5 s.
pub const DEFAULT_SOCKET_INTERVAL: Duration = Duration::from_secs(4);

/// Bounds of the time between two looks: below, Headscale does nothing else; above, a deleted node
/// stays for long.
pub const INTERVAL_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(3_600));

/// Age of a list up to which it is believed while Headscale gives no newer one. Relays have a
/// grace time of their own for nodes that they let in before, a day, which begins with the last
/// yes; this one is for relays that have just started.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(3_600);

/// Bounds of that age.
pub const MAX_AGE_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(86_400));

/// Least time between the beginnings of two looks, however many ask about however many keys. A
/// look with an API key costs Headscale some 80 ms of CPU.
pub const LOOK_GAP: Duration = Duration::from_secs(1);

/// Time for a look. A list of 20,000 nodes takes some 2 s.
pub const LOOK_TIME: Duration = Duration::from_secs(15);

/// Time for an answer. Relays wait 5 s.
pub const ANSWER_TIME: Duration = Duration::from_secs(4);

/// Time for which a no is repeated without a look: relays ask again for each connection.
pub const DENIED_TIME: Duration = Duration::from_secs(1);

/// Most keys whose no is remembered, about 60 bytes each. Strangers choose these.
pub const MAX_DENIED: usize = 10_000;

/// Nodes of which more than half must be gone at once for the loss to be doubted. One node that is
/// gone is believed at once, also where it was the only one.
pub const DOUBTED_LOSS: usize = 2;

/// Time for which a doubted loss, or a first list without nodes, must last, over several looks, to
/// be believed. Longer than a restart of Headscale or of its database takes.
pub const DOUBT_TIME: Duration = Duration::from_secs(60);

/// Time between two looks while a list is doubted.
pub const DOUBT_INTERVAL: Duration = Duration::from_secs(10);

/// Time for which a node that was deleted through a bridge stays out of lists that were asked for
/// before. Longer than a look.
pub const FORGOTTEN_TIME: Duration = Duration::from_secs(30);

/// Most such nodes, about 60 bytes each.
pub const MAX_FORGOTTEN: usize = 10_000;

/// Most Headscales. Each login of an unknown node waits for all of them.
pub const MAX_HEADSCALES: usize = 16;
