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
