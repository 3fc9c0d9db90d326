//! One lane in service: which of its slots are handed out, done and told, how many hands work on it, and how it ends.
//! All of it changes under one lock that only threads of the pool take.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::channel::Sender;
use ringlane_layout::board::lane as row;
use ringlane_layout::limits::{EMPTY_DOORBELLS_MAX, JOB_GROUP_BYTES_MAX, JOB_RUN_BYTES_MAX, JOB_RUN_NS, PAYLOADS_A_RUN};
use ringlane_layout::region::LaneStatus;

use super::ages::Ages;
use super::{Keeper, Opening, Over};
use crate::board::BoardRow;
use crate::jobs::hand::{OpenGroup, PayloadRun};
use crate::kernels::door::{ABREAST_MAX, Compute};
use crate::lanes::{JobCursors, JobLane};
use crate::sequencer::wall_clock_ns;

/// Work that is worth the waking of another thread, nanoseconds.
const WORTH_A_HAND_NS: f32 = 20_000.0;
/// What a slot of a new lane is thought to cost, nanoseconds.
const COST_NS_AT_FIRST: f32 = 10_000.0;
/// How much a run of slots counts in what a slot is thought to cost.
const COST_WEIGHT: f32 = 0.25;

/// Stretches of slots, and runs of payloads, that a lane has memory for from the start.
const STRETCHES_AT_FIRST: usize = 64;

/// A lane and its kernel.
pub struct Served {
    pub lane: JobLane,
    pub compute: Compute,
    pub kernel: String,
    /// Where what it is asked and answers is recorded, if it is.
    pub keeper: Option<Keeper>,
    /// Which of the job lanes' rows on the board is its own.
    pub row: usize,
    /// Whether a doorbell waits in the queue.
    pub rung: AtomicBool,
    hands_max: usize,
    /// That row; written under the lock of `state`.
    board: Arc<BoardRow>,
    /// Slots that are done, for who only counts.
    pub done_slots: AtomicU64,
    over: Over,
    state: Mutex<State>,
}

struct State {
    cursors: JobCursors,
    ages: Ages,
    /// Slots that were handed out.
    claimed: u64,
    /// Slots that are done before others that stand before them: first and last + 1 of each stretch, ascending, never touching.
    /// At most one stretch more than there are hands.
    done: Vec<(u64, u64)>,
    /// Runs of payloads that nobody works on.
    #[expect(clippy::vec_box, reason = "they go from hand to hand as boxes")]
    spare: Vec<Box<PayloadRun>>,
    /// Threads that work on it, or are sent for it.
    hands: usize,
    /// What a slot costs, by the last runs, nanoseconds.
    cost_ns: f32,
    group: GroupState,
    closing: Option<Closing>,
    /// Why nothing more is handed out.
    failed: Option<LaneStatus>,
    ended: bool,
}

impl State {
    /// Whether the lane ends, one way or the other.
    fn is_over(&self) -> bool {
        self.failed.is_some() || self.closing.is_some()
    }
}

enum GroupState {
    None,
    /// Somebody makes it.
    Beginning,
    Open(Arc<OpenGroup>),
}

/// A lane that ends: what it had submitted by then is served, and nothing that it submits later.
struct Closing {
    upto: u64,
    status: LaneStatus,
    answer: Option<Sender<bool>>,
}

/// What a hand gets.
pub enum Claim {
    /// Slots to compute as one run: first, count.
    Run(u64, usize),
    Payloads(Box<PayloadRun>),
    /// Slots of a new group: first, count.
    BeginGroup(u64, usize),
    JoinGroup(Arc<OpenGroup>),
    /// Nothing: it may look a while for more, knowing this `submitted`.
    Linger(u64),
    /// Nothing: it is over.
    Nothing,
}

impl Served {
    pub fn new(opening: Opening, (row, board): (usize, Arc<BoardRow>), over: Over) -> Arc<Self> {
        let Opening { lane, mut cursors, kernel, open, keeper } = opening;
        cursors.parked = true; // until its first turn
        let state = State {
            cursors,
            ages: Ages::default(),
            claimed: 0,
            done: Vec::with_capacity(STRETCHES_AT_FIRST),
            spare: Vec::with_capacity(STRETCHES_AT_FIRST),
            hands: 0,
            cost_ns: COST_NS_AT_FIRST,
            group: GroupState::None,
            closing: None,
            failed: None,
            ended: false,
        };
        let hands_max = open.shape.hands_max.unwrap_or(usize::MAX);
        let served = Self {
            lane,
            compute: open.compute,
            kernel,
            keeper,
            row,
            rung: AtomicBool::new(true),
            hands_max,
            board,
            done_slots: AtomicU64::new(0),
            over,
            state: Mutex::new(state),
        };
        served.introduce();
        Arc::new(served)
    }

    /// A panic while it was held is a bug of ours, which must not spread.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The doorbell rang. True: the caller is the lane's hand from now on.
    pub fn awake(&self) -> bool {
        let mut state = self.state();
        state.cursors.empty_doorbells += 1;
        if state.cursors.empty_doorbells > EMPTY_DOORBELLS_MAX {
            state.failed.get_or_insert(LaneStatus::DoorbellFlood);
        }
        self.take_in_hand(&mut state)
    }

    /// Ends the lane once what it has submitted is done. True: the caller is the lane's hand from now on.
    pub fn close(&self, status: LaneStatus, answer: Option<Sender<bool>>) -> bool {
        let mut state = self.state();
        if state.ended || state.closing.is_some() {
            let _ = answer.map(|answer| answer.send(state.ended));
            return false;
        }
        let upto = match state.cursors.look(&self.lane) {
            Ok(submitted) => submitted,
            Err(lie) => {
                state.failed.get_or_insert(lie);
                state.claimed
            }
        };
        state.closing = Some(Closing { upto, status, answer });
        self.take_in_hand(&mut state)
    }

    fn take_in_hand(&self, state: &mut State) -> bool {
        let mine = state.cursors.parked && !state.ended;
        if mine {
            state.cursors.unpark(&self.lane);
            state.hands += 1;
        }
        mine
    }

    /// Gives a hand its next work, of which `allowed` threads may do some at once. True beside it: send one hand more.
    pub fn claim(&self, allowed: usize, may_linger: bool) -> (Claim, bool) {
        let mut state = self.state();
        let state = &mut *state;
        match state.cursors.look(&self.lane) {
            Ok(submitted) => state.ages.see(state.cursors.cursors().1, submitted, wall_clock_ns),
            Err(lie) => drop(state.failed.get_or_insert(lie)),
        }
        let hands_max = self.hands_max.min(allowed);
        if state.failed.is_none() {
            let end = state.closing.as_ref().map_or_else(|| state.cursors.cursors().0, |closing| closing.upto);
            let left = end - state.claimed;
            if let Some(claim) = self.claim_work(state, left, hands_max) {
                if state.cursors.parked {
                    state.cursors.unpark(&self.lane);
                }
                let rest = (end - state.claimed) as f32 * state.cost_ns;
                let more = state.hands < hands_max && matches!(claim, Claim::Run(..) | Claim::Payloads(_)) && rest > WORTH_A_HAND_NS;
                state.hands += usize::from(more);
                return (claim, more);
            }
        }
        (self.leave(state, may_linger), false)
    }

    /// For a hand that goes on with old work: whether new work waits for which one hand more is to be sent. What comes later rings.
    pub fn needs_another(&self, allowed: usize) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        if state.is_over() || state.cursors.parked || state.hands >= self.hands_max.min(allowed) {
            return false;
        }
        let waits = !state.cursors.park(&self.lane, state.claimed);
        state.hands += usize::from(waits);
        waits
    }

    fn claim_work(&self, state: &mut State, left: u64, hands_max: usize) -> Option<Claim> {
        let first = state.claimed;
        let share = left.div_ceil(2 * hands_max as u64).min(JOB_RUN_BYTES_MAX as u64) as usize;
        let claim = match &self.compute {
            Compute::Groups(compute) => {
                return match &state.group {
                    GroupState::Open(group) if group.join() => Some(Claim::JoinGroup(Arc::clone(group))),
                    GroupState::None if left > 0 => {
                        let count = (compute.slots_max() as u64).min(left).min(self.slots_by_bytes());
                        state.claimed += count;
                        state.group = GroupState::Beginning;
                        Some(Claim::BeginGroup(first, count as usize))
                    }
                    _ => None,
                };
            }
            _ if left == 0 => return None,
            Compute::Batch(_) => {
                let by_cost = (JOB_RUN_NS as f32 / state.cost_ns) as usize;
                let worth_it = (WORTH_A_HAND_NS / state.cost_ns) as usize;
                let count = share.max(worth_it).min(by_cost).max(1).min(left.min(self.slots_by_bytes()) as usize);
                state.claimed += count as u64;
                Claim::Run(first, count)
            }
            Compute::Payloads(compute) => {
                let fresh = || Box::new(PayloadRun::new(self.lane.geometry.request_slot_bytes as usize));
                let mut run = state.spare.pop().unwrap_or_else(fresh);
                // A lane that bounds how many are worked on, or is recorded, has one large payload after the other.
                let abreast =
                    if self.hands_max == usize::MAX && self.keeper.is_none() { compute.abreast().clamp(1, ABREAST_MAX) } else { 1 };
                if let Err(lie) = run.take(&self.lane, &**compute, first, (share.clamp(1, PAYLOADS_A_RUN), abreast)) {
                    state.failed = Some(lie);
                    return None;
                }
                state.claimed += run.count() as u64;
                Claim::Payloads(run)
            }
        };
        Some(claim)
    }

    fn slots_by_bytes(&self) -> u64 {
        let slot = self.lane.geometry.request_slot_bytes.max(self.lane.geometry.result_slot_bytes);
        let most = if matches!(self.compute, Compute::Groups(_)) { JOB_GROUP_BYTES_MAX } else { JOB_RUN_BYTES_MAX };
        (most as u64 / slot).max(1)
    }

    /// A hand found nothing to do. It parks the lane, even while others are still at work, for the system may have taken their
    /// core away and new work must not wait for that. The last hand of a lane that is over ends it.
    fn leave(&self, state: &mut State, may_linger: bool) -> Claim {
        let (is_over, is_last) = (state.is_over(), state.hands == 1);
        // New slots of a lane of groups wait for the end of the open one, and so for its last hand.
        let parks = !is_over && !state.cursors.parked && (is_last || !matches!(self.compute, Compute::Groups(_)));
        if is_over && is_last {
            self.end(state);
        } else if parks && may_linger {
            return Claim::Linger(state.cursors.cursors().0);
        } else if parks && !state.cursors.park(&self.lane, state.claimed) {
            return Claim::Linger(state.claimed); // slots came in between: it looks again at once
        }
        state.hands -= 1;
        self.publish(state);
        Claim::Nothing
    }

    /// A run is done: `count` slots from `first` on, which took so long. What now stands in order becomes visible.
    pub fn finish(&self, first: u64, count: usize, took_ns: u64) {
        let mut state = self.state();
        let state = &mut *state;
        let each = took_ns as f32 / count as f32;
        state.cost_ns = (state.cost_ns + (each - state.cost_ns) * COST_WEIGHT).max(1.0);
        let end = first + count as u64;
        if state.cursors.cursors().1 == first {
            let beside = state.done.first().is_some_and(|stretch| stretch.0 == end);
            let completed = if beside { state.done.remove(0).1 } else { end };
            state.cursors.complete(&self.lane, completed);
            self.publish(state);
        } else {
            note(&mut state.done, first, end);
        }
    }

    /// Nobody works on these payloads any more.
    pub fn keep(&self, run: Box<PayloadRun>) {
        let spare = &mut self.state().spare;
        if spare.len() < spare.capacity() {
            spare.push(run);
        }
    }

    /// A group was made; so many hands more are sent for it.
    pub fn group_begun(&self, group: Arc<OpenGroup>, allowed: usize) -> usize {
        let mut state = self.state();
        let more = self.hands_max.min(allowed).min(group.pieces()).saturating_sub(state.hands);
        state.hands += more;
        state.group = GroupState::Open(group);
        more
    }

    /// The group is over; the next may begin.
    pub fn group_over(&self) {
        self.state().group = GroupState::None;
    }

    /// Whether the caller, who leaves the group, is its last hand.
    pub fn leave_group(&self, group: &OpenGroup) -> bool {
        let _state = self.state(); // joins are decided under this lock
        group.left()
    }

    /// Nothing more is computed; the lane ends when its hands have left.
    pub fn fail(&self, status: LaneStatus) {
        self.state().failed.get_or_insert(status);
    }

    /// Whether something has failed.
    pub fn has_failed(&self) -> bool {
        self.state().failed.is_some()
    }

    fn end(&self, state: &mut State) {
        let closing = state.closing.take();
        let status = state.failed.or(closing.as_ref().map(|closing| closing.status)).unwrap_or(LaneStatus::Closed);
        if state.failed.is_some() {
            let (lane, kernel, owner) = (self.lane.number, self.kernel.as_str(), &self.lane.owner);
            let (pid, uid, name, depth) = (owner.pid, owner.uid, &owner.name, self.lane.geometry.depth_slots);
            tracing::warn!(lane, kernel, pid, uid, name, depth, ?status, "lane closed by a fault");
        }
        state.ended = true;
        self.board.write(&[(row::LANE, 0)]);
        state.cursors.close(&self.lane, status);
        if let Some(answer) = closing.and_then(|closing| closing.answer) {
            let _ = answer.send(true);
        }
        self.over.tell(self.lane.number, state.failed);
    }

    fn introduce(&self) {
        let (lane, owner) = (&self.lane, &self.lane.owner);
        self.board.write_texts(&[(row::NAME, &owner.name), (row::KERNEL, &self.kernel)]);
        let words = [
            (row::LANE, u64::from(lane.number)),
            (row::PID, u64::from(owner.pid)),
            (row::UID, u64::from(owner.uid)),
            (row::DEPTH, lane.geometry.depth_slots),
            (row::BYTES, lane.bytes() as u64),
            (row::OPENED_NS, lane.opened_ns),
            (row::EVENTS, 0),
            (row::EVENTS_DROPPED, 0),
            (row::FAULTS, 0),
            (row::NOT_PERMITTED, 0),
        ];
        self.board.write(&words);
        self.publish(&mut self.state());
    }

    /// Tells the board of it once more: its client may have let go of slots. A lane that is at work tells by itself.
    pub fn survey(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            self.publish(&mut state);
        }
    }

    fn publish(&self, state: &mut State) {
        if state.ended {
            return;
        }
        let released = state.cursors.let_go(&self.lane);
        let (submitted, completed, _) = state.cursors.cursors();
        state.ages.tell(completed, released, wall_clock_ns());
        self.done_slots.store(completed, Ordering::Relaxed);
        let words = [
            (row::SUBMITTED, submitted),
            (row::COMPLETED, completed),
            (row::RELEASED, released),
            (row::WAITING_SINCE_NS, state.ages.waiting_since_ns),
            (row::HELD_SINCE_NS, state.ages.held_since_ns),
            (row::PARKS, state.cursors.parks),
            (row::NOTIFIES, state.cursors.notifies),
        ];
        self.board.write(&words);
    }
}

/// Adds the stretch from `first` to `end` to ascending ones, joining those that touch.
fn note(stretches: &mut Vec<(u64, u64)>, first: u64, end: u64) {
    let at = stretches.partition_point(|stretch| stretch.0 < first);
    let joins_before = at > 0 && stretches[at - 1].1 == first;
    let joins_behind = stretches.get(at).is_some_and(|stretch| stretch.0 == end);
    match (joins_before, joins_behind) {
        (true, true) => stretches[at - 1].1 = stretches.remove(at).1,
        (true, false) => stretches[at - 1].1 = end,
        (false, true) => stretches[at].0 = first,
        (false, false) => stretches.insert(at, (first, end)),
    }
}

#[cfg(test)]
mod tests {
    use super::note;
    use proptest::prelude::*;

    proptest! {
        /// In whatever order runs end, the stretches are those of the set of slots that are done.
        #[test]
        fn stretches_are_the_slots_that_are_done(runs in prop::collection::vec(1u64..5, 1..20), keys in prop::collection::vec(any::<u32>(), 20)) {
            let mut ends: Vec<(u32, u64, u64)> = Vec::new();
            let mut first = 100;
            for (count, key) in runs.iter().zip(keys) {
                ends.push((key, first, first + count));
                first += count;
            }
            ends.sort_unstable();
            let (mut stretches, mut done) = (Vec::new(), std::collections::BTreeSet::new());
            for (_, first, end) in ends {
                note(&mut stretches, first, end);
                done.extend(first..end);
                prop_assert_eq!(&stretches.iter().flat_map(|(first, end)| *first..*end).collect::<Vec<_>>(), &done.iter().copied().collect::<Vec<_>>());
                prop_assert!(stretches.windows(2).all(|two| two[0].1 < two[1].0));
            }
            prop_assert_eq!(stretches, vec![(100, first)]);
        }
    }
}
