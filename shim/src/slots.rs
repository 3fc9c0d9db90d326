//! Who holds which slots of a lane: one open reservation, then a queue of submitted ranges with pins. A slot is reused only
//! when it is completed and nothing looks at it any more. Memory, Python and waiting never enter here.

use std::collections::VecDeque;
use std::thread::ThreadId;

/// Names one reservation for ever, abandoned ones included.
pub type Serial = u64;

/// Submitted slots that are not released yet.
struct Range {
    serial: Serial,
    first: u64,
    count: u64,
    /// Leases that look at these slots, plus a `call` that waits for its answer.
    pins: u32,
}

/// Slots that are being filled.
pub struct Open {
    pub serial: Serial,
    pub first: u64,
    pub count: u64,
    /// Leases that look at these slots.
    pub pins: u32,
    pub owner: ThreadId,
}

/// What stands in the way of a reservation.
pub enum Obstacle {
    /// Somebody fills slots.
    Reservation(ThreadId),
    /// The sidecar has not completed the slots below this cursor.
    Unfinished(u64),
    /// Completed slots that this process still looks at: first, count, looks.
    Pinned(u64, u64, u32),
}

/// The slots of one lane, as the client knows them.
pub struct Slots {
    depth: u64,
    /// 0..2^64, at most `depth` above `released`.
    pub submitted: u64,
    /// Never above the `completed` that was seen last.
    pub released: u64,
    /// The value of `released` that the sidecar was told.
    pub told: u64,
    ranges: VecDeque<Range>,
    pub open: Option<Open>,
    serial: Serial,
    /// Threads that wait for slots.
    pub waiters: u32,
    pub closed: bool,
}

impl Slots {
    pub fn new(depth: u64) -> Self {
        let ranges = VecDeque::with_capacity(64);
        Self { depth, submitted: 0, released: 0, told: 0, ranges, open: None, serial: 0, waiters: 0, closed: false }
    }

    /// Opens a reservation of `count` slots, or says what is in the way.
    #[inline]
    pub fn reserve(&mut self, count: u64, completed: u64, owner: ThreadId) -> Result<&Open, Obstacle> {
        if let Some(open) = &self.open {
            return Err(Obstacle::Reservation(open.owner));
        }
        self.room(count, completed)?;
        self.serial += 1;
        Ok(self.open.insert(Open { serial: self.serial, first: self.submitted, count, pins: 0, owner }))
    }

    #[inline]
    fn room(&mut self, count: u64, completed: u64) -> Result<(), Obstacle> {
        if self.submitted + count - self.released <= self.depth {
            return Ok(());
        }
        self.advance(completed);
        if self.submitted + count - self.released <= self.depth {
            return Ok(());
        }
        let front = self.ranges.front().expect("slots that are not released belong to a range");
        let end = front.first + front.count;
        Err(if end > completed { Obstacle::Unfinished(end) } else { Obstacle::Pinned(front.first, front.count, front.pins) })
    }

    /// One slot, reserved and submitted at once: its serial and index. The caller publishes before anybody else can look.
    #[inline]
    pub fn submit_one(&mut self, completed: u64) -> Result<(Serial, u64), Obstacle> {
        if let Some(open) = &self.open {
            return Err(Obstacle::Reservation(open.owner));
        }
        self.room(1, completed)?;
        self.serial += 1;
        let first = self.submitted;
        self.ranges.push_back(Range { serial: self.serial, first, count: 1, pins: 1 });
        self.submitted += 1;
        Ok((self.serial, first))
    }

    /// Turns the open reservation into a submitted range with one pin more than it has now.
    pub fn submit(&mut self, open: &Open) {
        assert!(open.first == self.submitted);
        self.ranges.push_back(Range { serial: open.serial, first: open.first, count: open.count, pins: open.pins + 1 });
        self.submitted += open.count;
    }

    /// One look less at the slots of `serial`.
    #[inline]
    pub fn unpin(&mut self, serial: Serial, completed: u64) {
        if let Some(open) = self.open.as_mut().filter(|open| open.serial == serial) {
            open.pins -= 1;
            return;
        }
        let first = self.ranges.front().map_or(u64::MAX, |range| range.serial);
        let index = if first == serial { Ok(0) } else { self.ranges.binary_search_by_key(&serial, |range| range.serial) };
        // Not there: an abandoned reservation, whose leases look at private memory.
        if let Ok(index) = index {
            self.ranges[index].pins -= 1;
            self.advance(completed);
        }
    }

    /// Moves `released` over the completed ranges at which nobody looks.
    #[inline]
    pub fn advance(&mut self, completed: u64) {
        while let Some(range) = self.ranges.front() {
            let end = range.first + range.count;
            if range.pins > 0 || end > completed {
                break;
            }
            self.released = end;
            self.ranges.pop_front();
        }
    }
}
