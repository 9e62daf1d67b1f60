//! Everything the bridge counts, as Prometheus wants it.
//!
//! Does: gathers what requests, publication, relays, Headscale, store and outlets have counted, at the moment of a
//! scrape; asks the store for what it holds, for a bounded time.
//! Does not: ask Headscale anything.
//!
//! Names, labels and help are in `table`; `docs/metrics.md` is held equal to it by a test.

mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use derp_relay::counter::{CounterBy, Label};
use derp_relay::metrics::{Sample, render};

use crate::events::Outlets;
use crate::headscale::BreakerState;
use crate::http::requests::Requests;
use crate::provisioning::Provisioning;
use crate::publication::Publisher;
use crate::publication::status::Status;
use crate::relays::RelaySnapshot;
use crate::store::{StoreError, events, keys, machines};
use crate::verify::Verify;

pub use table::METRICS;

/// Time that the store has for an answer. Prometheus waits 10 s for a scrape unless told
/// otherwise, and the other numbers are wanted when the store is dead.
const STORE_TIME: Duration = Duration::from_secs(3);

/// Where the numbers come from.
#[derive(Debug, Default)]
pub struct Sources {
    /// Registration, where there is any.
    pub provisioning: Option<Arc<Provisioning>>,
    /// What keeps the map, where there is one.
    pub publisher: Option<Arc<Publisher>>,
    /// What relays ask and say, where they do.
    pub verify: Option<Verify>,
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
        if let Some(publisher) = &self.publisher {
            of_publication(&publisher.status(), &mut samples);
        }
        if let Some(verify) = &self.verify {
            of_relays(verify, &mut samples);
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
        samples.one("coord_bridge_leader", &[], u64::from(provisioning.may_lead()));
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

fn of_publication(status: &Status, samples: &mut Samples) {
    samples.one("coord_bridge_map_age_seconds", &[], status.map_age().as_secs());
    samples.one("coord_bridge_map_changes_total", &[], status.changes);
    samples.one("coord_bridge_map_file_failing", &[], u64::from(status.file_error.is_some()));
    let mut nodes = BTreeMap::<u64, [u64; 2]>::new();
    for node in &status.nodes {
        let [within, out] = nodes.entry(node.region).or_default();
        *(if node.is_in { within } else { out }) += 1;
    }
    for (region, counts) in nodes {
        for (state, count) in ["in", "out"].into_iter().zip(counts) {
            samples.one("coord_bridge_map_nodes", &[&region.to_string(), state], count);
        }
    }
    samples.one("coord_bridge_map_collision", &[], u64::from(status.collision.is_some()));
    for upstream in &status.upstreams {
        let name = upstream.name.as_str();
        if let Some(age) = upstream.age() {
            samples.one("coord_bridge_upstream_age_seconds", &[name], age.as_secs());
        }
        samples.one("coord_bridge_upstream_failures_total", &[name], upstream.failures);
    }
}

fn of_relays(Verify { front, relays }: &Verify, samples: &mut Samples) {
    let counters = front.counters();
    samples.all("coord_bridge_verify_answers_total", &[], &counters.answers);
    samples.all("coord_bridge_verify_refusals_total", &[], &counters.refusals);
    for headscale in front.snapshot().headscales {
        if let Some(age) = headscale.list_age {
            let name = "coord_bridge_verify_list_age_seconds";
            samples.one(name, &[&headscale.name], age.as_secs());
        }
    }
    let relays = relays.snapshot();
    let count = |is_it: fn(&RelaySnapshot) -> bool| {
        relays.iter().filter(|relay| is_it(relay)).count() as u64
    };
    samples.one("coord_bridge_relays", &[], count(|relay| relay.is_live));
    samples.one("coord_bridge_relay_streams", &[], count(|relay| relay.has_stream));
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
