//! All that is known and goes into the map, and the map that follows from it.
//!
//! Does: takes in plans, rounds, fetched maps and looks at Headscale, and logs each change once.
//! Does not: wait, also for a disk, publish, or start anything; that is `publication`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use derp::map::{DerpMap, Node};

use super::Plan;
use super::compose::{Upstream, compose};
use super::copy::{self, Copy};
use super::embedded::Collision;
use super::health::{Book, Move, Probed};
use super::status::{NodeStatus, Status, UpstreamStatus};
use super::upstream::{UpstreamError, UpstreamSettings};
use super::writer::DISK_TIME;
use crate::relays::LiveNode;

/// All that is known.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) plan: Arc<Plan>,
    pub(super) book: Book,
    /// By [`UpstreamSettings::name`].
    pub(super) upstreams: BTreeMap<String, Known>,
    pub(super) collision: Option<Collision>,
    config_file_error: Option<String>,
    /// Why the map is not in its file.
    file_error: Option<String>,
    /// Since when it is being written.
    writing: Option<Instant>,
    /// See [`Status`].
    confirmed: Instant,
    changed: Instant,
    changes: u64,
}

/// What is known of one upstream.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    map: Option<DerpMap>,
    fetched: Option<SystemTime>,
    last_error: Option<String>,
    copy_error: Option<String>,
    failures: u64,
    overridden: Vec<u64>,
    taken: usize,
}

/// The map that follows from what is known, and what was found out on the way.
pub(super) struct Composed {
    pub(super) map: DerpMap,
    /// For each upstream that there is a map of: its name, what is not taken, and how much is.
    pub(super) upstreams: Vec<(String, Vec<u64>, usize)>,
}

impl State {
    /// What is known at the start: the plan, who is heard of, and what lies on the disk, on which
    /// it blocks.
    pub(super) fn new(plan: Arc<Plan>, heard: &[LiveNode], now: Instant) -> Self {
        let mut state = Self {
            plan: Arc::clone(&plan),
            book: Book::default(),
            upstreams: BTreeMap::new(),
            collision: None,
            config_file_error: None,
            file_error: None,
            writing: None,
            confirmed: now,
            changed: now,
            changes: 0,
        };
        let kept = from_disk(&plan, &state.unknown_of(&plan));
        // Everybody comes in: there is nothing to tell.
        drop(state.adopt(plan, &kept, heard, now));
        state
    }

    /// The upstreams of `plan` that nothing is known of.
    pub(super) fn unknown_of(&self, plan: &Plan) -> Vec<UpstreamSettings> {
        let all = plan.upstreams.iter();
        all.filter(|it| !self.upstreams.contains_key(&it.name())).cloned().collect()
    }

    /// Takes over a plan, with what is `kept` on the disk of upstreams that are new in it.
    pub(super) fn adopt(
        &mut self,
        plan: Arc<Plan>,
        kept: &BTreeMap<String, Known>,
        heard: &[LiveNode],
        now: Instant,
    ) -> Vec<Move> {
        let mut old = std::mem::take(&mut self.upstreams);
        for settings in &plan.upstreams {
            let name = settings.name();
            let known = old.remove(&name).or_else(|| kept.get(&name).cloned()).unwrap_or_default();
            self.upstreams.insert(name, known);
        }
        self.plan = plan;
        self.hear(heard, now)
    }

    /// Takes over who is heard of.
    pub(super) fn hear(&mut self, heard: &[LiveNode], now: Instant) -> Vec<Move> {
        self.book.set(&self.plan.regions(), heard, self.plan.probe_interval, now)
    }

    /// Takes what a round of probes has shown.
    pub(super) fn judge(&mut self, round: &[(Node, Probed)], now: Instant) -> Vec<Move> {
        self.book.judge(round, now)
    }

    /// Notes that the map is published, and in its file.
    pub(super) fn confirm(&mut self, is_new: bool, now: Instant) {
        if self.file_error.take().is_some() {
            tracing::info!("the map is in its file again");
        }
        self.confirmed = now;
        if is_new {
            (self.changed, self.changes) = (now, self.changes + 1);
        }
    }

    /// Notes why the map is not in its file. Says whether that is new.
    pub(super) fn lack_file(&mut self, why: String) -> bool {
        let is_new = self.file_error.as_ref() != Some(&why);
        self.file_error = Some(why);
        is_new
    }

    /// Whether the map of now is not in its file.
    pub(super) const fn lacks_file(&self) -> bool {
        self.file_error.is_some()
    }

    /// Notes since when the map is being written, or that it is not.
    pub(super) const fn write_since(&mut self, since: Option<Instant>) {
        self.writing = since;
    }

    /// Whether the disk takes its time.
    pub(super) fn is_disk_late(&self, now: Instant) -> bool {
        self.writing.is_some_and(|since| now.saturating_duration_since(since) >= DISK_TIME)
    }

    /// Why the map is not in its file, also where nothing more is known than that it takes long.
    pub(super) fn file_trouble(&self, now: Instant) -> Option<String> {
        let late = || format!("the disk has not taken the map within {} s", DISK_TIME.as_secs());
        self.file_error.clone().or_else(|| self.is_disk_late(now).then(late))
    }

    /// Ids of our regions, whether they are in the map or not.
    pub(super) fn own_ids(&self) -> BTreeSet<u64> {
        let known = self.book.entries().iter().map(|entry| entry.member.region_id);
        known.chain(self.plan.own_ids()).collect()
    }

    /// Takes what a fetch has brought. Gives what is to be kept on the disk, and where.
    pub(super) fn receive(
        &mut self,
        settings: &UpstreamSettings,
        fetched: Result<DerpMap, UpstreamError>,
    ) -> Option<(PathBuf, Copy)> {
        let name = settings.name();
        // The plan may have changed under the fetch.
        let known = self.upstreams.get_mut(&name)?;
        match fetched {
            Ok(map) => {
                if known.last_error.take().is_some() {
                    tracing::info!(upstream = name, "the map of others is there again");
                }
                let fetched = SystemTime::now();
                known.fetched = Some(fetched);
                known.map = Some(map.clone());
                let folder = self.plan.state_dir.as_ref()?;
                Some((copy::path(folder, &name), Copy { map, fetched }))
            }
            Err(error) => {
                known.failures += 1;
                let words = error.to_string();
                if known.last_error.as_ref() != Some(&words) {
                    let kept = if known.map.is_some() {
                        "the last good map stays"
                    } else {
                        "there is no map of it"
                    };
                    tracing::warn!(upstream = name, %error, "{kept}");
                    known.last_error = Some(words);
                }
                None
            }
        }
    }

    /// Takes what came of keeping the copy of an upstream.
    pub(super) fn keep(&mut self, settings: &UpstreamSettings, error: Option<String>) {
        let name = settings.name();
        let Some(known) = self.upstreams.get_mut(&name) else { return };
        if let Some(error) = error.as_ref().filter(|_| error != known.copy_error) {
            tracing::warn!(upstream = name, error, "no copy of the map of others is kept");
        }
        known.copy_error = error;
    }

    /// Takes what a look at Headscale has shown.
    pub(super) fn collide(&mut self, collision: Option<Collision>, error: Option<String>) {
        if self.collision != collision {
            match &collision {
                Some(collision) => tracing::error!("{collision}"),
                None => tracing::info!("Headscale's embedded relay is out of the way"),
            }
            self.collision = collision;
        }
        if self.config_file_error != error {
            if let Some(error) = &error {
                tracing::warn!("{error}");
            }
            self.config_file_error = error;
        }
    }

    /// The map that follows.
    pub(super) fn compose(&self) -> Composed {
        let choices: Vec<_> = self
            .plan
            .upstreams
            .iter()
            .filter_map(|it| Some((it.name(), &it.choice, self.upstreams.get(&it.name())?)))
            .filter_map(|(name, choice, known)| Some((name, choice, known.map.as_ref()?)))
            .collect();
        let upstreams: Vec<_> =
            choices.iter().map(|(_, choice, map)| Upstream { map, choice }).collect();
        let composed = compose(&self.plan.regions(), &self.book.members(), &upstreams);
        let names = choices.into_iter().map(|(name, _, _)| name);
        let found = names.zip(composed.overridden).zip(composed.taken);
        let upstreams = found.map(|((name, overridden), taken)| (name, overridden, taken));
        Composed { map: composed.map, upstreams: upstreams.collect() }
    }

    /// Notes what [`State::compose`] has found out.
    pub(super) fn note(&mut self, upstreams: Vec<(String, Vec<u64>, usize)>) {
        for (name, overridden, taken) in upstreams {
            let Some(known) = self.upstreams.get_mut(&name) else { continue };
            if known.overridden != overridden && !overridden.is_empty() {
                tracing::warn!(upstream = name, ids = ?overridden, "regions of others are left out: there are such already");
            }
            (known.overridden, known.taken) = (overridden, taken);
        }
    }

    /// A picture of it.
    pub(super) fn picture(&self, now: Instant) -> Status {
        let placed = self.book.entries().iter().zip(self.book.placed());
        let nodes = placed.map(|(it, is_in)| NodeStatus {
            region: it.member.region_id,
            node: it.member.node.clone(),
            configured: it.configured,
            live: it.live,
            is_in,
            is_kept: is_in && it.is_kept(),
            since: it.since,
            last_probe: it.last.clone(),
        });
        let upstreams = self.plan.upstreams.iter().map(|settings| {
            let known = self.upstreams.get(&settings.name()).cloned().unwrap_or_default();
            UpstreamStatus {
                name: settings.name(),
                fetched: known.fetched,
                regions: known.taken,
                overridden: known.overridden,
                last_error: known.last_error,
                failures: known.failures,
            }
        });
        Status {
            confirmed: self.confirmed,
            changed: self.changed,
            changes: self.changes,
            nodes: nodes.collect(),
            upstreams: upstreams.collect(),
            collision: self.collision.clone(),
            file_error: self.file_trouble(now),
        }
    }
}

/// What is kept of `unknown` upstreams of a plan, by name. Blocks on the disk.
pub(super) fn from_disk(plan: &Plan, unknown: &[UpstreamSettings]) -> BTreeMap<String, Known> {
    unknown.iter().map(|settings| (settings.name(), kept(plan, settings))).collect()
}

/// The last good copy, or else the file that came with the configuration.
fn kept(plan: &Plan, settings: &UpstreamSettings) -> Known {
    let name = settings.name();
    if let Some(folder) = &plan.state_dir {
        let path = copy::path(folder, &name);
        match copy::read(&path) {
            Ok(Some(copy)) => {
                return Known {
                    map: Some(copy.map),
                    fetched: Some(copy.fetched),
                    ..Known::default()
                };
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(upstream = name, path = %path.display(), %error, "the copy of the map of others is not used");
            }
        }
    }
    match settings.read_file() {
        Some(Ok(map)) => Known { map: Some(map), ..Known::default() },
        Some(Err(error)) => {
            tracing::warn!(upstream = name, %error, "the file of the map of others is not used");
            Known::default()
        }
        None => Known::default(),
    }
}
