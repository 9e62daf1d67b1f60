//! How long, how often and how much: every bound of the talk with Headscale.

use std::time::Duration;

/// Time that one call has, from its turn to its end: connecting, finding out the release and all
/// tries included.
pub const CALL_TIME: Duration = Duration::from_secs(5);

/// Time that a call waits for its turn. With [`CALL_TIME`] it is the 15 s that a booting machine
/// waits, and enough for forty at once: since 0.28 making a key costs Headscale bcrypt twice, and
/// forty took 8 s on two busy cores.
pub const TURN_TIME: Duration = Duration::from_secs(10);

/// Calls at once. With an API key each costs Headscale 77 ms of CPU for bcrypt: four keep two
/// cores busy, and more would only wait inside Headscale, where its nodes wait too.
pub const MAX_CALLS: usize = 4;

/// Failures in a row after which Headscale is left alone.
pub const MAX_FAILURES: u32 = 5;

/// Time that Headscale is left alone before one call tries again.
pub const PAUSE_TIME: Duration = Duration::from_secs(5);

/// Pauses before a request that may be repeated is repeated: a restart of Headscale, or of the
/// proxy before it, takes about as long.
pub const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// Time that a connection is kept without a request. Headscale closes it after 30 s.
pub const KEPT_TIME: Duration = Duration::from_secs(20);

/// Most bytes of a request. A pre-auth key with some tags takes 300.
pub const MAX_REQUEST_LEN: usize = 16 * 1024;

/// Most bytes of the head of an answer. Headscale's have 200.
pub const MAX_HEAD_LEN: usize = 64 * 1024;

/// Most bytes of an answer that is no list.
pub const MAX_ANSWER_LEN: usize = 256 * 1024;

/// Most bytes of a list: some 20,000 nodes at 1.5 kB. Worst case memory is twice this for each
/// of [`MAX_CALLS`], while the pieces of a body are put together.
pub const MAX_LIST_LEN: usize = 32 * 1024 * 1024;

/// Most bytes of an API key. Headscale's longest have 87.
pub const MAX_KEY_LEN: usize = 512;

/// Most characters of other people's words in a failure.
pub const MAX_WORDS: usize = 300;

/// The bounds that tests shorten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time that one call has once it is its turn.
    pub call_time: Duration,
    /// Time that a call waits for its turn.
    pub turn_time: Duration,
    /// Calls at once, at least one.
    pub max_calls: usize,
    /// Failures in a row after which Headscale is left alone.
    pub max_failures: u32,
    /// Time that Headscale is left alone.
    pub pause_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_time: CALL_TIME,
            turn_time: TURN_TIME,
            max_calls: MAX_CALLS,
            max_failures: MAX_FAILURES,
            pause_time: PAUSE_TIME,
        }
    }
}
