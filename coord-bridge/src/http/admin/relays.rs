//! The page about relays: those that have registered themselves, and all nodes with their probes.
//!
//! Does: shows what is known. Does not: change anything; relays come and go by themselves.

use maud::{Markup, html};

use super::frame::{Page, Section};
use super::site::Shown;
use super::visit::Visit;
use super::words::{self, Mark, date, mark, text};
use crate::http::scope::KnownRelay;
use crate::publication::status::NodeStatus;

pub(super) fn show(visit: &Visit) -> Shown {
    let known = visit.scope.known_relays();
    let status = visit.scope.publisher.status();
    let body = html! {
        h2 { "Registered" }
        @if known.is_empty() {
            (words::nothing("No relay has registered itself", &nobody(visit)))
        } @else {
            (registered(&known, visit.now_ms))
        }
        h2 { "Nodes" }
        p { "Nodes of this bridge, from its configuration and from relays that registered, and what the bridge saw when it last tried them." }
        @if status.nodes.is_empty() {
            (words::nothing("There is no node", &html! { "The map has regions of others only, see " a href="/map" { "Map" } "." }))
        } @else {
            (nodes("Nodes of this bridge", &status.nodes))
        }
    };
    Shown::Page(Page::new(Section::Relays, "Relays", body))
}

fn nobody(visit: &Visit) -> Markup {
    html! {
        @if visit.scope.relays.is_some() {
            "Start one with " code { "derp-relay serve --bridge-url" } " and the relay token of this bridge, and it is listed here."
        } @else {
            "This bridge does not listen for relays: set " code { "verify_listen" } " and a Headscale."
        }
    }
}

fn registered(known: &[KnownRelay], now_ms: i64) -> Markup {
    let rows = known.iter().map(|relay| {
        let live = &relay.live;
        let (state, version, since, heard) = match &relay.channel {
            None => {
                (mark(Mark::Good, "heard of"), text("unknown"), text("unknown"), text("unknown"))
            }
            Some(channel) => (
                match (channel.is_live, channel.has_stream) {
                    (true, true) => mark(Mark::Good, "heard of, follows events"),
                    (true, false) => mark(Mark::Look, "heard of, follows no events"),
                    (false, _) => mark(Mark::Bad, "not heard of"),
                },
                text(&channel.version),
                date(channel.since_ms, now_ms),
                date(channel.heard_ms, now_ms),
            ),
        };
        [
            html! { strong { (live.node.name) } " " span.at { (live.node.host_name) } },
            state,
            html! { (live.region_id) " " (live.region_code) },
            version,
            since,
            heard,
        ]
    });
    let heads = ["Relay", "State", "Region", "Version", "Since", "Last heartbeat"];
    words::table("Relays that have registered themselves", heads, rows)
}

/// Nodes of ours with what probes have shown.
pub(super) fn nodes(caption: &str, nodes: &[NodeStatus]) -> Markup {
    let rows = nodes.iter().map(|node| {
        let from = match (node.configured, node.live) {
            (true, true) => "configuration, registered",
            (true, false) => "configuration",
            (false, true) => "registered",
            (false, false) => "registered before",
        };
        let (how, word) = match (node.is_in, node.is_kept) {
            (true, false) => (Mark::Good, "in"),
            (true, true) => (Mark::Look, "in, since no other is known to work"),
            (false, _) => (Mark::Bad, "out"),
        };
        let since = words::span(node.since.elapsed().as_secs());
        [
            html! { strong { (node.node.name) } " " span.at { (node.node.host_name) } },
            html! { (node.region) },
            html! { (mark(how, word)) " for " (since) },
            probe(node),
            text(from),
        ]
    });
    words::table(caption, ["Node", "Region", "In the map", "Last probe", "From"], rows)
}

fn probe(node: &NodeStatus) -> Markup {
    html! {
        @match &node.last_probe {
            None => span.none { "not tried" },
            Some(Ok(seen)) => { (mark(Mark::Good, "good")) " " (seen) },
            Some(Err(why)) => { (mark(Mark::Bad, "not good")) " " (why) },
        }
    }
}
