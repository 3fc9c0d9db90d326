//! The board: a named segment in which the sidecar publishes its identity and counters, and from which anybody reads them.
//! Nothing is asked of the sidecar to read it. Where each word sits is in `layout`.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use memmap2::{MmapOptions, MmapRaw};
use ringlane_layout::board::{BOARD_BYTES, BOARD_MAGIC, READ_ATTEMPTS_MAX, ROW_BYTES, ROWS_OFFSET, board_name, header, row};
use ringlane_layout::limits::{LANES_MAX, LAYOUT_VERSION};
use ringlane_layout::primitive::{Ordering, fence};
use ringlane_layout::shared::SharedBytes;
use shared_memory::{Shmem, ShmemConf};

/// Where POSIX named segments live on Linux.
const SEGMENT_DIRECTORY: &str = "/dev/shm";

/// The writer's side, in the sidecar. Dropping it removes the name.
pub struct Board {
    // Field order: `bytes` points into `segment`.
    bytes: SharedBytes,
    _segment: Shmem,
}

// SAFETY: Shmem holds the mapping by raw pointer and is only kept to be dropped; all access goes through `bytes`.
unsafe impl Send for Board {}

/// What the board says of the sidecar itself.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Address of the control socket.
    pub address: String,
    /// Journal epoch; 0 without a journal.
    pub epoch: u64,
    /// Start time, nanoseconds since 1970.
    pub started_ns: u64,
}

impl Board {
    /// Creates the board of the sidecar at this address, clearing the leftover of a dead one.
    pub fn create(identity: &Identity) -> Result<Self, String> {
        let name = board_name(&identity.address);
        let path = PathBuf::from(SEGMENT_DIRECTORY).join(&name);
        if let Ok(reader) = BoardReader::open(&identity.address)
            && reader.owner_lives()
        {
            return Err(format!("another sidecar (pid {}) already serves {}", reader.word(header::PID), identity.address));
        }
        // Removing a name that is not there is no error worth telling.
        let _ = std::fs::remove_file(&path);
        let say = |error: &dyn std::fmt::Display| format!("cannot create the board {}: {error}", path.display());
        let segment = ShmemConf::new().size(BOARD_BYTES).os_id(&name).create().map_err(|error| say(&error))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).map_err(|error| say(&error))?;
        // SAFETY: the segment is mapped read-write for BOARD_BYTES at a page boundary and lives as long as this value.
        let bytes = unsafe { SharedBytes::new(segment.as_ptr(), BOARD_BYTES) };
        let board = Self { bytes, _segment: segment };
        board.introduce(identity);
        Ok(board)
    }

    fn introduce(&self, identity: &Identity) {
        self.set(header::LAYOUT_VERSION, u64::from(LAYOUT_VERSION));
        self.set(header::PID, u64::from(std::process::id()));
        self.set(header::STARTED_NS, identity.started_ns);
        self.set(header::EPOCH, identity.epoch);
        self.set(header::HEALTH, 1);
        self.set_text(header::VERSION * 8, 24, env!("CARGO_PKG_VERSION"));
        self.set_text(header::BUILD * 8, 16, ringlane_layout::BUILD_HASH);
        self.set_text(header::ADDRESS * 8, 112, &identity.address);
        self.bytes.word(header::MAGIC * 8).store(BOARD_MAGIC, Ordering::Release);
    }

    /// Stores one header word.
    #[inline]
    pub fn set(&self, word: usize, value: u64) {
        self.bytes.word(word * 8).store(value, Ordering::Relaxed);
    }

    fn set_text(&self, offset: usize, len: usize, text: &str) {
        let mut bytes = vec![0; len];
        let used = text.len().min(len);
        bytes[..used].copy_from_slice(&text.as_bytes()[..used]);
        self.bytes.write(offset, &bytes);
    }

    /// Writes a lane's row: `identity` first, all words of the list then, as one consistent row.
    #[inline]
    pub fn write_row(&self, index: usize, words: &[(usize, u64)]) {
        self.begin_row(index);
        for (word, value) in words {
            self.bytes.word(row_offset(index) + word * 8).store(*value, Ordering::Relaxed);
        }
        self.end_row(index);
    }

    /// Writes the texts of a lane's row.
    pub fn write_row_texts(&self, index: usize, name: &str, kernel: &str) {
        self.begin_row(index);
        self.set_text(row_offset(index) + row::NAME * 8, 64, name);
        self.set_text(row_offset(index) + row::KERNEL * 8, 16, kernel);
        self.end_row(index);
    }

    #[inline]
    fn begin_row(&self, index: usize) {
        let version = self.bytes.word(row_offset(index));
        version.store(version.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        fence(Ordering::Release); // meets the second fence of `BoardReader::row`
    }

    #[inline]
    fn end_row(&self, index: usize) {
        let version = self.bytes.word(row_offset(index));
        version.store(version.load(Ordering::Relaxed) + 1, Ordering::Release); // meets the first load of `BoardReader::row`
    }
}

fn row_offset(index: usize) -> usize {
    assert!(index < LANES_MAX);
    ROWS_OFFSET + index * ROW_BYTES
}

/// A reader's side: a read-only mapping.
pub struct BoardReader {
    bytes: SharedBytes,
    _map: MmapRaw,
}

/// One consistent row, as words.
pub type Row = [u64; ROW_BYTES / 8];

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
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        if size < BOARD_BYTES as u64 {
            return Err(format!("{} is not a board of this version: it has {size} bytes, not {BOARD_BYTES}", path.display()));
        }
        let map = MmapOptions::new()
            .len(BOARD_BYTES)
            .map_raw_read_only(&file)
            .map_err(|error| format!("cannot map {}: {error}", path.display()))?;
        // SAFETY: mapped readable for BOARD_BYTES at a page boundary; this value keeps the map and only loads.
        let bytes = unsafe { SharedBytes::new(map.as_mut_ptr(), BOARD_BYTES) };
        let reader = Self { bytes, _map: map };
        if reader.word(header::MAGIC) != BOARD_MAGIC || reader.word(header::LAYOUT_VERSION) != u64::from(LAYOUT_VERSION) {
            return Err(format!("{} is not a board of this version of ringlane", path.display()));
        }
        Ok(reader)
    }

    /// One header word.
    #[must_use]
    pub fn word(&self, word: usize) -> u64 {
        self.bytes.word(word * 8).load(Ordering::Relaxed)
    }

    /// A text of the header, from word `word` on.
    #[must_use]
    pub fn text(&self, word: usize, len: usize) -> String {
        let mut bytes = vec![0; len];
        self.bytes.read(word * 8, &mut bytes);
        text_of(&bytes)
    }

    /// Whether the process that wrote the board still runs.
    #[must_use]
    pub fn owner_lives(&self) -> bool {
        let pid = i32::try_from(self.word(header::PID)).unwrap_or(0);
        pid > 0 && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
    }

    /// One consistent lane row; none when it is empty or the writer never let go of it.
    #[must_use]
    pub fn row(&self, index: usize) -> Option<Row> {
        let version = self.bytes.word(row_offset(index));
        for _ in 0..READ_ATTEMPTS_MAX {
            let before = version.load(Ordering::Relaxed);
            fence(Ordering::Acquire); // meets the Release store of `Board::end_row`
            let mut words: Row = [0; ROW_BYTES / 8];
            self.bytes.read(row_offset(index), bytemuck::cast_slice_mut(&mut words));
            fence(Ordering::Acquire); // meets the fence of `Board::begin_row`
            if before.is_multiple_of(2) && version.load(Ordering::Relaxed) == before {
                return (words[row::LANE] != 0).then_some(words);
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// A zero-padded text.
#[must_use]
pub fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_whole_rows_and_a_dead_owner_is_cleared() {
        let identity = Identity { address: format!("/nowhere/{}", std::process::id()), epoch: 3, started_ns: 1 };
        let board = Board::create(&identity).unwrap();
        let reader = BoardReader::open(&identity.address).unwrap();
        assert_eq!(reader.text(header::ADDRESS, 112), identity.address);
        assert!(reader.row(0).is_none());
        let writer = std::thread::spawn(move || {
            (1..200_000).for_each(|n| board.write_row(0, &[(row::LANE, 1), (row::SUBMITTED, n), (row::COMPLETED, n)]));
            board
        });
        for words in (0..100_000).filter_map(|_| reader.row(0)) {
            assert_eq!(words[row::SUBMITTED], words[row::COMPLETED]);
        }
        let board = writer.join().unwrap();
        assert!(Board::create(&identity).is_err_and(|words| words.contains("already serves")));
        board.set(header::PID, 0x7fff_ffff);
        drop(Board::create(&identity).unwrap());
    }
}
