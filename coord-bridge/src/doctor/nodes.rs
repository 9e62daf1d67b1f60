//! Relays, tried as their clients would: names, STUN, TLS and a login at each address.
//!
//! Does: tries every address that the map or DNS gives, where the bridge's own probe is content
//! with one; says where name and literals differ.
//! Does not: judge relays of other people, whose map was taken as it is.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use derp::key::NodePrivate;
use derp::map::{DerpMap, Node};
use derp_relay::probe::{self, Authorities, Fault, Outcome, Part as ProbePart, Step, Target};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Finding, PART_TIME, Part, cut};
use crate::publication::new_probe_key;
use crate::publication::probing::{DEFAULT_DERP_PORT, OpenFamilies, literals, stun_address, trust};

/// Time for a name. Resolvers of the system give up after about as long.
const DNS_TIME: Duration = Duration::from_secs(15);

/// Most relays that are tried: each takes a thread that waits.
const MAX_NODES: usize = 32;

/// Tries the relays of our regions in `map`, all at once.
pub(super) async fn look(map: &DerpMap, own: &BTreeSet<u64>) -> Vec<Finding> {
    let ours = map.regions.values().filter(|region| own.contains(&region.id));
    let nodes: Vec<Node> = ours.flat_map(|region| region.nodes.clone()).collect();
    if nodes.is_empty() {
        let said = "no region has a node: relays come into the map when they register";
        return vec![Finding::not_tried(Part::Relays, "relays", said)];
    }
    let Ok(key) = new_probe_key() else {
        let said = "the system gives no random numbers";
        return vec![Finding::not_tried(Part::Relays, "relays", said)];
    };
    let authorities = Authorities::of_system();
    let mut tries = JoinSet::new();
    let left = nodes.len().saturating_sub(MAX_NODES);
    for (place, node) in nodes.into_iter().take(MAX_NODES).enumerate() {
        let (key, authorities) = (key.clone(), authorities.clone());
        tries.spawn(async move { (place, try_node(node, key, authorities).await) });
    }
    let mut tried = tries.join_all().await;
    tried.sort_by_key(|(place, _)| *place);
    let mut findings: Vec<Finding> = tried.into_iter().flat_map(|(_, it)| it).collect();
    if left > 0 {
        let said = format!("{left} relays more than the {MAX_NODES} that are tried at once");
        findings.push(Finding::not_tried(Part::Relays, "further relays", said));
    }
    findings
}

async fn try_node(node: Node, key: NodePrivate, authorities: Authorities) -> Vec<Finding> {
    let host = node.host_name.clone();
    let resolved = timeout(DNS_TIME, tokio::task::spawn_blocking(move || resolve(&host))).await;
    let resolved = match resolved {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(_)) | Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
    };
    let (finding, addresses) = judge_name(&node, &resolved);
    let mut findings = vec![finding];
    let mut tries = JoinSet::new();
    for ip in addresses {
        let (node, key, authorities) = (node.clone(), key.clone(), authorities.clone());
        tries.spawn(async move {
            let name = node.name.clone();
            let work =
                tokio::task::spawn_blocking(move || try_address(&node, ip, &key, &authorities));
            match timeout(PART_TIME, work).await {
                Ok(Ok(findings)) => (ip, findings),
                Ok(Err(_)) | Err(_) => (ip, vec![super::too_late(Part::Relays, &name)]),
            }
        });
    }
    let mut tried = tries.join_all().await;
    tried.sort_by_key(|(ip, _)| *ip);
    findings.extend(tried.into_iter().flat_map(|(_, it)| it));
    findings
}

/// Blocks.
fn resolve(host: &str) -> io::Result<BTreeSet<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// Holds what DNS says against the literals of the map; gives the addresses that clients try.
fn judge_name(node: &Node, resolved: &io::Result<BTreeSet<IpAddr>>) -> (Finding, BTreeSet<IpAddr>) {
    let part = Part::Relays;
    let tried = format!("{} {}", node.name, node.host_name);
    let literals: BTreeSet<IpAddr> = literals(node).collect();
    let text = |ips: &BTreeSet<IpAddr>| {
        let texts: Vec<String> = ips.iter().map(ToString::to_string).collect();
        if texts.is_empty() { "no address".to_owned() } else { texts.join(", ") }
    };
    let said = match resolved {
        Ok(resolved) => resolved,
        Err(error) if literals.is_empty() => {
            let remedy = "correct hostname, or give ipv4 and ipv6, which clients then use";
            let said = format!("does not resolve: {error}");
            return (Finding::wrong(part, tried, said, remedy), literals);
        }
        Err(error) => {
            let said = format!("does not resolve ({error}); clients go by {}", text(&literals));
            let remedy = "correct hostname: certificates are made for it";
            return (Finding::notice(part, tried, said, remedy), literals);
        }
    };
    // What the map leaves open is looked up, family by family.
    let open = OpenFamilies::of(node);
    let looked_up = said.iter().filter(|ip| open.has(ip)).copied();
    let addresses: BTreeSet<IpAddr> = literals.iter().copied().chain(looked_up).collect();
    let strange: BTreeSet<IpAddr> = literals.difference(said).copied().collect();
    let finding = if !strange.is_empty() {
        let said = format!("DNS says {}, the map {}", text(said), text(&strange));
        let remedy = "correct ipv4 and ipv6, or DNS: clients believe the map";
        Finding::notice(part, tried, said, remedy)
    } else if addresses.is_empty() {
        let remedy = "give ipv4 or ipv6, or correct DNS";
        Finding::wrong(part, tried, "has no address that clients would use", remedy)
    } else {
        Finding::good(part, tried, format!("is at {}", text(&addresses)))
    };
    (finding, addresses)
}

/// Blocks, for up to three steps of a probe.
fn try_address(
    node: &Node,
    ip: IpAddr,
    key: &NodePrivate,
    authorities: &Authorities,
) -> Vec<Finding> {
    let stun = stun_address(node, ip);
    if node.stun_only {
        let steps = stun.map(probe::ask_stun).unwrap_or_default().steps;
        return steps.iter().map(|step| finding(node, ip, step)).collect();
    }
    let port = u16::try_from(node.derp_port).unwrap_or_default();
    let target = Target {
        derp: SocketAddr::new(ip, if port == 0 { DEFAULT_DERP_PORT } else { port }),
        host_name: node.host_name.clone(),
        trust: trust(node, authorities),
        stun,
        http: None,
    };
    let steps = probe::greet(&target, key.clone()).steps;
    steps.iter().map(|step| finding(node, ip, step)).collect()
}

fn finding(node: &Node, ip: IpAddr, step: &Step) -> Finding {
    let part = Part::Relays;
    let tried = format!("{} {} at {}", node.name, step.part, step.address);
    let remedy = match step.part {
        ProbePart::Stun => "open UDP for STUN in the firewall; is stun_port right?",
        ProbePart::Connect => "does the relay run, is derp_port open, and its certificate good?",
        ProbePart::Login | ProbePart::Packets | ProbePart::FastStart | ProbePart::Challenge => {
            "is it a DERP relay? A proxy has to pass on `Upgrade`"
        }
    };
    match &step.outcome {
        Outcome::Good { took, .. } if step.part == ProbePart::Login => {
            let said = format!("lets in a node that nobody knows ({:.0} ms)", ms(*took));
            let remedy = "its access is open, or it fails open; set access = \"verify\" there, \
                          unless that is meant";
            Finding::notice(part, tried, said, remedy)
        }
        Outcome::Good { seen, took } => {
            Finding::good(part, tried, format!("works, {:.0} ms; {}", ms(*took), cut(seen)))
        }
        Outcome::Failed(Fault::NotAdmitted) => {
            Finding::good(part, tried, "answers like a relay, and refuses a stranger")
        }
        Outcome::Failed(Fault::Io(error)) if ip.is_ipv6() && no_way(error) => {
            Finding::not_tried(part, tried, "this host has no IPv6")
        }
        Outcome::Failed(fault) => Finding::wrong(part, tried, cut(&fault.to_string()), remedy),
        Outcome::NotTried(why) => Finding::not_tried(part, tried, *why),
    }
}

/// Whether this host has no way into that family at all.
fn no_way(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable)
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn node(ipv4: &str, ipv6: &str) -> Node {
        Node {
            name: "999a".to_owned(),
            host_name: "derp.example.org".to_owned(),
            ipv4: ipv4.to_owned(),
            ipv6: ipv6.to_owned(),
            ..Node::default()
        }
    }

    #[test]
    fn names_are_held_against_literals() {
        let says = |texts: &[&str]| Ok(texts.iter().map(|it| it.parse().unwrap()).collect());
        let fails = || Err(io::Error::other("no such name"));
        for (node, resolved, state, said, addresses) in [
            (node("", ""), says(&["192.0.2.1"]), State::Good, "is at 192.0.2.1", 1),
            (node("192.0.2.1", ""), says(&["192.0.2.1", "2001:db8::1"]), State::Good, "2001", 2),
            (node("192.0.2.1", "none"), says(&["192.0.2.1", "2001:db8::1"]), State::Good, "", 1),
            (node("192.0.2.2", "none"), says(&["192.0.2.1"]), State::Notice, "DNS says", 1),
            (node("192.0.2.2", "none"), fails(), State::Notice, "clients go by 192.0.2.2", 1),
            (node("", ""), fails(), State::Wrong, "does not resolve", 0),
            (node("none", "none"), says(&["192.0.2.1"]), State::Wrong, "no address", 0),
        ] {
            let (finding, tried) = judge_name(&node, &resolved);
            assert_eq!((finding.state, tried.len()), (state, addresses), "{finding:?}");
            assert!(finding.said.contains(said), "{said}: {finding:?}");
        }
    }
}
