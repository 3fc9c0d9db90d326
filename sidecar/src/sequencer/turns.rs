//! Whose turn it is and how much of it: deficit round-robin by work, in batches that are small where requests are dear.

use crossbeam::channel::Sender;
use ringlane_layout::limits::{
    ALONE_WORK, BATCH_SLOTS_MAX, COST_MEMORY_ORDERS, PARALLEL_BATCH_SLOTS_MAX, PARALLEL_WORK, QUANTUM_WORK, TURN_WORK,
};
use ringlane_layout::orders::OrderRequest;
use ringlane_layout::record::{Record, RecordBytes};
use ringlane_layout::region::LaneStatus;

use super::counters::Seen;
use super::spans::{Sighted, Tracing};
use super::{Sequencer, meta};
use crate::crash;
use crate::journal::{FrameKind, Full};

/// What the sequencer remembers of a row's lane between its turns.
pub(super) struct Turn {
    /// Work that one order of this lane may be, by what its last orders were. A dear batch raises it at once, cheap ones
    /// lower it slowly.
    cost: f32,
    /// Set while the lane ends.
    pub(super) closing: Option<Closing>,
    /// What the board says of its slots.
    pub(super) seen: Seen,
    /// Whether it has something to show when the journal is durable.
    pub(super) touched: bool,
    /// What spans say of them.
    sighted: Sighted,
}

/// A lane that ends: what it had submitted by then is served in its turns, and nothing that it submits later.
pub(super) struct Closing {
    /// Slots that are still to be served.
    pub(super) left: u64,
    pub(super) status: LaneStatus,
    /// Who waits for the end.
    pub(super) answer: Option<Sender<bool>>,
}

impl Default for Turn {
    /// Nothing is known of a new lane: its first batches are small.
    fn default() -> Self {
        Self { cost: QUANTUM_WORK as f32, closing: None, seen: Seen::default(), touched: false, sighted: Sighted::default() }
    }
}

impl Turn {
    /// How many of `waiting` orders are expected to be `share` work, at least one and at most `slots_max`.
    #[inline]
    fn batch_slots(&self, waiting: u64, share: i64, slots_max: usize) -> usize {
        let expected = (share as f32 / self.cost) as u64;
        expected.clamp(1, slots_max as u64).min(waiting) as usize
    }

    /// Learns from a batch.
    #[inline]
    fn learn(&mut self, slots: usize, work: u64) {
        let each = work as f32 / slots as f32;
        let weight = slots as f32 / COST_MEMORY_ORDERS as f32;
        self.cost = each.max(self.cost + (each - self.cost) * weight);
    }
}

impl Sequencer {
    /// Serves one lane within its share. Says how much was done.
    ///
    /// Credit lapses when nothing waits; debt stays until as many turns have passed as it is worth, for else a lane that
    /// sends one dear request at a time would never pay. A lane that is alone owes nobody.
    #[inline]
    pub(super) fn serve(&mut self, row: usize) -> u64 {
        let alone = self.hot.len() == 1;
        let Some(lane) = self.lanes[row].as_mut().filter(|_| !self.is_blocked) else { return 0 };
        let mut deficit = if alone { ALONE_WORK } else { lane.deficit + QUANTUM_WORK };
        let waiting = match &self.turns[row].closing {
            Some(closing) => closing.left,
            None => match lane.look() {
                Ok(0) => {
                    lane.deficit = deficit.min(0);
                    return 0;
                }
                Ok(waiting) => waiting,
                Err(status) => {
                    self.fault(row, status);
                    return TURN_WORK;
                }
            },
        };
        #[cfg(feature = "sentry")]
        crate::reports::serving(row);
        // Large batches are for several threads, and only where nobody else waits meanwhile.
        let mut slots_max = BATCH_SLOTS_MAX;
        if alone && waiting >= self.parallel_from {
            (deficit, slots_max) = (PARALLEL_WORK, PARALLEL_BATCH_SLOTS_MAX);
        }
        lane.busy = true;
        lane.empty_doorbells = 0;
        lane.deficit = deficit;
        self.watch.see(&mut self.turns[row].seen, lane.next_slot() + waiting - 1);
        let (mut left, mut done) = (waiting, 0);
        // Dear requests come in small batches, so several of them may fit into the share.
        while left > 0 && deficit > done as i64 {
            let count = self.turns[row].batch_slots(left, deficit - done as i64, slots_max);
            let work = self.batch(row, count, left - count as u64);
            if self.is_blocked {
                // What of a lane that ends was served before is not served again.
                self.turns[row].closing.iter_mut().for_each(|closing| closing.left = left);
                return done;
            }
            if self.lanes[row].is_none() {
                return done + work + TURN_WORK;
            }
            self.turns[row].learn(count, work);
            left -= count as u64;
            done += work;
            if alone {
                break;
            }
        }
        if let Some(lane) = &mut self.lanes[row] {
            let rest = deficit - done as i64;
            lane.deficit = match (alone, left) {
                (true, _) => 0,
                (false, 0) => rest.min(0),
                (false, _) => rest,
            };
            if left > 0 {
                self.turns[row].seen.left_waiting(lane.next_slot(), lane.next_slot() + left, self.now_ns);
            }
        }
        if let Some(closing) = &mut self.turns[row].closing {
            closing.left = left;
            if left == 0 {
                let status = closing.status;
                self.end(row, status);
            }
        }
        if done == 0 { 1 } else { done + TURN_WORK }
    }

    /// Journals, computes and publishes `count` slots of a lane, behind which `waiting` more wait. Says how much work it was.
    /// A function of its own, so that its instructions can be counted.
    #[inline(never)]
    pub(super) fn batch(&mut self, row: usize, count: usize, waiting: u64) -> u64 {
        let Some(lane) = &mut self.lanes[row] else { return 0 };
        crash::point("intake");
        let mut timer = self.watch.begin_batch(&mut self.turns[row].seen, lane.next_slot(), count);
        let mut meta = meta(&self.engine, FrameKind::Orders, lane.number, lane.next_slot(), OrderRequest::SCHEMA_HASH, self.now_ns);
        meta.waiting_slots = waiting.min(u64::from(u16::MAX)) as u16;
        self.tracing.see(&mut self.turns[row].sighted, lane, lane.next_slot() + count as u64 + waiting);
        let mut spans = self.tracing.begin(&self.turns[row].sighted, lane, count, meta.first_sequence);
        let requests: &[RecordBytes] = match &mut self.journal {
            Some(journal) => match journal.append(&meta, count, |records| lane.copy_requests(records)) {
                Ok(records) => records,
                Err(Full) => {
                    self.block();
                    return 0;
                }
            },
            None => {
                lane.copy_requests(&mut self.scratch[..count]);
                &self.scratch[..count]
            }
        };
        self.watch.journaled(&mut timer);
        Tracing::lap(&mut spans);
        let not_permitted = self.engine.orders.counters().not_permitted;
        crash::point("kernel.before");
        let output = self.engine.process_orders(lane.number, requests);
        crash::point("kernel.after");
        let work = output.work;
        self.watch.computed(&mut timer, work, output.events.len());
        Tracing::lap(&mut spans);
        lane.write_results(output.results);
        crash::point("results.after");
        let has_events = !output.events.is_empty();
        self.market.stage(&mut self.engine, Some(requests));
        self.show_market();
        if has_events {
            self.send_events();
            crash::point("events.before");
            self.publish_events();
            crash::point("events.after");
        }
        let not_permitted = self.engine.orders.counters().not_permitted - not_permitted;
        if let Some(lane) = &mut self.lanes[row] {
            self.watch.written(&mut timer);
            let notifies = lane.notifies;
            // Before its owner can see the results: what it does next comes after.
            Tracing::lap(&mut spans);
            if !self.gate.is_on {
                crash::point("completed.before");
                lane.complete();
                crash::point("completed.after");
            }
            self.tracing.end(spans, lane.number);
            if not_permitted > 0 {
                lane.note_not_permitted(not_permitted, self.now_ns);
            }
            self.watch.end_batch(timer, lane.notifies != notifies);
        }
        if self.gate.is_on {
            self.touch(row);
        }
        work
    }
}
