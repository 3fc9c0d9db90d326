//! What the sequencer tells the board: totals now and then, a lane's cursors after each of its batches.

use std::sync::atomic::Ordering;

use ringlane_layout::board::{header, row};

use super::Sequencer;
use crate::board::Board;
use crate::journal::Writer;
use crate::lanes::Lane;

impl Sequencer {
    /// Tells the totals.
    pub(super) fn publish_header(&self) {
        let counters = self.engine.orders.counters();
        let words = [
            (header::SEQUENCE, self.engine.next_sequence() - 1),
            (header::JOURNAL_BYTES, self.journal.as_ref().map_or(0, Writer::bytes)),
            (header::ACCEPTED, counters.accepted),
            (header::REJECTED, counters.rejected),
            (header::TRADES, counters.trades),
            (header::RESTING, counters.resting),
            (header::LANES, self.lane_count),
            (header::FAULTS, self.faults),
            (header::HEARTBEAT_NS, self.now_ns),
            (header::SLEEPS, self.sleeps),
            (header::REFUSED, self.refused.load(Ordering::Relaxed)),
            (header::NOT_PERMITTED, counters.not_permitted),
        ];
        words.into_iter().for_each(|(word, value)| self.board.set(word, value));
        self.publish_disk();
    }
}

/// Tells what stays the same while the lane is open.
pub(super) fn introduce_lane(board: &Board, row: usize, lane: &Lane) {
    board.write_row_texts(row, &lane.owner.name, "orders");
    board.write_row(
        row,
        &[
            (row::LANE, u64::from(lane.number)),
            (row::PID, u64::from(lane.owner.pid)),
            (row::UID, u64::from(lane.owner.uid)),
            (row::DEPTH, lane.geometry.depth_slots),
            (row::BYTES, lane.bytes() as u64),
            (row::OPENED_NS, lane.opened_ns),
        ],
    );
    publish_lane(board, row, lane);
}

/// Tells a lane's cursors and counts.
#[inline]
pub(super) fn publish_lane(board: &Board, row: usize, lane: &Lane) {
    let (submitted, completed, released) = lane.cursors();
    let (events, dropped) = lane.event_counts();
    board.write_row(
        row,
        &[
            (row::SUBMITTED, submitted),
            (row::COMPLETED, completed),
            (row::RELEASED, released),
            (row::EVENTS, events),
            (row::EVENTS_DROPPED, dropped),
            (row::PARKS, lane.parks),
            (row::NOTIFIES, lane.notifies),
            (row::NOT_PERMITTED, lane.not_permitted),
        ],
    );
}
