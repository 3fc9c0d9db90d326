//! The reader's side of the board: a read-only mapping, rows that are consistent or not there, and whether the owner lives.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use ringlane_layout::board::histogram::{HISTOGRAM_BYTES, Times};
use ringlane_layout::board::{
    BOARD_BYTES, BOARD_MAGIC, HISTOGRAMS_OFFSET, READ_ATTEMPTS_MAX, ROW_WORDS_MAX, Stage, Table, board_name, header, seqlock,
};
use ringlane_layout::limits::{LAYOUT_VERSION, PAGE_BYTES};
use ringlane_layout::primitive::Ordering;
use ringlane_layout::shared::SharedBytes;

use super::SEGMENT_DIRECTORY;
use super::address::is_locked;

/// A read-only mapping of a board.
pub struct BoardReader {
    bytes: SharedBytes,
    /// Rows in a row that were given up: one writer holds one row, so waiting for more than a few is waiting for nobody.
    given_up: Cell<u32>,
    _map: MmapRaw,
}

/// One consistent row, as words; those behind a shorter row are 0.
pub type Row = [u64; ROW_WORDS_MAX];

/// Attempts at a row before a reader gives the writer time, and for how long at each further one.
const QUICK_ATTEMPTS: u32 = 800;
const WAITED_FOR_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_micros(50);

impl BoardReader {
    /// Opens the board of the sidecar at `address`. An error says what to do.
    pub fn open(address: &str) -> Result<Self, String> {
        let path = PathBuf::from(SEGMENT_DIRECTORY).join(board_name(address));
        let file = File::open(&path).map_err(|error| {
            format!(
                "no sidecar has published a board for {address} ({}: {error}); is it running, and is the address right?",
                path.display()
            )
        })?;
        let strange = || format!("{} is not a board of this version of ringlane ({})", path.display(), env!("CARGO_PKG_VERSION"));
        let reader = Self::map(&file, BOARD_BYTES).map_err(|words| format!("{}: {words}", strange()))?;
        if reader.word(header::MAGIC) != BOARD_MAGIC || reader.word(header::LAYOUT_VERSION) != u64::from(LAYOUT_VERSION) {
            return Err(strange());
        }
        Ok(reader)
    }

    /// Opens a board of whatever version, of which only the header's first words are to be read; and its address.
    pub(super) fn open_any_version(path: &Path) -> Option<(Self, String)> {
        let reader = Self::map(&File::open(path).ok()?, PAGE_BYTES).ok()?;
        let is_board = reader.word(header::MAGIC).to_le_bytes().starts_with(b"RLBRD");
        let address = reader.text(header::ADDRESS, 14);
        is_board.then_some((reader, address))
    }

    fn map(file: &File, len: usize) -> Result<Self, String> {
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        if size < len as u64 {
            return Err(format!("it has {size} bytes, not {len}"));
        }
        let map = MmapOptions::new().len(len).map_raw_read_only(file).map_err(|error| format!("it cannot be mapped: {error}"))?;
        // SAFETY: mapped readable for `len` bytes at a page boundary; this value keeps the map and only loads.
        let bytes = unsafe { SharedBytes::new(map.as_mut_ptr(), len) };
        Ok(Self { bytes, given_up: Cell::new(0), _map: map })
    }

    /// One header word.
    #[must_use]
    pub fn word(&self, word: usize) -> u64 {
        self.bytes.word(word * 8).load(Ordering::Relaxed)
    }

    /// A text of the header, from word `word` on.
    #[must_use]
    pub fn text(&self, word: usize, words: usize) -> String {
        let mut bytes = vec![0; words * 8];
        self.bytes.read(word * 8, &mut bytes);
        text_of(&bytes)
    }

    /// Whether the sidecar that wrote the board still runs: whether its address is locked, or, for users who may not look at
    /// the lock, whether its pid is that of a process which is older than the board.
    #[must_use]
    pub fn owner_lives(&self) -> bool {
        is_locked(&self.text(header::ADDRESS, 14)).unwrap_or_else(|| {
            let started = process_started_ns(self.word(header::PID));
            started.is_some_and(|started_ns| started_ns <= self.word(header::STARTED_NS).saturating_add(CLOCK_SLACK_NS))
        })
    }

    /// One consistent row; none when it is empty or the writer never let go of it. (A table of several rows has a number
    /// first, which is 0 in an empty one.)
    #[must_use]
    pub fn row(&self, table: &Table, index: usize) -> Option<Row> {
        let offset = table.row_offset(index);
        let version = self.bytes.word(offset);
        let mut words: Row = [0; ROW_WORDS_MAX];
        for attempt in 0..READ_ATTEMPTS_MAX {
            let load = || self.bytes.read(offset, bytemuck::cast_slice_mut(&mut words[..table.row_bytes / 8]));
            if seqlock::read(version, load).is_some() {
                self.given_up.set(0);
                return (table.rows == 1 || words[1] != 0).then_some(words);
            }
            let waits = attempt >= QUICK_ATTEMPTS && self.given_up.get() < WAITED_FOR_MAX;
            if waits { std::thread::sleep(PAUSE) } else { std::hint::spin_loop() }
        }
        self.given_up.set(self.given_up.get().saturating_add(1));
        None
    }

    /// One word of a row, whatever the writer does with it just then.
    #[cfg(test)]
    pub(super) fn word_of_row(&self, table: &Table, index: usize, word: usize) -> u64 {
        self.bytes.word(table.row_offset(index) + word * 8).load(Ordering::Relaxed)
    }

    /// All rows of a table that are not empty.
    pub fn rows(&self, table: &Table) -> impl Iterator<Item = Row> {
        (0..table.rows).filter_map(|index| self.row(table, index))
    }

    /// The times of a stage.
    #[must_use]
    pub fn times(&self, stage: Stage) -> Times {
        let mut words = [0; HISTOGRAM_BYTES / 8];
        self.bytes.read(HISTOGRAMS_OFFSET + stage as usize * HISTOGRAM_BYTES, bytemuck::cast_slice_mut(&mut words));
        Times::from_words(&words)
    }
}

/// How much later than its board a process may seem to have started: ticks are coarse, and clocks are set.
const CLOCK_SLACK_NS: u64 = 2_000_000_000;
/// Clock ticks a second in /proc, on every Linux that runs here.
const TICKS_PER_SECOND: u64 = 100;

/// When a process started, nanoseconds since 1970; none when there is no such process.
fn process_started_ns(pid: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let ticks: u64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot_seconds: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot_seconds * 1_000_000_000 + ticks * (1_000_000_000 / TICKS_PER_SECOND))
}

/// A zero-padded text.
#[must_use]
pub fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
