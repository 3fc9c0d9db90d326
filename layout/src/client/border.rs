//! What the border costs, counted where it is crossed: filling slots, waiting for answers, reading them. Batches are timed
//! one and all; of single calls one in [`CALLS_A_TIMED`], because two looks at a clock cost as much as filling a slot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// One call in so many has its parts timed.
pub const CALLS_A_TIMED: u64 = 64;

/// What is counted, by place in [`Border::counts`]. Times are nanoseconds; those of calls are of the timed ones.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
pub enum Count {
    /// Batches submitted.
    Batches,
    /// Records in them.
    Records,
    /// From asking for a batch's slots to submitting them.
    FillNs,
    /// Waits for answers of batches.
    Waits,
    /// How long they took.
    WaitNs,
    /// Single calls submitted.
    Calls,
    /// Those that were timed.
    CallsTimed,
    /// Reading arguments and filling the slot, waiting for room included.
    CallFillNs,
    /// Waiting for the answer.
    CallWaitNs,
    /// Making a tuple of it.
    CallReadNs,
    /// Times that there was no room and nobody could or would wait for it: `LaneFull`.
    LaneFull,
}

/// How many counts there are.
pub const COUNTS: usize = Count::LaneFull as usize + 1;

/// The counts of one lane. Threads that count at the same instant may lose one: nothing is locked for them.
#[derive(Debug, Default)]
pub struct Border([AtomicU64; COUNTS]);

impl Border {
    #[inline]
    fn add(&self, count: Count, more: u64) -> u64 {
        let word = &self.0[count as usize];
        let sum = word.load(Ordering::Relaxed).wrapping_add(more);
        word.store(sum, Ordering::Relaxed);
        sum
    }

    /// A batch of `records`, whose filling began at `since`, is submitted.
    pub fn filled(&self, records: u64, since: Instant) {
        self.add(Count::Batches, 1);
        self.add(Count::Records, records);
        self.add(Count::FillNs, nanoseconds(since));
    }

    /// There was no room, and the caller is told so.
    #[cold]
    pub fn refused(&self) {
        self.add(Count::LaneFull, 1);
    }

    /// A wait for `target` slots that began at `since` is over. One for events (0) is no cost of the border.
    pub fn waited(&self, target: u64, since: Instant) {
        if target > 0 {
            self.add(Count::Waits, 1);
            self.add(Count::WaitNs, nanoseconds(since));
        }
    }

    /// A call begins; its clock, if it is timed.
    #[inline]
    #[must_use]
    pub fn begin_call(&self) -> Option<Instant> {
        self.add(Count::Calls, 1).is_multiple_of(CALLS_A_TIMED).then(Instant::now)
    }

    /// A part of a call is over.
    #[inline]
    pub fn lap(&self, clock: &mut Option<Instant>, part: Count) {
        if let Some(since) = clock {
            self.add(part, nanoseconds(*since));
            *since = Instant::now();
            self.add(Count::CallsTimed, u64::from(matches!(part, Count::CallReadNs)));
        }
    }

    /// All of them, in their order.
    #[must_use]
    pub fn counts(&self) -> [u64; COUNTS] {
        self.0.each_ref().map(|word| word.load(Ordering::Relaxed))
    }
}

fn nanoseconds(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_so_many_is_timed_and_every_batch_is() {
        let border = Border::default();
        for _ in 0..3 * CALLS_A_TIMED {
            let mut clock = border.begin_call();
            [Count::CallFillNs, Count::CallWaitNs, Count::CallReadNs].into_iter().for_each(|part| border.lap(&mut clock, part));
        }
        let since = Instant::now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        border.filled(7, since);
        border.waited(0, since);
        border.waited(9, since);
        border.refused();
        let [batches, records, fill_ns, waits, wait_ns, calls, timed, .., lane_full] = border.counts();
        assert_eq!((batches, records, waits, calls, timed, lane_full), (1, 7, 1, 3 * CALLS_A_TIMED, 3, 1));
        assert!(fill_ns >= 2_000_000 && wait_ns >= fill_ns);
    }
}
