//! From counters to samples.

use std::time::{SystemTime, UNIX_EPOCH};

use derp::counters::{Counters, Sojourn};
use derp::drop_reason::{DropReason, PacketKind};

use super::{Sample, Sources};
use crate::counter::Label;

/// All numbers as they stand, but for the sojourn times.
pub(super) fn collect(sources: &Sources) -> (Vec<Sample>, Sojourn) {
    let mut samples = Samples(Vec::with_capacity(128));
    let shards = sources.shards.counters();
    let total = shards.iter().fold(Counters::default(), |sum, part| sum.plus(part));
    packets(&mut samples, &total);
    clients(&mut samples, &total);
    frames(&mut samples, &total);
    door(&mut samples, sources);
    for (shard, (counters, busy)) in shards.iter().zip(sources.shards.busy()).enumerate() {
        let shard = shard.to_string();
        samples.push("derp_shard_connections", &[&shard], counters.connections);
        samples.push_ratio("derp_shard_busy_ratio", &shard, busy);
    }
    access(&mut samples, sources);
    bridge(&mut samples, sources);
    stun(&mut samples, sources);
    samples.push("derp_relay_build_info", &[env!("CARGO_PKG_VERSION")], 1);
    (samples.0, total.sojourn)
}

fn packets(samples: &mut Samples, total: &Counters) {
    let (received, sent) = (total.received.total(), total.sent.total());
    samples.push("derp_packets_received", &[], received.packets);
    samples.push("derp_bytes_received", &[], received.bytes);
    samples.push("derp_packets_sent", &[], sent.packets);
    samples.push("derp_bytes_sent", &[], sent.bytes);
    for kind in PacketKind::ALL {
        let packets = total.received.of(kind).packets;
        samples.push("derp_packets_received_kind", &[kind.label()], packets);
        for reason in DropReason::ALL {
            let dropped = total.dropped.of(reason).of(kind);
            let labels = [reason.label(), kind.label()];
            samples.push("derp_packets_dropped", &labels, dropped.packets);
            samples.push("derp_bytes_dropped", &labels, dropped.bytes);
        }
    }
    samples.push("derp_push_backs", &[], total.push_backs);
    // Shards publish one after the other, so that a moment's sum may come out negative.
    let gone = sent.packets + total.dropped.total().packets;
    samples.push("derp_packets_queued", &[], received.packets.saturating_sub(gone));
}

fn clients(samples: &mut Samples, total: &Counters) {
    samples.push("derp_current_connections", &[], total.connections);
    samples.push("derp_current_home_connections", &[], total.home_connections);
    samples.push("derp_current_notideal_connections", &[], total.not_ideal_connections);
    samples.push("derp_clients_total", &[], total.keys);
    samples.push("derp_clients_local", &[], total.keys);
    samples.push("derp_current_dup_client_keys", &[], total.duplicate_keys);
    samples.push("derp_current_dup_client_conns", &[], total.duplicate_connections);
    samples.push("derp_total_dup_client_conns", &[], total.duplicate_joins);
    samples.push("derp_home_moves_in", &[], total.home_moves_in);
    samples.push("derp_home_moves_out", &[], total.home_moves_out);
    for (reason, count) in [
        ("bad_frame", total.closed_bad_frame),
        ("no_mesh_right", total.closed_no_mesh_right),
        ("half_frame", total.closed_half_frame),
        ("stalled", total.closed_stalled),
        ("login_timeout", total.closed_login_timeout),
        ("revoked", total.closed_revoked),
    ] {
        samples.push("derp_connections_closed", &[reason], count);
    }
}

fn frames(samples: &mut Samples, total: &Counters) {
    samples.push("derp_got_ping", &[], total.pings);
    samples.push("derp_sent_pong", &[], total.pongs);
    samples.push("derp_pings_limited", &[], total.pings_limited);
    samples.push("derp_keep_alives", &[], total.keep_alives);
    samples.push("derp_peer_gone_disconnected_frames", &[], total.peer_gone_disconnected);
    samples.push("derp_peer_gone_not_here_frames", &[], total.peer_gone_not_here);
    samples.push("derp_peer_gone_untold", &[], total.sources_overflowed);
    samples.push("derp_unknown_frames", &[], total.unknown_frames);
    samples.push("derp_unknown_frame_bytes", &[], total.unknown_frame_bytes);
}

fn door(samples: &mut Samples, sources: &Sources) {
    let door = &sources.door;
    samples.push("derp_accepts", &[], door.upgrades.get());
    samples.push("derp_logins", &[], door.logins.get());
    samples.push("derp_fast_starts", &[], door.fast_starts.get());
    samples.push("derp_connections_pending", &[], door.pending());
    samples.push("derp_accept_errors", &[], door.accept_errors.get());
    samples.push("derp_upgrades_refused", &[], door.upgrades_refused.get());
    samples.push("derp_http_failures", &[], door.http_failures.get());
    // The end is read first: it can never be ahead of the start.
    let ended = door.handshakes_ended.get();
    let under_way = door.handshakes_started.get().saturating_sub(ended);
    samples.push("derp_tls_handshakes", &[], under_way);
    samples.push_all("derp_logins_failed", door.login_failures.iter());
    samples.push_all("derp_connections_accepted", door.accepts.iter());
    samples.push_all("derp_connections_rejected", door.rejects.iter());
    samples.push_all("derp_http_requests", door.requests.iter());
    samples.push_all("derper_tls_request_version", door.tls_versions.iter());
    samples.push_all("derp_tls_failures", door.tls_failures.iter());
    let ends = sources.certificates.as_ref().and_then(|certificates| certificates.not_after());
    if let Some(ends) = ends {
        samples.push("derp_certificate_expiry_timestamp_seconds", &[], unix_seconds(ends));
    }
}

fn access(samples: &mut Samples, sources: &Sources) {
    let access = &sources.access;
    samples.push_all("derp_access", access.decisions.iter());
    for tailnet in &access.tailnets {
        for (reply, count) in tailnet.replies.iter() {
            samples.push("derp_verify_requests", &[&tailnet.name, reply.word()], count);
        }
    }
    samples.push_all("derp_verify_saved", access.saved.iter());
    samples.push_all("derp_verify_rechecks", access.re_checks.iter());
    samples.push("derp_verify_known_nodes", &[], access.known());
    samples.push("derp_verify_write_errors", &[], access.write_errors.get());
    samples.push_all("derp_access_cut_offs", access.cut_offs.iter());
}

fn bridge(samples: &mut Samples, sources: &Sources) {
    let bridge = &sources.bridge;
    samples.push("derp_bridge_connected", &[], bridge.is_connected().into());
    samples.push_all("derp_bridge_events", bridge.events.iter());
    samples.push("derp_bridge_reconnects", &[], bridge.reconnects.get());
    samples.push("derp_bridge_failures", &[], bridge.failures.get());
}

fn stun(samples: &mut Samples, sources: &Sources) {
    let Some(stun) = &sources.stun else { return };
    let counters = stun.counters();
    for (disposition, count) in [
        ("success", counters.success),
        ("not_stun", counters.not_stun),
        ("read_error", counters.read_error),
        ("write_error", counters.write_error),
        ("paused", counters.paused),
    ] {
        samples.push("stun_requests", &[disposition], count);
    }
    samples.push("stun_addrfamily", &["ipv4"], counters.ipv4);
    samples.push("stun_addrfamily", &["ipv6"], counters.ipv6);
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

struct Samples(Vec<Sample>);

impl Samples {
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has only floats")]
    fn push(&mut self, name: &'static str, labels: &[&str], value: u64) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.0.push(Sample { name, labels, value: value as f64 });
    }

    fn push_all<L: Label>(&mut self, name: &'static str, counts: impl Iterator<Item = (L, u64)>) {
        for (label, count) in counts {
            self.push(name, &[label.word()], count);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "thousandths are few")]
    fn push_ratio(&mut self, name: &'static str, label: &str, thousandths: u64) {
        let value = thousandths as f64 / 1_000.0;
        self.0.push(Sample { name, labels: vec![label.to_owned()], value });
    }
}
