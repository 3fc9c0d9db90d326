//! Who serves an address: a lock beside the socket, which the kernel lets go of with its holder.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use ringlane_layout::board::header;

use super::BoardReader;

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

    /// Takes the lock of an address whose lock file is there and whom nobody holds; none otherwise.
    pub(super) fn take_if_free(address: &str) -> Option<Self> {
        let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(lock_path(address)).ok()?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).ok().map(|file| Self { _file: file })
    }
}

/// How often a start tries to lock its address, and how long it waits in between.
const LOCK_ATTEMPTS_MAX: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Path of the lock file of an address.
pub(super) fn lock_path(address: &str) -> PathBuf {
    PathBuf::from(format!("{address}.lock"))
}

/// Whether a sidecar holds the lock on an address; none when this user may not look.
pub(super) fn is_locked(address: &str) -> Option<bool> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(lock_path(address)).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Some(false),
        Err((_, error)) => (error == Errno::EWOULDBLOCK).then_some(true),
    }
}
