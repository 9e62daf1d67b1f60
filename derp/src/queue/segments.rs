//! A run of bytes in pooled segments.
//!
//! Does: takes bytes at its end and gives them up at its front, in segments of two sizes that
//! go back to a pool as soon as they are empty, so that an idle connection holds none.
//! Does not: know where one frame ends and the next begins.

use std::collections::VecDeque;

use super::Queue;
use super::lane::Lane;
use crate::limits::{Limits, TOTAL_SHARE};

/// Bytes in the segments that a short queue uses.
const SMALL: usize = 4 * 1024;

/// Bytes in the segments that a longer queue goes on with.
const LARGE: usize = 64 * 1024;

/// Queued bytes from which the next segment is a large one.
const LARGE_FROM: usize = 4 * SMALL;

/// Empty segments that a pool keeps of each size: 1 MiB of small and 4 MiB of large ones.
const KEPT_SMALL: usize = 256;
const KEPT_LARGE: usize = 64;

/// Empty queues and lanes that a pool keeps of each.
const KEPT_QUEUES: usize = 256;

/// The segments, lanes and queues of one shard: what is lent out, and what is kept for the next
/// connection that needs it.
#[derive(Debug, Default)]
pub struct Pool {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    lanes: Vec<Lane>,
    #[expect(clippy::vec_box, reason = "the box moves between here and its connection")]
    queues: Vec<Box<Queue>>,
    lent: usize,
    /// Bytes that the shell holds for the same connections and charges to the same total.
    outside: usize,
}

impl Pool {
    /// Bytes in segments that are lent out: filled or not, they are charged whole.
    #[must_use]
    pub const fn lent(&self) -> usize {
        self.lent
    }

    /// Says how many bytes are held elsewhere on account of the same total.
    pub const fn set_outside(&mut self, bytes: usize) {
        self.outside = bytes;
    }

    /// Bytes that one queue may hold: a part of what is free of the shard's total, so that long
    /// queues give way before short ones (Choudhury and Hahne's dynamic threshold).
    pub(super) const fn share(&self, limits: &Limits) -> usize {
        limits.queue_bytes_total.saturating_sub(self.lent + self.outside) / TOTAL_SHARE
    }

    /// An empty queue.
    pub fn take_queue(&mut self) -> Box<Queue> {
        self.queues.pop().unwrap_or_default()
    }

    /// Keeps an empty queue for the next connection that needs one.
    pub fn give_queue(&mut self, mut queue: Box<Queue>) {
        if self.queues.len() < KEPT_QUEUES {
            queue.rest();
            self.queues.push(queue);
        }
    }

    pub(super) fn take_lane(&mut self) -> Lane {
        self.lanes.pop().unwrap_or_default()
    }

    pub(super) fn give_lane(&mut self, mut lane: Lane) {
        if self.lanes.len() < KEPT_QUEUES {
            lane.rest();
            self.lanes.push(lane);
        }
    }

    fn take(&mut self, size: usize) -> Box<[u8]> {
        self.lent += size;
        let kept = if size == SMALL { self.small.pop() } else { self.large.pop() };
        kept.unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    fn give(&mut self, segment: Box<[u8]>) {
        self.lent -= segment.len();
        let (kept, most) = if segment.len() == SMALL {
            (&mut self.small, KEPT_SMALL)
        } else {
            (&mut self.large, KEPT_LARGE)
        };
        if kept.len() < most {
            kept.push(segment);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Segments {
    list: VecDeque<Box<[u8]>>,
    /// Bytes already taken off the first segment.
    head: usize,
    /// Bytes filled in the last segment.
    tail: usize,
    len: usize,
}

impl Segments {
    /// Copies `bytes` to the end.
    pub(super) fn push(&mut self, mut bytes: &[u8], pool: &mut Pool) {
        while !bytes.is_empty() {
            let free = match self.list.back_mut() {
                Some(last) if self.tail < last.len() => last.get_mut(self.tail..),
                Some(_) | None => {
                    let size = if self.len < LARGE_FROM { SMALL } else { LARGE };
                    self.tail = 0;
                    self.list.push_back(pool.take(size));
                    continue;
                }
            };
            let free = free.unwrap_or_default();
            let (now, later) = bytes.split_at(bytes.len().min(free.len()));
            if let Some(place) = free.get_mut(..now.len()) {
                place.copy_from_slice(now);
            }
            self.tail += now.len();
            self.len += now.len();
            bytes = later;
        }
    }

    /// Moves `count` bytes from the front to the end of `out`.
    pub(super) fn pop_into(&mut self, count: usize, out: &mut Vec<u8>, pool: &mut Pool) {
        self.take_front(count, pool, |part| out.extend_from_slice(part));
    }

    /// Drops `count` bytes from the front.
    pub(super) fn skip(&mut self, count: usize, pool: &mut Pool) {
        self.take_front(count, pool, |_| ());
    }

    fn take_front(&mut self, mut count: usize, pool: &mut Pool, mut each: impl FnMut(&[u8])) {
        while count > 0 {
            let Some(first) = self.list.front() else { return };
            let end = if self.list.len() == 1 { self.tail } else { first.len() };
            let part = first.get(self.head..end.min(self.head + count)).unwrap_or_default();
            each(part);
            let taken = part.len();
            count -= taken;
            self.head += taken;
            self.len -= taken;
            if self.head == end {
                self.release_front(pool);
            } else if taken == 0 {
                return;
            }
        }
    }

    fn release_front(&mut self, pool: &mut Pool) {
        self.head = 0;
        if let Some(segment) = self.list.pop_front() {
            pool.give(segment);
        }
        if self.list.is_empty() {
            self.tail = 0;
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What goes in comes out, in order, and an empty run holds no memory.
        #[test]
        fn bytes_come_out_in_order_and_leave_nothing_behind(
            steps in prop::collection::vec((0_usize..70_000, 0_usize..90_000, any::<bool>()), 1..20),
        ) {
            let (mut run, mut pool, mut model) = (Segments::default(), Pool::default(), VecDeque::new());
            let mut next = 0_u8;
            for (push, pop, keep) in steps {
                let bytes: Vec<u8> = (0..push).map(|_| { next = next.wrapping_add(7); next }).collect();
                run.push(&bytes, &mut pool);
                model.extend(bytes);
                let pop = pop.min(model.len());
                let expected: Vec<u8> = model.drain(..pop).collect();
                let mut out = Vec::new();
                if keep {
                    run.pop_into(pop, &mut out, &mut pool);
                    prop_assert_eq!(out, expected);
                } else {
                    run.skip(pop, &mut pool);
                }
                prop_assert_eq!(run.len(), model.len());
            }
            run.skip(model.len(), &mut pool);
            prop_assert_eq!((run.len(), pool.lent()), (0, 0));
        }
    }
}
