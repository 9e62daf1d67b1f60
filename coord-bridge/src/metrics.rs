//! Everything the bridge counts, as Prometheus wants it.
//!
//! Does: gathers what requests, Headscale, store and outlets have counted, at the moment of a
//! scrape; asks the store for what it holds, for a bounded time.
//! Does not: ask Headscale anything.
//!
//! Names, labels and help are in `table`; `docs/metrics.md` is held equal to it by a test.

mod table;

use std::sync::Arc;
use std::time::Duration;

use derp_relay::counter::{CounterBy, Label};
use derp_relay::metrics::{Sample, render};

use crate::events::Outlets;
use crate::headscale::BreakerState;
use crate::http::requests::Requests;
use crate::provisioning::Provisioning;
use crate::store::{StoreError, events, keys, machines};

pub use table::METRICS;

/// Time that the store has for an answer. Prometheus waits 10 s for a scrape unless told
/// otherwise, and the other numbers are wanted when the store is dead.
const STORE_TIME: Duration = Duration::from_secs(3);

/// Where the numbers come from.
#[derive(Debug, Default)]
pub struct Sources {
    /// Registration, where there is any.
    pub provisioning: Option<Arc<Provisioning>>,
    /// Outlets of events, where there are any.
    pub outlets: Option<Arc<Outlets>>,
    /// By listener: what was answered.
    pub requests: Vec<(&'static str, Arc<Requests>)>,
}

/// What the store holds.
#[derive(Debug, Default)]
struct Held {
    machines: Vec<(machines::State, i64)>,
    keys: Vec<(keys::KeyState, i64)>,
    /// By outlet.
    backlog: Vec<(String, i64)>,
}

impl Sources {
    /// All numbers as they stand, in the Prometheus text format.
    pub async fn render(&self) -> String {
        render(METRICS, &self.samples().await)
    }

    async fn samples(&self) -> Vec<Sample> {
        let mut samples = Samples::default();
        samples.one("coord_bridge_build_info", &[env!("CARGO_PKG_VERSION")], 1);
        for (listener, requests) in &self.requests {
            samples.all("coord_bridge_http_requests_total", &[listener], &requests.by_class);
        }
        if let Some(provisioning) = &self.provisioning {
            self.of_registration(provisioning, &mut samples).await;
        }
        for channel in self.outlets.iter().flat_map(|outlets| outlets.channels()) {
            let name = "coord_bridge_event_deliveries_total";
            samples.all(name, &[channel.name()], &channel.deliveries);
        }
        samples.0
    }

    async fn of_registration(&self, provisioning: &Provisioning, samples: &mut Samples) {
        let counters = provisioning.counters();
        samples.all("coord_bridge_registrations_total", &[], &counters.registrations);
        samples.all("coord_bridge_refusals_total", &[], &counters.refusals);
        if let Some(age) = provisioning.reconcile_age() {
            samples.one("coord_bridge_reconcile_age_seconds", &[], age.as_secs());
        }
        if let Some(client) = provisioning.headscale().client() {
            let counters = client.counters();
            samples.all("coord_bridge_headscale_calls_total", &[], &counters.calls);
            samples.one("coord_bridge_headscale_requests_total", &[], counters.requests.get());
            samples.one("coord_bridge_headscale_pauses_total", &[], counters.pauses.get());
            for state in BreakerState::ALL {
                let is_it = u64::from(client.breaker() == *state);
                samples.one("coord_bridge_headscale_breaker", &[state.word()], is_it);
            }
        }
        let store = provisioning.store();
        let held = self.held(provisioning).await;
        samples.one("coord_bridge_store_up", &[], u64::from(held.is_some()));
        samples.one("coord_bridge_store_failures_total", &[], store.failures());
        let held = held.unwrap_or_default();
        for (state, count) in held.machines {
            samples.one("coord_bridge_machines", &[state.as_str()], count.unsigned_abs());
        }
        for (state, count) in held.keys {
            samples.one("coord_bridge_keys", &[state.as_str()], count.unsigned_abs());
        }
        for (outlet, count) in held.backlog {
            samples.one("coord_bridge_event_backlog", &[&outlet], count.unsigned_abs());
        }
    }

    /// What the store holds; `None` if it does not say so in time.
    async fn held(&self, provisioning: &Provisioning) -> Option<Held> {
        let channels = self.outlets.iter().flat_map(|outlets| outlets.channels());
        let positions: Vec<(String, String)> = channels
            .filter_map(|channel| Some((channel.name().to_owned(), channel.position()?)))
            .collect();
        let held = provisioning.store().read(move |session| {
            let mut backlog = Vec::new();
            for (outlet, position) in positions {
                backlog.push((outlet, events::count_after(session, &position)?));
            }
            let machines = machines::count_by_state(session)?;
            Ok::<_, StoreError>(Held { machines, keys: keys::count_by_state(session)?, backlog })
        });
        match tokio::time::timeout(STORE_TIME, held).await {
            Ok(Ok(held)) => Some(held),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    fn one(&mut self, name: &'static str, labels: &[&str], value: u64) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.0.push(Sample { name, labels, value: value as f64 });
    }

    /// One for each value of the last label, behind `labels`.
    fn all<L: Label>(&mut self, name: &'static str, labels: &[&str], counts: &CounterBy<L>) {
        for (label, count) in counts.iter() {
            self.one(name, &[labels, &[label.word()]].concat(), count);
        }
    }
}
