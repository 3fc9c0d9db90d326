//! Market data on its way out: what the engine tells of a batch goes into the broadcast ring, and is shown when the batch is.
//! Readers map the ring for reading and are not known here, so none of them can hold the sequencer up. Until somebody asks for
//! market data there is no ring, and nothing is told.

use ringlane_layout::limits::MARKET_PIECE_RECORDS;
use ringlane_layout::market::{MarketRecord, MarketWriter};
use ringlane_layout::record::RecordBytes;

use crate::engine::Engine;
use crate::lanes::Region;

/// The sequencer's end of the broadcast.
#[derive(Default)]
pub struct Market {
    ring: Option<Ring>,
}

struct Ring {
    writer: MarketWriter,
    /// Records of the batch that are not in the ring yet, at most `MARKET_PIECE_RECORDS`.
    piece: Vec<MarketRecord>,
    // The writer's memory.
    _region: Region,
}

impl Market {
    /// Begins to broadcast into a region that has only its header; one that is there already stays.
    pub fn begin(&mut self, region: Region) {
        let piece = Vec::with_capacity(MARKET_PIECE_RECORDS);
        self.ring.get_or_insert_with(|| Ring { writer: MarketWriter::new(region.bytes()), piece, _region: region });
    }

    /// Number of the last record that was told; 0 before the first.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.ring.as_ref().map_or(0, |ring| ring.writer.number())
    }

    /// Tells what the engine did last: these requests, or something that any book may have been changed by. Nobody sees it yet.
    #[inline]
    pub fn stage(&mut self, engine: &mut Engine, requests: Option<&[RecordBytes]>) {
        if let Some(ring) = &mut self.ring {
            ring.stage(engine, requests);
        }
    }

    /// Shows what was staged: when the journal lets the results of the same records be seen, and before they are.
    #[inline]
    pub fn show(&self) {
        if let Some(ring) = &self.ring {
            ring.writer.show();
        }
    }
}

impl Ring {
    fn stage(&mut self, engine: &mut Engine, requests: Option<&[RecordBytes]>) {
        let Self { writer, piece, .. } = self;
        engine.market(requests, &mut |record| {
            if piece.len() == MARKET_PIECE_RECORDS {
                writer.stage(piece);
                piece.clear();
            }
            piece.push(record);
        });
        if let Some(last) = piece.last_mut() {
            last.ends_batch = 1;
            writer.stage(piece);
            piece.clear();
        }
    }
}
