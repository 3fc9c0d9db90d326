//! What the sequencer tells the board: totals now and then, a lane's row when the lanes are surveyed, and the times of the
//! stages of some batches. Nothing of it happens for each batch: an order costs less than a look at the clock.

use std::collections::HashMap;
use std::time::Instant;

use ringlane_layout::board::{JOURNAL, KERNEL, LANE, SEQUENCER, Stage, journal, kernel, lane, sequencer};
use ringlane_layout::limits::{LANES_MAX, SURVEY_NS, SURVEY_PARKED_NS, TIMED_WORK};
use ringlane_layout::region::LaneStatus;

use super::Sequencer;
use crate::board::{Board, StageTimes};
use crate::journal::Writer;
use crate::lanes::Lane;

/// Row of the order kernel.
const ORDERS_ROW: usize = 0;
/// What a batch counts beside its orders towards the next one whose stages are timed: a lane that sends one order at a time
/// has one batch in 51 timed.
const BATCH_WORK: u64 = 4;

/// What the sequencer keeps for the board.
pub(super) struct Watch {
    /// Whether lanes are told and stages timed.
    is_on: bool,
    /// Work since the stages of a batch were timed.
    work_untimed: u64,
    /// Work since a slot was marked when it was first seen.
    work_unmarked: u64,
    /// When the round began that is being timed.
    round_since: Option<Instant>,
    /// When the polled lanes, and when the parked ones were last surveyed, nanoseconds since 1970.
    surveyed_ns: u64,
    surveyed_parked_ns: u64,
    batches: u64,
    batches_timed: u64,
    requests: u64,
    work: u64,
    events: u64,
    /// Lane, status and time of the last fault.
    last_fault: (u64, u64, u64),
    /// Faults by process.
    faults: HashMap<u32, u64>,
    times: Times,
}

struct Times {
    queue_wait: StageTimes,
    journal: StageTimes,
    kernel: StageTimes,
    result: StageTimes,
    wake: StageTimes,
    end_to_end: StageTimes,
    round: StageTimes,
    sync: StageTimes,
}

/// What is remembered of a row's lane for the board.
#[derive(Default)]
pub(super) struct Seen {
    /// Slots below this were first seen at `since_ns` at the latest.
    upto: u64,
    /// Nanoseconds since 1970.
    since_ns: u64,
    /// `released` as it was last told, and since when it stands there.
    released: u64,
    held_since_ns: u64,
    /// The slot whose way is timed, and when it was first seen.
    mark: Option<(u64, Instant)>,
}

impl Seen {
    /// A turn ends with slots that wait: `completed` is the first of them, `submitted` the end of what was seen.
    #[inline]
    pub(super) fn left_waiting(&mut self, completed: u64, submitted: u64, now_ns: u64) {
        if completed >= self.upto {
            (self.upto, self.since_ns) = (submitted, now_ns);
        }
    }
}

/// The times of one batch, while it is under way.
pub(super) struct BatchTimer {
    /// When the last stage ended.
    last: Instant,
    /// When the marked slot was seen that the batch holds.
    seen: Option<Instant>,
}

impl Watch {
    pub(super) fn new(board: &Board, is_on: bool) -> Self {
        let times = Times {
            queue_wait: board.times(Stage::QueueWait),
            journal: board.times(Stage::JournalAppend),
            kernel: board.times(Stage::Kernel),
            result: board.times(Stage::ResultWrite),
            wake: board.times(Stage::Wake),
            end_to_end: board.times(Stage::EndToEnd),
            round: board.times(Stage::Round),
            sync: board.times(Stage::JournalSync),
        };
        Self {
            is_on,
            work_untimed: 0,
            work_unmarked: 0,
            round_since: None,
            surveyed_ns: 0,
            surveyed_parked_ns: 0,
            batches: 0,
            batches_timed: 0,
            requests: 0,
            work: 0,
            events: 0,
            last_fault: (0, 0, 0),
            faults: HashMap::new(),
            times,
        }
    }

    /// A lane has slots that wait, the last of them `last`: marks it, now and then.
    #[inline]
    pub(super) fn see(&mut self, seen: &mut Seen, last: u64) {
        if self.work_unmarked >= TIMED_WORK && self.is_on && seen.mark.is_none() {
            self.work_unmarked = 0;
            seen.mark = Some((last, Instant::now()));
        }
    }

    /// A batch of `count` slots from `first` on begins. A timer: its stages are to be timed.
    #[inline]
    pub(super) fn begin_batch(&mut self, seen: &mut Seen, first: u64, count: usize) -> Option<BatchTimer> {
        let count = count as u64;
        self.batches += 1;
        self.requests += count;
        self.work_untimed += count + BATCH_WORK;
        self.work_unmarked += count + BATCH_WORK;
        let holds_mark = seen.mark.is_some_and(|(slot, _)| slot < first + count);
        if !(holds_mark || self.work_untimed >= TIMED_WORK && self.is_on) {
            return None;
        }
        self.work_untimed = 0;
        self.batches_timed += 1;
        let begin = Instant::now();
        let seen = if holds_mark { seen.mark.take().map(|(_, seen)| seen) } else { None };
        if let Some(seen) = seen {
            self.times.queue_wait.add(nanoseconds(seen, begin));
        }
        Some(BatchTimer { last: begin, seen })
    }

    #[inline]
    pub(super) fn journaled(&self, timer: &mut Option<BatchTimer>) {
        lap(timer, &self.times.journal);
    }

    #[inline]
    pub(super) fn computed(&mut self, timer: &mut Option<BatchTimer>, work: u64, events: usize) {
        self.work += work;
        self.events += events as u64;
        lap(timer, &self.times.kernel);
    }

    #[inline]
    pub(super) fn written(&self, timer: &mut Option<BatchTimer>) {
        lap(timer, &self.times.result);
    }

    /// The batch is visible; `woke` when its client was sent a wake-up.
    #[inline]
    pub(super) fn end_batch(&self, mut timer: Option<BatchTimer>, woke: bool) {
        if woke {
            lap(&mut timer, &self.times.wake);
        }
        if let Some(BatchTimer { seen: Some(seen), last }) = timer {
            self.times.end_to_end.add(nanoseconds(seen, last));
        }
    }

    /// Frames were made durable.
    pub(super) fn synced(&self, ns: u64) {
        self.times.sync.add(ns);
    }

    /// A round over all polled lanes ends, and the next one begins.
    #[inline]
    pub(super) fn end_round(&mut self, had_work: bool) {
        if let Some(since) = self.round_since.take()
            && had_work
        {
            self.times.round.add(nanoseconds(since, Instant::now()));
        }
        // The same counts that decide on batches: rounds are timed next to them.
        if had_work && self.is_on && self.work_untimed >= TIMED_WORK / 2 {
            self.round_since = Some(Instant::now());
        }
    }
}

#[inline]
fn nanoseconds(since: Instant, until: Instant) -> u64 {
    (until - since).as_nanos() as u64
}

#[inline]
fn lap(timer: &mut Option<BatchTimer>, times: &StageTimes) {
    if let Some(timer) = timer {
        let now = Instant::now();
        times.add(nanoseconds(timer.last, now));
        timer.last = now;
    }
}

impl Sequencer {
    /// Tells the totals.
    pub(super) fn publish_totals(&self) {
        let (counters, watch) = (self.shown_counters(), &self.watch);
        let sequence = self.engine.next_sequence() - 1;
        self.board.write_row(
            &SEQUENCER,
            0,
            &[
                (sequencer::SEQUENCE, sequence),
                (sequencer::HEARTBEAT_NS, self.now_ns),
                (sequencer::LANES, self.lane_count),
                (sequencer::LANES_HOT, self.hot.len() as u64),
                (sequencer::FAULTS, self.faults),
                (sequencer::SLEEPS, self.sleeps),
                (sequencer::ACCEPTED, counters.accepted),
                (sequencer::REJECTED, counters.rejected),
                (sequencer::TRADES, counters.trades),
                (sequencer::RESTING, counters.resting),
                (sequencer::FAULT_LANE, watch.last_fault.0),
                (sequencer::FAULT_STATUS, watch.last_fault.1),
                (sequencer::FAULT_NS, watch.last_fault.2),
                (sequencer::BATCHES, watch.batches),
                (sequencer::BATCHES_TIMED, watch.batches_timed),
                (sequencer::NOT_PERMITTED, counters.not_permitted),
            ],
        );
        if let Some(writer) = &self.journal {
            self.publish_journal(writer, sequence);
            self.publish_disk();
        }
        self.board.write_row(
            &KERNEL,
            ORDERS_ROW,
            &[
                (kernel::USED, 1),
                (kernel::LANES, self.lane_count),
                (kernel::BATCHES, watch.batches),
                (kernel::REQUESTS, watch.requests),
                (kernel::WORK, watch.work),
                (kernel::EVENTS, watch.events),
            ],
        );
    }

    /// Tells how far the journal is. What is appended survives the sidecar's own end.
    fn publish_journal(&self, writer: &Writer, sequence: u64) {
        let durable = writer.durable_upto(sequence);
        self.board.write_row(
            &JOURNAL,
            0,
            &[
                (journal::SEQUENCE, sequence),
                (journal::DURABLE_SEQUENCE, durable),
                (journal::LAG_RECORDS, sequence.saturating_sub(durable)),
                (journal::APPENDED_BYTES, writer.bytes()),
                (journal::FAILED, u64::from(self.why_blocked().is_some())),
            ],
        );
    }

    /// Tells what never changes.
    pub(super) fn introduce_kernels(&self) {
        self.board.write_row_texts(&KERNEL, ORDERS_ROW, &[(kernel::NAME, "orders")]);
        self.publish_totals();
    }

    /// Tells what stays the same while the lane is open.
    pub(super) fn introduce_lane(&mut self, row: usize) {
        let Some(lane) = &self.lanes[row] else { return };
        self.board.write_row_texts(
            &LANE,
            row,
            &[(lane::NAME, &lane.owner.name), (lane::KERNEL, "orders"), (lane::BUILD, &lane.owner.build)],
        );
        self.board.write_row(
            &LANE,
            row,
            &[
                (lane::LANE, u64::from(lane.number)),
                (lane::PID, u64::from(lane.owner.pid)),
                (lane::UID, u64::from(lane.owner.uid)),
                (lane::DEPTH, lane.geometry.depth_slots),
                (lane::BYTES, lane.bytes() as u64),
                (lane::OPENED_NS, lane.opened_ns),
                (lane::FAULTS, self.watch.faults.get(&lane.owner.pid).copied().unwrap_or(0)),
            ],
        );
        self.publish_lane(row);
    }

    /// Remembers a fault for the board.
    pub(super) fn note_fault(&mut self, lane: u32, pid: u32, status: LaneStatus) {
        self.watch.last_fault = (u64::from(lane), status as u64, self.now_ns);
        if self.watch.faults.len() < LANES_MAX || self.watch.faults.contains_key(&pid) {
            *self.watch.faults.entry(pid).or_insert(0) += 1;
        }
    }

    /// Tells a lane's cursors and counts.
    pub(super) fn publish_lane(&mut self, row: usize) {
        if let Some(lane) = &mut self.lanes[row]
            && self.watch.is_on
        {
            publish_lane(&self.board, row, lane, &mut self.turns[row].seen, self.now_ns);
        }
    }

    /// Whether it is time for a look at all polled lanes.
    #[inline]
    pub(super) fn survey_due(&mut self) -> bool {
        let due = self.now_ns.saturating_sub(self.watch.surveyed_ns) >= SURVEY_NS.min(self.config.park_after_us * 1000);
        if due {
            self.watch.surveyed_ns = self.now_ns;
        }
        due
    }

    /// Tells of lanes that are not polled, once in a while: their clients may have given slots back.
    pub(super) fn survey_parked(&mut self) {
        if self.now_ns.saturating_sub(self.watch.surveyed_parked_ns) < SURVEY_PARKED_NS {
            return;
        }
        self.watch.surveyed_parked_ns = self.now_ns;
        (0..self.lanes.len()).for_each(|row| self.publish_lane(row));
    }
}

/// Tells a lane's cursors and counts, and since when slots wait or are held.
fn publish_lane(board: &Board, row: usize, lane: &mut Lane, seen: &mut Seen, now_ns: u64) {
    lane.look_released();
    let (submitted, completed, _) = lane.cursors();
    let released = lane.let_go();
    let (events, dropped) = lane.event_counts();
    if released != seen.released || released == completed {
        (seen.released, seen.held_since_ns) = (released, now_ns);
    }
    board.write_row(
        &LANE,
        row,
        &[
            (lane::SUBMITTED, submitted),
            (lane::COMPLETED, completed),
            (lane::RELEASED, released),
            (lane::EVENTS, events),
            (lane::EVENTS_DROPPED, dropped),
            (lane::PARKS, lane.parks),
            (lane::NOTIFIES, lane.notifies),
            (lane::WAITING_SINCE_NS, if completed < seen.upto { seen.since_ns } else { now_ns }),
            (lane::HELD_SINCE_NS, seen.held_since_ns),
            (lane::NOT_PERMITTED, lane.not_permitted),
        ],
    );
}
