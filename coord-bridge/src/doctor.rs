//! Everything tried that a bridge needs, as far as it can be tried from here.
//!
//! ```text
//! Config -> files, store, ports -> running? -> map, verify
//!                               -> nodes, headscale, headscale_config      -> Report
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `files` | files of secrets and of the map |
//! | `ports` | listeners: free, taken by a bridge, or by somebody else |
//! | `nodes` | names, STUN, TLS and login of each relay |
//! | `map` | the map as the bridge serves it, and as Headscale has it |
//! | `headscale` | the API: release, key, users |
//! | `headscale_config` | Headscale's configuration, held against ours |
//! | `verify` | whether a stranger is refused |
//!
//! Does: says of each thing what was tried, what came of it and what to do; works beside a bridge
//! that runs and without one; is done within [`PART_TIME`] for each part, most of them at once.
//! Does not: change anything, print, or show a secret.

mod files;
mod headscale;
mod headscale_config;
mod map;
mod nodes;
mod ports;
mod verify;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use derp::map::DerpMap;
use serde_json::{Value, json};

use crate::config::{Config, OWN_REGION_IDS};
use crate::headscale_file::HeadscaleFile;
use crate::publication::embedded::{self, ConfigFileError, EmbeddedSettings};
use crate::publication::probing::cut;
use crate::store::Location;

/// Time for one part. A relay has three steps of 5 s at two addresses; names are resolved before.
pub const PART_TIME: Duration = Duration::from_secs(45);

/// What belongs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Files and the store.
    Configuration,
    /// Where the bridge listens, or would.
    Listeners,
    /// The map.
    Map,
    /// Relays.
    Relays,
    /// Headscale's API.
    Headscale,
    /// Headscale's configuration.
    HeadscaleConfig,
    /// Who may enter.
    Access,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is as it has to be.
    Good,
    /// It works, and an operator should look at it.
    Notice,
    /// It does not work, or will not.
    Wrong,
    /// It cannot be seen from here, or there is nothing to see.
    NotTried,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it belongs.
    pub part: Part,
    /// What was tried.
    pub tried: String,
    /// What came of it.
    pub state: State,
    /// The same in words.
    pub said: String,
    /// What to do; empty where nothing is.
    pub remedy: String,
}

/// All findings. Displayed, it is a table for people: one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In groups.
    pub findings: Vec<Finding>,
    /// Whether a bridge runs at the addresses of the configuration.
    pub serves: bool,
}

/// What is tried.
#[derive(Clone, Debug)]
pub struct Patient {
    /// The configuration, which can be used.
    pub config: Config,
    /// Its file.
    pub file: Option<PathBuf>,
    /// Headscale's configuration, if it is known.
    pub headscale_file: Option<PathBuf>,
    /// The store with its password, or why that cannot be read.
    pub store: Result<Location, String>,
}

/// Tries everything.
pub async fn examine(patient: &Patient) -> Report {
    let config = &patient.config;
    let mut findings = vec![parses(patient.file.as_deref())];
    findings.extend(blocking(Part::Configuration, "files", {
        let patient = patient.clone();
        move || [files::secrets(&patient.config), files::store(&patient)].concat()
    }));
    let (ports, bridge) = ports::look(&config.listen).await;
    findings.extend(ports);
    let file = read_headscale_file(patient.headscale_file.as_deref()).await;
    let settings = EmbeddedSettings {
        config_file: patient.headscale_file.clone(),
        ..config.plan.embedded.clone()
    };
    let headscale_file = file.as_ref().and_then(|read| read.as_ref().ok());
    let (sight, served, access, api) = tokio::join!(
        embedded::see(&settings),
        in_time(Part::Map, "the map", map::look(config, &bridge, headscale_file)),
        in_time(Part::Access, "the verify front", verify::look(&bridge)),
        in_time(Part::Headscale, "Headscale", headscale::look(config)),
    );
    let (served, map) = served.unwrap_or_else(|late| (vec![late], None));
    findings.extend(served);
    let own = own_ids(config, map.as_ref());
    findings.push(headscale_config::collision(&settings, &sight, &own));
    findings.extend(headscale_config::look(config, file.as_ref()));
    findings.extend(access.unwrap_or_else(|late| vec![late]));
    findings.extend(api.unwrap_or_else(|late| vec![late]));
    let map: DerpMap = map.unwrap_or_else(|| config.plan.map.clone());
    findings.extend(nodes::look(&map, &own).await);
    findings.sort_by_key(|finding| finding.part);
    Report { findings, serves: bridge.runs() }
}

/// Ids of our regions: those that are configured, and those that relays have brought into the map
/// that is served, where ids from 900 to 999 are somebody's own.
fn own_ids(config: &Config, served: Option<&DerpMap>) -> BTreeSet<u64> {
    let ids = served.into_iter().flat_map(|map| map.regions.keys().copied());
    config.plan.own_ids().into_iter().chain(ids.filter(|id| OWN_REGION_IDS.contains(id))).collect()
}

/// The line of a configuration that could be read.
fn parses(file: Option<&Path>) -> Finding {
    let tried = file.map_or("configuration".to_owned(), |file| file.display().to_string());
    Finding::good(Part::Configuration, tried, "the configuration can be used")
}

async fn read_headscale_file(
    path: Option<&Path>,
) -> Option<Result<HeadscaleFile, ConfigFileError>> {
    let path = path?.to_owned();
    tokio::task::spawn_blocking(move || HeadscaleFile::read(&path)).await.ok()
}

/// Runs what waits for the disk on a thread that may.
fn blocking(
    part: Part,
    what: &str,
    work: impl FnOnce() -> Vec<Finding> + Send + 'static,
) -> Vec<Finding> {
    let (done, result) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(move || {
        // Nobody waits any more for what comes too late.
        drop(done.send(work()));
    });
    let late = || vec![too_late(part, what)];
    match thread {
        Ok(_) => result.recv_timeout(PART_TIME).unwrap_or_else(|_| late()),
        Err(_) => late(),
    }
}

async fn in_time<T>(part: Part, what: &str, work: impl Future<Output = T>) -> Result<T, Finding> {
    tokio::time::timeout(PART_TIME, work).await.map_err(|_| too_late(part, what))
}

fn too_late(part: Part, what: &str) -> Finding {
    let said = format!("no result within {} s", PART_TIME.as_secs());
    Finding::wrong(part, what, said, "look at what it waits for: disk, network, DNS")
}

impl Finding {
    fn new(part: Part, state: State, tried: impl Into<String>, said: impl Into<String>) -> Self {
        Self { part, state, tried: tried.into(), said: line(&said.into()), remedy: String::new() }
    }

    fn good(part: Part, tried: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(part, State::Good, tried, said)
    }

    fn not_tried(part: Part, tried: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(part, State::NotTried, tried, said)
    }

    fn notice(
        part: Part,
        tried: impl Into<String>,
        said: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { remedy: remedy.into(), ..Self::new(part, State::Notice, tried, said) }
    }

    fn wrong(
        part: Part,
        tried: impl Into<String>,
        said: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { remedy: remedy.into(), ..Self::new(part, State::Wrong, tried, said) }
    }
}

/// What others have said, on one line.
fn line(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl Report {
    /// How many things are wrong.
    #[must_use]
    pub fn wrong(&self) -> usize {
        self.findings.iter().filter(|it| it.state == State::Wrong).count()
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let findings = self.findings.iter().map(|it| {
            json!({
                "part": it.part.to_string(),
                "tried": it.tried,
                "state": it.state.word(),
                "said": it.said,
                "remedy": (!it.remedy.is_empty()).then_some(&it.remedy),
            })
        });
        let findings: Vec<Value> = findings.collect();
        json!({ "serves": self.serves, "wrong": self.wrong(), "findings": findings })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = if self.serves {
            "A bridge runs with this configuration, and was asked."
        } else {
            "No bridge runs with this configuration: what only it can say is not tried."
        };
        writeln!(f, "{runs}")?;
        let mut last = None;
        for finding in &self.findings {
            if last.replace(finding.part) != Some(finding.part) {
                writeln!(f, "\n{}", finding.part)?;
            }
            let Finding { tried, state, said, remedy, .. } = finding;
            write!(f, "  {:<9} {tried}: {said}", state.mark())?;
            if !remedy.is_empty() {
                write!(f, "; {remedy}")?;
            }
            writeln!(f)?;
        }
        let notices = self.findings.iter().filter(|it| it.state == State::Notice).count();
        writeln!(f, "\n{} wrong, {notices} to look at", self.wrong())
    }
}

impl State {
    /// For programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Notice => "notice",
            Self::Wrong => "wrong",
            Self::NotTried => "not-tried",
        }
    }

    /// For people, who look for what stands out.
    const fn mark(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Notice => "look",
            Self::Wrong => "WRONG",
            Self::NotTried => "not tried",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Configuration => "Configuration",
            Self::Listeners => "Listeners",
            Self::Map => "Map",
            Self::Relays => "Relays",
            Self::Headscale => "Headscale",
            Self::HeadscaleConfig => "Headscale's configuration",
            Self::Access => "Access",
        })
    }
}
