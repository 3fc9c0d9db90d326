//! The journal: the append-only recording of everything that decides, and its format. It knows records, not what they mean.
//!
//! A journal is a directory of segments `00000001.ringlane`, `00000002.ringlane`, ..., snapshots `<sequence>.snapshot`, and a
//! `lock` file that its sidecar holds. Oldest segments may be gone: those that a snapshot covers.
//! ```text
//! segment: +0     SegmentHeader (128 bytes), zeros until the segment is begun
//!          +2048  SegmentReserve (64 bytes); the rest of the page is zero
//!          +4096  frames, one behind the other
//! frame:   +0     FrameHeader (64 bytes)
//!          +64    payload: records of 64 bytes, verbatim as they stood in the slots
//! ```
//! `crc32c` (Castagnoli) of a frame begins with the segment's `frame_seed` and covers the header's bytes 8..64 and then the
//! payload. In a mapped segment a frame is written payload first, then zeros where the next header will stand, then its own
//! header. A segment goes on to END (the next segment follows), to STOP (its sidecar ended cleanly), or to whatever is no
//! frame. Segments are preallocated (`fallocate`); a file that was recycled still holds what stood there before, and its old
//! frames are none under the new `frame_seed`.
//!
//! What follows the last whole frame of a segment is a torn tail, which was never acknowledged, when no whole frame stands
//! anywhere behind it that says (`durable_upto`) that the journal was durable there, and damage when one does: then records
//! are missing between two that are there. The seed is random and known to nobody but the journal's owner, so no client can
//! make its records look like a frame.
//!
//! A record that crashes a kernel can be made void: the segments of the start that did so name it in their headers, before
//! which it stands, and a VOID frame says when that was. It keeps its sequence number and has no effect.
//!
//! Format 1 had no SegmentReserve and no STOP, was never recycled, and had zeros behind its last frame; format 2 had no VOID.
//! Both are still read.

mod commit;
mod durable;
mod first_page;
mod lock;
mod reader;
mod retention;
mod salvage;
mod search;
mod segment;
mod snapshot;
mod supply;
mod voids;
mod writer;

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use ringlane_layout::limits::{PARALLEL_BATCH_SLOTS_MAX, RECORD_BYTES};
use ringlane_layout::orders::{AccountLimits, AdminAction, BookLimits, Instrument, OrderRequest, TimeRecord};
use ringlane_layout::record::{Record, RecordSchema};
use ringlane_layout::{codes, record};

pub use commit::{Ended, Waker};
pub use durable::Tail;
pub use lock::JournalLock;
pub use reader::{Frame, JournalEnd, Reader, list_segments};
pub use retention::{Kept, first_may_go, newest_snapshot_sequence, survey};
pub use salvage::{Damage, drop_damaged, examine};
pub use segment::stand_back;
pub use snapshot::{Snapshot, SnapshotHeader, SnapshotWriter, clean_snapshots, list_snapshots};
pub use supply::{Disk, Trouble};
pub use voids::VoidRange;
pub use writer::{Epoch, FrameMeta, Full, Writer, WriterConfig};

/// Version of the format that this build writes and the newest that it reads.
pub const FORMAT_VERSION: u32 = 3;
/// First eight bytes of a segment.
pub const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"RLJRN001");
/// First eight bytes of a segment's reserve.
pub const RESERVE_MAGIC: u64 = u64::from_le_bytes(*b"RLRSV002");
/// Offset of a segment's reserve, bytes.
pub const RESERVE_OFFSET: usize = 2048;
/// Offset of the first frame, bytes.
pub const FRAMES_OFFSET: usize = 4096;
/// Size of a frame's header, bytes.
pub const FRAME_HEADER_BYTES: usize = size_of::<FrameHeader>();
/// Largest payload, bytes.
pub const PAYLOAD_BYTES_MAX: usize = PARALLEL_BATCH_SLOTS_MAX * RECORD_BYTES;

record! {
    /// First bytes of a segment.
    pub struct SegmentHeader: 128 {
        /// `SEGMENT_MAGIC`.
        magic: u64,
        /// `FORMAT_VERSION` of the writer.
        format_version: u32,
        /// Semantic version of the kernels: the same records give the same results only within one.
        engine_version: u32,
        /// How often this journal was opened for writing, from 1.
        epoch: u64,
        /// Number of the segment, from 1, without gap.
        index: u64,
        /// Sequence number of the first record in the segment.
        first_sequence: u64,
        /// Wall clock at creation, nanoseconds since 1970.
        created_ns: u64,
        /// Running hash of all outputs before the segment.
        output_hash: u64,
        /// Boot id of the machine, 128 bits.
        boot_id: [u8; 16],
        /// Hash of the order request record's schema.
        request_schema_hash: u64,
        /// CRC32C over the header with this field zero.
        crc32c: u32,
        /// What the checksum of every frame of the segment begins with; random.
        frame_seed: u32,
        /// 1 when the disk failed under the segment before: its frames from `first_sequence` on stand here again.
        holds_again: u32,
        /// Zero.
        reserved0: [u8; 4],
        /// First and last sequence number of the records before this epoch that it made void; 0 for none.
        void_first: u64,
        /// See `void_first`.
        void_last: u64,
        /// Zero.
        reserved1: [u8; 16],
    }
}

record! {
    /// What is known of a segment before it is begun. It is written when the file is made ready, so that a header which was
    /// being written when the sidecar was killed can be told from one that is damaged.
    pub struct SegmentReserve: 64 {
        /// `RESERVE_MAGIC`.
        magic: u64,
        /// `FORMAT_VERSION` of the writer.
        format_version: u32,
        /// What the checksum of every frame of the segment begins with; random.
        frame_seed: u32,
        /// Number of the segment.
        index: u64,
        /// CRC32C over the reserve with this field zero.
        crc32c: u32,
        /// Zero.
        reserved0: [u8; 4],
        /// Zero.
        reserved1: [u8; 32],
    }
}

record! {
    /// First bytes of a frame.
    pub struct FrameHeader: 64 {
        /// Size of the payload, bytes; a multiple of 64.
        payload_bytes: u32,
        /// CRC32C, begun with the segment's `frame_seed`, over the bytes behind this field and the payload.
        crc32c: u32,
        /// Sequence number of the first record.
        first_sequence: u64,
        /// Slot of the first record in its lane.
        first_slot: u64,
        /// Hash of the record's schema.
        schema_hash: u64,
        /// Running hash of all outputs before this frame.
        output_hash: u64,
        /// Sequence number up to which the journal was durable when the frame was written. A frame is in the journal before
        /// the next is begun, so where the process's end is all that is guarded against it is `first_sequence - 1`.
        durable_upto: u64,
        /// Wall clock, nanoseconds since 1970; read once a turn, decides nothing.
        time_ns: u64,
        /// Lane number; 0 for frames without one.
        lane: u32,
        /// What the records are; see `FrameKind`.
        kind: u8 as FrameKind,
        /// Zero.
        reserved: u8,
        /// Slots of the lane that were submitted and waited behind this frame when it was begun; 65,535 for that many or more.
        /// In a JOB frame 1 where a `JobHead` begins it, else 0.
        waiting_slots: u16,
    }
}

codes! {
    /// What the records of a frame are.
    pub enum FrameKind: u8 {
        /// Order requests of one lane.
        Orders ("ORDERS") = 1,
        /// `Instrument` records.
        Instruments ("INSTRUMENTS") = 2,
        /// `AccountLimits` records.
        Accounts ("ACCOUNTS") = 3,
        /// One `LaneOpen` record.
        LaneOpen ("LANE_OPEN") = 4,
        /// One `LaneClose` record.
        LaneClose ("LANE_CLOSE") = 5,
        /// The journal goes on in the next segment; no payload.
        End ("END") = 6,
        /// One `BookLimits` record.
        BookLimits ("BOOK_LIMITS") = 7,
        /// One `TimeRecord`.
        Time ("TIME") = 8,
        /// One `AdminAction` record.
        Admin ("ADMIN") = 9,
        /// One `Void` record.
        Void ("VOID") = 15,
        /// The sidecar ended cleanly: nothing of this epoch is missing; no payload.
        Stop ("STOP") = 16,
        /// A piece of what a recorded lane of another kernel was asked or answered; see [`JobHead`].
        Job ("JOB") = 20,
    }
}

record! {
    /// A lane was opened.
    pub struct LaneOpen: 64 {
        /// Lane number.
        lane: u32,
        /// User id of the owner.
        uid: u32,
        /// Process id of the owner.
        pid: u32,
        /// 1 when its orders are cancelled when it ends.
        cancel_on_disconnect: u32,
        /// First account that it may use.
        account_first: u32,
        /// Last account that it may use.
        account_last: u32,
        /// Depth, slots.
        depth_slots: u64,
        /// Hash of the lane token: XXH3-64 of the 16 bytes.
        token_hash: u64,
        /// Places of its event ring; 0 in frames from before the field was: as many as slots.
        event_capacity: u64,
        /// Zero.
        reserved: [u8; 16],
    }
}

record! {
    /// A lane ended.
    pub struct LaneClose: 64 {
        /// Lane number.
        lane: u32,
        /// 1 when its resting orders are cancelled.
        cancel_orders: u32,
        /// `LaneStatus` that ended it.
        status: u64,
        /// Zero.
        reserved0: [u8; 16],
        /// Zero.
        reserved1: [u8; 32],
    }
}

record! {
    /// Records crashed a kernel, and an administrator made them void.
    pub struct Void: 64 {
        /// Sequence number of the first of them.
        first_sequence: u64,
        /// Sequence number of the last of them.
        last_sequence: u64,
        /// Zero.
        reserved0: [u8; 16],
        /// Zero.
        reserved1: [u8; 32],
    }
}

record! {
    /// What a recorded lane of a kernel other than orders has: its opening, what it was asked, what it answered. Each is one
    /// `JobHead` and the bytes that it announces, filled up to whole records, in one JOB frame behind the other, all of which
    /// name the lane and `first_slot`. Pieces of several slots of a lane, and of several lanes, may stand between each other.
    pub struct JobHead: 64 {
        /// What follows; see `JobPart`.
        part: u32 as JobPart,
        /// Lane number.
        lane: u32,
        /// First slot; 0 for an opening.
        first_slot: u64,
        /// Slots.
        slots: u64,
        /// Bytes that follow.
        bytes: u64,
        /// Hash of the request record's schema.
        request_schema_hash: u64,
        /// Hash of the result record's schema.
        result_schema_hash: u64,
        /// Bytes of those that follow which are payload, behind the requests; 0 where there is none.
        payload_bytes: u64,
        /// Zero.
        reserved: [u8; 8],
    }
}

codes! {
    /// What follows a `JobHead`.
    pub enum JobPart: u32 {
        /// The kernel's name and the lane's parameters, as JSON.
        Opened ("OPENED") = 1,
        /// Request slots, then the payload of the one slot where there is one.
        Asked ("ASKED") = 2,
        /// Result slots.
        Answered ("ANSWERED") = 3,
    }
}

/// The checksum of a frame in a segment with this `frame_seed`.
#[must_use]
pub fn frame_crc(frame_seed: u32, header: &FrameHeader, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(frame_seed, &bytemuck::bytes_of(header)[8..]), payload)
}

/// The checksum of a segment's header.
#[must_use]
pub fn segment_crc(header: &SegmentHeader) -> u32 {
    crc32c::crc32c(bytemuck::bytes_of(&SegmentHeader { crc32c: 0, ..*header }))
}

/// The header of a segment's file. An error of kind `InvalidData` when it is not whole: the segment is not begun, or damaged.
pub(crate) fn read_header(path: &Path) -> Result<SegmentHeader, Error> {
    let mut bytes = [0; size_of::<SegmentHeader>()];
    File::open(path)?.read_exact_at(&mut bytes, 0)?;
    let header: SegmentHeader = bytemuck::pod_read_unaligned(&bytes);
    let is_whole = header.magic == SEGMENT_MAGIC && segment_crc(&header) == header.crc32c;
    if is_whole { Ok(header) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Schema of the records in frames of this kind, and its hash, which is computed when this is compiled; none for frames without
/// records.
const fn described(kind: FrameKind) -> Option<(&'static RecordSchema, u64)> {
    const fn of<T: Record>() -> Option<(&'static RecordSchema, u64)> {
        Some((T::SCHEMA, T::SCHEMA_HASH))
    }
    match kind {
        FrameKind::Orders => of::<OrderRequest>(),
        FrameKind::Instruments => of::<Instrument>(),
        FrameKind::Accounts => of::<AccountLimits>(),
        FrameKind::BookLimits => of::<BookLimits>(),
        FrameKind::Time => of::<TimeRecord>(),
        FrameKind::Admin => of::<AdminAction>(),
        FrameKind::LaneOpen => of::<LaneOpen>(),
        FrameKind::LaneClose => of::<LaneClose>(),
        FrameKind::Void => of::<Void>(),
        FrameKind::Job => of::<JobHead>(),
        FrameKind::End | FrameKind::Stop => None,
    }
}

/// Schema of the records in frames of this kind; none for frames without records.
#[must_use]
pub const fn schema(kind: FrameKind) -> Option<&'static RecordSchema> {
    match described(kind) {
        Some((schema, _)) => Some(schema),
        None => None,
    }
}

/// Hash of the schema of the records in frames of this kind; none for frames without records.
#[must_use]
pub const fn schema_hash(kind: FrameKind) -> Option<u64> {
    match described(kind) {
        Some((_, hash)) => Some(hash),
        None => None,
    }
}

/// Schemas of earlier versions whose records this build reads as its own: what was added since stands where zeros stood, and
/// zero there means what it was before.
const EARLIER_SCHEMAS: [(FrameKind, u64); 1] = [(FrameKind::LaneOpen, 0x26b3_45a6_8438_1840)];

/// Whether records of a schema of that hash, in frames of this kind, are read as this build's own.
#[must_use]
pub fn is_readable(kind: FrameKind, hash: u64) -> bool {
    schema_hash(kind).is_none_or(|own| own == hash) || EARLIER_SCHEMAS.contains(&(kind, hash))
}

impl LaneOpen {
    /// Places of its event ring, also where the frame is from before they were recorded.
    #[must_use]
    pub const fn events(&self) -> u64 {
        if self.event_capacity == 0 { self.depth_slots } else { self.event_capacity }
    }
}

/// The checksum of a segment's reserve.
#[must_use]
pub fn reserve_crc(reserve: &SegmentReserve) -> u32 {
    crc32c::crc32c(bytemuck::bytes_of(&SegmentReserve { crc32c: 0, ..*reserve }))
}

/// File name of segment `index`.
#[must_use]
pub fn segment_name(index: u64) -> String {
    format!("{index:08}.ringlane")
}
