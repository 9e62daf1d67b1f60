//! Log lines about who was refused or cut off, few enough for a disk.
//!
//! Does: one line in words for each, up to a few a minute, and one with the number of the others;
//! leaves addresses out where the operator wants none.
//! Does not: count for the metrics. Keys are shown short, as Tailscale's logs show them.

use std::net::IpAddr;
use std::sync::Mutex;

use derp::key::NodePublic;

use super::counters::CutOff;
use super::lock;
use super::moment::Clock;
use super::throttle::Throttle;

#[derive(Debug)]
pub(super) struct Log {
    clock: Clock,
    addresses: bool,
    refusals: Mutex<Throttle>,
    cut_offs: Mutex<Throttle>,
}

impl Log {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, addresses: true, refusals: Mutex::default(), cut_offs: Mutex::default() }
    }

    /// Whether lines show where clients come from.
    pub(super) const fn show_addresses(&mut self, show: bool) {
        self.addresses = show;
    }

    pub(super) fn refused(&self, key: &NodePublic, source: IpAddr, why: &str) {
        if self.admits(&self.refusals, key, tell_refusals) {
            if self.addresses {
                tracing::info!(?key, %source, "refused a client: {why}");
            } else {
                tracing::info!(?key, "refused a client: {why}");
            }
        }
    }

    pub(super) fn cut_off(&self, key: &NodePublic, cause: CutOff) {
        if self.admits(&self.cut_offs, key, tell_cut_offs) {
            let why = match cause {
                CutOff::Denied => "the verifiers no longer know its node",
                CutOff::GraceOver => "no verifier could be asked for longer than verify_grace",
                CutOff::Revoked => "its access was revoked",
                CutOff::Unlisted => "its node is no longer on the allow-list",
            };
            tracing::info!(?key, "cut off a client: {why}");
        }
    }

    /// Tells the sums that are due. To be called now and then.
    pub(super) fn tick(&self) {
        let now = self.clock.now();
        let refusals = lock(&self.refusals).sum(now);
        let cut_offs = lock(&self.cut_offs).sum(now);
        refusals.into_iter().for_each(tell_refusals);
        cut_offs.into_iter().for_each(tell_cut_offs);
    }

    /// Tells all sums now.
    pub(super) fn end(&self) {
        let refusals = lock(&self.refusals).end();
        let cut_offs = lock(&self.cut_offs).end();
        refusals.into_iter().for_each(tell_refusals);
        cut_offs.into_iter().for_each(tell_cut_offs);
    }

    fn admits(&self, throttle: &Mutex<Throttle>, key: &NodePublic, tell: fn(u64)) -> bool {
        let now = self.clock.now();
        let mut throttle = lock(throttle);
        let sum = throttle.sum(now);
        let admitted = throttle.admit(key, now);
        drop(throttle);
        sum.into_iter().for_each(tell);
        admitted
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}

fn tell_refusals(count: u64) {
    tracing::info!("refused clients {count} times more within a minute; the last lines say why");
}

fn tell_cut_offs(count: u64) {
    tracing::info!("cut off {count} clients more within a minute; the last lines say why");
}
