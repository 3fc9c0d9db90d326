//! The board: a named segment in which the sidecar publishes its identity and counters, and from which anybody reads them.
//! Nothing is asked of the sidecar to read it. Where each word sits is in `layout`.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use ringlane_layout::board::{BOARD_BYTES, BOARD_MAGIC, READ_ATTEMPTS_MAX, ROW_BYTES, ROWS_MAX, ROWS_OFFSET, board_name, header, row};
use ringlane_layout::limits::LAYOUT_VERSION;
use ringlane_layout::primitive::{Ordering, fence};
use ringlane_layout::shared::SharedBytes;
use shared_memory::{Shmem, ShmemConf};

/// Where POSIX named segments live on Linux.
const SEGMENT_DIRECTORY: &str = "/dev/shm";

/// The lock on an address, held for the life of the sidecar: who has it serves there, and socket and board are its own to
/// replace. The kernel lets go of it with the process, whatever its pid is used for later. Its file stays behind.
#[derive(Debug)]
pub struct AddressLock {
    _file: Flock<File>,
}

impl AddressLock {
    /// Takes the lock, or says who serves there.
    pub fn take(address: &str) -> Result<Self, String> {
        let path = lock_path(address);
        let say = |error: &dyn std::fmt::Display| format!("cannot lock the address by {}: {error}", path.display());
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|error| say(&error))?;
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).read(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        let mut file = options.open(&path).map_err(|error| say(&error))?;
        // Whoever asks for the status holds it for an instant.
        for _ in 0..LOCK_ATTEMPTS_MAX {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Self { _file: file }),
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, error)) => return Err(say(&error)),
            };
            std::thread::sleep(LOCK_PAUSE);
        }
        let pid = BoardReader::open(address).map_or_else(|_| "?".into(), |board| board.word(header::PID).to_string());
        Err(format!("another sidecar (pid {pid}) already serves {address}"))
    }
}

/// How often a start tries to lock its address, and how long it waits in between.
const LOCK_ATTEMPTS_MAX: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

fn lock_path(address: &str) -> PathBuf {
    PathBuf::from(format!("{address}.lock"))
}

/// Whether a sidecar holds the lock on an address; none when this user may not look.
fn is_locked(address: &str) -> Option<bool> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(lock_path(address)).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Some(false),
        Err((_, error)) => (error == Errno::EWOULDBLOCK).then_some(true),
    }
}

/// The writer's side, in the sidecar. Dropping it removes the name.
pub struct Board {
    // Field order: `bytes` points into `segment`.
    bytes: SharedBytes,
    _segment: Shmem,
}

// SAFETY: Shmem holds the mapping by raw pointer and is only kept to be dropped; all access goes through `bytes`.
unsafe impl Send for Board {}
// SAFETY: as above; `bytes` may be shared, and each word and row has one writer at a time by the rules of those who write.
unsafe impl Sync for Board {}

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
    /// Creates the board of the sidecar at this address, whose lock the caller holds; an older one is a dead sidecar's.
    pub fn create(identity: &Identity, _lock: &AddressLock) -> Result<Self, String> {
        let name = board_name(&identity.address);
        let path = PathBuf::from(SEGMENT_DIRECTORY).join(&name);
        // Removing a name that is not there is no error worth telling.
        let _ = std::fs::remove_file(&path);
        let say = |error: &dyn std::fmt::Display| format!("cannot create the board {}: {error}", path.display());
        let segment = ShmemConf::new().size(BOARD_BYTES).os_id(&name).create().map_err(|error| say(&error))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).map_err(|error| say(&error))?;
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

    /// Counts one more in a header word that has several writers.
    pub fn count(&self, word: usize) {
        self.bytes.word(word * 8).fetch_add(1, Ordering::Relaxed);
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
    assert!(index < ROWS_MAX);
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

    /// Whether the sidecar that wrote the board still runs: whether its address is locked, or, for users who may not look at
    /// the lock, whether its pid is that of a process which is older than the board.
    #[must_use]
    pub fn owner_lives(&self) -> bool {
        is_locked(&self.text(header::ADDRESS, 112)).unwrap_or_else(|| {
            let started = process_started_ns(self.word(header::PID));
            started.is_some_and(|started_ns| started_ns <= self.word(header::STARTED_NS).saturating_add(CLOCK_SLACK_NS))
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_whole_rows_and_a_dead_owner_is_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("socket").to_string_lossy().into_owned();
        let identity = Identity { address: address.clone(), epoch: 3, started_ns: 1 };
        let lock = AddressLock::take(&address).unwrap();
        let board = Board::create(&identity, &lock).unwrap();
        let reader = BoardReader::open(&address).unwrap();
        assert_eq!(reader.text(header::ADDRESS, 112), address);
        assert!(reader.row(0).is_none());
        let writer = std::thread::spawn(move || {
            (1..200_000).for_each(|n| board.write_row(0, &[(row::LANE, 1), (row::SUBMITTED, n), (row::COMPLETED, n)]));
            board
        });
        for words in (0..100_000).filter_map(|_| reader.row(0)) {
            assert_eq!(words[row::SUBMITTED], words[row::COMPLETED]);
        }
        let board = writer.join().unwrap();
        assert!(reader.owner_lives());
        assert!(AddressLock::take(&address).is_err_and(|words| words.contains("already serves")));
        drop(lock);
        assert!(!reader.owner_lives());
        std::fs::remove_file(lock_path(&address)).unwrap();
        assert!(!reader.owner_lives(), "its pid is that of a younger process");
        board.set(header::STARTED_NS, u64::MAX);
        assert!(reader.owner_lives());
        board.set(header::PID, 0x7fff_ffff);
        assert!(!reader.owner_lives());
        drop(Board::create(&identity, &AddressLock::take(&address).unwrap()).unwrap());
    }
}
