//! A region tried as its clients would: fetch the map, then use the relay that it names.
//!
//! Does: takes nothing from the inside of this process but the addresses, so that what it says
//! holds for every client on this host.
//! Does not: print.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use derp::map::DerpMap;
use derp_relay::probe::{self, Fault, Outcome, Part, Step, Target, Trust};

use crate::publication;
use crate::published::{Edition, Format};

/// Ports that a map means by 0.
const DEFAULT_DERP_PORT: u16 = 443;
const DEFAULT_STUN_PORT: u16 = 3_478;

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What has to be published.
    pub edition: &'a Edition,
    /// Where it is published.
    pub map: SocketAddr,
    /// Where plain HTTP of the relay is: no map says.
    pub http: Option<SocketAddr>,
    /// Everybody may use the relay. Where not, this test has to be refused: it is a stranger.
    pub is_open: bool,
}

/// What was tried, and what came of it. Displayed, it is a table for people.
#[derive(Debug, Default)]
pub struct Findings(Vec<Row>);

#[derive(Debug)]
struct Row {
    what: String,
    address: SocketAddr,
    /// What was seen, with the time it took, or why it is not good.
    seen: Result<(Duration, String), String>,
}

/// Why a map cannot be tried.
#[derive(Debug, thiserror::Error)]
enum MapFault {
    #[error("{0}")]
    Fetch(#[from] Fault),
    #[error("answers {0}, not 200")]
    Status(u16),
    #[error("another map is served than the one that is published")]
    Other,
    #[error("{0}")]
    Parse(#[from] derp::map::ParseMapError),
    #[error("the map names no address of a relay with a pin")]
    NoTarget,
}

impl Findings {
    /// The first thing that does not work: what, where and why.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.0.iter().find_map(|row| match &row.seen {
            Err(why) => Some(format!("{} at {}: {why}", row.what, row.address)),
            Ok(_) => None,
        })
    }
}

impl Findings {
    fn add(&mut self, what: String, address: SocketAddr, seen: Result<(Duration, String), String>) {
        self.0.push(Row { what, address, seen });
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row { what, address, seen } in &self.0 {
            let address = address.to_string();
            write!(f, "  {what:<13} {address:<21} ")?;
            match seen {
                Ok((took, seen)) => {
                    writeln!(f, "ok {:>8.1} ms  {seen}", took.as_secs_f64() * 1e3)?;
                }
                Err(why) => writeln!(f, "FAILED          {why}")?,
            }
        }
        Ok(())
    }
}

/// Tries everything. Blocks; takes milliseconds where all is well.
#[must_use]
pub fn run(subject: Subject<'_>) -> Findings {
    let mut findings = Findings::default();
    let mut map = None;
    for format in [Format::Json, Format::Yaml] {
        let began = Instant::now();
        let seen = fetch(subject, format).map(|fetched| {
            map = map.take().or(fetched);
            (began.elapsed(), "as published".to_owned())
        });
        findings.add(
            format!("map, {format}"),
            subject.map,
            seen.map_err(|fault| fault.to_string()),
        );
    }
    let Some(map) = map else { return findings };
    let Some(target) = target(&map, subject.http) else {
        findings.add("map".to_owned(), subject.map, Err(MapFault::NoTarget.to_string()));
        return findings;
    };
    for step in steps(&target, subject.is_open) {
        let seen = match step.outcome {
            Outcome::Good { .. } if step.part == Part::Login && !subject.is_open => {
                Err("a node that nobody knows gets in".to_owned())
            }
            Outcome::Failed(Fault::NotAdmitted) if !subject.is_open => {
                Ok((Duration::ZERO, "a stranger is refused".to_owned()))
            }
            Outcome::Good { took, seen } => Ok((took, seen)),
            Outcome::Failed(fault) => Err(fault.to_string()),
            Outcome::NotTried(why) => Err(format!("not tried: {why}")),
        };
        findings.add(step.part.to_string(), step.address, seen);
    }
    findings
}

/// Everything that a client can do, or as much of it as a stranger can.
fn steps(target: &Target, is_open: bool) -> Vec<Step> {
    if is_open {
        return probe::run(target).steps;
    }
    match publication::new_probe_key() {
        Ok(key) => probe::greet(target, key).steps,
        Err(error) => vec![Step {
            part: Part::Login,
            address: target.derp,
            outcome: Outcome::Failed(Fault::Io(error)),
        }],
    }
}

/// Fetches the map, and reads it where that is what clients do.
fn fetch(subject: Subject<'_>, format: Format) -> Result<Option<DerpMap>, MapFault> {
    let answer = probe::http::get(subject.map, &format!("/derpmap.{format}"), "")?;
    if answer.status() != 200 {
        return Err(MapFault::Status(answer.status()));
    }
    if answer.body != subject.edition.rendering(format).bytes {
        return Err(MapFault::Other);
    }
    match format {
        Format::Json => Ok(Some(DerpMap::parse(&answer.body)?)),
        Format::Yaml => Ok(None),
    }
}

/// The first relay of a map that can be tried, at its first address.
fn target(map: &DerpMap, http: Option<SocketAddr>) -> Option<Target> {
    let nodes = map.regions.values().flat_map(|region| &region.nodes);
    nodes.filter(|node| !node.stun_only && !node.cert_name.is_empty()).find_map(|node| {
        let address = [&node.ipv4, &node.ipv6].into_iter().find_map(|text| text.parse().ok())?;
        let at = |port, default| port_at(address, port, default);
        Some(Target {
            derp: at(node.derp_port, DEFAULT_DERP_PORT)?,
            host_name: node.host_name.clone(),
            trust: Trust::Pin(node.cert_name.clone()),
            stun: at(node.stun_port, DEFAULT_STUN_PORT),
            http,
        })
    })
}

/// `None` where the port is switched off.
fn port_at(address: IpAddr, port: i32, default: u16) -> Option<SocketAddr> {
    let port = if port == 0 { default } else { u16::try_from(port).ok()? };
    Some(SocketAddr::new(address, port))
}
