//! Tries a relay as a client would: one report, one step for each thing that clients rely on.
//!
//! | module | holds |
//! |---|---|
//! | `fault` | why a step failed |
//! | [`http`] | one GET over plain HTTP |
//! | `pin` | trust by the fingerprint of a certificate, as a DERP map gives it |
//! | `session` | a DERP client that logs in and exchanges packets |
//! | `stream` | TCP and TLS with a deadline over all |
//! | `stun` | one question over UDP |
//! | `trust` | the rules of TLS, as a node of a DERP map says them |
//!
//! Does: measures every step, and says what is wrong in words.
//! Does not: resolve names, print, or use threads: a call takes up to [`STEP_TIME`] a step.

mod fault;
pub mod http;
mod pin;
mod session;
mod stream;
mod stun;
mod trust;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use derp::key::{NodePrivate, NodePublic};

pub use fault::Fault;
pub use trust::Authorities;

use self::session::Session;

/// Time for one step.
pub const STEP_TIME: Duration = Duration::from_secs(5);

/// Bytes in a packet that is sent for a trial: what a full tunnel packet has.
const PACKET_LEN: usize = 1_400;

/// A relay to be tried, at one address of each service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where DERP is.
    pub derp: SocketAddr,
    /// Name that clients call it by: a DNS name or an IP address.
    pub host_name: String,
    /// How clients know that it is the right one.
    pub trust: Trust,
    /// Where STUN is, if it has any.
    pub stun: Option<SocketAddr>,
    /// Where `/generate_204` is, if it has any over plain HTTP.
    pub http: Option<SocketAddr>,
}

/// How a client knows that a relay is the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It does not: there is no TLS.
    Plain,
    /// By its certificate, as `CertName` in a DERP map pins it: `sha256-raw:` and 64 hex digits.
    Pin(String),
    /// By a certificate of an authority.
    Authority {
        /// Whose certificates are good.
        authorities: Authorities,
        /// Name that the certificate has to be for.
        cert_name: String,
    },
    /// It does not, and asks for TLS all the same: `InsecureForTests` in a DERP map.
    Anyone,
}

/// What is tried, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A STUN request is answered with the address that it came from.
    Stun,
    /// TCP, and TLS with the right certificate.
    Connect,
    /// Upgrade and login, twice, with keys of their own.
    Login,
    /// A packet each way between the two arrives unchanged.
    Packets,
    /// A login without waiting for the answer to the upgrade.
    FastStart,
    /// The check for captive portals.
    Challenge,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stun => "STUN",
            Self::Connect => "TLS",
            Self::Login => "login",
            Self::Packets => "packets",
            Self::FastStart => "fast start",
            Self::Challenge => "generate_204",
        })
    }
}

/// What came of one step.
#[derive(Debug)]
pub enum Outcome {
    /// It works.
    Good {
        /// Time it took; of packets, of the slower way.
        took: Duration,
        /// What was seen.
        seen: String,
    },
    /// It does not work.
    Failed(Fault),
    /// It was not tried.
    NotTried(&'static str),
}

/// One step of a trial.
#[derive(Debug)]
pub struct Step {
    /// What was tried.
    pub part: Part,
    /// Where.
    pub address: SocketAddr,
    /// What came of it.
    pub outcome: Outcome,
}

/// All steps of a trial.
#[derive(Debug, Default)]
pub struct Report {
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Report {
    /// Whether no step failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.first_failure().is_none()
    }

    /// The first step that failed.
    #[must_use]
    pub fn first_failure(&self) -> Option<&Step> {
        self.steps.iter().find(|step| matches!(step.outcome, Outcome::Failed(_)))
    }

    fn add(&mut self, part: Part, address: SocketAddr, outcome: Outcome) {
        self.steps.push(Step { part, address, outcome });
    }
}

/// Tries everything at `target`, one step after the other.
///
/// Blocks, for up to [`STEP_TIME`] a step.
#[must_use]
pub fn run(target: &Target) -> Report {
    let mut report = Report::default();
    if let Some(address) = target.stun {
        report.add(Part::Stun, address, outcome(stun::ask(address)));
    }
    try_derp(target, &mut report);
    if let Some(address) = target.http {
        report.add(Part::Challenge, address, outcome(http::challenge(address)));
    }
    report
}

/// Tries what no client can do without, and what costs a relay little: STUN, TLS, upgrade, and
/// one login with the key `own`.
///
/// A relay that knows who may use it, and closes where `own` would be let in, is
/// [`Fault::NotAdmitted`]: it has answered like a relay up to there.
///
/// Blocks, for up to [`STEP_TIME`] a step.
#[must_use]
pub fn greet(target: &Target, own: NodePrivate) -> Report {
    let mut report = Report::default();
    if let Some(address) = target.stun {
        report.add(Part::Stun, address, outcome(stun::ask(address)));
    }
    let began = Instant::now();
    let session = match Session::dial(target) {
        Ok(session) => session,
        Err(fault) => {
            report.add(Part::Connect, target.derp, Outcome::Failed(fault));
            return report;
        }
    };
    let took = began.elapsed();
    report.add(Part::Connect, target.derp, Outcome::Good { took, seen: session.describe() });
    let began = Instant::now();
    let seen = session
        .log_in_as(own)
        .map(|client| (began.elapsed(), format!("relay key {}", client.relay())));
    report.add(Part::Login, target.derp, outcome(seen));
    report
}

/// Asks for an answer to STUN at `address`, and nothing else. Blocks, for up to [`STEP_TIME`].
#[must_use]
pub fn ask_stun(address: SocketAddr) -> Report {
    let mut report = Report::default();
    report.add(Part::Stun, address, outcome(stun::ask(address)));
    report
}

fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Fault::Io(io::Error::other(error)))?;
    Ok(bytes)
}

/// What a step has seen, with the time that it took.
type Seen = Result<(Duration, String), Fault>;

fn outcome(seen: Seen) -> Outcome {
    match seen {
        Ok((took, seen)) => Outcome::Good { took, seen },
        Err(fault) => Outcome::Failed(fault),
    }
}

/// The steps that need one another.
fn try_derp(target: &Target, report: &mut Report) {
    let mut rest = [Part::Connect, Part::Login, Part::Packets, Part::FastStart].into_iter();
    let tried = steps_of_derp(target, |good| {
        if let Some(part) = rest.next() {
            report.add(part, target.derp, good);
        }
    });
    let why = match tried {
        Ok(()) => "without TLS 1.3 and the relay's key in its certificates no client does it",
        Err(fault) => {
            if let Some(part) = rest.next() {
                report.add(part, target.derp, Outcome::Failed(fault));
            }
            "the step before failed"
        }
    };
    for part in rest {
        report.add(part, target.derp, Outcome::NotTried(why));
    }
}

fn steps_of_derp(target: &Target, mut good: impl FnMut(Outcome)) -> Result<(), Fault> {
    let mut good = |took, seen| good(Outcome::Good { took, seen });

    let began = Instant::now();
    let first = Session::dial(target)?;
    good(began.elapsed(), first.describe());
    let second = Session::dial(target)?;
    let advertised = first.relay_key_in_certificate();

    let began = Instant::now();
    let mut first = first.log_in()?;
    hold_same(advertised.unwrap_or(first.relay()), first.relay())?;
    let took = began.elapsed();
    let mut second = second.log_in()?;
    hold_same(first.relay(), second.relay())?;
    good(took, format!("relay key {}", first.relay()));

    let there = session::send_across(&mut first, &mut second)?;
    let back = session::send_across(&mut second, &mut first)?;
    good(there.max(back), format!("{PACKET_LEN} bytes each way"));

    if let Some(relay) = advertised {
        let began = Instant::now();
        let mut third = Session::dial(target)?.fast_start(relay)?;
        let took = began.elapsed();
        session::send_across(&mut third, &mut first)?;
        good(took, "and a packet".to_owned());
    }
    Ok(())
}

/// One relay has one key.
fn hold_same(known: NodePublic, found: NodePublic) -> Result<(), Fault> {
    if known == found { Ok(()) } else { Err(Fault::OtherRelay) }
}
