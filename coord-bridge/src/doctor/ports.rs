//! Listeners: free, a bridge's, or somebody else's.
//!
//! Does: opens each listener for a moment where nobody has it, and asks whoever has it.
//! Does not: listen long enough for anybody to be accepted.

use std::io;
use std::net::{SocketAddr, TcpListener};

use derp_relay::probe::http::{self, Answer};
use tokio::task::JoinSet;

use super::{Finding, Part};
use crate::addresses::Addresses;
use crate::bridge::usual_cause;
use crate::config::reachable;

/// A bridge that runs, as far as it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Running {
    /// Where it serves the map.
    pub(super) map: Option<SocketAddr>,
    /// Where relays ask it.
    pub(super) verify: Option<SocketAddr>,
    others: usize,
}

impl Running {
    pub(super) const fn runs(&self) -> bool {
        self.map.is_some() || self.verify.is_some() || self.others > 0
    }
}

/// Who has an address.
enum Holder {
    Nobody,
    Bridge,
    Other(io::Error),
    /// It cannot be had at all.
    Denied(io::Error),
}

/// Looks at all addresses at once.
pub(super) async fn look(addresses: &Addresses) -> (Vec<Finding>, Running) {
    let mut looks = JoinSet::new();
    for (key, list) in addresses.by_key() {
        for &address in list {
            looks.spawn_blocking(move || (key, address, holder(key, address)));
        }
    }
    let mut seen = looks.join_all().await;
    seen.sort_by_key(|(_, address, _)| *address);
    let (mut findings, mut running) = (Vec::new(), Running::default());
    for (key, address, holder) in seen {
        if matches!(holder, Holder::Bridge) {
            match key {
                "map_listen" => running.map = Some(address),
                "verify_listen" => running.verify = Some(address),
                _ => running.others += 1,
            }
        }
        findings.push(finding(key, address, &holder));
    }
    (findings, running)
}

fn finding(key: &str, address: SocketAddr, holder: &Holder) -> Finding {
    let part = Part::Listeners;
    let tried = format!("{key} {address}");
    match holder {
        Holder::Nobody => Finding::good(part, tried, "free"),
        Holder::Bridge => Finding::good(part, tried, "a bridge answers"),
        Holder::Other(error) => {
            let remedy = format!("end that, or give another port{}", usual_cause(error, address));
            Finding::wrong(part, tried, "another program has it, or a bridge that hangs", remedy)
        }
        Holder::Denied(error) => {
            let remedy = if error.kind() == io::ErrorKind::PermissionDenied {
                "ports below 1024 take CAP_NET_BIND_SERVICE; give another, or try as root"
            } else {
                "give an address of this host"
            };
            Finding::wrong(part, tried, format!("cannot listen: {error}"), remedy)
        }
    }
}

/// Blocks, for two steps of a probe at most.
fn holder(key: &str, address: SocketAddr) -> Holder {
    match TcpListener::bind(address) {
        Ok(_) => Holder::Nobody,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if is_bridge(key, address) {
                Holder::Bridge
            } else {
                Holder::Other(error)
            }
        }
        Err(error) => Holder::Denied(error),
    }
}

/// Whether what answers there is what a bridge answers there.
fn is_bridge(key: &str, address: SocketAddr) -> bool {
    let ask = |path| http::get(reachable(address), path, "").ok();
    let is = |answer: Option<Answer>, status, text: &str| {
        answer.is_some_and(|it| {
            it.status() == status && String::from_utf8_lossy(&it.body).contains(text)
        })
    };
    match key {
        "map_listen" => is(ask("/"), 404, "/derpmap.json"),
        // Not `/health`: the provisioner before this one answers that, too.
        "provisioning.listen" => ask("/ready").is_some_and(|it| {
            let body = String::from_utf8_lossy(&it.body);
            let words =
                [r#""status":"ready""#, r#""status":"not ready""#, r#""code":"unavailable""#];
            words.iter().any(|word| body.contains(word))
        }),
        "verify_listen" => is(ask("/verify"), 405, ""),
        "admin_listen" => is(ask("/api/v1/openapi.json"), 200, "coord-bridge"),
        "metrics_listen" => is(ask("/metrics"), 200, "coord_bridge_"),
        _ => false,
    }
}
