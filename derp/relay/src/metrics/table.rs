//! The table of metrics: every name, once.
//!
//! Where derper has a metric of the same meaning, the name is derper's, so that its dashboards
//! keep working. Source: docs/metrics.md.

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by class.
    Histogram,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
}

/// A row for something that only grows.
#[must_use]
pub const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

/// A row for something that goes up and down.
#[must_use]
pub const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

/// How long packets are in the relay.
pub(super) const SOJOURN: &str = "derp_queue_sojourn_seconds";

/// How long verifiers take.
pub(super) const VERIFY_TIME: &str = "derp_verify_seconds";

/// All metrics of the relay.
pub const METRICS: &[Metric] = &[
    counter("derp_accepts", &[], "Requests that became DERP connections, failed logins included"),
    counter("derp_logins", &[], "Logins that were admitted"),
    counter("derp_logins_failed", &["reason"], "Connections that never became a client, by reason"),
    counter("derp_fast_starts", &[], "Logins that saved a round trip by the meta certificate"),
    counter(
        "derp_bytes_received",
        &[],
        "Packet bytes that clients asked to relay, keys and headers not counted",
    ),
    counter("derp_packets_received", &[], "Packets that clients asked to relay"),
    counter("derp_packets_received_kind", &["kind"], "The same by kind"),
    counter("derp_bytes_sent", &[], "Packet bytes written to their receivers"),
    counter("derp_packets_sent", &[], "Packets written to their receivers"),
    counter("derp_packets_dropped", &["reason", "kind"], "Packets lost, by reason and kind"),
    counter("derp_bytes_dropped", &["reason", "kind"], "Bytes of those packets"),
    gauge(
        "derp_packets_queued",
        &[],
        "Packets that wait, here or between shards: received - sent - dropped",
    ),
    counter(
        "derp_push_backs",
        &[],
        "Times that a sender was not read from because its receiver's queue was nearly full",
    ),
    Metric {
        name: SOJOURN,
        kind: Kind::Histogram,
        labels: &["le"],
        help: "Time from the read of a delivered packet to its write, in seconds",
    },
    gauge("derp_current_connections", &[], "Connections that have logged in"),
    gauge("derp_current_home_connections", &[], "Connections of clients whose home this relay is"),
    gauge(
        "derp_current_notideal_connections",
        &[],
        "Connections of clients that would rather have reached another node of the region",
    ),
    gauge("derp_clients_total", &[], "Distinct keys that are connected"),
    gauge("derp_clients_local", &[], "Distinct keys that are connected to this relay"),
    gauge("derp_current_dup_client_keys", &[], "Keys with more than one connection"),
    gauge("derp_current_dup_client_conns", &[], "Connections of those keys"),
    counter("derp_total_dup_client_conns", &[], "Connections that joined a key which had one"),
    counter(
        "derp_home_moves_in",
        &[],
        "Clients that made this relay their home, later than right after login",
    ),
    counter("derp_home_moves_out", &[], "Clients that ceased to have this relay as their home"),
    counter("derp_got_ping", &[], "Pings from clients"),
    counter("derp_sent_pong", &[], "Pings answered"),
    counter("derp_pings_limited", &[], "Pings left unanswered: too many at once"),
    counter("derp_keep_alives", &[], "Keep-alives sent"),
    counter("derp_peer_gone_disconnected_frames", &[], "Notices that a peer has left"),
    counter("derp_peer_gone_not_here_frames", &[], "Notices that a peer is not here"),
    counter(
        "derp_peer_gone_untold",
        &[],
        "Departures that a client with too many sources was not told of",
    ),
    counter(
        "derp_unknown_frames",
        &[],
        "Frames skipped because clients have no use for sending them",
    ),
    counter("derp_unknown_frame_bytes", &[], "Bytes of those frames"),
    counter(
        "derp_connections_closed",
        &["reason"],
        "Connections that the relay closed after login, by reason",
    ),
    gauge("derp_connections_pending", &[], "Connections before their login"),
    counter("derp_connections_accepted", &["listener"], "TCP connections accepted"),
    counter("derp_connections_rejected", &["reason"], "TCP connections closed at once, by reason"),
    counter("derp_accept_errors", &[], "Connections that the system could not accept"),
    counter("derp_upgrades_refused", &[], "Requests to /derp that asked for no upgrade we have"),
    counter("derp_http_requests", &["endpoint"], "HTTP requests, by what they were for"),
    counter("derp_http_failures", &[], "Connections that did not speak HTTP, or not in time"),
    counter("derper_tls_request_version", &["version"], "TLS handshakes completed, by version"),
    counter("derp_tls_failures", &["reason"], "TLS handshakes that failed, by reason"),
    gauge("derp_tls_handshakes", &[], "TLS handshakes under way"),
    gauge(
        "derp_certificate_expiry_timestamp_seconds",
        &[],
        "When the first certificate ends, as Unix time",
    ),
    counter("derp_access", &["outcome"], "Access decisions at logins, by outcome"),
    counter(
        "derp_verify_requests",
        &["tailnet", "outcome"],
        "Questions to verifiers, by what came back",
    ),
    Metric {
        name: VERIFY_TIME,
        kind: Kind::Histogram,
        labels: &["le"],
        help: "Time that verifiers took for an answer, in seconds; those that never came too",
    },
    counter("derp_verify_saved", &["by"], "Questions that an earlier answer has saved"),
    counter("derp_verify_rechecks", &["outcome"], "Decisions about connected nodes, by outcome"),
    gauge(
        "derp_verify_known_nodes",
        &[],
        "Nodes that were let in lately: they enter if no verifier answers",
    ),
    counter(
        "derp_verify_write_errors",
        &[],
        "Times that the known nodes could not be written to their file",
    ),
    counter("derp_access_cut_offs", &["cause"], "Keys whose connections were cut off, by cause"),
    gauge("derp_bridge_connected", &[], "Whether the bridge's stream of events is open: 1 or 0"),
    counter("derp_bridge_events", &["kind"], "What the bridge has told, by kind"),
    counter("derp_bridge_reconnects", &[], "Times that its stream was opened again"),
    counter("derp_bridge_failures", &[], "Requests to the bridge and streams that failed"),
    gauge("derp_shard_busy_ratio", &["shard"], "Share of its time that a packet thread works"),
    gauge("derp_shard_connections", &["shard"], "Connections of a packet thread"),
    counter("stun_requests", &["disposition"], "STUN datagrams, by what became of them"),
    counter("stun_addrfamily", &["family"], "STUN answers, by address family"),
    gauge("derp_relay_build_info", &["version"], "Always 1"),
];

/// The row of a name.
pub(super) fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}
