//! A timer wheel of one-second ticks.
//!
//! Does: holds what is due within the next two minutes; inserting and firing are O(1).
//! Does not: cancel. What fires is checked by its owner, who may have no use for it any more.

use crate::time::Time;

/// Microseconds in a tick.
const TICK_MICROS: u64 = 1_000_000;

/// Ticks on the wheel: more than the longest timer, a keep-alive of 65 s.
const SPOKES: u64 = 128;

/// Timers of one shard, each carrying a `T`.
#[derive(Debug)]
pub struct Wheel<T> {
    spokes: Vec<Vec<T>>,
    /// The last tick that has fired.
    fired: u64,
}

impl<T> Wheel<T> {
    /// An empty wheel, started at `now`.
    #[must_use]
    pub fn new(now: Time) -> Self {
        let spokes = (0..SPOKES).map(|_| Vec::new()).collect();
        Self { spokes, fired: now.as_micros() / TICK_MICROS }
    }

    /// Fires `timer` on the first tick at or after `due`; at the next tick if that is past.
    ///
    /// `due` is at most 126 s ahead; a later timer fires early, and its owner finds that out.
    pub fn insert(&mut self, due: Time, timer: T) {
        let tick = due.as_micros().div_ceil(TICK_MICROS);
        let tick = tick.clamp(self.fired + 1, self.fired + SPOKES - 1);
        if let Some(spoke) = self.spoke(tick) {
            spoke.push(timer);
        }
    }

    /// The instant of the next tick, at which [`Wheel::fire`] wants to be called.
    #[must_use]
    pub const fn next_tick(&self) -> Time {
        Time::from_micros((self.fired + 1) * TICK_MICROS)
    }

    /// Takes the timers of one tick that is due, or `None` when all up to `now` have fired.
    pub fn fire(&mut self, now: Time) -> Option<Vec<T>> {
        if self.next_tick() > now {
            return None;
        }
        self.fired += 1;
        let tick = self.fired;
        Some(self.spoke(tick).map(std::mem::take).unwrap_or_default())
    }

    fn spoke(&mut self, tick: u64) -> Option<&mut Vec<T>> {
        self.spokes.get_mut(usize::try_from(tick % SPOKES).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A timer is never early, and late by less than a tick; clocks may jump ahead.
    #[test]
    fn timers_fire_on_the_first_tick_after_they_are_due() {
        let start = Time::from_micros(7_300_000);
        let mut wheel = Wheel::new(start);
        wheel.insert(start + Duration::from_secs(64), 'k');
        wheel.insert(start, 'n');
        let mut fired = Vec::new();
        for half_second in 1..=400_u64 {
            let now = start + Duration::from_millis(500 * half_second);
            while let Some(timers) = wheel.fire(now) {
                fired.extend(timers.into_iter().map(|timer| (timer, half_second)));
            }
        }
        assert_eq!(fired, [('n', 2), ('k', 130)]);
    }
}
