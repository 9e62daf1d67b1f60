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
use crate::http::scope::KnownRelay;
use crate::provisioning::timestamp;
use crate::publication::status::{self, NodeStatus, UpstreamStatus};
use crate::published::Format;
use crate::relays::RelaySnapshot;
use crate::store::{StoreError, keys, machines};

/// The map that is published now.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PublishedMap {
    /// As clients get it at `/derpmap.json`.
    derp_map: Map<String, Value>,
    publication: Publication,
}

/// How the publication of the map is doing.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Publication {
    /// Seconds since the map was last found to be the right one, and in its file.
    age_seconds: u64,
    /// Seconds since it last became another one.
    changed_seconds: u64,
    /// How often it became another one.
    changes: u64,
    /// Nodes of this bridge, in the order of the map; those that are out are here too.
    nodes: Vec<PublishedNode>,
    /// Maps of others, in the order of the configuration.
    upstreams: Vec<Upstream>,
    /// What stands between our regions and the clients, and what to do; null if nothing does.
    collision: Option<String>,
    /// Why the map cannot be written to its file; null if it can, or there is none.
    file_error: Option<String>,
}

/// A node of this bridge.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PublishedNode {
    /// Id of its region.
    region_id: u64,
    /// Its name, unique in the map.
    name: String,
    /// DNS name or address by which clients reach it.
    hostname: String,
    /// Whether the configuration names it.
    configured: bool,
    /// Whether it has registered itself and is heard of.
    live: bool,
    /// Whether it is in the map.
    in_map: bool,
    /// Whether it is in only because no other node is known to work.
    kept: bool,
    /// Seconds since it came in, went out, or was heard of first.
    since_seconds: u64,
    probe: Option<Probe>,
}

/// The last probe of a node.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Probe {
    /// Whether it has found the node good.
    good: bool,
    /// What was seen, or why it is not good.
    detail: String,
}

/// A map of somebody else's.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Upstream {
    /// Its URL or file.
    name: String,
    /// Seconds since the map in use was fetched; null where there is none, or it came from a file.
    age_seconds: Option<u64>,
    /// How many of its regions are published.
    regions: usize,
    /// Ids of its regions that are not, since they are ours or an earlier map's.
    overridden: Vec<u64>,
    /// Why the last fetch has failed; null after a good one.
    last_error: Option<String>,
    /// How many fetches have failed since the start.
    failures: u64,
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
    /// What the channel to it knows; null where there is none.
    channel: Option<Channel>,
}

/// What the channel to a relay knows.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Channel {
    /// Its id since it last registered.
    id: String,
    /// Its public key.
    key: String,
    /// Its version.
    version: String,
    /// When it first registered with this bridge, RFC 3339.
    since: String,
    /// When it was last heard of.
    heard: String,
    /// Whether it is heard of.
    live: bool,
    /// Whether it follows the events.
    stream: bool,
    /// Number of the last event that it was told; null before the first.
    last_event: Option<u64>,
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
    let edition = asked.scope.publisher.published().edition();
    let bytes = &edition.rendering(Format::Json).bytes;
    let derp_map = serde_json::from_slice(bytes).map_err(|error| {
        tracing::error!(%error, "the map is no JSON");
        Problem::internal()
    })?;
    let publication = Publication::from(&*asked.scope.publisher.status());
    Reply::json(StatusCode::OK, &PublishedMap { derp_map, publication })
}

#[expect(clippy::unused_async, reason = "as all operations are")]
pub(super) async fn relays(asked: Asked) -> Result<Reply, Problem> {
    let relays = asked.scope.known_relays().iter().map(Relay::from).collect();
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
        map_finding: asked.scope.publisher.published().finding(),
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

impl From<&KnownRelay> for Relay {
    fn from(relay: &KnownRelay) -> Self {
        let live = &relay.live;
        Self {
            channel: relay.channel.as_ref().map(Channel::from),
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

impl From<&RelaySnapshot> for Channel {
    fn from(relay: &RelaySnapshot) -> Self {
        Self {
            id: relay.id.clone(),
            key: relay.key.to_string(),
            version: relay.version.clone(),
            since: timestamp::write(relay.since_ms),
            heard: timestamp::write(relay.heard_ms),
            live: relay.is_live,
            stream: relay.has_stream,
            last_event: relay.last_event,
        }
    }
}

impl From<&status::Status> for Publication {
    fn from(status: &status::Status) -> Self {
        Self {
            age_seconds: status.map_age().as_secs(),
            changed_seconds: status.changed.elapsed().as_secs(),
            changes: status.changes,
            nodes: status.nodes.iter().map(PublishedNode::from).collect(),
            upstreams: status.upstreams.iter().map(Upstream::from).collect(),
            collision: status.collision.as_ref().map(ToString::to_string),
            file_error: status.file_error.clone(),
        }
    }
}

impl From<&NodeStatus> for PublishedNode {
    fn from(node: &NodeStatus) -> Self {
        let probe = node.last_probe.as_ref().map(|probe| {
            let (Ok(detail) | Err(detail)) = probe;
            Probe { good: probe.is_ok(), detail: detail.clone() }
        });
        Self {
            region_id: node.region,
            name: node.node.name.clone(),
            hostname: node.node.host_name.clone(),
            configured: node.configured,
            live: node.live,
            in_map: node.is_in,
            kept: node.is_kept,
            since_seconds: node.since.elapsed().as_secs(),
            probe,
        }
    }
}

impl From<&UpstreamStatus> for Upstream {
    fn from(upstream: &UpstreamStatus) -> Self {
        Self {
            name: upstream.name.clone(),
            age_seconds: upstream.age().map(|age| age.as_secs()),
            regions: upstream.regions,
            overridden: upstream.overridden.clone(),
            last_error: upstream.last_error.clone(),
            failures: upstream.failures,
        }
    }
}
