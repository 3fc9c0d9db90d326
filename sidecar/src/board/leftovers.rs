//! Boards of sidecars that were killed, at addresses where nobody will ever start again: whoever starts next clears them.

use std::fs::{self, DirEntry};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::getuid;
use ringlane_layout::board::BOARD_NAME_START;

use super::address::lock_path;
use super::{AddressLock, BoardReader, SEGMENT_DIRECTORY};

/// Most names of the segment directory that one start looks at.
const NAMES_MAX: usize = 4096;

/// Removes the boards of this user's dead sidecars; says how many. A board that cannot be judged stays.
pub fn clear_leftovers() -> usize {
    let Ok(entries) = fs::read_dir(SEGMENT_DIRECTORY) else { return 0 };
    let is_board = |entry: &DirEntry| entry.file_name().to_string_lossy().starts_with(BOARD_NAME_START);
    entries.take(NAMES_MAX).flatten().filter(is_board).filter(|entry| clear(&entry.path())).count()
}

/// Removes one board if its sidecar is dead.
fn clear(path: &Path) -> bool {
    let Ok(found) = path.symlink_metadata() else { return false };
    if !found.is_file() || found.uid() != getuid().as_raw() {
        return false;
    }
    let Some((board, address)) = BoardReader::open_any_version(path) else { return false };
    // The lock is held until the name is gone, so that nobody begins to serve there in between. Without a lock file, the
    // pid decides.
    let lock = AddressLock::take_if_free(&address);
    let is_dead = lock.is_some() || (!lock_path(&address).exists() && !board.owner_lives());
    let is_same = || path.symlink_metadata().is_ok_and(|now| now.ino() == found.ino());
    let cleared = is_dead && is_same() && fs::remove_file(path).is_ok();
    if cleared {
        tracing::info!(board = %path.display(), address, "the board of a dead sidecar was removed");
    }
    cleared
}
