//! What recorded lanes of other kernels give to the journal: bytes that nobody here looks into, numbered as all records are.

use ringlane_layout::record::{Record, RecordBytes};

use super::{Sequencer, meta};
use crate::journal::{FrameKind, JobHead};

/// Records of one JOB frame, `BATCH_SLOTS_MAX` at most.
pub struct JobPiece {
    /// Lane number.
    pub lane: u32,
    /// First slot of what they belong to.
    pub first_slot: u64,
    /// The records.
    pub records: Vec<RecordBytes>,
    /// Whether a `JobHead` stands first.
    pub has_head: bool,
    /// Whether the answer waits until they are durable.
    pub is_told_when_durable: bool,
}

impl Sequencer {
    /// Journals a piece. Words say why not; orders are not held up for it.
    #[cold]
    pub(super) fn keep(&mut self, piece: &JobPiece) -> Result<u64, String> {
        if let Some(words) = self.why_blocked() {
            return Err(words);
        }
        let mut meta = meta(&self.engine, FrameKind::Job, piece.lane, piece.first_slot, JobHead::SCHEMA_HASH, self.now_ns);
        meta.waiting_slots = piece.has_head.into();
        let Some(journal) = &mut self.journal else { return Err("this sidecar keeps no journal".into()) };
        if !journal.make_room(&meta, piece.records.len()) {
            return Err("the journal has no room for the moment".into());
        }
        let appended = journal.append(&meta, piece.records.len(), |records| records.copy_from_slice(&piece.records));
        assert!(appended.is_ok(), "room was made");
        self.engine.pass(piece.records.len());
        Ok(self.engine.next_sequence() - 1)
    }
}
