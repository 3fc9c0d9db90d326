//! Where each byte of the board sits: the named segment in which the sidecar publishes its identity and counters.
//!
//! ```text
//! +0       header (one page): identity, written once at start; `health` after
//! +4096    tables of few rows, 512 bytes a row: sequencer, journal, control, service, traces, sentry, pools, kernels
//! +32768   STAGES_MAX histograms of 2304 bytes: times of the stages of a request
//! +73728   schema: everything of this file as JSON, so that readers in other languages need not type it again
//! +106496  lane rows of 256 bytes: LANES_MAX of orders, JOB_LANES_MAX of other kernels
//! ```
//! A row is a seqlock: its word 0 is odd while the row is being written. Readers map the segment read-only and never disturb
//! a writer; each row has one writer.
//!
//! A new counter is one line in its table below: `row.add(journal::SYNCS, 1)` counts it from then on,
//! and `ringlane status --json`, `client.stats()` and the metrics show it by its name. Names end in their unit (`_ns`, `_bytes`).

pub mod histogram;
pub mod seqlock;

use crate::limits::{JOB_LANES_MAX, KERNELS_MAX, LANES_MAX, PAGE_BYTES, POOLS_MAX, STAGES_MAX};

/// First eight bytes of a board.
pub const BOARD_MAGIC: u64 = u64::from_le_bytes(*b"RLBRD002");
/// Size of a row of the tables that have few, bytes.
const WIDE_ROW_BYTES: usize = 512;
/// Size of one lane row, bytes.
pub const LANE_ROW_BYTES: usize = 256;
/// Words of the widest row.
pub const ROW_WORDS_MAX: usize = WIDE_ROW_BYTES / 8;
/// Offset of the first histogram, bytes.
pub const HISTOGRAMS_OFFSET: usize = 8 * PAGE_BYTES;
/// Offset of the schema text, bytes.
pub const SCHEMA_OFFSET: usize = 18 * PAGE_BYTES;
/// Room of the schema text, bytes.
pub const SCHEMA_BYTES_MAX: usize = 8 * PAGE_BYTES;
/// Offset of the first lane row, bytes.
pub const LANE_ROWS_OFFSET: usize = SCHEMA_OFFSET + SCHEMA_BYTES_MAX;
/// Size of a board, bytes.
pub const BOARD_BYTES: usize = LANE_ROWS_OFFSET + (LANES_MAX + JOB_LANES_MAX) * LANE_ROW_BYTES;
/// Most attempts of a reader to get one consistent row.
pub const READ_ATTEMPTS_MAX: u32 = 1000;

/// What a field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A total that only grows.
    Counter,
    /// A level that goes up and down.
    Gauge,
    /// A number that names something.
    Id,
    /// A point in time, nanoseconds since 1970; 0 for never.
    Time,
    /// Zero-padded bytes.
    Text,
}

/// One field of a row.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Name in capitals, as the constant's.
    pub constant: &'static str,
    /// Its first word in the row.
    pub word: usize,
    /// How many words it takes: more than one for texts.
    pub words: usize,
    /// What it says.
    pub kind: Kind,
    /// The same for people.
    pub help: &'static str,
}

impl Field {
    /// Name in small letters, as readers show it.
    #[must_use]
    pub fn name(&self) -> String {
        self.constant.to_ascii_lowercase()
    }
}

/// Rows of one kind.
#[derive(Debug)]
pub struct Table {
    /// Name in small letters.
    pub name: &'static str,
    /// Offset of the first row, bytes.
    pub offset: usize,
    /// Size of a row, bytes.
    pub row_bytes: usize,
    /// How many rows there are room for.
    pub rows: usize,
    /// What stands in a row; word 0 is the seqlock's.
    pub fields: &'static [Field],
}

impl Table {
    /// Offset of a row, bytes.
    #[inline]
    #[must_use]
    pub fn row_offset(&self, index: usize) -> usize {
        assert!(index < self.rows, "the board has no such row");
        self.offset + index * self.row_bytes
    }

    const fn end(&self) -> usize {
        self.offset + self.rows * self.row_bytes
    }

    /// Whether fields lie in the row, without overlap, in ascending order.
    const fn is_sound(&self) -> bool {
        let (mut at, mut index) = (1, 0);
        while index < self.fields.len() {
            let field = &self.fields[index];
            if field.word < at || field.words == 0 {
                return false;
            }
            at = field.word + field.words;
            index += 1;
        }
        at * 8 <= self.row_bytes
    }
}

/// Makes of each line a constant with the field's word, and an entry of the table's list.
macro_rules! fields {
    ($($(#[doc = $help:literal])+ $name:ident = $word:literal $(.. $words:literal)?: $kind:ident;)*) => {
        $($(#[doc = $help])+ pub const $name: usize = $word;)*
        /// All of them, ascending.
        pub const FIELDS: &[super::Field] = &[$(super::Field {
            constant: stringify!($name),
            word: $word,
            words: 1 $(+ $words - 1)?,
            kind: super::Kind::$kind,
            help: concat!($($help),+).trim_ascii(),
        }),*];
    };
}

/// Words of the board's header. It is no seqlock: all of it is written before `magic`, only `health` changes after.
pub mod header {
    /// `BOARD_MAGIC`; stored last, so that a reader never sees half a header.
    pub const MAGIC: usize = 0;
    fields! {
        /// Layout version.
        LAYOUT_VERSION = 1: Id;
        /// Process id of the sidecar.
        PID = 2: Id;
        /// Start time, nanoseconds since 1970.
        STARTED_NS = 3: Time;
        /// Journal epoch: how often this journal was opened; 0 without a journal.
        EPOCH = 4: Id;
        /// 1 healthy, 2 intake has stopped until the journal can be written, 3 stopping, 4 degraded: see `journal::TROUBLE`.
        HEALTH = 5: Id;
        /// Size of the schema text, bytes.
        SCHEMA_BYTES = 6: Id;
        /// User id of the sidecar.
        UID = 7: Id;
        /// Hash of the configuration in force.
        CONFIG_HASH = 8: Id;
        /// Version text.
        VERSION = 16..3: Text;
        /// Build hash text.
        BUILD = 20..2: Text;
        /// Socket address text (the longest path of a Unix socket is 108 bytes).
        ADDRESS = 24..14: Text;
    }
}

/// Words of the sequencer's row.
pub mod sequencer {
    fields! {
        /// Last global sequence number.
        SEQUENCE = 1: Gauge;
        /// Wall clock when the sequencer last looked around.
        HEARTBEAT_NS = 2: Time;
        /// Open lanes.
        LANES = 3: Gauge;
        /// Lanes that are polled, the others being parked.
        LANES_HOT = 4: Gauge;
        /// Lanes closed because their client broke the protocol.
        FAULTS = 5: Counter;
        /// Times the sequencer went to sleep.
        SLEEPS = 6: Counter;
        /// Requests accepted by the order kernel since the journal began.
        ACCEPTED = 7: Counter;
        /// Requests rejected by the order kernel since the journal began.
        REJECTED = 8: Counter;
        /// Trades since the journal began.
        TRADES = 9: Counter;
        /// Orders that rest in the books.
        RESTING = 10: Gauge;
        /// Number of the lane that was faulted last.
        FAULT_LANE = 11: Id;
        /// Status that it was closed with.
        FAULT_STATUS = 12: Id;
        /// When that was.
        FAULT_NS = 13: Time;
        /// Batches served.
        BATCHES = 14: Counter;
        /// Batches whose stages were timed.
        BATCHES_TIMED = 15: Counter;
        /// Requests for accounts that their lane was not granted.
        NOT_PERMITTED = 16: Counter;
        /// Batches that were matched by symbol on several threads.
        BATCHES_PARALLEL = 17: Counter;
        /// Batches large enough for several threads that went in sequence because of a mass cancel or a take-over.
        SEQUENTIAL_BARRIER = 18: Counter;
        /// The same, because the books could have become full.
        SEQUENTIAL_ROOM = 19: Counter;
        /// The same, because an account was near its exposure.
        SEQUENTIAL_EXPOSURE = 20: Counter;
        /// The same, because an account was near its count of open orders.
        SEQUENTIAL_OPEN_ORDERS = 21: Counter;
        /// The same, because an account was near its order rate.
        SEQUENTIAL_ORDER_RATE = 22: Counter;
    }
}

/// Words of the journal's row.
pub mod journal {
    fields! {
        /// Last sequence number in the journal.
        SEQUENCE = 1: Gauge;
        /// Last sequence number that survives what the journal promises to survive.
        DURABLE_SEQUENCE = 2: Gauge;
        /// Records that are journaled and not yet durable.
        LAG_RECORDS = 3: Gauge;
        /// Bytes appended since start.
        APPENDED_BYTES = 4: Counter;
        /// Whether the journal cannot be written: 0 or 1.
        FAILED = 5: Gauge;
        /// Size of all segments on the disk.
        TOTAL_BYTES = 6: Gauge;
        /// Most that the journal keeps.
        RETENTION_BYTES = 7: Gauge;
        /// Free space on the journal's file system.
        DISK_FREE_BYTES = 8: Gauge;
        /// Bytes that are journaled in a second, levelled over a minute.
        BYTES_PER_SECOND = 9: Gauge;
        /// Seconds until that disk is full at this rate; all ones when that will not happen.
        DISK_SECONDS_LEFT = 10: Gauge;
        /// 0 none, 1 over the cap without a snapshot, 2 the disk is short, 3 the next segment cannot be had, 4 the disk refuses
        /// to make what was written durable.
        TROUBLE = 11: Id;
        /// Why 3 or 4, errno.
        ERRNO = 12: Id;
        /// Segments that were used again.
        SEGMENTS_RECYCLED = 13: Counter;
    }
}

/// Words of the control thread's row.
pub mod control {
    fields! {
        /// Connected clients.
        CLIENTS = 1: Gauge;
        /// Connections that were accepted.
        CONNECTIONS = 2: Counter;
        /// Connections that were turned away before a hello.
        TURNED_AWAY = 3: Counter;
        /// Messages that were answered.
        MESSAGES = 4: Counter;
        /// What was refused: connections, lanes, questions, messages.
        REFUSED = 5: Counter;
        /// Lanes that were opened.
        LANES_OPENED = 6: Counter;
        /// Memory of open lanes.
        LANE_BYTES = 7: Gauge;
        /// Most memory that open lanes may take.
        LANE_MAX_BYTES = 8: Gauge;
    }
}

/// Words of the row for what the process does around its lanes: metrics, the disk that it writes to.
pub mod service {
    fields! {
        /// Scrapes that were answered.
        SCRAPES = 1: Counter;
        /// Scrapes that were refused or broken off.
        SCRAPES_FAILED = 2: Counter;
    }
}

/// Words of the row of the thread that sends spans.
pub mod traces {
    fields! {
        /// Spans that the collector took.
        SPANS_SENT = 1: Counter;
        /// Spans that were dropped: the collector did not take them, or there were more than it takes.
        SPANS_DROPPED = 2: Counter;
        /// Requests that the collector refused or did not answer.
        SENDINGS_FAILED = 3: Counter;
    }
}

/// Words of the row of the thread that reports errors.
pub mod sentry {
    fields! {
        /// Events that Sentry took.
        EVENTS_SENT = 1: Counter;
        /// Events that were dropped: Sentry did not take them, or there were too many.
        EVENTS_DROPPED = 2: Counter;
        /// Requests that Sentry refused or did not answer.
        SENDINGS_FAILED = 3: Counter;
    }
}

/// Words of a pool's row.
pub mod pool {
    fields! {
        /// Threads of the pool; 0 for an empty row.
        THREADS = 1: Gauge;
        /// Jobs that wait for a thread.
        QUEUED = 2: Gauge;
        /// Jobs that run.
        RUNNING = 3: Gauge;
        /// Jobs done.
        JOBS = 4: Counter;
        /// Time that threads spent with jobs, all together.
        BUSY_NS = 5: Counter;
        /// Pool's name.
        NAME = 8..2: Text;
    }
}

/// Words of a kernel's row.
pub mod kernel {
    fields! {
        /// Whether the row is used: 1, or 0 for an empty row.
        USED = 1: Id;
        /// Open lanes of the kernel.
        LANES = 2: Gauge;
        /// Batches that it computed.
        BATCHES = 3: Counter;
        /// Requests that it answered.
        REQUESTS = 4: Counter;
        /// Work that it did, in its own unit: orders and fills, or records.
        WORK = 5: Counter;
        /// Events that it gave.
        EVENTS = 6: Counter;
        /// Times that it panicked.
        PANICS = 7: Counter;
        /// Kernel's name.
        NAME = 8..2: Text;
        /// Lanes that a fault ended.
        FAULTS = 10: Counter;
    }
}

/// Words of a lane's row.
pub mod lane {
    fields! {
        /// Lane number; 0 for an empty row.
        LANE = 1: Id;
        /// Process id of the owner.
        PID = 2: Id;
        /// User id of the owner.
        UID = 3: Id;
        /// Depth, slots.
        DEPTH = 4: Gauge;
        /// Memory of both regions.
        BYTES = 5: Gauge;
        /// Slots that the client submitted, checked.
        SUBMITTED = 6: Counter;
        /// Slots that are answered.
        COMPLETED = 7: Counter;
        /// Answered slots that the client gave back, or no longer looks at.
        RELEASED = 8: Counter;
        /// Events put into the event ring.
        EVENTS = 9: Counter;
        /// Events dropped because the ring was full.
        EVENTS_DROPPED = 10: Counter;
        /// Times the lane was parked.
        PARKS = 11: Counter;
        /// Notifications sent.
        NOTIFIES = 12: Counter;
        /// When the oldest slot that waits was first seen; it means nothing when none waits.
        WAITING_SINCE_NS = 13: Time;
        /// When the lane was opened.
        OPENED_NS = 14: Time;
        /// Lanes of the same process that were closed before because it broke the protocol.
        FAULTS = 15: Counter;
        /// Client's name.
        NAME = 16..8: Text;
        /// Kernel's name.
        KERNEL = 24..2: Text;
        /// Since when the client holds answered slots without giving one back; it means nothing when it holds none.
        HELD_SINCE_NS = 26: Time;
        /// Requests for accounts that the lane was not granted.
        NOT_PERMITTED = 27: Counter;
        /// Build hash of the client's package; empty when it did not say.
        BUILD = 28..2: Text;
    }
}

/// The sequencer's row.
pub static SEQUENCER: Table = wide("sequencer", 0, 1, sequencer::FIELDS);
/// The journal's row.
pub static JOURNAL: Table = wide("journal", 1, 1, journal::FIELDS);
/// The control thread's row.
pub static CONTROL: Table = wide("control", 2, 1, control::FIELDS);
/// The row for what the process does around its lanes.
pub static SERVICE: Table = wide("service", 3, 1, service::FIELDS);
/// The row of the thread that sends spans.
pub static TRACES: Table = wide("traces", 4, 1, traces::FIELDS);
/// The row of the thread that reports errors.
pub static SENTRY: Table = wide("sentry", 5, 1, sentry::FIELDS);
/// The pools' rows.
pub static POOL: Table = wide("pool", 8, POOLS_MAX, pool::FIELDS);
/// The kernels' rows.
pub static KERNEL: Table = wide("kernel", 16, KERNELS_MAX, kernel::FIELDS);
/// The lanes' rows.
pub static LANE: Table =
    Table { name: "lane", offset: LANE_ROWS_OFFSET, row_bytes: LANE_ROW_BYTES, rows: LANES_MAX + JOB_LANES_MAX, fields: lane::FIELDS };

/// All tables.
pub static TABLES: [&Table; 9] = [&SEQUENCER, &JOURNAL, &CONTROL, &SERVICE, &TRACES, &SENTRY, &POOL, &KERNEL, &LANE];

const fn wide(name: &'static str, first_row: usize, rows: usize, fields: &'static [Field]) -> Table {
    Table { name, offset: PAGE_BYTES + first_row * WIDE_ROW_BYTES, row_bytes: WIDE_ROW_BYTES, rows, fields }
}

/// The stages of a request whose times are kept, by number of their histogram. Each has one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// From the sequencer's first sight of a slot to the begin of its batch.
    QueueWait,
    /// Copying a batch and appending it to the journal.
    JournalAppend,
    /// Computing a batch.
    Kernel,
    /// Writing a batch's results and events, and making them visible.
    ResultWrite,
    /// Sending one wake-up to a client that sleeps.
    Wake,
    /// From the sequencer's first sight of a slot to its visible result.
    EndToEnd,
    /// One round over all polled lanes: as long may a slot wait unseen.
    Round,
    /// One flush of the journal to its disk.
    JournalSync,
}

impl Stage {
    /// All stages, in the order of their histograms.
    pub const ALL: [Self; 8] =
        [Self::QueueWait, Self::JournalAppend, Self::Kernel, Self::ResultWrite, Self::Wake, Self::EndToEnd, Self::Round, Self::JournalSync];

    /// Name in small letters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueWait => "queue_wait",
            Self::JournalAppend => "journal_append",
            Self::Kernel => "kernel",
            Self::ResultWrite => "result_write",
            Self::Wake => "wake",
            Self::EndToEnd => "end_to_end",
            Self::Round => "round",
            Self::JournalSync => "journal_sync",
        }
    }
}

const _: () = {
    let header = Table { name: "header", offset: 0, row_bytes: PAGE_BYTES, rows: 1, fields: header::FIELDS };
    assert!(
        header.is_sound() && SEQUENCER.is_sound() && JOURNAL.is_sound() && CONTROL.is_sound() && SERVICE.is_sound() && TRACES.is_sound()
    );
    assert!(SENTRY.is_sound() && TRACES.end() <= SENTRY.offset && SENTRY.end() <= POOL.offset);
    assert!(POOL.is_sound() && KERNEL.is_sound() && LANE.is_sound());
    assert!(
        SERVICE.end() <= TRACES.offset && TRACES.end() <= POOL.offset && POOL.end() <= KERNEL.offset && KERNEL.end() <= HISTOGRAMS_OFFSET
    );
    assert!(HISTOGRAMS_OFFSET + STAGES_MAX * histogram::HISTOGRAM_BYTES <= SCHEMA_OFFSET);
    assert!(Stage::ALL.len() <= STAGES_MAX && LANE_ROW_BYTES / 8 <= ROW_WORDS_MAX);
};

/// Name of the board of the sidecar that listens at `address`: `ringlane-` and FNV-1a 64 of the address in hex.
#[must_use]
pub fn board_name(address: &str) -> String {
    let hash = address.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{BOARD_NAME_START}{hash:016x}")
}

/// What the names of all boards begin with.
pub const BOARD_NAME_START: &str = "ringlane-";
