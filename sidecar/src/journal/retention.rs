//! Which segments may go: those whose every record a snapshot covers, the oldest first, while the journal is over its cap.

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{list_segments, list_snapshots, read_header};

/// Sequence number of the newest snapshot in a journal directory; none when there is none. A snapshot has its name only when
/// it is whole.
#[must_use]
pub fn newest_snapshot_sequence(directory: &Path) -> Option<u64> {
    list_snapshots(directory).into_iter().map(|(sequence, _)| sequence).max()
}

/// A segment that lies in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number.
    pub index: u64,
    /// Sequence number of its first record; 0 while it is not begun.
    pub first_sequence: u64,
    /// Its file.
    pub path: PathBuf,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// Bytes that a file takes on the disk.
pub fn disk_bytes(path: &Path) -> u64 {
    // `st_blocks` counts 512 bytes, whatever the file system's block is.
    std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

/// The segments of a directory, ascending. One whose header cannot be read counts as not begun, and nothing behind it goes.
pub fn survey(directory: &Path) -> Result<VecDeque<Kept>, String> {
    let found = list_segments(directory)?;
    let kept = found.into_iter().map(|(index, path)| {
        let first_sequence = read_header(&path).map_or(0, |header| header.first_sequence);
        Kept { index, first_sequence, bytes: disk_bytes(&path), path }
    });
    // What its sidecar has taken away since the list was made, or while it was looked at, is not there.
    Ok(kept.filter(|kept| kept.path.exists()).collect())
}

/// Whether the first of these segments holds nothing that a recovery from the snapshot at `snapshot` needs. The last one, to
/// which the journal is being written, never goes.
#[must_use]
pub fn first_may_go(kept: &VecDeque<Kept>, snapshot: Option<u64>) -> bool {
    // A segment that was never begun holds nothing; the one behind it says where this one ends. It must hold a record that
    // the snapshot covers: a recovery goes on in the very segment where the last of them stands.
    let next = kept.iter().skip(1).find(|segment| segment.first_sequence > 0);
    matches!((next, snapshot), (Some(next), Some(snapshot)) if next.first_sequence <= snapshot)
}
