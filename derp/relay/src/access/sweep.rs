//! When to ask again about nodes that are connected, without a clock or a socket.
//!
//! Does: takes the connected keys part by part, and spreads the questions so evenly that each key
//! is asked about once in an interval and the verifier never sees a crowd.
//! Does not: keep keys: what is connected when its part comes is asked about, however it came in.
//!
//! ```text
//! interval = parts + 2 steps;  a step: |-jitter-|key  key  key  key|
//! worst case of a key: all parts, the jitter, and its place in its step
//! ```

use std::time::Duration;

use super::moment::Moment;

/// Least time between two questions: at most 200 a second, however many are connected. Ours: a
/// verifier that walks a list of thousands for each answer has time for logins. More connections
/// than an interval has room for take longer than an interval.
pub(super) const MIN_GAP: Duration = Duration::from_millis(5);

/// The turn of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Which part.
    pub(super) part: usize,
    /// When it begins.
    pub(super) at: Moment,
}

/// The order of turns, for ever.
#[derive(Debug)]
pub(super) struct Sweep {
    parts: usize,
    step: Duration,
    part: usize,
    at: Moment,
}

impl Sweep {
    /// Begins at `now` with any part: relays that start together do not ask together.
    pub(super) fn new(interval: Duration, parts: usize, now: Moment, random: u64) -> Self {
        let parts = parts.max(1);
        let steps = u32::try_from(parts + 2).unwrap_or(u32::MAX);
        let part = usize::try_from(random % parts as u64).unwrap_or_default();
        Self { parts, step: interval / steps, part, at: now }
    }

    /// The next turn. One that is late begins now, and those after it are as much later.
    pub(super) fn next(&mut self, now: Moment, random: u64) -> Turn {
        self.at = self.at.max(Moment(now.0.saturating_sub(self.step)));
        let thousandths = u32::try_from(random % 1_000).unwrap_or_default();
        let turn = Turn { part: self.part, at: self.at.after(self.step / 1_000 * thousandths) };
        self.part = (self.part + 1) % self.parts;
        self.at = self.at.after(self.step);
        turn
    }

    /// Time between two questions of a turn with so many keys.
    pub(super) fn gap(&self, keys: usize) -> Duration {
        let keys = u32::try_from(keys.max(1)).unwrap_or(u32::MAX);
        // A tenth is for what takes time besides, so that turns do not push each other.
        (self.step / 10 * 9 / keys).max(MIN_GAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);
    const PARTS: usize = 64;

    /// DERP-8.7: ten thousand connections: each is asked about within the interval after it came
    /// and within each one after that, and in no second are there more than three times as many
    /// questions as on average.
    #[test]
    fn ten_thousand_keys_are_asked_about_in_time_and_without_a_crowd() {
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let start = Moment(Duration::from_secs(1_700_000_000));
        // When each key came, and when it was last asked about.
        let mut keys: Vec<(usize, Moment)> = (0..10_000)
            .map(|_| {
                let came = start.after(Duration::from_millis(noise.next() % 600_000));
                (usize::try_from(noise.next()).unwrap() % PARTS, came)
            })
            .collect();
        let mut sweep = Sweep::new(INTERVAL, PARTS, start, noise.next());
        let (mut now, mut seconds) = (start, std::collections::BTreeMap::<u64, u32>::new());
        let end = start.after(4 * INTERVAL);
        while now < end {
            let turn = sweep.next(now, noise.next());
            now = now.max(turn.at);
            let mut due: Vec<_> = keys
                .iter_mut()
                .filter(|(part, last)| *part == turn.part && *last <= now)
                .map(|(_, last)| last)
                .collect();
            let gap = sweep.gap(due.len());
            for last in &mut due {
                assert!(now.since(**last) <= INTERVAL, "{:?}", now.since(**last));
                **last = now;
                *seconds.entry(now.0.as_secs()).or_default() += 1;
                now = now.after(gap);
            }
        }
        assert!(keys.iter().all(|(_, last)| end.since(*last) <= INTERVAL));
        let most = seconds.values().max().unwrap();
        assert!(*most <= 100, "{most} questions in a second, 33 on average");
    }

    /// More than there is time for: the rate holds, the interval does not.
    #[test]
    fn too_many_keys_take_longer_and_ask_no_faster() {
        let sweep = Sweep::new(Duration::from_secs(1), PARTS, Moment::default(), 0);
        assert_eq!(sweep.gap(10_000), MIN_GAP);
        assert_eq!(sweep.gap(0), Duration::from_secs(1) / 66 / 10 * 9);
    }

    /// After a turn that took long, the others follow at their pace: none is left out, and they do
    /// not come all at once.
    #[test]
    fn a_late_turn_is_not_made_up_for_by_haste() {
        let mut sweep = Sweep::new(Duration::from_secs(66), PARTS, Moment::default(), 5);
        let first = sweep.next(Moment::default(), 0);
        assert_eq!(first, Turn { part: 5, at: Moment::default() });
        let late = Moment(Duration::from_secs(1_000));
        let turns: Vec<Turn> = (0..3).map(|_| sweep.next(late, 0)).collect();
        let seconds: Vec<u64> = turns.iter().map(|turn| turn.at.0.as_secs()).collect();
        assert_eq!(seconds, [999, 1_000, 1_001]);
        assert_eq!(turns.iter().map(|turn| turn.part).collect::<Vec<_>>(), [6, 7, 8]);
    }

    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
    }
}
