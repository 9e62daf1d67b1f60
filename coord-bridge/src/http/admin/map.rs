//! The page about the map that is published.
//!
//! Does: shows its regions, why nodes are in or out, maps of others, and what is in the way.
//! Does not: change it; that is the configuration's.

use derp::map::Region;
use hyper::StatusCode;
use maud::{Markup, html};

use super::frame::{Page, Section};
use super::relays;
use super::site::Shown;
use super::visit::Visit;
use super::words::{self, Mark, facts, mark, text};
use crate::http::{JSON, answer};
use crate::publication::status::{Status, UpstreamStatus};
use crate::published::Format;

pub(super) fn show(visit: &Visit) -> Shown {
    let status = visit.scope.publisher.status();
    let published = visit.scope.publisher.published();
    let edition = published.edition();
    let regions: Vec<&Region> = edition.map().regions.values().collect();
    let body = html! {
        (trouble(published.finding(), &status))
        (facts([
            ("Confirmed", html! { (words::ago(status.map_age())) }),
            ("Changed", html! { (words::ago(status.changed.elapsed())) }),
            ("Changes since the start", html! { (status.changes) }),
            ("As clients get it", html! { a href="/map.json" { "JSON" } }),
        ]))
        h2 { "Regions" }
        (words::table("Regions that are published", ["Region", "Name", "Nodes", "Home"],
            regions.into_iter().map(row)))
        h2 { "Nodes of this bridge" }
        @if status.nodes.is_empty() {
            p { "There is none; all regions are of others." }
        } @else {
            (relays::nodes("Nodes of this bridge, in the map or not", &status.nodes))
        }
        h2 { "Maps of others" }
        @if status.upstreams.is_empty() {
            p { "None is configured." }
        } @else {
            (words::table("Maps of others", ["Map", "State", "Fetched", "Regions", "Left out"],
                status.upstreams.iter().map(upstream)))
        }
    };
    Shown::Page(Page::new(Section::Map, "Map", body))
}

/// The map as clients get it.
pub(super) fn json(visit: &Visit) -> Shown {
    let edition = visit.scope.publisher.published().edition();
    Shown::Raw(answer(StatusCode::OK, JSON, edition.rendering(Format::Json).bytes.clone()))
}

fn trouble(finding: Option<&str>, status: &Status) -> Markup {
    html! {
        @match (&status.collision, &status.file_error, finding) {
            (None, None, None) => p.lead { (mark(Mark::Good, "The map is published as it should be.")) },
            (collision, file_error, finding) => div.note.bad {
                @if let Some(collision) = collision { p { (mark(Mark::Bad, "Collision.")) " " (collision) "." } }
                @if let Some(error) = file_error { p { (mark(Mark::Bad, "File.")) " " (error) "." } }
                @if collision.is_none() && file_error.is_none() {
                    p { (mark(Mark::Bad, "Not well.")) " " (finding.unwrap_or_default()) "." }
                }
            },
        }
    }
}

fn row(region: &Region) -> [Markup; 4] {
    let names: Vec<&str> = region.nodes.iter().map(|node| node.host_name.as_str()).collect();
    [
        html! { strong { (region.id) } " " (region.code) },
        text(&region.name),
        text(&names.join(", ")),
        text(if region.no_measure_no_home { "no" } else { "may be" }),
    ]
}

fn upstream(upstream: &UpstreamStatus) -> [Markup; 5] {
    let overridden: Vec<String> = upstream.overridden.iter().map(ToString::to_string).collect();
    [
        text(&upstream.name),
        match &upstream.last_error {
            None => mark(Mark::Good, "good"),
            Some(error) => html! { (mark(Mark::Look, "the last fetch has failed")) " " (error) },
        },
        match upstream.age() {
            Some(age) => html! { (words::ago(age)) },
            None => text(""),
        },
        html! { (upstream.regions) },
        text(&overridden.join(", ")),
    ]
}
