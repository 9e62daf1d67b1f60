//! What the bridge does and how it is, over the API: map, relays, status.
//!
//! Does: shows what is there. Does not: ask Headscale anything.

use std::collections::BTreeMap;

use derp_relay::counter::Label;
use hyper::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::problem::Problem;
use super::route::{Asked, Reply};
use crate::published::Format;
use crate::relays::LiveNode;
use crate::store::{StoreError, keys, machines};

/// The map that is published now.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PublishedMap {
    /// As clients get it at `/derpmap.json`.
    derp_map: Map<String, Value>,
}

/// A relay that has registered itself and is heard of.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Relay {
    /// Id of its region.
    region_id: u64,
    /// Short name of its region.
    region_code: String,
    /// Name of its region for people.
    region_name: String,
    /// Its name, unique in the map.
    name: String,
    /// DNS name or address by which clients reach it.
    hostname: String,
    /// IPv4 address, `none`, or empty for what DNS says.
    ipv4: String,
    /// IPv6 address, `none`, or empty for what DNS says.
    ipv6: String,
    /// TCP port of DERP; 0 for 443.
    derp_port: i32,
    /// UDP port of STUN; 0 for 3478, -1 for none.
    stun_port: i32,
}

/// Relays that have registered themselves.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RelayList {
    relays: Vec<Relay>,
}

/// How the bridge is.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Status {
    /// Version of the bridge.
    version: &'static str,
    /// What keeps machines from being registered; empty if nothing does.
    findings: Vec<String>,
    /// What is wrong with the map, or null.
    map_finding: Option<&'static str>,
    /// Seconds since machines and keys were last compared with Headscale; null before the first
    /// time.
    reconcile_age_seconds: Option<u64>,
    headscale: HeadscaleStatus,
    store: StoreStatus,
}

/// How Headscale is, as far as the bridge knows.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HeadscaleStatus {
    /// `closed` if it is asked, `open` if it is left alone after failures, `probing` while one
    /// call decides; null where calls are not counted.
    breaker: Option<&'static str>,
    /// How it is asked, which depends on its release; null before the first answer.
    adapter: Option<String>,
    /// Calls by outcome.
    calls: BTreeMap<&'static str, u64>,
}

/// How the store is.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StoreStatus {
    /// Whether it could be read just now.
    up: bool,
    /// Pieces of work that were not done since the start.
    failures: u64,
    /// Registrations by state; empty if it is not up.
    machines: BTreeMap<&'static str, i64>,
    /// Pre-auth keys by state; empty if it is not up.
    keys: BTreeMap<&'static str, i64>,
}

#[expect(clippy::unused_async, reason = "as all operations are")]
pub(super) async fn map(asked: Asked) -> Result<Reply, Problem> {
    let edition = asked.scope.published.edition();
    let bytes = &edition.rendering(Format::Json).bytes;
    let derp_map = serde_json::from_slice(bytes).map_err(|error| {
        tracing::error!(%error, "the map is no JSON");
        Problem::internal()
    })?;
    Reply::json(StatusCode::OK, &PublishedMap { derp_map })
}

#[expect(clippy::unused_async, reason = "as all operations are")]
pub(super) async fn relays(asked: Asked) -> Result<Reply, Problem> {
    let relays = asked.scope.relays.as_ref().map(|relays| relays.borrow().clone());
    let relays = relays.iter().flat_map(|relays| relays.iter()).map(Relay::from).collect();
    Reply::json(StatusCode::OK, &RelayList { relays })
}

pub(super) async fn status(asked: Asked) -> Result<Reply, Problem> {
    let provisioning = asked.scope.provisioning()?;
    let store = provisioning.store();
    let counts = store
        .read(|session| {
            Ok::<_, StoreError>((
                machines::count_by_state(session)?,
                keys::count_by_state(session)?,
            ))
        })
        .await
        .ok();
    let up = counts.is_some();
    let (machines, keys) = counts.unwrap_or_default();
    let client = provisioning.headscale().client();
    let calls = client.map(|client| client.counters().calls.iter());
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        findings: provisioning.findings().await,
        map_finding: asked.scope.published.finding(),
        reconcile_age_seconds: provisioning.reconcile_age().map(|age| age.as_secs()),
        headscale: HeadscaleStatus {
            breaker: client.map(|client| client.breaker().word()),
            adapter: client.and_then(|client| Some(format!("{:?}", client.adapter()?))),
            calls: calls.into_iter().flatten().map(|(by, count)| (by.word(), count)).collect(),
        },
        store: StoreStatus {
            up,
            failures: store.failures(),
            machines: machines.into_iter().map(|(by, count)| (by.as_str(), count)).collect(),
            keys: keys.into_iter().map(|(by, count)| (by.as_str(), count)).collect(),
        },
    };
    Reply::json(StatusCode::OK, &status)
}

impl From<&LiveNode> for Relay {
    fn from(live: &LiveNode) -> Self {
        Self {
            region_id: live.region_id,
            region_code: live.region_code.clone(),
            region_name: live.region_name.clone(),
            name: live.node.name.clone(),
            hostname: live.node.host_name.clone(),
            ipv4: live.node.ipv4.clone(),
            ipv6: live.node.ipv6.clone(),
            derp_port: live.node.derp_port,
            stun_port: live.node.stun_port,
        }
    }
}
