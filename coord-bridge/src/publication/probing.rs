//! A node tried as its clients would: where the map says, trusting what the map says.
//!
//! Does: resolves names, tries an address of each family until one works, and says in words what
//! came of it. Does not: judge; that is `health`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use derp::key::NodePrivate;
use derp::map::{NO_ADDRESS, NO_STUN, Node, PIN_PREFIX};
use derp_relay::probe::{self, Authorities, Fault, Outcome, Target, Trust};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::health::Probed;

/// Nodes that are tried at once: each takes a thread, which waits.
pub const MAX_PROBES: usize = 8;

/// Time for one node. A probe has up to three steps of 5 s at up to two addresses, and names are
/// resolved before; one that takes longer is bad, whatever comes of it.
pub const PROBE_TIME: Duration = Duration::from_secs(20);

/// Most characters of what was seen or went wrong.
const MAX_WORDS: usize = 200;

/// Ports that a map means by 0.
pub(crate) const DEFAULT_DERP_PORT: u16 = 443;
const DEFAULT_STUN_PORT: u16 = 3_478;

/// Who probes.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    /// Known to whoever lets clients in, or not.
    pub(super) key: NodePrivate,
    pub(super) authorities: Authorities,
    /// A thread that hangs keeps its place, so that there are never more.
    pub(super) places: Arc<Semaphore>,
}

impl Prober {
    /// Tries all `nodes`, some at a time, each within [`PROBE_TIME`] of its turn. Nodes that no turn
    /// came for are left out: nothing is known of them.
    pub(super) async fn round(&self, nodes: Vec<Node>) -> Vec<(Node, Probed)> {
        let mut tasks = JoinSet::new();
        for node in nodes {
            let prober = self.clone();
            tasks.spawn(async move {
                let probed = prober.probe(node.clone()).await?;
                Some((node, probed))
            });
        }
        tasks.join_all().await.into_iter().flatten().collect()
    }

    async fn probe(&self, node: Node) -> Option<Probed> {
        let turn = Arc::clone(&self.places).acquire_owned();
        // Where all places are kept by threads that hang, no turn comes.
        let Ok(Ok(place)) = tokio::time::timeout(PROBE_TIME, turn).await else {
            tracing::warn!(node = node.name, "not probed: the probes of other nodes hang");
            return None;
        };
        let (key, authorities) = (self.key.clone(), self.authorities.clone());
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            probe_node(&node, &key, &authorities)
        });
        Some(match tokio::time::timeout(PROBE_TIME, work).await {
            Ok(Ok(probed)) => probed.map(|it| cut(&it)).map_err(|it| cut(&it)),
            Ok(Err(_)) => Err("the probe ended by a fault of ours".to_owned()),
            Err(_) => Err(format!("no result within {} s", PROBE_TIME.as_secs())),
        })
    }
}

/// Blocks.
fn probe_node(node: &Node, key: &NodePrivate, authorities: &Authorities) -> Probed {
    let mut fault = None;
    let mut try_all = |found: Vec<IpAddr>| {
        found.into_iter().find_map(|ip| match probe_address(node, ip, key, authorities) {
            Ok(seen) => Some(seen),
            Err(why) => {
                fault.get_or_insert_with(|| format!("{ip}: {why}"));
                None
            }
        })
    };
    // Literals first: DNS may hang for longer than a probe lasts.
    let seen = try_all(literals(node).collect());
    let seen = match seen {
        Some(seen) => return Ok(seen),
        None => resolved(node).map(try_all),
    };
    match seen {
        Ok(Some(seen)) => Ok(seen),
        Ok(None) => Err(fault.unwrap_or_else(|| format!("{} has no address", node.host_name))),
        Err(unresolved) => Err(fault.unwrap_or(unresolved)),
    }
}

fn probe_address(node: &Node, ip: IpAddr, key: &NodePrivate, authorities: &Authorities) -> Probed {
    let stun = stun_address(node, ip);
    if node.stun_only {
        return stun.map_or(Err("no STUN port".to_owned()), |at| read(&probe::ask_stun(at)));
    }
    let port = u16::try_from(node.derp_port).unwrap_or_default();
    let target = Target {
        derp: SocketAddr::new(ip, if port == 0 { DEFAULT_DERP_PORT } else { port }),
        host_name: node.host_name.clone(),
        trust: trust(node, authorities),
        stun,
        http: None,
    };
    read(&probe::greet(&target, key.clone()))
}

/// The addresses that the map gives.
pub(crate) fn literals(node: &Node) -> impl Iterator<Item = IpAddr> {
    [&node.ipv4, &node.ipv6].into_iter().filter_map(|text| text.parse().ok())
}

/// The families of addresses that the map leaves to DNS.
#[derive(Clone, Copy)]
pub(crate) struct OpenFamilies {
    v4: bool,
    v6: bool,
}

impl OpenFamilies {
    /// Those of this node.
    pub(crate) fn of(node: &Node) -> Self {
        let is_open = |text: &str| text != NO_ADDRESS && text.parse::<IpAddr>().is_err();
        Self { v4: is_open(&node.ipv4), v6: is_open(&node.ipv6) }
    }

    /// Whether clients take this address from DNS.
    pub(crate) const fn has(self, ip: &IpAddr) -> bool {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }

    const fn is_none(self) -> bool {
        !self.v4 && !self.v6
    }
}

/// One address of each family that the map leaves to DNS.
fn resolved(node: &Node) -> Result<Vec<IpAddr>, String> {
    let open = OpenFamilies::of(node);
    if open.is_none() {
        return Ok(Vec::new());
    }
    let found = (node.host_name.as_str(), 0).to_socket_addrs();
    let found = found.map_err(|error| format!("{} does not resolve: {error}", node.host_name))?;
    let found: Vec<IpAddr> = found.map(|it| it.ip()).filter(|ip| open.has(ip)).collect();
    let of_v4 = found.iter().filter(|ip| ip.is_ipv4()).take(1);
    let of_v6 = found.iter().filter(|ip| ip.is_ipv6()).take(1);
    Ok(of_v4.chain(of_v6).copied().collect())
}

pub(crate) fn stun_address(node: &Node, ip: IpAddr) -> Option<SocketAddr> {
    if node.stun_port == NO_STUN {
        return None;
    }
    let port = u16::try_from(node.stun_port).unwrap_or_default();
    let ip = node.stun_test_ip.parse().unwrap_or(ip);
    Some(SocketAddr::new(ip, if port == 0 { DEFAULT_STUN_PORT } else { port }))
}

pub(crate) fn trust(node: &Node, authorities: &Authorities) -> Trust {
    if node.insecure_for_tests {
        return Trust::Anyone;
    }
    if node.cert_name.starts_with(PIN_PREFIX) {
        return Trust::Pin(node.cert_name.clone());
    }
    let cert_name = if node.cert_name.is_empty() { &node.host_name } else { &node.cert_name };
    Trust::Authority { authorities: authorities.clone(), cert_name: cert_name.clone() }
}

/// One line of a report. A relay that lets in whom it knows, and does not know the bridge, works.
fn read(report: &probe::Report) -> Probed {
    match report.first_failure() {
        None => Ok("works".to_owned()),
        Some(step) => match &step.outcome {
            Outcome::Failed(Fault::NotAdmitted) => {
                Ok("works, as far as one sees without being let in".to_owned())
            }
            Outcome::Failed(fault) => Err(format!("{}: {fault}", step.part)),
            Outcome::Good { .. } | Outcome::NotTried(_) => Ok(String::new()),
        },
    }
}

pub(crate) fn cut(words: &str) -> String {
    words.chars().take(MAX_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
