//! The same map at several bridges: whoever leads says which nodes are in, and the others follow.
//!
//! ```text
//! leader:  own health --------> store
//! another: own health <-- or -- store, while that is fresh
//! ```
//!
//! Does: carries what was found from one bridge to the others. Does not: carry nodes; each bridge
//! has them from its configuration and from relays, and publishes them without the store too.
//!
//! Reasons: docs/decisions/0071.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::Publisher;
use crate::lease::Leadership;
use crate::store::{Store, StoreError, verdicts};

/// By the node, as [`Book::verdicts`](super::health::Book::verdicts) names it: whether it is in.
pub type Verdicts = BTreeMap<String, bool>;

/// Time between two looks.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// Time after which the same is written again, to show that it still holds.
const REPEAT_TIME: Duration = Duration::from_secs(5);

/// Age up to which others follow: longer than the lead takes to pass from one to another.
pub const FRESH_TIME: Duration = Duration::from_secs(30);

/// Time for the store to say it. One that hangs must not keep what was followed before for ever.
const READ_TIME: Duration = Duration::from_secs(5);

/// Most bytes of what is read: 256 nodes of ours and as many configured take less.
const MAX_LEN: usize = 1024 * 1024;

/// Where bridges agree.
#[derive(Clone, Debug)]
pub struct Accord {
    /// What they share.
    pub store: Store,
    /// Whether this bridge is the one that says it.
    pub leadership: Leadership,
}

impl Accord {
    /// Says what `publisher` finds, or has it follow, for as long as it is polled.
    pub async fn keep(self, publisher: Arc<Publisher>) {
        let mut written: Option<(Verdicts, Instant)> = None;
        let mut fresh_until = Instant::now();
        loop {
            if self.leadership.may_lead() {
                publisher.follow(Verdicts::new());
                let found = publisher.verdicts();
                let is_known = written
                    .as_ref()
                    .is_some_and(|(known, when)| *known == found && when.elapsed() < REPEAT_TIME);
                if !is_known {
                    written = self.write(found).await;
                }
            } else {
                written = None;
                let found = timeout(READ_TIME, self.store.read(verdicts::current)).await;
                match found.unwrap_or_else(|_| Err(StoreError::Busy("no answer".to_owned()))) {
                    Ok(Some((body, age))) if age < FRESH_TIME => {
                        fresh_until = Instant::now() + (FRESH_TIME - age);
                        publisher.follow(read(&body));
                    }
                    Ok(_) => publisher.follow(Verdicts::new()),
                    Err(error) => {
                        tracing::debug!(%error, "what the leader finds is not known");
                        if fresh_until <= Instant::now() {
                            publisher.follow(Verdicts::new());
                        }
                    }
                }
            }
            sleep(LOOK_TIME).await;
        }
    }

    async fn write(&self, found: Verdicts) -> Option<(Verdicts, Instant)> {
        // Texts and truth values always serialize.
        let body = serde_json::to_string(&found).unwrap_or_default();
        let leadership = self.leadership.clone();
        let done = self.store.write(move |session| {
            let leads = leadership.is_confirmed(session)?;
            if leads {
                verdicts::put(session, &body)?;
            }
            Ok::<_, StoreError>(leads)
        });
        match done.await {
            Ok(leads) => leads.then(|| (found, Instant::now())),
            Err(error) => {
                tracing::debug!(%error, "other bridges are not told what this one finds");
                None
            }
        }
    }
}

/// What somebody has found; nothing, where it cannot be read.
fn read(body: &str) -> Verdicts {
    if body.len() > MAX_LEN {
        return Verdicts::new();
    }
    serde_json::from_str(body).unwrap_or_default()
}
