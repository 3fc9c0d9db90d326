//! Who holds which slots of a lane: one open reservation, then a queue of submitted ranges with pins. A slot is reused only
//! when it is completed and nothing looks at it any more. Memory, Python and waiting never enter here.

use std::collections::VecDeque;
use std::thread::ThreadId;

/// Names one reservation for ever, abandoned ones included.
pub type Serial = u64;

/// Submitted slots that are not released yet.
#[derive(Debug)]
struct Range {
    serial: Serial,
    first: u64,
    count: u64,
    /// Leases that look at these slots, plus a `call` that waits for its answer.
    pins: u32,
}

/// Slots that are being filled.
#[derive(Debug)]
pub struct Open {
    /// Names the reservation.
    pub serial: Serial,
    /// Its first slot.
    pub first: u64,
    /// How many slots: 1 to the lane's depth.
    pub count: u64,
    /// Leases that look at these slots.
    pub pins: u32,
    /// The thread that fills them.
    pub owner: ThreadId,
}

/// What stands in the way of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// This process closed the lane.
    Closed,
    /// Somebody fills slots.
    Reservation(ThreadId),
    /// The sidecar has not completed the slots below this cursor.
    Unfinished(u64),
    /// Completed slots that this process still looks at: first, count, looks.
    Pinned(u64, u64, u32),
}

/// The slots of one lane, as the client knows them.
#[derive(Debug)]
pub struct Slots {
    depth: u64,
    /// 0..2^64, at most `depth` above `released`.
    pub submitted: u64,
    /// Never above the `completed` that was seen last.
    pub released: u64,
    /// The value of `released` that the sidecar was told.
    pub told: u64,
    ranges: VecDeque<Range>,
    /// Ranges in front at which nobody looks: they wait for the sidecar alone.
    idle: usize,
    /// The reservation that is being filled.
    pub open: Option<Open>,
    serial: Serial,
    /// Threads that wait for slots.
    pub waiters: u32,
    /// Whether no more work is taken.
    pub closed: bool,
}

impl Slots {
    /// A lane of `depth` slots that nobody has used yet.
    #[must_use]
    pub fn new(depth: u64) -> Self {
        let ranges = VecDeque::with_capacity(64);
        Self { depth, submitted: 0, released: 0, told: 0, ranges, idle: 0, open: None, serial: 0, waiters: 0, closed: false }
    }

    /// Opens a reservation of `count` slots, or says what is in the way.
    #[inline]
    pub fn reserve(&mut self, count: u64, completed: u64, owner: ThreadId) -> Result<&Open, Obstacle> {
        self.room(count, completed)?;
        self.serial += 1;
        Ok(self.open.insert(Open { serial: self.serial, first: self.submitted, count, pins: 0, owner }))
    }

    #[inline]
    fn room(&mut self, count: u64, completed: u64) -> Result<(), Obstacle> {
        if self.closed {
            return Err(Obstacle::Closed);
        }
        if let Some(open) = &self.open {
            return Err(Obstacle::Reservation(open.owner));
        }
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
        self.room(1, completed)?;
        self.serial += 1;
        let first = self.submitted;
        self.ranges.push_back(Range { serial: self.serial, first, count: 1, pins: 1 });
        self.submitted += 1;
        Ok((self.serial, first))
    }

    /// The open reservation, if it is `serial`'s.
    pub fn open_as(&mut self, serial: Serial) -> Option<&mut Open> {
        self.open.as_mut().filter(|open| open.serial == serial)
    }

    /// Turns the open reservation into a submitted range with one pin more than it has now. `None`: it is not `serial`'s.
    pub fn submit(&mut self, serial: Serial) -> Option<Open> {
        let open = self.open.take_if(|open| open.serial == serial)?;
        assert!(open.first == self.submitted);
        self.ranges.push_back(Range { serial: open.serial, first: open.first, count: open.count, pins: open.pins + 1 });
        self.submitted += open.count;
        Some(open)
    }

    /// One look less at the slots of `serial`.
    #[inline]
    pub fn unpin(&mut self, serial: Serial, completed: u64) {
        if let Some(open) = self.open_as(serial) {
            open.pins -= 1;
            return;
        }
        let first = self.ranges.front().map_or(u64::MAX, |range| range.serial);
        let index = if first == serial { Ok(0) } else { self.ranges.binary_search_by_key(&serial, |range| range.serial) };
        // Not there: an abandoned reservation, whose leases look at private memory.
        if let Ok(index) = index {
            self.ranges[index].pins -= 1;
            while self.ranges.get(self.idle).is_some_and(|range| range.pins == 0) {
                self.idle += 1;
            }
            self.advance(completed);
        }
    }

    /// The first slot at which somebody looks: what lies below is held by nobody, completed or not.
    #[inline]
    #[must_use]
    pub fn let_go(&self) -> u64 {
        self.ranges.get(self.idle).map_or(self.submitted, |range| range.first)
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
            self.idle -= 1; // it had no pins, so it was one of them
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEPTH: u64 = 16;

    /// One submitted or open run of slots, as a naive client would note it.
    #[derive(Debug, Clone, Copy)]
    struct Noted {
        serial: Serial,
        first: u64,
        count: u64,
        pins: u32,
        open: bool,
    }

    /// Everything that ever happened, and what follows from it by going through all of it.
    #[derive(Default)]
    struct Naive {
        noted: Vec<Noted>,
        completed: u64,
    }

    impl Naive {
        fn submitted(&self) -> u64 {
            self.noted.iter().filter(|run| !run.open).map(|run| run.count).sum()
        }

        fn held(&self, run: &Noted) -> bool {
            run.open || run.pins > 0 || run.first + run.count > self.completed
        }

        fn released(&self) -> u64 {
            self.noted.iter().find(|run| self.held(run)).map_or(self.submitted(), |run| run.first)
        }

        fn let_go(&self) -> u64 {
            self.noted.iter().find(|run| !run.open && run.pins > 0).map_or(self.submitted(), |run| run.first)
        }

        fn note(&mut self, serial: Serial, first: u64, count: u64, pins: u32, open: bool) {
            for run in self.noted.iter().filter(|run| self.held(run)) {
                // Same places of the ring: the later run begins a whole depth or more behind the start of the earlier one.
                assert!(first + count <= run.first + DEPTH, "slots from {first} reuse {run:?}");
                assert_ne!(run.serial, serial);
            }
            self.noted.push(Noted { serial, first, count, pins, open });
        }

        fn pinned(&mut self) -> impl Iterator<Item = &mut Noted> {
            self.noted.iter_mut().filter(|run| run.pins > 0)
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        One,
        Reserve(u64),
        Look,
        Submit,
        Abandon,
        /// The choice among all pins.
        Unpin(prop::sample::Index),
        Complete(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::One),
            3 => (1..=DEPTH).prop_map(Step::Reserve),
            2 => Just(Step::Look),
            3 => Just(Step::Submit),
            1 => Just(Step::Abandon),
            6 => any::<prop::sample::Index>().prop_map(Step::Unpin),
            4 => (0..=DEPTH).prop_map(Step::Complete),
        ];
        prop::collection::vec(step, 1..300)
    }

    fn check_refusal(obstacle: Obstacle, naive: &Naive, count: u64, me: ThreadId) {
        if naive.noted.last().is_some_and(|run| run.open) {
            return assert_eq!(obstacle, Obstacle::Reservation(me));
        }
        assert!(naive.submitted() + count - naive.released() > DEPTH, "refused with room: {obstacle:?}");
        let front = naive.noted.iter().find(|run| naive.held(run)).unwrap();
        if front.first + front.count > naive.completed {
            assert_eq!(obstacle, Obstacle::Unfinished(front.first + front.count));
        } else {
            assert_eq!(obstacle, Obstacle::Pinned(front.first, front.count, front.pins));
        }
    }

    proptest! {
        /// Slots are never reused while pinned or not completed, and are given whenever a look at everything says they are free.
        #[test]
        fn agrees_with_a_naive_client(steps in steps()) {
            let me = std::thread::current().id();
            let (mut slots, mut naive) = (Slots::new(DEPTH), Naive::default());
            for step in steps {
                let completed = naive.completed;
                match step {
                    Step::One => match slots.submit_one(completed) {
                        Ok((serial, first)) => naive.note(serial, first, 1, 1, false),
                        Err(obstacle) => check_refusal(obstacle, &naive, 1, me),
                    },
                    Step::Reserve(count) => match slots.reserve(count, completed, me) {
                        Ok(open) => naive.note(open.serial, open.first, count, 0, true),
                        Err(obstacle) => check_refusal(obstacle, &naive, count, me),
                    },
                    Step::Look => {
                        let open = naive.noted.last_mut().filter(|run| run.open);
                        prop_assert_eq!(slots.open.is_some(), open.is_some());
                        if let (Some(open), Some(noted)) = (&mut slots.open, open) {
                            open.pins += 1;
                            noted.pins += 1;
                        }
                    }
                    Step::Submit => {
                        let serial = slots.open.as_ref().map_or(0, |open| open.serial);
                        prop_assert!(slots.submit(serial + 1).is_none(), "submitted by who does not fill it");
                        if slots.submit(serial).is_some() {
                            let noted = naive.noted.last_mut().unwrap();
                            (noted.open, noted.pins) = (false, noted.pins + 1);
                        }
                    }
                    Step::Abandon => {
                        // Looks at what was abandoned end later, and then find nothing to unpin.
                        if let Some(open) = slots.open.take() {
                            naive.noted.pop();
                            slots.unpin(open.serial, completed);
                        }
                    }
                    Step::Unpin(choice) => {
                        let pinned = naive.pinned().count();
                        if pinned > 0 {
                            let run = naive.pinned().nth(choice.index(pinned)).unwrap();
                            run.pins -= 1;
                            slots.unpin(run.serial, completed);
                        }
                    }
                    Step::Complete(count) => naive.completed += count.min(naive.submitted() - completed),
                }
                prop_assert_eq!(slots.submitted, naive.submitted());
                prop_assert!(slots.released <= naive.released() && slots.released <= naive.completed);
                slots.advance(naive.completed);
                prop_assert_eq!(slots.released, naive.released());
                prop_assert_eq!(slots.let_go(), naive.let_go());
            }
        }
    }

    #[test]
    fn a_closed_lane_takes_nothing() {
        let mut slots = Slots::new(DEPTH);
        slots.closed = true;
        assert_eq!(slots.submit_one(0), Err(Obstacle::Closed));
    }
}
