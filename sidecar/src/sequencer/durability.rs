//! What waits for the journal: intake, while the journal has no room, and everything visible, until the journal is durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::Sender;
use nix::sys::epoll::EpollTimeout;
use ringlane_layout::board::{JOURNAL, header, journal};
use ringlane_layout::limits::SETTLE_NS_MAX;
use ringlane_layout::orders::OrderRequest;
use ringlane_layout::record::Record;
use ringlane_layout::region::LaneStatus;

use super::{Sequencer, meta};
use crate::journal::{Ended, FrameKind, Trouble, Writer};
use crate::kernels::orders::Counters;
use crate::lanes::Lane;
use crate::world;

/// How long the sequencer sleeps before it looks again whether a full disk has room, milliseconds.
const STALLED_SLEEP_MS: u16 = 20;

/// Health as the board has it.
const HEALTHY: u64 = 1;
const STALLED: u64 = 2;
const STOPPING: u64 = 3;
const DEGRADED: u64 = 4;

/// How long the sequencer waits for the commit thread at a time, where it has to.
const SETTLE_STEP: Duration = Duration::from_millis(1);

/// What may be seen only when the journal is durable so far. There are two generations: what came since frames were last
/// handed to the commit thread, and what waits for the frames that it has. Each names a lane at most once in a round of
/// commits, so there are never more entries than lanes and the answers that they wait for.
pub(super) struct Gate {
    pub(super) is_on: bool,
    /// Rows with results or events since the last hand-over.
    touched: Vec<u16>,
    after: Vec<After>,
    /// Cursors as they may be shown when the commit that is under way has ended.
    shown_next: Vec<Shown>,
    after_next: Vec<After>,
    counters_next: Counters,
    /// Records of market data that may be shown then.
    market_next: u64,
    /// The kernel's counts as they may be shown.
    counters: Counters,
}

/// How far a lane's client may see.
struct Shown {
    row: u16,
    lane: u32,
    completed: u64,
    events: u64,
}

/// An answer that waits.
pub(super) enum After {
    Opened(Sender<Result<(), String>>, Result<(), String>),
    /// A number: of an administrator's act, of a recorded piece, of the slots of a client that came back.
    Numbered(Sender<Result<u64, String>>, Result<u64, String>),
    Ended(Box<Lane>, LaneStatus, Option<Sender<bool>>),
}

impl After {
    /// Gives it. `durable` is false when the disk never took what it is about.
    fn give(self, durable: bool) {
        match self {
            Self::Opened(answer, result) if durable => {
                let _ = answer.send(result);
            }
            Self::Numbered(answer, result) if durable => {
                let _ = answer.send(result);
            }
            Self::Opened(..) | Self::Numbered(..) => {}
            Self::Ended(mut lane, status, answer) => {
                if durable {
                    lane.publish_events();
                    lane.complete();
                }
                lane.close(if durable { status } else { LaneStatus::JournalFailed });
                drop(lane);
                if let Some(answer) = answer {
                    let _ = answer.send(true);
                }
            }
        }
    }
}

impl Gate {
    pub(super) fn new(is_on: bool, counters: Counters) -> Self {
        let (touched, after, shown_next, after_next) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { is_on, touched, after, shown_next, after_next, counters_next: counters, market_next: 0, counters }
    }

    /// Whether nobody waits.
    fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.after.is_empty() && self.shown_next.is_empty() && self.after_next.is_empty()
    }
}

impl Sequencer {
    /// Wakes the sequencer when a commit ends while it sleeps.
    pub(super) fn hear_commits(&self) {
        let wake = Arc::clone(&self.wake);
        if let Some(journal) = &self.journal {
            journal.set_waker(Box::new(move || wake.ring()));
        }
    }

    /// A row has results or events that nobody may see yet.
    #[inline]
    pub(super) fn touch(&mut self, row: usize) {
        if !std::mem::replace(&mut self.turns[row].touched, true) {
            self.gate.touched.push(row as u16);
        }
    }

    /// Gives an answer when everything that was decided so far is durable.
    pub(super) fn answer_after(&mut self, answer: After) {
        if self.gate.is_on { self.gate.after.push(answer) } else { answer.give(true) }
    }

    /// The same; a refusal has decided nothing, and need not wait for a disk that may be why.
    pub(super) fn answer_decided(&mut self, answer: After) {
        match &answer {
            After::Opened(_, Err(_)) | After::Numbered(_, Err(_)) => answer.give(true),
            _ => self.answer_after(answer),
        }
    }

    /// The kernel's counts as they may be shown.
    pub(super) fn shown_counters(&self) -> Counters {
        if self.gate.is_on { self.gate.counters } else { self.engine.orders.counters() }
    }

    /// Whether everything decided is durable and visible.
    pub(super) fn is_settled(&self) -> bool {
        !self.gate.is_on || (self.gate.is_empty() && self.journal.as_ref().is_none_or(Writer::is_settled))
    }

    /// Shows what has become durable, and begins the next commit.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.gate.is_on {
            self.settle_within(Duration::ZERO);
        }
    }

    fn settle_within(&mut self, longest: Duration) {
        let Some(journal) = &mut self.journal else { return };
        match journal.drive(longest) {
            Ended::Nothing => {}
            Ended::Durable(sync_ns) => {
                self.watch.synced(sync_ns);
                self.show();
            }
            Ended::Failed => {
                self.forget_held_snapshot();
                self.publish_disk();
            }
        }
        self.hand_over();
    }

    /// Hands frames to the commit thread, if it is free, and notes what may be seen when they are durable.
    fn hand_over(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let handed = journal.hand_over();
        let nothing_waits = !handed && journal.is_settled() && !self.gate.is_empty();
        if !handed && !nothing_waits {
            return;
        }
        let (gate, lanes) = (&mut self.gate, &self.lanes);
        for row in gate.touched.drain(..) {
            self.turns[usize::from(row)].touched = false;
            if let Some(lane) = &lanes[usize::from(row)] {
                let (completed, events) = (lane.next_slot(), lane.events_written());
                gate.shown_next.push(Shown { row, lane: lane.number, completed, events });
            }
        }
        gate.after_next.append(&mut gate.after);
        gate.counters_next = self.engine.orders.counters();
        gate.market_next = self.market.staged();
        if nothing_waits {
            self.show();
        }
    }

    /// Shows what waited for the commit that has ended.
    fn show(&mut self) {
        self.market.show_to(self.gate.market_next);
        let mut shown = std::mem::take(&mut self.gate.shown_next);
        for Shown { row, lane: number, completed, events } in shown.drain(..) {
            let row = usize::from(row);
            let Some(lane) = self.lanes[row].as_mut().filter(|lane| lane.number == number) else { continue };
            lane.publish_events_to(events);
            lane.complete_to(completed);
            lane.shown = false;
            if lane.parked {
                self.publish_lane(row);
            }
        }
        self.gate.shown_next = shown;
        self.gate.counters = self.gate.counters_next;
        self.gate.after_next.drain(..).for_each(|after| after.give(true));
        self.send_held_snapshot();
    }

    /// Waits until everything decided is durable and visible. False: the disk does not take it.
    #[cold]
    pub(super) fn settle_all(&mut self) -> bool {
        let since = world::now();
        while !self.is_settled() {
            self.settle_within(SETTLE_STEP);
            self.beat();
            let fails = self.journal.as_ref().is_some_and(|journal| journal.disk().why_unwritable().is_some());
            if (fails && !self.stopping) || world::now() - since > Duration::from_nanos(SETTLE_NS_MAX) {
                return self.is_settled();
            }
        }
        true
    }

    /// A panic ends the sidecar. What stood in the journal before it stays there, the batch included that the kernel may have
    /// died of: the next start finds the record and names it. Nothing more is told to anybody.
    #[cold]
    pub(super) fn save_journal(&mut self) {
        let since = world::now();
        let Some(journal) = &mut self.journal else { return };
        while !journal.is_settled() && world::now() - since < Duration::from_nanos(SETTLE_NS_MAX) {
            journal.hand_over();
            journal.drive(SETTLE_STEP);
        }
        let sequence = self.engine.next_sequence() - 1;
        tracing::error!(
            sequence,
            "the sidecar panicked; a record behind this sequence number that crashes the kernel is named at the next start"
        );
    }

    /// The end, where the disk took nothing more: who waits hears that what it sent has not happened.
    #[cold]
    pub(super) fn give_up(&mut self) {
        let gate = &mut self.gate;
        gate.after_next.drain(..).chain(gate.after.drain(..)).for_each(|after| after.give(false));
    }

    /// The journal had no room for a batch: nothing more is taken in until it has.
    #[cold]
    pub(super) fn block(&mut self) {
        self.is_blocked = true;
    }

    /// Looks whether the journal has room again. Sleeps a little where the disk is what it waits for.
    #[cold]
    pub(super) fn try_unblock(&mut self) {
        let meta = meta(&self.engine, FrameKind::Orders, 0, 0, OrderRequest::SCHEMA_HASH, self.now_ns);
        let Some(journal) = &mut self.journal else { return };
        if journal.make_room(&meta, self.scratch.len()) {
            self.is_blocked = false;
            return self.publish_disk();
        }
        // A segment that is only late is waited for awake.
        if journal.disk().why_unwritable().is_none() {
            return;
        }
        self.publish_disk();
        if self.stopping {
            // What was not taken in has never happened; its clients hear so.
            for row in 0..self.lanes.len() {
                self.end(row, LaneStatus::JournalFailed);
            }
            return;
        }
        self.collect_doorbells(EpollTimeout::from(STALLED_SLEEP_MS));
    }

    /// Why the journal takes nothing in, in words; none when it does.
    pub(super) fn why_blocked(&self) -> Option<String> {
        let why = self.journal.as_ref().filter(|_| self.is_blocked)?.disk().why_unwritable()?;
        Some(format!("the sidecar cannot write its journal now ({why}) and takes no new lanes until it can"))
    }

    /// Tells the board how the sidecar and its journal do.
    pub(super) fn publish_health(&self) {
        let trouble = self.journal.as_ref().map_or(0, |journal| journal.disk().trouble_now().0);
        let health = match trouble {
            _ if self.stopping => STOPPING,
            trouble if trouble == Trouble::Unsynced as u64 => STALLED,
            _ if self.is_blocked && self.journal.as_ref().is_some_and(|journal| journal.disk().why_unwritable().is_some()) => STALLED,
            trouble if trouble == Trouble::None as u64 => HEALTHY,
            _ => DEGRADED,
        };
        self.board.set(header::HEALTH, health);
    }

    /// Tells the board what the journal's helper says of the disk.
    pub(super) fn publish_disk(&self) {
        let Some(disk) = self.journal.as_ref().map(Writer::disk) else { return };
        let words = [
            (journal::TOTAL_BYTES, &disk.total_bytes),
            (journal::RETENTION_BYTES, &disk.cap_bytes),
            (journal::DISK_FREE_BYTES, &disk.free_bytes),
            (journal::BYTES_PER_SECOND, &disk.bytes_per_second),
            (journal::DISK_SECONDS_LEFT, &disk.seconds_left),
            (journal::SEGMENTS_RECYCLED, &disk.recycled),
        ];
        self.board.write_row(&JOURNAL, 0, &words.map(|(word, value)| (word, value.load(Ordering::Relaxed))));
        let (trouble, errno) = disk.trouble_now();
        self.board.write_row(&JOURNAL, 0, &[(journal::TROUBLE, trouble), (journal::ERRNO, errno)]);
        self.publish_health();
    }
}
