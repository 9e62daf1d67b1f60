//! One trial: everybody logs in, then the phases are played and measured.
//!
//! ```text
//! measure -> log in -> measure -> phase, measure, phase, measure … -> drain -> sum up
//! ```
//!
//! Does: gives each workload a thread, measures the server at the borders of the phases, shows
//! progress, and ends early on Ctrl-C or when a thread fails.
//! Does not: know what is measured; that is the scenario.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::arrival::Counted;
use super::engine::Engine;
use super::failure::Failure;
use super::link::Link;
use super::logins::{LoginCount, Logins};
use super::meter::{Meter, Usage};
use super::progress::Progress;
use super::run::Run;
use super::stop::Stop;
use super::tally::Tally;
use super::workload::Workload;

/// Between "everybody is in" and the first packet: the server has time to put its things away.
const SETTLE: Duration = Duration::from_millis(200);

/// How often progress is shown and memory looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What a trial needs besides workloads.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The server's process, if it is on this host.
    pub server: Option<Meter>,
    /// Logins at a time while everybody logs in.
    pub concurrency: usize,
    /// Senders wake up at multiples of this only, in nanoseconds; 0 for whenever one is due.
    pub grain: u64,
    /// Ctrl-C.
    pub stop: Stop,
    /// Whether a person watches.
    pub progress: Progress,
}

/// Everybody is in, and nothing runs yet.
#[derive(Debug)]
pub struct Trial {
    setting: Setting,
    engines: Vec<Engine>,
    /// The server before anybody logged in, and with everybody.
    empty: Option<Usage>,
    full: Option<Usage>,
}

/// What one phase cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// How long it was, in seconds.
    pub seconds: f64,
    /// CPU time of the server, in seconds.
    pub server_cpu: Option<f64>,
    /// CPU time of the generator, in seconds.
    pub own_cpu: f64,
    /// Memory of the server at the end, in bytes.
    pub rss: Option<u64>,
    /// The most that was seen, in bytes.
    pub peak_rss: Option<u64>,
}

/// What came of a trial.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What all threads counted.
    pub counted: Counted,
    /// What each phase cost.
    pub costs: Vec<Cost>,
    /// Memory of the server before anybody logged in, in bytes.
    pub empty_rss: Option<u64>,
    /// Memory of the server with everybody logged in, in bytes.
    pub full_rss: Option<u64>,
}

impl Outcome {
    /// The tally of a group in a phase; an empty one, for a group without flows.
    #[must_use]
    pub fn tally(&self, group: usize, phase: usize) -> Tally {
        let tally = self.counted.groups.get(group).and_then(|phases| phases.get(phase));
        tally.cloned().unwrap_or_default()
    }

    /// What a phase cost.
    #[must_use]
    pub fn cost(&self, phase: usize) -> Cost {
        self.costs.get(phase).copied().unwrap_or_default()
    }
}

impl Trial {
    /// Logs everybody in.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the first client that does not get in.
    pub fn open(setting: &Setting, workloads: Vec<Workload>) -> Result<Self, Failure> {
        let read = || setting.server.as_ref().map(Meter::read_exactly).transpose();
        let empty = read()?;
        let all: usize = workloads.iter().map(|workload| workload.clients.len()).sum();
        let mut engines = Vec::new();
        let mut before = 0;
        for workload in workloads {
            let links = log_in(setting, &workload, before, all)?;
            before += links.len();
            engines.push(Engine::new(workload, links, setting.grain)?);
        }
        thread::sleep(SETTLE);
        Ok(Self { setting: setting.clone(), engines, empty, full: read()? })
    }

    /// Plays phases of these lengths.
    ///
    /// # Errors
    ///
    /// [`Failure`]: a client that is needed has lost its connection, packets were corrupt, or the
    /// server's process is gone.
    pub fn play(self, phases: &[Duration]) -> Result<Outcome, Failure> {
        self.play_and(phases, None::<fn(&Run) -> Result<(), Failure>>)
    }

    /// Plays phases of these lengths, the last of which ends when `during_last`, which runs in
    /// it, has returned.
    ///
    /// # Errors
    ///
    /// As [`Trial::play`], and what `during_last` says.
    pub fn play_while(
        self,
        phases: &[Duration],
        during_last: impl FnMut(&Run) -> Result<(), Failure>,
    ) -> Result<Outcome, Failure> {
        self.play_and(phases, Some(during_last))
    }

    fn play_and(
        self,
        phases: &[Duration],
        mut during_last: Option<impl FnMut(&Run) -> Result<(), Failure>>,
    ) -> Result<Outcome, Failure> {
        let Self { setting, engines, empty, full } = self;
        let run = Arc::new(Run::new(Instant::now(), phases));
        let players: Vec<Player> = engines
            .into_iter()
            .map(|engine| {
                let run = Arc::clone(&run);
                thread::spawn(move || engine.play(&run))
            })
            .collect();

        let mut costs = Vec::new();
        let mut failure = None;
        let mut start = Point::read(&setting, &run)?;
        for phase in 0..phases.len() {
            let last = phase + 1 == phases.len();
            let mut peak = start.server.map(|usage| usage.rss_bytes);
            let played = match during_last.as_mut().filter(|_| last) {
                Some(during) => during(&run).map(|()| run.stop()),
                None => watch(&setting, &run, phase, &players, &mut peak),
            };
            let end = Point::read(&setting, &run);
            match (played, end) {
                (Ok(()), Ok(end)) => {
                    costs.push(start.until(&end, peak));
                    start = end;
                }
                (Err(error), _) | (_, Err(error)) => {
                    failure = Some(error);
                    run.stop();
                    break;
                }
            }
        }

        let mut counted = Counted::default();
        for player in players {
            match player.join() {
                Ok(Ok(part)) => merge(&mut counted, part),
                // A lost connection says more than a dead process.
                Ok(Err(error)) => failure = Some(error),
                Err(_) => failure = Some(Failure::Thread),
            }
        }
        setting.progress.clear();
        if let Some(failure) = failure {
            return Err(failure);
        }
        if counted.corrupt > 0 {
            return Err(Failure::Corrupt(counted.corrupt));
        }
        let rss = |usage: Option<Usage>| usage.map(|usage| usage.rss_bytes);
        Ok(Outcome { counted, costs, empty_rss: rss(empty), full_rss: rss(full) })
    }
}

type Player = JoinHandle<Result<Counted, Failure>>;

/// The border of a phase.
#[derive(Clone, Copy)]
struct Point {
    at: u64,
    server: Option<Usage>,
    own: Usage,
}

impl Point {
    fn read(setting: &Setting, run: &Run) -> Result<Self, Failure> {
        let server = setting.server.as_ref().map(Meter::read).transpose()?;
        Ok(Self { at: run.now(), server, own: Meter::own().read()? })
    }

    fn until(&self, end: &Self, peak: Option<u64>) -> Cost {
        let rss = end.server.map(|usage| usage.rss_bytes);
        let both = self.server.zip(end.server);
        Cost {
            seconds: end.at.saturating_sub(self.at) as f64 / 1e9,
            server_cpu: both.map(|(start, end)| end.cpu_seconds - start.cpu_seconds),
            own_cpu: end.own.cpu_seconds - self.own.cpu_seconds,
            rss,
            peak_rss: peak.max(rss),
        }
    }
}

fn log_in(
    setting: &Setting,
    workload: &Workload,
    before: usize,
    all: usize,
) -> Result<Vec<Link>, Failure> {
    let run = Run::new(Instant::now(), &[]);
    let mut links: Vec<Option<Link>> = Vec::new();
    links.resize_with(workload.clients.len(), || None);
    let logins = Logins {
        clients: &workload.clients,
        concurrency: setting.concurrency,
        pace: None,
        strict: true,
    };
    let goes_on = |count: &LoginCount| {
        setting.progress.logins(before + count.done, all);
        !setting.stop.is_asked()
    };
    let keep = |index: usize, link: Link, _: u64| {
        if let Some(place) = links.get_mut(index) {
            *place = Some(link);
        }
    };
    logins.run(&run, keep, goes_on)?;
    setting.progress.clear();
    let count = links.len();
    let links: Vec<Link> = links.into_iter().flatten().collect();
    if links.len() < count { Err(Failure::Nothing) } else { Ok(links) }
}

/// Waits for the end of a phase.
fn watch(
    setting: &Setting,
    run: &Run,
    phase: usize,
    players: &[Player],
    peak: &mut Option<u64>,
) -> Result<(), Failure> {
    loop {
        let now = run.now();
        let end = run.end_of(phase);
        if now >= end {
            return Ok(());
        }
        if setting.stop.is_asked() {
            run.stop();
            // Half a warm-up says nothing.
            return if phase + 1 == run.phases() { Ok(()) } else { Err(Failure::Nothing) };
        }
        if players.iter().any(JoinHandle::is_finished) {
            // Before the end only a failure ends a thread; joining it tells which.
            run.stop();
            return Ok(());
        }
        thread::sleep(LOOK.min(Duration::from_nanos(end - now)));
        if let Some(server) = &setting.server {
            *peak = (*peak).max(Some(server.read()?.rss_bytes));
        }
        setting.progress.traffic(run);
    }
}

fn merge(sum: &mut Counted, part: Counted) {
    sum.corrupt += part.corrupt;
    sum.closed += part.closed;
    sum.gone += part.gone;
    for (index, phases) in part.groups.into_iter().enumerate() {
        if sum.groups.len() <= index {
            sum.groups.push(phases);
            continue;
        }
        for (into, tally) in sum.groups[index].iter_mut().zip(&phases) {
            into.merge(tally);
        }
    }
}
