//! What waits for the journal: intake, while the journal has no room, and everything visible, until the journal is durable.

use std::sync::atomic::Ordering;

use nix::sys::epoll::EpollTimeout;
use ringlane_layout::board::{JOURNAL, header, journal};
use ringlane_layout::limits::BATCH_SLOTS_MAX;
use ringlane_layout::orders::OrderRequest;
use ringlane_layout::record::Record;
use ringlane_layout::region::LaneStatus;

use super::{Sequencer, meta};
use crate::journal::{FrameKind, Trouble, Writer};

/// How long the sequencer sleeps before it looks again whether a full disk has room, milliseconds.
const STALLED_SLEEP_MS: u16 = 20;

/// Health as the board has it.
const HEALTHY: u64 = 1;
const STALLED: u64 = 2;
const STOPPING: u64 = 3;
const DEGRADED: u64 = 4;

impl Sequencer {
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
        if journal.make_room(&meta, BATCH_SLOTS_MAX) {
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
        let trouble = self.journal.as_ref().map_or(0, |journal| journal.disk().trouble.load(Ordering::Relaxed));
        let health = match trouble {
            _ if self.stopping => STOPPING,
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
            (journal::TROUBLE, &disk.trouble),
            (journal::ERRNO, &disk.errno),
            (journal::SEGMENTS_RECYCLED, &disk.recycled),
        ];
        self.board.write_row(&JOURNAL, 0, &words.map(|(word, value)| (word, value.load(Ordering::Relaxed))));
        self.publish_health();
    }
}
