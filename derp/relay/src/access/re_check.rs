//! Asking again about nodes that are connected.
//!
//! Does: goes through the connected keys for ever, at the pace of `sweep`, and cuts off who may no
//! longer be here. Does not: decide; see `verification`.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::verification::Verification;
use super::{Access, Connections};
use crate::access::sweep::Sweep;

/// Most re-checks at a time. Ours: at the highest pace a verifier that takes 80 ms keeps up.
const MAX_AT_A_TIME: usize = 16;

/// Re-checks what is connected, for ever.
pub(super) async fn run(
    access: Arc<Access>,
    verification: Arc<Verification>,
    connections: Arc<dyn Connections>,
) {
    let Some(interval) = verification.interval() else { return };
    let clock = access.clock;
    let mut sweep = Sweep::new(interval, connections.parts(), clock.now(), random());
    let in_vain = verification.in_vain();
    let mut under_way = JoinSet::new();
    loop {
        let turn = sweep.next(clock.now(), random());
        sleep(turn.at.since(clock.now())).await;
        in_vain.relent();
        let keys = connections.keys(turn.part);
        let gap = sweep.gap(keys.len());
        let mut at = Instant::now();
        for key in keys {
            sleep_until(at).await;
            at = (at + gap).max(Instant::now());
            while under_way.len() >= MAX_AT_A_TIME {
                drop(under_way.join_next().await);
            }
            let (access, verification) = (Arc::clone(&access), Arc::clone(&verification));
            let in_vain = Arc::clone(&in_vain);
            under_way.spawn(async move {
                let outcome = verification.re_check(key, &in_vain).await;
                access.re_checked(&key, outcome);
            });
        }
        while under_way.try_join_next().is_some() {}
    }
}

/// Without randomness all relays sweep in the same order, which is harmless.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}
