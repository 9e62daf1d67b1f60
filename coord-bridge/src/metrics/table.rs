//! The metrics of the bridge: names, types, labels and what they mean. Source: docs/metrics.md.

use derp_relay::metrics::{Metric, counter, gauge};

/// All metrics of the bridge.
pub const METRICS: &[Metric] = &[
    gauge("coord_bridge_build_info", &["version"], "Always 1"),
    counter(
        "coord_bridge_http_requests_total",
        &["listener", "class"],
        "Requests answered, by listener and class of the status",
    ),
    gauge(
        "coord_bridge_map_age_seconds",
        &[],
        "Time since the published map was last found to be the right one",
    ),
    counter("coord_bridge_map_changes_total", &[], "Times that the map became another one"),
    gauge(
        "coord_bridge_map_file_failing",
        &[],
        "Whether the map cannot be written to its file: 1 or 0",
    ),
    gauge(
        "coord_bridge_map_nodes",
        &["region", "state"],
        "Nodes of ours that are known, by region, and whether they are in the map",
    ),
    gauge(
        "coord_bridge_map_collision",
        &[],
        "Whether Headscale's embedded relay has the id of a region of ours: 1 or 0",
    ),
    gauge(
        "coord_bridge_upstream_age_seconds",
        &["upstream"],
        "Time since the map of others in use was fetched",
    ),
    counter("coord_bridge_upstream_failures_total", &["upstream"], "Fetches that failed"),
    counter(
        "coord_bridge_verify_answers_total",
        &["outcome"],
        "Answers to relays about nodes, by outcome",
    ),
    counter(
        "coord_bridge_verify_refusals_total",
        &["reason"],
        "Questions of relays that were none, by reason",
    ),
    gauge(
        "coord_bridge_verify_list_age_seconds",
        &["headscale"],
        "Time since Headscale last listed its nodes",
    ),
    gauge("coord_bridge_relays", &[], "Relays that have registered and are heard of"),
    gauge("coord_bridge_relay_streams", &[], "Relays that follow the events of this bridge"),
    counter(
        "coord_bridge_registrations_total",
        &["outcome"],
        "Registrations that were asked for, by what came of them",
    ),
    counter(
        "coord_bridge_refusals_total",
        &["reason"],
        "Requests of machines and administrators that were refused, by reason",
    ),
    gauge("coord_bridge_leader", &[], "Whether this bridge is the one that reconciles: 1 or 0"),
    gauge(
        "coord_bridge_reconcile_age_seconds",
        &[],
        "Time since machines and keys were last compared with Headscale",
    ),
    counter(
        "coord_bridge_headscale_calls_total",
        &["outcome"],
        "Calls of Headscale, by what came of them",
    ),
    counter(
        "coord_bridge_headscale_requests_total",
        &[],
        "Requests that those calls took, repeats included",
    ),
    counter(
        "coord_bridge_headscale_pauses_total",
        &[],
        "Times that Headscale was left alone for failing too often",
    ),
    gauge(
        "coord_bridge_headscale_breaker",
        &["state"],
        "1 for the state that it is in: asked, left alone, or one call decides",
    ),
    gauge("coord_bridge_store_up", &[], "Whether the store could be read at this scrape"),
    counter("coord_bridge_store_failures_total", &[], "Pieces of work that the store did not do"),
    gauge("coord_bridge_machines", &["state"], "Registrations, by where they stand"),
    gauge("coord_bridge_keys", &["state"], "Pre-auth keys that were asked for, by state"),
    counter(
        "coord_bridge_event_deliveries_total",
        &["outlet", "outcome"],
        "Events handed over, attempts that failed, and events given up, by outlet",
    ),
    gauge(
        "coord_bridge_event_backlog",
        &["outlet"],
        "Events that an outlet has not dealt with yet, those included that it does not want",
    ),
];
