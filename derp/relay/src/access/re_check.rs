//! Asking again about nodes that are connected.
//!
//! Does: goes through the connected keys for ever, at the pace of `sweep`, and cuts off who may no
//! longer be here. Does not: decide; see `verification`.

use std::sync::Arc;
use std::time::Duration;

use derp::key::NodePublic;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::sweep::{MIN_GAP, Sweep};
use super::verification::Verification;
use super::verifiers::InVain;
use super::{Access, Connections};

/// Most re-checks at a time. Ours: at the highest pace a verifier that takes 80 ms keeps up.
const MAX_AT_A_TIME: usize = 16;

/// Longest wait before a re-check of all that somebody has asked for. Ours: short enough to be at
/// once for people, long enough to keep many relays apart.
const MAX_START: Duration = Duration::from_secs(2);

/// Re-checks what is connected, for ever.
pub(super) async fn run(
    access: Arc<Access>,
    verification: Arc<Verification>,
    connections: Arc<dyn Connections>,
) {
    let Some(interval) = verification.interval() else { return };
    let clock = access.clock;
    let mut sweep = Sweep::new(interval, connections.parts(), clock.now(), random());
    let mut walk = Walk::new(access, verification);
    loop {
        let turn = sweep.next(clock.now(), random());
        sleep(turn.at.since(clock.now())).await;
        let keys = connections.keys(turn.part);
        let gap = sweep.gap(keys.len());
        walk.through(keys, gap).await;
    }
}

/// Re-checks all that is connected whenever somebody asks for that, for ever.
pub(super) async fn run_when_asked(
    access: Arc<Access>,
    verification: Arc<Verification>,
    connections: Arc<dyn Connections>,
) {
    let mut walk = Walk::new(Arc::clone(&access), verification);
    loop {
        access.check_wanted.notified().await;
        // Relays are told together, and shall not ask together.
        sleep(MAX_START / 1_000 * u32::try_from(random() % 1_000).unwrap_or_default()).await;
        for part in 0..connections.parts() {
            walk.through(connections.keys(part), MIN_GAP).await;
        }
    }
}

/// Re-checks, a few at a time.
struct Walk {
    access: Arc<Access>,
    verification: Arc<Verification>,
    in_vain: Arc<InVain>,
    under_way: JoinSet<()>,
}

impl Walk {
    fn new(access: Arc<Access>, verification: Arc<Verification>) -> Self {
        let in_vain = verification.in_vain();
        Self { access, verification, in_vain, under_way: JoinSet::new() }
    }

    /// Asks about `keys`, with `gap` between two questions at least.
    async fn through(&mut self, keys: Vec<NodePublic>, gap: Duration) {
        self.in_vain.relent();
        let mut at = Instant::now();
        for key in keys {
            sleep_until(at).await;
            at = (at + gap).max(Instant::now());
            while self.under_way.len() >= MAX_AT_A_TIME {
                drop(self.under_way.join_next().await);
            }
            let (access, verification) = (Arc::clone(&self.access), Arc::clone(&self.verification));
            let in_vain = Arc::clone(&self.in_vain);
            self.under_way.spawn(async move {
                let outcome = verification.re_check(key, &in_vain).await;
                access.re_checked(&key, outcome);
            });
        }
        while self.under_way.try_join_next().is_some() {}
    }
}

/// Without randomness all relays sweep in the same order, which is harmless.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}
