//! The writer's side of the board: rows, single counters and times. Each row has one writer, wherever it runs.
#![allow(unsafe_code)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use nix::unistd::getuid;
use ringlane_layout::board::histogram::{FIRST_BUCKET, HISTOGRAM_BYTES, MAX_NS, SUM_NS, bucket_of};
use ringlane_layout::board::{
    BOARD_BYTES, BOARD_MAGIC, Field, HISTOGRAMS_OFFSET, SCHEMA_BYTES_MAX, SCHEMA_OFFSET, Stage, Table, board_name, header, seqlock,
};
use ringlane_layout::limits::LAYOUT_VERSION;
use ringlane_layout::primitive::Ordering;
use ringlane_layout::shared::SharedBytes;
use shared_memory::{Shmem, ShmemConf};

use super::schema::schema_text;
use super::{AddressLock, SEGMENT_DIRECTORY};

/// The mapped segment, shared by whoever writes a row of it.
struct Segment {
    // Field order: `bytes` points into `_map`.
    bytes: SharedBytes,
    _map: Shmem,
}

// SAFETY: Shmem holds the mapping by raw pointer and is only kept to be dropped; all access goes through `bytes`.
unsafe impl Send for Segment {}
// SAFETY: as above; `bytes` is atomics only.
unsafe impl Sync for Segment {}

/// The board in the sidecar. Dropping it removes the name.
pub struct Board {
    segment: Arc<Segment>,
    path: PathBuf,
}

/// What the board says of the sidecar itself.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Address of the control socket.
    pub address: String,
    /// Journal epoch; 0 without a journal.
    pub epoch: u64,
    /// Start time, nanoseconds since 1970.
    pub started_ns: u64,
    /// Hash of the configuration in force.
    pub config_hash: u64,
}

impl Board {
    /// Creates the board of the sidecar at this address, whose lock the caller holds; an older one is a dead sidecar's.
    pub fn create(identity: &Identity, _lock: &AddressLock) -> Result<Self, String> {
        let name = board_name(&identity.address);
        let path = PathBuf::from(SEGMENT_DIRECTORY).join(&name);
        // Removing a name that is not there is no error worth telling.
        let _ = std::fs::remove_file(&path);
        let say = |error: &dyn std::fmt::Display| format!("cannot create the board {}: {error}", path.display());
        let mut map = ShmemConf::new().size(BOARD_BYTES).os_id(&name).create().map_err(|error| say(&error))?;
        // The name goes with the board, not with the last thread that still holds a row.
        map.set_owner(false);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).map_err(|error| say(&error))?;
        // SAFETY: the segment is mapped read-write for BOARD_BYTES at a page boundary and lives as long as this value.
        let bytes = unsafe { SharedBytes::new(map.as_ptr(), BOARD_BYTES) };
        let board = Self { segment: Arc::new(Segment { bytes, _map: map }), path };
        board.introduce(identity);
        Ok(board)
    }

    fn introduce(&self, identity: &Identity) {
        let schema = schema_text();
        set_text(&self.segment.bytes, SCHEMA_OFFSET, SCHEMA_BYTES_MAX, &schema);
        self.set(header::SCHEMA_BYTES, schema.len() as u64);
        self.set(header::LAYOUT_VERSION, u64::from(LAYOUT_VERSION));
        self.set(header::PID, u64::from(std::process::id()));
        self.set(header::UID, u64::from(getuid().as_raw()));
        self.set(header::STARTED_NS, identity.started_ns);
        self.set(header::EPOCH, identity.epoch);
        self.set(header::CONFIG_HASH, identity.config_hash);
        self.set(header::HEALTH, 1);
        for (word, text) in [
            (header::VERSION, env!("CARGO_PKG_VERSION")),
            (header::BUILD, ringlane_layout::BUILD_HASH),
            (header::ADDRESS, identity.address.as_str()),
        ] {
            set_text(&self.segment.bytes, word * 8, text_bytes(header::FIELDS, word), text);
        }
        self.segment.bytes.word(header::MAGIC * 8).store(BOARD_MAGIC, Ordering::Release);
    }

    /// Stores one header word.
    #[inline]
    pub fn set(&self, word: usize, value: u64) {
        self.segment.bytes.word(word * 8).store(value, Ordering::Relaxed);
    }

    /// The writer's handle of a row. Its holder is the row's one writer; it may live in another thread than the board.
    #[must_use]
    pub fn row(&self, table: &'static Table, index: usize) -> BoardRow {
        BoardRow { segment: Arc::clone(&self.segment), table, offset: table.row_offset(index) }
    }

    /// The writer's handle of a stage's times. Its holder is their one writer.
    #[must_use]
    pub fn times(&self, stage: Stage) -> StageTimes {
        StageTimes { segment: Arc::clone(&self.segment), offset: HISTOGRAMS_OFFSET + stage as usize * HISTOGRAM_BYTES }
    }

    /// Writes words of a row, as one consistent row.
    #[inline]
    pub fn write_row(&self, table: &Table, index: usize, words: &[(usize, u64)]) {
        write_row(&self.segment.bytes, table.row_offset(index), words);
    }

    /// Writes texts of a row, as one consistent row.
    pub fn write_row_texts(&self, table: &Table, index: usize, texts: &[(usize, &str)]) {
        write_texts(&self.segment.bytes, table, table.row_offset(index), texts);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One row, for its one writer.
pub struct BoardRow {
    segment: Arc<Segment>,
    table: &'static Table,
    offset: usize,
}

impl BoardRow {
    /// Writes words, as one consistent row.
    #[inline]
    pub fn write(&self, words: &[(usize, u64)]) {
        write_row(&self.segment.bytes, self.offset, words);
    }

    /// Writes texts, as one consistent row.
    pub fn write_texts(&self, texts: &[(usize, &str)]) {
        write_texts(&self.segment.bytes, self.table, self.offset, texts);
    }

    /// Stores one word that need not agree with others.
    #[inline]
    pub fn set(&self, word: usize, value: u64) {
        self.word(word).store(value, Ordering::Relaxed);
    }

    /// Adds to one word.
    #[inline]
    pub fn add(&self, word: usize, more: u64) {
        let counter = self.word(word);
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    #[inline]
    fn word(&self, word: usize) -> &ringlane_layout::primitive::AtomicU64 {
        assert!((1..self.table.row_bytes / 8).contains(&word));
        self.segment.bytes.word(self.offset + word * 8)
    }
}

/// The times of one stage, for their one writer.
pub struct StageTimes {
    segment: Arc<Segment>,
    offset: usize,
}

impl StageTimes {
    /// Counts one time, nanoseconds.
    #[inline]
    pub fn add(&self, ns: u64) {
        let word = |index: usize| self.segment.bytes.word(self.offset + index * 8);
        for (index, more) in [(FIRST_BUCKET + bucket_of(ns), 1), (SUM_NS, ns)] {
            word(index).store(word(index).load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        }
        if ns > word(MAX_NS).load(Ordering::Relaxed) {
            word(MAX_NS).store(ns, Ordering::Relaxed);
        }
    }
}

fn write_row(bytes: &SharedBytes, offset: usize, words: &[(usize, u64)]) {
    seqlock::write(bytes.word(offset), || {
        for (word, value) in words {
            bytes.word(offset + word * 8).store(*value, Ordering::Relaxed);
        }
    });
}

fn write_texts(bytes: &SharedBytes, table: &Table, offset: usize, texts: &[(usize, &str)]) {
    seqlock::write(bytes.word(offset), || {
        for (word, text) in texts {
            set_text(bytes, offset + word * 8, text_bytes(table.fields, *word), text);
        }
    });
}

/// Room of the text that begins at a word, bytes.
fn text_bytes(fields: &[Field], word: usize) -> usize {
    fields.iter().find(|field| field.word == word).expect("the table has this text").words * 8
}

fn set_text(bytes: &SharedBytes, offset: usize, len: usize, text: &str) {
    let mut padded = vec![0; len];
    let used = text.len().min(len);
    padded[..used].copy_from_slice(&text.as_bytes()[..used]);
    bytes.write(offset, &padded);
}
