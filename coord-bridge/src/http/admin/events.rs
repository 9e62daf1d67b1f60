//! The page about events: the audit, the newest first.
//!
//! Does: lists them, of all kinds or of one. Does not: change any.

use maud::{Markup, html};

use super::form::query;
use super::frame::{Page, Section};
use super::site::Shown;
use super::visit::Visit;
use super::words::{self, choice, moment, text};
use crate::http::api::page::DEFAULT_LIMIT;
use crate::http::api::problem::Problem;
use crate::store::events::{self, Event, KINDS};

pub(super) async fn list(visit: &Visit) -> Result<Shown, Problem> {
    let kind = visit.query.text("kind");
    let kind = KINDS.iter().map(|(known, _)| *known).find(|known| *known == kind);
    let cursor = visit.query.text("cursor").to_owned();
    if !cursor.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Problem::invalid("cursor: not one that a page has named"));
    }
    let is_first = cursor.is_empty();
    let read = visit.provisioning.store().read(move |session| {
        let before = (!cursor.is_empty()).then_some(cursor.as_str());
        events::before(session, before, kind, DEFAULT_LIMIT + 1)
    });
    let mut found = read.await?;
    let rows = usize::try_from(DEFAULT_LIMIT).unwrap_or(usize::MAX);
    let follows = found.len() > rows;
    found.truncate(rows);
    let next = found.last().filter(|_| follows).map(|event| event.id.clone());
    let kind = kind.unwrap_or_default();
    let body = html! {
        (filter(kind))
        @if found.is_empty() {
            (words::nothing("There is no such event", &html! {
                "What machines ask for, what administrators do and what becomes of it is listed here. "
                @if !kind.is_empty() { a href="/events" { "Show all kinds" } }
            }))
        } @else {
            (table("Events, the newest first", &found, visit.now_ms))
        }
        nav.pages aria-label="Pages" {
            @if !is_first {
                a.button.quiet rel="first" href={ "/events?" (query(&[("kind", kind)])) } { "Newest" }
            }
            @if let Some(next) = &next {
                a.button.quiet rel="next" href={
                    "/events?" (query(&[("kind", kind), ("cursor", next)]))
                } { "Older" }
            }
        }
    };
    Ok(Shown::Page(Page::new(Section::Events, "Events", body)))
}

/// Events as a table.
pub(super) fn table(caption: &str, events: &[Event], now_ms: i64) -> Markup {
    let rows = events.iter().map(|event| {
        [
            moment(event.at_ms, now_ms),
            html! { strong { (event.kind) } " " (event.outcome) },
            subject(event),
            text(event.remote_ip.as_deref().unwrap_or_default()),
        ]
    });
    words::table(caption, ["When", "What", "About", "Asked from"], rows)
}

/// What an event is about: machine, token, key.
fn subject(event: &Event) -> Markup {
    let name = event.hostname.as_deref();
    html! {
        @if let Some(machine) = &event.machine {
            a href={ "/machines/" (machine) } { (name.unwrap_or("machine")) } " "
        } @else if let Some(name) = name {
            (name) " "
        }
        @if let Some(token) = &event.token { "token " (token) " " }
        @if let Some(key) = &event.key_id { "key " (key) " " }
        @if event.machine.is_none() && name.is_none() && event.token.is_none() && event.key_id.is_none() {
            span.none { "none" }
        }
    }
}

fn filter(kind: &str) -> Markup {
    let mut options = vec![("", "all")];
    options.extend(KINDS.iter().map(|(known, _)| (*known, *known)));
    html! {
        form.search method="get" action="/events" {
            div.field {
                label for="kind" { "Kind" }
                (choice("kind", kind, &options))
            }
            button type="submit" { "Show" }
        }
    }
}
