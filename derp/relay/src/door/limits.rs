//! What strangers may cost: every limit that holds before the login.
//!
//! Does: counts connections that have not logged in, in total and by source network, lets TLS
//! handshakes start in turn, and bounds the memory of large logins.
//! Does not: close anything; the caller does, and counts why.
//!
//! Next on the way of a connection: `door::connection`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::counters::Reject;

/// Connections before the login, over all sources. Each costs about 20 KiB: 80 MiB.
pub const DEFAULT_PENDING: usize = 4_096;

/// Connections before the login from one source network. Many clients behind one address
/// reconnect at once after a restart; the ones over it come again within seconds.
pub const DEFAULT_PENDING_PER_SOURCE: usize = 256;

/// TLS handshakes per core that may be under way at once. The others wait in order, so that in
/// a storm those that have begun also end.
pub const DEFAULT_HANDSHAKES_PER_CORE: usize = 64;

/// Time from accept to hand-over, the access decision not counted. Also the time that a
/// connection kept open for HTTP has for each further request. Source: DERP-3.5, DERP-3.9.
pub const DEFAULT_LOGIN_TIME: Duration = Duration::from_secs(10);

/// Time that an access decision may take.
pub const DEFAULT_ACCESS_TIME: Duration = Duration::from_secs(5);

/// Time for which a TLS handshake holds its turn while its client is silent: longer than a
/// round trip to anywhere, short enough that silent clients cannot keep the others out.
pub const DEFAULT_HANDSHAKE_TURN: Duration = Duration::from_secs(1);

/// Bytes of a `ClientInfo` that every connection may have in memory. Real ones are below 300.
pub const SMALL_LOGIN_BYTES: usize = 4 * 1024;

/// Bytes of larger ones, over all connections: sixty-four of the largest.
pub const LARGE_LOGINS_BYTES: usize = 16 * 1024 * 1024;

/// Leading bits of an IPv6 address that are one source: what one customer gets.
const SOURCE_PREFIX_BITS: u32 = 64;

/// What an operator, or a test, may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections before the login, over all sources.
    pub pending: usize,
    /// Connections before the login from one source network; 0 = no limit, for a relay behind
    /// a proxy, where every client has the proxy's address.
    pub pending_per_source: usize,
    /// TLS handshakes per core that may be under way at once.
    pub handshakes_per_core: usize,
    /// Time from accept to hand-over, and for each further HTTP request.
    pub login_time: Duration,
    /// Time that an access decision may take; not part of `login_time`.
    pub access_time: Duration,
    /// Time for which a TLS handshake holds its turn.
    pub handshake_turn: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pending: DEFAULT_PENDING,
            pending_per_source: DEFAULT_PENDING_PER_SOURCE,
            handshakes_per_core: DEFAULT_HANDSHAKES_PER_CORE,
            login_time: DEFAULT_LOGIN_TIME,
            access_time: DEFAULT_ACCESS_TIME,
            handshake_turn: DEFAULT_HANDSHAKE_TURN,
        }
    }
}

/// The limits with what they count.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    pending: Mutex<Pending>,
    handshakes: Arc<Semaphore>,
    large_logins: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Pending {
    total: usize,
    /// Only sources that have a connection are in here.
    by_source: HashMap<Source, usize>,
}

impl Gate {
    /// A gate with nothing counted, for a machine of `cores` cores.
    pub(crate) fn new(limits: Limits, cores: usize) -> Arc<Self> {
        let handshakes = limits.handshakes_per_core.saturating_mul(cores.max(1)).max(1);
        Arc::new(Self {
            limits,
            pending: Mutex::default(),
            handshakes: Arc::new(Semaphore::new(handshakes.min(Semaphore::MAX_PERMITS))),
            large_logins: Arc::new(Semaphore::new(LARGE_LOGINS_BYTES)),
        })
    }

    /// What was set.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a new connection from `ip`, or says which limit it would break.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<Permit, Reject> {
        let source = Source::of(ip);
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.total >= self.limits.pending {
            return Err(Reject::Total);
        }
        let most = self.limits.pending_per_source;
        let from_source = pending.by_source.get(&source).copied().unwrap_or(0);
        if most != 0 && from_source >= most {
            return Err(Reject::Source);
        }
        pending.by_source.insert(source, from_source + 1);
        pending.total += 1;
        drop(pending);
        Ok(Permit { gate: Arc::clone(self), source })
    }

    /// Connections that have not logged in.
    pub(crate) fn pending(&self) -> usize {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// Waits, first come first served, until a TLS handshake may begin.
    pub(crate) async fn handshake_turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed, so there is always one in the end.
        Arc::clone(&self.handshakes).acquire_owned().await.ok()
    }

    /// Room for a login of `bytes` bytes beyond [`SMALL_LOGIN_BYTES`], if there is any.
    pub(crate) fn large_login(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.large_logins).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// Counts one connection as not logged in, until dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    source: Source,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut pending = self.gate.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.total = pending.total.saturating_sub(1);
        if let Some(from_source) = pending.by_source.get_mut(&self.source) {
            *from_source -= 1;
            if *from_source == 0 {
                pending.by_source.remove(&self.source);
            }
        }
    }
}

/// The network that one customer has: an IPv4 address, or the first half of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source(IpAddr);

impl Source {
    fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => {
                let prefix = u128::MAX << (u128::BITS - SOURCE_PREFIX_BITS);
                std::net::Ipv6Addr::from_bits(ip.to_bits() & prefix).into()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_more_than_its_share() {
        for (same, other) in [
            (["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"], "192.0.2.2"),
            (["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1:f::"], "2001:db8:0:2::1"),
        ] {
            let gate = gate(Limits { pending_per_source: 2, ..Limits::default() });

            let first = gate.admit(ip(same[0])).unwrap();
            let _second = gate.admit(ip(same[1])).unwrap();

            assert_eq!(gate.admit(ip(same[2])).unwrap_err(), Reject::Source);
            let _other = gate.admit(ip(other)).unwrap();
            drop(first);
            let _again = gate.admit(ip(same[2])).unwrap();
        }
    }

    #[test]
    fn all_sources_together_cannot_take_more_than_the_total() {
        let gate = gate(Limits { pending: 2, ..Limits::default() });

        let _first = gate.admit(ip("192.0.2.1")).unwrap();
        let second = gate.admit(ip("2001:db8::1")).unwrap();

        assert_eq!(gate.admit(ip("192.0.2.3")).unwrap_err(), Reject::Total);
        drop(second);
        let _third = gate.admit(ip("192.0.2.3")).unwrap();
    }

    #[test]
    fn zero_per_source_is_no_limit() {
        let limits = Limits { pending: 1_000, pending_per_source: 0, ..Limits::default() };
        let gate = gate(limits);

        let permits: Vec<_> = (0..1_000).map(|_| gate.admit(ip("127.0.0.1")).unwrap()).collect();

        assert_eq!(gate.pending(), 1_000);
        drop(permits);
        assert_eq!(gate.pending(), 0);
    }

    #[test]
    fn sources_without_a_connection_take_no_memory() {
        let gate = gate(Limits::default());

        for last in 0..=255 {
            drop(gate.admit(IpAddr::from([192, 0, 2, last])).unwrap());
        }

        assert!(gate.pending.lock().unwrap().by_source.is_empty());
    }

    #[test]
    fn large_logins_share_one_budget() {
        let gate = gate(Limits::default());

        let all = gate.large_login(LARGE_LOGINS_BYTES).unwrap();

        assert!(gate.large_login(1).is_none());
        drop(all);
        assert!(gate.large_login(1).is_some());
    }

    #[tokio::test]
    async fn handshakes_over_the_limit_wait_for_their_turn() {
        let gate = gate(Limits { handshakes_per_core: 1, ..Limits::default() });
        let first = gate.handshake_turn().await.unwrap();

        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.handshake_turn().await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());

        drop(first);
        assert!(waiting.await.unwrap());
    }

    fn gate(limits: Limits) -> Arc<Gate> {
        Gate::new(limits, 1)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
