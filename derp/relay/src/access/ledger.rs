//! What earlier answers say of a node, without a clock, a socket or a file.
//!
//! Does: remembers a yes for some seconds and a no for one, so that few logins cost a question;
//! and remembers for the grace time who was let in, for when nobody can be asked.
//! Does not: ask, or decide for a node that was never let in.
//!
//! ```text
//!  yes                                                      a day after the last yes
//!   |-- fresh: enters unasked --|-- known: asked; enters if nobody answers --|-- forgotten
//!  no: out at once, known no more; no question for one second
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use derp::key::NodePublic;

use super::Outcome;
use super::moment::Moment;
use super::verifiers::Verdict;

/// How long a yes saves the next question. Ours: a node that reconnects does so within seconds,
/// and without a push from a bridge this is how long a removed one may still come in.
pub(super) const FRESH_TIME: Duration = Duration::from_secs(10);

/// How long a no saves the next question. Ours: a refused client tries again every few seconds at
/// most, and a node may come in moments after it is registered.
pub(super) const DENIED_TIME: Duration = Duration::from_secs(1);

/// Most nodes that are known, about 200 bytes each: as many as an allow-list holds.
pub(super) const MAX_KNOWN: usize = 100_000;

/// Part of the known nodes that goes when there are too many: those let in longest ago.
const MADE_ROOM: usize = MAX_KNOWN / 10;

/// Most keys whose no is remembered, about 100 bytes each. Strangers choose these.
pub(super) const MAX_DENIED: usize = 10_000;

/// A node that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Whose verifier said yes.
    pub(super) tailnet: Arc<str>,
    /// When it last did.
    pub(super) allowed_at: Moment,
    /// Whether the answer is ours and nothing has been heard since that may change it.
    fresh: bool,
    /// Where the node last came from.
    source: Option<IpAddr>,
}

/// An earlier answer that saves a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recalled {
    /// Yes, from the verifier of this tailnet.
    Allowed(Arc<str>),
    /// No.
    Denied,
}

/// All earlier answers.
#[derive(Debug)]
pub(super) struct Ledger {
    grace: Duration,
    known: BTreeMap<NodePublic, Known>,
    denied: BTreeMap<NodePublic, Moment>,
    /// How often the set of known nodes has changed.
    changes: u64,
}

impl Ledger {
    /// Knows nobody. `grace` is how long after the last yes a node stays known.
    pub(super) const fn new(grace: Duration) -> Self {
        Self { grace, known: BTreeMap::new(), denied: BTreeMap::new(), changes: 0 }
    }

    /// The answer that is recent enough to be given again.
    pub(super) fn recall(&self, key: &NodePublic, now: Moment) -> Option<Recalled> {
        if let Some(denied_at) = self.denied.get(key) {
            return (now.since(*denied_at) < DENIED_TIME).then_some(Recalled::Denied);
        }
        let known = self.known.get(key)?;
        let fresh = known.fresh && now.since(known.allowed_at) < FRESH_TIME.min(self.grace);
        fresh.then(|| Recalled::Allowed(Arc::clone(&known.tailnet)))
    }

    /// What an answer means for the node: where there is none, whether it is known decides.
    pub(super) fn judge(
        &self,
        key: &NodePublic,
        verdict: &Verdict,
        fail_open: bool,
        now: Moment,
    ) -> (Outcome, Option<Arc<str>>) {
        match verdict {
            Verdict::Allow(tailnet) => (Outcome::Allowed, Some(Arc::clone(tailnet))),
            Verdict::Deny => (Outcome::Denied, None),
            Verdict::Unavailable => match self.known.get(key) {
                Some(known) if now.since(known.allowed_at) < self.grace => {
                    (Outcome::LastKnownGood, Some(Arc::clone(&known.tailnet)))
                }
                Some(_) | None if fail_open => (Outcome::FailedOpen, None),
                Some(_) | None => (Outcome::Unavailable, None),
            },
        }
    }

    /// Takes an answer down. No answer changes nothing.
    pub(super) fn note(
        &mut self,
        key: &NodePublic,
        verdict: &Verdict,
        source: Option<IpAddr>,
        now: Moment,
    ) {
        match verdict {
            Verdict::Allow(tailnet) => self.allow(key, tailnet, source, now),
            Verdict::Deny => self.deny(key, now),
            Verdict::Unavailable => {}
        }
    }

    /// Makes the next login ask again. The node stays known.
    pub(super) fn forget(&mut self, key: &NodePublic) {
        self.denied.remove(key);
        if let Some(known) = self.known.get_mut(key) {
            known.fresh = false;
        }
    }

    /// The same for all nodes.
    pub(super) fn forget_all(&mut self) {
        self.denied.clear();
        for known in self.known.values_mut() {
            known.fresh = false;
        }
    }

    /// Knows the node no more, in no way.
    pub(super) fn revoke(&mut self, key: &NodePublic) {
        self.denied.remove(key);
        self.drop_known(key);
    }

    /// Where a known node last came from.
    pub(super) fn source(&self, key: &NodePublic) -> Option<IpAddr> {
        self.known.get(key)?.source
    }

    /// How many nodes are known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// A number that differs whenever the set of known nodes does.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// All known nodes that are within the grace time, by key.
    pub(super) fn entries(&self, now: Moment) -> Vec<(NodePublic, Known)> {
        let within = |known: &Known| now.since(known.allowed_at) < self.grace;
        let entries = self.known.iter().filter(|(_, known)| within(known));
        entries.map(|(key, known)| (*key, known.clone())).collect()
    }

    /// Knows nodes that an earlier run knew, but not so well that they enter unasked.
    pub(super) fn restore(
        &mut self,
        entries: impl IntoIterator<Item = (NodePublic, Arc<str>, Moment)>,
        now: Moment,
    ) {
        for (key, tailnet, allowed_at) in entries.into_iter().take(MAX_KNOWN) {
            // A yes from the future comes from a clock that was wrong: it is one of now.
            let allowed_at = allowed_at.min(now);
            if now.since(allowed_at) < self.grace {
                let known = Known { tailnet, allowed_at, fresh: false, source: None };
                self.known.insert(key, known);
            }
        }
    }

    fn allow(&mut self, key: &NodePublic, tailnet: &Arc<str>, source: Option<IpAddr>, now: Moment) {
        self.denied.remove(key);
        let source = source.or_else(|| self.source(key));
        let known = Known { tailnet: Arc::clone(tailnet), allowed_at: now, fresh: true, source };
        if self.known.insert(*key, known).is_none() {
            self.changes += 1;
        }
        if self.known.len() > MAX_KNOWN {
            self.make_room(now);
        }
    }

    fn deny(&mut self, key: &NodePublic, now: Moment) {
        self.drop_known(key);
        if self.denied.len() >= MAX_DENIED {
            self.denied.retain(|_, denied_at| now.since(*denied_at) < DENIED_TIME);
        }
        // A stranger with ten thousand keys costs us their questions, and nobody else anything.
        if self.denied.len() >= MAX_DENIED {
            self.denied.clear();
        }
        self.denied.insert(*key, now);
    }

    fn drop_known(&mut self, key: &NodePublic) {
        if self.known.remove(key).is_some() {
            self.changes += 1;
        }
    }

    /// Drops who is out of the grace time, and if that is not enough, a tenth.
    fn make_room(&mut self, now: Moment) {
        self.known.retain(|_, known| now.since(known.allowed_at) < self.grace);
        if self.known.len() > MAX_KNOWN {
            let mut moments: Vec<_> = self.known.values().map(|known| known.allowed_at).collect();
            let (_, last_to_go, _) = moments.select_nth_unstable(MADE_ROOM);
            let last_to_go = *last_to_go;
            let mut to_go = MADE_ROOM;
            self.known.retain(|_, known| {
                let goes = to_go > 0 && known.allowed_at <= last_to_go;
                to_go -= usize::from(goes);
                !goes
            });
        }
        self.changes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(86_400);
    const SECOND: Duration = Duration::from_secs(1);

    /// DERP-8.5: a yes counts for ten seconds, a no for one, and no answer for nothing.
    #[test]
    fn an_answer_is_given_again_for_a_while() {
        let (mut ledger, start) = (Ledger::new(GRACE), now());
        ledger.note(&key(1), &yes(), None, start);
        ledger.note(&key(2), &Verdict::Deny, None, start);
        ledger.note(&key(3), &Verdict::Unavailable, None, start);

        let at = |span| [1, 2, 3].map(|number| ledger.recall(&key(number), start.after(span)));
        let allowed = Some(Recalled::Allowed("home".into()));
        assert_eq!(at(Duration::ZERO), [allowed.clone(), Some(Recalled::Denied), None]);
        assert_eq!(at(SECOND), [allowed.clone(), None, None]);
        assert_eq!(at(FRESH_TIME - Duration::from_millis(1)), [allowed, None, None]);
        assert_eq!(at(FRESH_TIME), [None, None, None]);
    }

    /// DERP-8.6: for the grace time after the last yes, and not for who never had one.
    #[test]
    fn without_an_answer_who_is_known_enters_until_the_grace_ends() {
        let (mut ledger, start) = (Ledger::new(GRACE), now());
        ledger.note(&key(1), &yes(), None, start);
        let judge = |ledger: &Ledger, number, fail_open, span| {
            let at = start.after(span);
            ledger.judge(&key(number), &Verdict::Unavailable, fail_open, at).0
        };

        assert_eq!(judge(&ledger, 1, false, GRACE - SECOND), Outcome::LastKnownGood);
        assert_eq!(judge(&ledger, 1, false, GRACE), Outcome::Unavailable);
        assert_eq!(judge(&ledger, 2, false, SECOND), Outcome::Unavailable);
        assert_eq!(judge(&ledger, 2, true, SECOND), Outcome::FailedOpen);
        assert_eq!(judge(&ledger, 1, true, SECOND), Outcome::LastKnownGood);

        // Each yes begins the time anew.
        ledger.note(&key(1), &yes(), None, start.after(GRACE - SECOND));
        assert_eq!(judge(&ledger, 1, false, 2 * GRACE - 2 * SECOND), Outcome::LastKnownGood);
        // And a no ends it.
        ledger.note(&key(1), &Verdict::Deny, None, start.after(GRACE));
        assert_eq!(judge(&ledger, 1, false, GRACE), Outcome::Unavailable);
        assert_eq!(ledger.len(), 0);
    }

    /// DERP-8.8: what is forgotten is asked about again; who is revoked is unknown.
    #[test]
    fn forgetting_costs_a_question_and_revoking_everything() {
        let (mut ledger, start) = (Ledger::new(GRACE), now());
        for number in [1, 2] {
            ledger.note(&key(number), &yes(), None, start);
        }
        ledger.note(&key(3), &Verdict::Deny, None, start);

        ledger.forget(&key(1));
        ledger.revoke(&key(2));
        ledger.forget(&key(3));

        let unanswered = |number| ledger.judge(&key(number), &Verdict::Unavailable, false, start).0;
        for number in [1, 2, 3] {
            assert_eq!(ledger.recall(&key(number), start), None);
        }
        assert_eq!([1, 2].map(unanswered), [Outcome::LastKnownGood, Outcome::Unavailable]);

        ledger.note(&key(4), &yes(), None, start);
        ledger.note(&key(5), &Verdict::Deny, None, start);
        ledger.forget_all();
        for number in [4, 5] {
            assert_eq!(ledger.recall(&key(number), start), None);
        }
        assert_eq!(
            ledger.judge(&key(4), &Verdict::Unavailable, false, start).0,
            Outcome::LastKnownGood
        );
    }

    /// DERP-8.6: what an earlier run knew is good for an outage, and for nothing else; a file from
    /// a clock that ran ahead gives no more than one grace time from now.
    #[test]
    fn what_is_restored_is_known_but_asked_about() {
        let (mut ledger, start) = (Ledger::new(GRACE), now());
        let ago = |span: Duration| Moment(start.0 - span);
        let entry = |number, at| (key(number), Arc::from("home"), at);
        ledger.restore(
            [entry(1, start), entry(2, ago(GRACE)), entry(3, start.after(9 * GRACE))],
            start,
        );

        assert_eq!(ledger.len(), 2);
        assert_eq!(ledger.recall(&key(1), start), None);
        let unanswered =
            |number, at| ledger.judge(&key(number), &Verdict::Unavailable, false, at).0;
        assert_eq!(unanswered(1, start), Outcome::LastKnownGood);
        assert_eq!(unanswered(2, start), Outcome::Unavailable);
        assert_eq!(unanswered(3, start), Outcome::LastKnownGood);
        assert_eq!(unanswered(3, start.after(GRACE)), Outcome::Unavailable);
    }

    /// Where a node came from stays known when nobody says it anew.
    #[test]
    fn the_source_of_a_node_is_kept_over_a_re_check() {
        let (mut ledger, start) = (Ledger::new(GRACE), now());
        let source = Some(IpAddr::from([203, 0, 113, 9]));
        ledger.note(&key(1), &yes(), source, start);
        ledger.note(&key(1), &yes(), None, start);
        assert_eq!(ledger.source(&key(1)), source);
    }

    /// DERP-8.5: neither strangers nor a tailnet without end take more than their room, and of the
    /// known ones those go that were let in longest ago.
    #[test]
    fn the_ledger_is_bounded() {
        let (mut ledger, start) = (Ledger::new(GRACE), now());
        for number in 0..3 * MAX_DENIED {
            ledger.note(&key(number), &Verdict::Deny, None, start);
            assert!(ledger.denied.len() <= MAX_DENIED);
        }
        assert_eq!(ledger.recall(&key(3 * MAX_DENIED - 1), start), Some(Recalled::Denied));

        for number in 0..=MAX_KNOWN {
            let at = start.after(Duration::from_millis(number as u64));
            ledger.note(&key(number), &yes(), None, at);
        }
        assert_eq!(ledger.len(), MAX_KNOWN + 1 - MADE_ROOM);
        assert!(!ledger.known.contains_key(&key(MADE_ROOM - 1)));
        assert!(ledger.known.contains_key(&key(MADE_ROOM)));

        // All at once: no order to tell them apart, and room is made all the same.
        let mut ledger = Ledger::new(GRACE);
        for number in 0..=MAX_KNOWN {
            ledger.note(&key(number), &yes(), None, start);
        }
        assert_eq!(ledger.len(), MAX_KNOWN + 1 - MADE_ROOM);
    }

    /// What has to be written down is told apart from what has not.
    #[test]
    fn only_who_comes_or_goes_is_a_change() {
        let (mut ledger, start) = (Ledger::new(GRACE), now());
        ledger.note(&key(1), &yes(), None, start);
        let before = ledger.changes();
        ledger.note(&key(1), &yes(), None, start.after(SECOND));
        ledger.note(&key(2), &Verdict::Deny, None, start);
        ledger.forget(&key(1));
        ledger.revoke(&key(2));
        assert_eq!(ledger.changes(), before);
        ledger.revoke(&key(1));
        assert_ne!(ledger.changes(), before);
    }

    fn now() -> Moment {
        Moment(Duration::from_secs(1_700_000_000))
    }

    fn yes() -> Verdict {
        Verdict::Allow("home".into())
    }

    fn key(number: usize) -> NodePublic {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        NodePublic::from_bytes(bytes)
    }
}
