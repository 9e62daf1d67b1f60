//! The first page: what is well and what is not, in words.
//!
//! Does: puts together what each part of the bridge says of itself. Does not: ask Headscale.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::events;
use super::frame::{Page, Section};
use super::site::Shown;
use super::visit::Visit;
use super::words::{self, Mark};
use crate::events::feed::{Channel, Delivery};
use crate::headscale::BreakerState;
use crate::http::api::problem::Problem;
use crate::provisioning::RECONCILE_TIME;
use crate::store::events::Event;
use crate::store::machines::{self, State};
use crate::store::{StoreError, events as rows};

/// Events that are shown.
const EVENTS: i64 = 6;

/// Rounds of reconciliation that may be missed before somebody should look.
const MISSED_ROUNDS: u32 = 4;

/// One thing that is well, or not.
struct Finding {
    mark: Mark,
    what: &'static str,
    words: String,
    section: Option<Section>,
}

/// What the store has for this page.
struct Stored {
    counts: Vec<(State, i64)>,
    events: Vec<Event>,
    /// What waits for each outlet, by name.
    waiting: BTreeMap<String, i64>,
}

pub(super) async fn show(visit: &Visit) -> Result<Shown, Problem> {
    let store = visit.provisioning.store();
    let positions: Vec<(String, String)> = channels(visit)
        .filter_map(|channel| Some((channel.name().to_owned(), channel.position()?)))
        .collect();
    let stored = store
        .read(move |session| {
            let mut waiting = BTreeMap::new();
            for (name, position) in positions {
                waiting.insert(name, rows::count_after(session, &position)?);
            }
            Ok::<_, StoreError>(Stored {
                waiting,
                counts: machines::count_by_state(session)?,
                events: rows::before(session, None, None, EVENTS)?,
            })
        })
        .await;
    let mut findings = vec![registration(visit).await, headscale(visit)];
    findings.push(match &stored {
        Ok(_) => well("Store", "It can be read.", None),
        Err(error) => {
            bad("Store", format!("{error}. Machines cannot register; the map is served."), None)
        }
    });
    findings.extend([map(visit), relays(visit)]);
    findings.extend(verify(visit));
    let waiting = stored.as_ref().map(|stored| &stored.waiting).ok();
    findings.extend(channels(visit).map(|channel| {
        outlet(channel, waiting.and_then(|waiting| waiting.get(channel.name()).copied()))
    }));
    let open = findings.iter().filter(|it| matches!(it.mark, Mark::Bad | Mark::Look)).count();
    let body = html! {
        p.lead {
            @if open == 0 {
                (words::mark(Mark::Good, "Everything works."))
            } @else {
                (words::mark(Mark::Look, &attention(open)))
            }
        }
        ul.findings { @for finding in &findings { (finding.item()) } }
        h2 { "Machines" }
        @match &stored {
            Ok(stored) => (counts(&stored.counts)),
            Err(_) => p { "The store cannot be read, so nobody can say which there are." },
        }
        h2 { "Latest events" }
        @match &stored {
            Ok(stored) if stored.events.is_empty() => p { "Nothing has happened yet." },
            Ok(stored) => {
                (events::table("Latest events", &stored.events, visit.now_ms))
                p { a href="/events" { "All events" } }
            },
            Err(_) => p { "The store cannot be read." },
        }
    };
    Ok(Shown::Page(Page::new(Section::Overview, "Overview", body)))
}

fn attention(open: usize) -> String {
    if open == 1 {
        "One thing needs a look.".to_owned()
    } else {
        format!("{open} things need a look.")
    }
}

fn well(what: &'static str, words: impl Into<String>, section: Option<Section>) -> Finding {
    Finding { mark: Mark::Good, what, words: words.into(), section }
}

fn bad(what: &'static str, words: impl Into<String>, section: Option<Section>) -> Finding {
    Finding { mark: Mark::Bad, ..well(what, words, section) }
}

async fn registration(visit: &Visit) -> Finding {
    let findings = visit.provisioning.findings().await;
    if findings.is_empty() {
        return well("Registration", "Machines can register.", Some(Section::Tokens));
    }
    let words = format!("Machines cannot register: {}.", findings.join("; "));
    bad("Registration", words, Some(Section::Tokens))
}

fn headscale(visit: &Visit) -> Finding {
    let what = "Headscale";
    let breaker = visit.provisioning.headscale().client().map(|client| client.breaker());
    if matches!(breaker, Some(BreakerState::Open | BreakerState::Probing)) {
        let words = "It has failed several times in a row, and is left alone for a moment. \
                     Machines cannot register; the map is served all the same.";
        return bad(what, words, None);
    }
    let limit = RECONCILE_TIME * MISSED_ROUNDS;
    if !visit.provisioning.may_lead() {
        return well(what, "Another bridge compares machines and keys with it.".to_owned(), None);
    }
    match visit.provisioning.reconcile_age() {
        None => bad(what, "Machines and keys were not compared with it since the start.", None),
        Some(age) => {
            let since = words::ago(age);
            let words = format!("Machines and keys were compared with it {since}.");
            let mark = if age > limit { Mark::Look } else { Mark::Good };
            Finding { mark, ..well(what, words, None) }
        }
    }
}

fn map(visit: &Visit) -> Finding {
    let status = visit.scope.publisher.status();
    let section = Some(Section::Map);
    if let Some(finding) = visit.scope.publisher.published().finding() {
        return bad("Map", format!("{finding}."), section);
    }
    let out = status.nodes.iter().filter(|node| !node.is_in).count();
    let kept = status.nodes.iter().filter(|node| node.is_kept).count();
    let failing = status.upstreams.iter().filter(|it| it.last_error.is_some()).count();
    let edition = visit.scope.publisher.published().edition();
    let regions = as_u64(edition.map().regions.len());
    let mut words = format!(
        "{} published, confirmed {}.",
        words::count(regions, "region is", "regions are"),
        words::ago(status.map_age())
    );
    for (number, text) in
        [(out, "not in the map"), (kept, "in the map only because no other is known to work")]
    {
        if number > 0 {
            words += &format!(" {} {text}.", words::count(as_u64(number), "node is", "nodes are"));
        }
    }
    if failing > 0 {
        words += " A map of others cannot be fetched; its last good copy is used.";
    }
    let mark = if out + kept + failing > 0 { Mark::Look } else { Mark::Good };
    Finding { mark, ..well("Map", words, section) }
}

fn relays(visit: &Visit) -> Finding {
    let known = visit.scope.known_relays();
    let lost = known.iter().filter(|it| it.channel.as_ref().is_some_and(|it| !it.is_live)).count();
    let section = Some(Section::Relays);
    if known.is_empty() {
        let words = "None has registered itself; the map has what is configured.";
        return Finding { mark: Mark::Plain, ..well("Relays", words, section) };
    }
    let live = words::count(as_u64(known.len() - lost), "relay is", "relays are");
    let words = match lost {
        0 => format!("{live} heard of."),
        _ => format!("{live} heard of, {lost} not any more."),
    };
    let mark = if lost > 0 { Mark::Look } else { Mark::Good };
    Finding { mark, ..well("Relays", words, section) }
}

/// Each Headscale whose nodes may use the relays.
fn verify(visit: &Visit) -> Vec<Finding> {
    let Some(verify) = &visit.scope.verify else { return Vec::new() };
    let listed = verify.front.snapshot().headscales.into_iter();
    listed
        .map(|it| match (it.failure, it.list_age) {
            (Some(failure), _) => bad("Access", format!("{}: {failure}.", it.name), None),
            (None, None) => {
                let words = format!("{}: its nodes were not listed yet.", it.name);
                Finding { mark: Mark::Look, ..well("Access", words, None) }
            }
            (None, Some(age)) => {
                let nodes = words::count(as_u64(it.nodes), "node", "nodes");
                let age = words::ago(age);
                let words = format!("{}: {nodes} may use the relays, listed {age}.", it.name);
                well("Access", words, None)
            }
        })
        .collect()
}

fn channels(visit: &Visit) -> impl Iterator<Item = &Channel> {
    let outlets = visit.scope.outlets.iter();
    outlets.flat_map(|outlets| outlets.channels()).map(AsRef::as_ref)
}

/// A place that events go to, which has a name, and a URL that is nobody's business. How many wait
/// is `None` where the store does not say it.
fn outlet(channel: &Channel, waiting: Option<i64>) -> Finding {
    let (what, section) = ("Events", Some(Section::Events));
    let name = channel.name();
    if !channel.is_ours() {
        return well(what, format!("{name}: the bridge that leads hands them over."), section);
    }
    let mut words = match waiting.map(i64::unsigned_abs) {
        Some(0) => format!("{name}: none waits."),
        Some(count) => format!("{name}: {}.", words::count(count, "event waits", "events wait")),
        None => format!("{name}: nobody can say how many wait."),
    };
    let fault = channel.fault();
    if let Some(fault) = &fault {
        words += &format!(" The last attempt failed: {fault}.");
    }
    match channel.deliveries.get(Delivery::GivenUp) {
        0 => {}
        count => words += &format!(" {count} given up since the start."),
    }
    let mark = if fault.is_some() { Mark::Look } else { Mark::Good };
    Finding { mark, ..well(what, words, section) }
}

fn counts(counts: &[(State, i64)]) -> Markup {
    html! {
        ul.counts {
            @for (state, count) in counts {
                li {
                    a href={ "/machines?state=" (state.as_str()) } {
                        strong { (count) } " " (state.as_str())
                    }
                }
            }
        }
    }
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Finding {
    fn item(&self) -> Markup {
        let word = match self.mark {
            Mark::Good => "well",
            Mark::Look => "look",
            Mark::Bad => "not well",
            Mark::Plain => "nothing",
        };
        html! {
            li {
                div {
                    strong {
                        @match self.section {
                            Some(section) => a href=(section.path()) { (self.what) },
                            None => (self.what),
                        }
                    }
                    (words::mark(self.mark, word))
                }
                p { (self.words) }
            }
        }
    }
}
