//! The pages about machines.
//!
//! Does: lists them, shows one, and asks before one is deleted or logged out.
//! Does not: do that; the operations of the API do.

use maud::{Markup, html};
use serde_json::json;

use super::form::query;
use super::frame::{Page, Section};
use super::site::Shown;
use super::visit::Visit;
use super::words::{self, choice, date, facts, maybe_date, state, text};
use crate::http::api::page::{Cursor, DEFAULT_LIMIT, cut};
use crate::http::api::problem::Problem;
use crate::store::installations::{self, Installed};
use crate::store::keys::{self, Key};
use crate::store::machines::{self, Filter, Machine, State};

/// Most characters of a text that is looked for.
const MAX_TEXT_CHARS: usize = 100;

/// What can be done to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Delete,
    LogOut,
}

impl Deed {
    const fn path(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::LogOut => "log-out",
        }
    }

    const fn operation(self) -> &'static str {
        match self {
            Self::Delete => "deleteMachine",
            Self::LogOut => "expireMachine",
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Delete => "Delete",
            Self::LogOut => "Log out",
        }
    }

    const fn consequence(self) -> &'static str {
        match self {
            Self::Delete => {
                "Its keys end, its node goes from Headscale, and relays cut its connections. It \
                 has to register again to come back. The record stays here as deleted, for a while."
            }
            Self::LogOut => {
                "Its keys end, its node stays in Headscale and has to log in again, and relays cut \
                 its connections."
            }
        }
    }

    /// Whether it can be done to a machine that stands there.
    const fn fits(self, machine: &Machine) -> bool {
        match self {
            Self::Delete => !matches!(machine.state, State::Deleted),
            Self::LogOut => machine.node_id.is_some() && machine.state.is_live(),
        }
    }
}

pub(super) async fn list(visit: &Visit) -> Result<Shown, Problem> {
    let (wanted, stands) = (visit.query.text("query"), visit.query.text("state"));
    let wanted: String = wanted.chars().filter(|it| *it != '\0').take(MAX_TEXT_CHARS).collect();
    let cursor = visit.query.text("cursor");
    let after = if cursor.is_empty() { None } else { Some(Cursor::read(cursor)?) };
    let is_first = after.is_none();
    let filter = Filter {
        state: State::parse(stands),
        text: (!wanted.is_empty()).then(|| wanted.clone()),
        after: after.map(|cursor| (cursor.at_ms, cursor.id)),
    };
    let read = visit.provisioning.store().read(move |session| {
        let found = machines::page(session, &filter, DEFAULT_LIMIT + 1)?;
        let ids: Vec<&str> = found.iter().map(|machine| machine.id.as_str()).collect();
        let installed = installations::of_machines(session, &ids)?;
        Ok((found, installed, machines::count_by_state(session)?))
    });
    let (found, installed, counts) = read.await?;
    let (found, next) = cut(found, DEFAULT_LIMIT, |machine| Cursor {
        at_ms: machine.registered_ms,
        id: machine.id.clone(),
    });
    let all: i64 = counts.iter().map(|(_, count)| count).sum();
    let rows = found.iter().map(|machine| {
        [
            html! { a href={ "/machines/" (machine.id) } { (machine.hostname) } },
            state(machine.state),
            text(&machine.tailscale_ip),
            date(machine.registered_ms, visit.now_ms),
            text(&machine.token),
            text(installed.get(&machine.id).map_or("", |it| it.hostname.as_str())),
        ]
    });
    let heads = ["Host name", "State", "Address", "Registered", "Token", "Installed as"];
    let same = [("query", wanted.as_str()), ("state", stands)];
    let body = html! {
        (done(visit))
        (search(&wanted, stands, &counts))
        @if found.is_empty() {
            (nobody(all, is_first))
        } @else {
            (words::table("Machines, the oldest registration first", heads, rows))
        }
        nav.pages aria-label="Pages" {
            @if !is_first { a.button.quiet rel="first" href={ "/machines?" (query(&same)) } { "First page" } }
            @if let Some(next) = &next {
                a.button.quiet rel="next" href={
                    "/machines?" (query(&[same[0], same[1], ("cursor", next)]))
                } { "Next page" }
            }
        }
    };
    Ok(Shown::Page(Page::new(Section::Machines, "Machines", body)))
}

pub(super) async fn one(visit: &Visit, id: &str) -> Result<Shown, Problem> {
    let (machine, installed, keys) = find(visit, id).await?;
    let now_ms = visit.now_ms;
    let body = html! {
        (done(visit))
        p.lead { (state(machine.state)) " " (words::meaning(machine.state)) }
        (facts([
            ("Address", text(&machine.tailscale_ip)),
            ("Registered", date(machine.registered_ms, now_ms)),
            ("From", text(&machine.remote_ip)),
            ("With token", text(&machine.token)),
            ("State since", date(machine.changed_ms, now_ms)),
            ("Last connected", maybe_date(machine.last_seen_ms, now_ms, "never")),
            ("MAC address", text(&machine.mac)),
            ("Node in Headscale", text(machine.node_id.as_deref().unwrap_or_default())),
            ("Takes the place of", replaced(&machine)),
            ("Installed as", installation(installed.as_ref(), now_ms)),
            ("Id", html! { code { (machine.id) } }),
        ]))
        div.actions {
            @for deed in [Deed::LogOut, Deed::Delete] {
                @if deed.fits(&machine) {
                    a.button.danger[deed == Deed::Delete].quiet[deed == Deed::LogOut] href={ "/machines/" (machine.id) "/" (deed.path()) } {
                        (deed.verb()) "…"
                    }
                }
            }
        }
        h2 { "Its keys" }
        @if keys.is_empty() {
            p { "None is remembered." }
        } @else {
            (words::table("Pre-auth keys of this machine", ["Number", "State", "Asked for", "Ends"],
                keys.iter().map(|key| [
                    text(key.key_id.as_deref().unwrap_or_default()),
                    text(key.state.as_str()),
                    date(key.asked_ms, now_ms),
                    date(key.expires_ms, now_ms),
                ])))
        }
    };
    Ok(Shown::Page(Page::new(Section::Machines, machine.hostname, body)))
}

/// Asks before something is done.
pub(super) async fn ask(visit: &Visit, id: &str, deed: Deed) -> Result<Shown, Problem> {
    let (machine, ..) = find(visit, id).await?;
    let body = html! {
        p.lead { (deed.consequence()) }
        (facts([
            ("Host name", text(&machine.hostname)),
            ("State", state(machine.state)),
            ("Address", text(&machine.tailscale_ip)),
        ]))
        form.actions method="post" action={ "/machines/" (machine.id) "/" (deed.path()) } {
            (visit.seal())
            button.danger type="submit" { (deed.verb()) " " (machine.hostname) }
            a.button.quiet href={ "/machines/" (machine.id) } { "Leave it" }
        }
    };
    let title = format!("{} {}?", deed.verb(), machine.hostname);
    Ok(Shown::Page(Page::new(Section::Machines, title, body)))
}

pub(super) async fn end(visit: &Visit, id: &str, deed: Deed) -> Result<Shown, Problem> {
    visit.perform(deed.operation(), &[id], json!({})).await?;
    Ok(Shown::Elsewhere(match deed {
        Deed::Delete => "/machines?done=deleted".to_owned(),
        Deed::LogOut => format!("/machines/{id}?done=logged-out"),
    }))
}

async fn find(visit: &Visit, id: &str) -> Result<(Machine, Option<Installed>, Vec<Key>), Problem> {
    let wanted = id.to_owned();
    let read = visit.provisioning.store().read(move |session| {
        let Some(machine) = machines::by_id(session, &wanted)? else { return Ok(None) };
        let installed = installations::of_machines(session, &[&wanted])?.remove(&wanted);
        Ok(Some((machine, installed, keys::of_machine(session, &wanted)?)))
    });
    let none = || Problem::not_found("no machine has this id, or its record is not kept any more");
    read.await?.ok_or_else(none)
}

fn done(visit: &Visit) -> Markup {
    match visit.query.text("done") {
        "deleted" => words::done("The machine is deleted."),
        "logged-out" => {
            words::done("The machine is logged out. Its state follows within a minute.")
        }
        _ => html! {},
    }
}

fn search(wanted: &str, stands: &str, counts: &[(State, i64)]) -> Markup {
    let labels: Vec<(&str, String)> = counts
        .iter()
        .map(|(state, count)| (state.as_str(), format!("{} ({count})", state.as_str())))
        .collect();
    let mut options = vec![("", "any")];
    options.extend(labels.iter().map(|(value, label)| (*value, label.as_str())));
    html! {
        form.search role="search" method="get" action="/machines" {
            div.field {
                label for="query" { "Search" }
                input #query name="query" type="search" value=(wanted) maxlength=(MAX_TEXT_CHARS)
                    aria-describedby="query-in";
                p.hint #query-in { "In host name, address, MAC address, token and id." }
            }
            div.field {
                label for="state" { "State" }
                (choice("state", stands, &options))
            }
            button type="submit" { "Show" }
        }
    }
}

/// Nobody to list: none at all, or none that was looked for.
fn nobody(all: i64, is_first: bool) -> Markup {
    if all == 0 {
        let what = html! {
            "Give a live system or an installer an " a href="/tokens" { "enrollment token" }
            ", and it is listed here as soon as it registers."
        };
        return words::nothing("No machine has registered yet", &what);
    }
    let what = html! { a href="/machines" { "Show all machines" } };
    let title = if is_first { "No machine is like that" } else { "There are no more machines" };
    words::nothing(title, &what)
}

fn replaced(machine: &Machine) -> Markup {
    match &machine.replaces {
        Some(id) => html! { a href={ "/machines/" (id) } { "an earlier registration" } },
        None => text(""),
    }
}

fn installation(installed: Option<&Installed>, now_ms: i64) -> Markup {
    match installed {
        Some(it) => html! {
            strong { (it.hostname) } " " (it.tailscale_ip) ", node " (it.node_id) ", "
            (date(it.found_ms, now_ms))
        },
        None => text(""),
    }
}
