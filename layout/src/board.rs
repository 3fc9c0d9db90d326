//! Where each byte of the board sits: the named segment in which the sidecar publishes its identity and counters.
//!
//! ```text
//! +0       BoardHeader (256 bytes), written once at start, `health` and `heartbeat` after
//! +4096    LANES_MAX lane rows of 256 bytes; a row is a seqlock: `version` odd while it is being written
//! ```
//! Readers map it read-only and never disturb the writer; each word has one writer.

use crate::limits::{LANES_MAX, PAGE_BYTES};

/// First eight bytes of a board.
pub const BOARD_MAGIC: u64 = u64::from_le_bytes(*b"RLBRD001");
/// Offset of the first lane row, bytes.
pub const ROWS_OFFSET: usize = PAGE_BYTES;
/// Size of one lane row, bytes.
pub const ROW_BYTES: usize = 256;
/// Size of a board, bytes.
pub const BOARD_BYTES: usize = ROWS_OFFSET + LANES_MAX * ROW_BYTES;
/// Most attempts of a reader to get one consistent row.
pub const READ_ATTEMPTS_MAX: u32 = 1000;

/// Words of the board's header, as indices of u64 words. Texts are zero-padded bytes.
pub mod header {
    /// `BOARD_MAGIC`; stored last, so that a reader never sees half a header.
    pub const MAGIC: usize = 0;
    /// Layout version.
    pub const LAYOUT_VERSION: usize = 1;
    /// Process id of the sidecar.
    pub const PID: usize = 2;
    /// Start time, nanoseconds since 1970.
    pub const STARTED_NS: usize = 3;
    /// Journal epoch: how often this journal was opened.
    pub const EPOCH: usize = 4;
    /// 1 healthy, 2 intake has stopped until the journal can be written, 3 stopping, 4 degraded: see `JOURNAL_TROUBLE`.
    pub const HEALTH: usize = 5;
    /// Last global sequence number.
    pub const SEQUENCE: usize = 6;
    /// Bytes in the journal since start.
    pub const JOURNAL_BYTES: usize = 7;
    /// Requests accepted by the order kernel.
    pub const ACCEPTED: usize = 8;
    /// Requests rejected by the order kernel.
    pub const REJECTED: usize = 9;
    /// Trades.
    pub const TRADES: usize = 10;
    /// Orders that rest in the books.
    pub const RESTING: usize = 11;
    /// Open lanes.
    pub const LANES: usize = 12;
    /// Lanes closed by a fault since start.
    pub const FAULTS: usize = 13;
    /// Connected clients.
    pub const CLIENTS: usize = 14;
    /// Wall clock when the sequencer last looked around, nanoseconds since 1970.
    pub const HEARTBEAT_NS: usize = 15;
    /// Version text, 3 words.
    pub const VERSION: usize = 16;
    /// Build hash text, 2 words.
    pub const BUILD: usize = 20;
    /// Socket address text, 14 words (the longest path of a Unix socket is 108 bytes).
    pub const ADDRESS: usize = 24;
    /// Times the sequencer went to sleep.
    pub const SLEEPS: usize = 40;
    /// What the control socket refused since start: connections, lanes, questions, messages.
    pub const REFUSED: usize = 41;
    /// Requests since start for accounts that their lane was not granted.
    pub const NOT_PERMITTED: usize = 42;
    /// Bytes of all journal segments.
    pub const JOURNAL_TOTAL_BYTES: usize = 44;
    /// Most bytes that the journal keeps.
    pub const JOURNAL_CAP_BYTES: usize = 45;
    /// Bytes free on the journal's file system.
    pub const JOURNAL_FREE_BYTES: usize = 46;
    /// Bytes a second that are journaled, levelled over a minute.
    pub const JOURNAL_RATE: usize = 47;
    /// Seconds until that disk is full at this rate; all ones when that will not happen.
    pub const JOURNAL_SECONDS_LEFT: usize = 48;
    /// 0 none, 1 over the cap without a snapshot, 2 the disk is short, 3 the next segment cannot be had.
    pub const JOURNAL_TROUBLE: usize = 49;
    /// Why it cannot be had, errno.
    pub const JOURNAL_ERRNO: usize = 50;
    /// Journal segments that were used again since start.
    pub const JOURNAL_RECYCLED: usize = 51;
    /// Words in the header.
    pub const WORDS: usize = 64;
}

/// Words of a lane row, as indices of u64 words.
pub mod row {
    /// Seqlock version: odd while the row is being written.
    pub const VERSION: usize = 0;
    /// Lane number; 0 for an empty row.
    pub const LANE: usize = 1;
    /// Process id of the owner.
    pub const PID: usize = 2;
    /// User id of the owner.
    pub const UID: usize = 3;
    /// Depth, slots.
    pub const DEPTH: usize = 4;
    /// Bytes of both regions.
    pub const BYTES: usize = 5;
    /// Checked `submitted`.
    pub const SUBMITTED: usize = 6;
    /// `completed`.
    pub const COMPLETED: usize = 7;
    /// Checked `released`.
    pub const RELEASED: usize = 8;
    /// Events put into the event ring.
    pub const EVENTS: usize = 9;
    /// Events dropped because the ring was full.
    pub const EVENTS_DROPPED: usize = 10;
    /// Times the lane was parked.
    pub const PARKS: usize = 11;
    /// Notifications sent.
    pub const NOTIFIES: usize = 12;
    /// Requests for accounts that the lane was not granted.
    pub const NOT_PERMITTED: usize = 13;
    /// When the lane was opened, nanoseconds since 1970.
    pub const OPENED_NS: usize = 14;
    /// Client's name, text of 8 words.
    pub const NAME: usize = 16;
    /// Kernel's name, text of 2 words.
    pub const KERNEL: usize = 24;
}

const _: () = {
    assert!(header::WORDS * 8 <= ROWS_OFFSET);
    assert!(header::ADDRESS + 14 <= header::SLEEPS);
    assert!((row::KERNEL + 2) * 8 <= ROW_BYTES);
};

/// Name of the board of the sidecar that listens at `address`: `ringlane-` and FNV-1a 64 of the address in hex.
#[must_use]
pub fn board_name(address: &str) -> String {
    let hash = address.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("ringlane-{hash:016x}")
}
