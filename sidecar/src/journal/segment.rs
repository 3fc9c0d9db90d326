//! One segment file, preallocated and mapped. The only place where the journal's mapped bytes become Rust slices.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, fallocate};
use ringlane_layout::shared;

/// A segment that is being written. Its file belongs to this process alone (mode 0600, directory locked).
#[derive(Debug)]
pub struct Segment {
    /// Number, from 1.
    pub index: u64,
    map: Arc<MmapRaw>,
    file: File,
    path: PathBuf,
}

impl Segment {
    /// Creates the file, reserves its blocks and maps it. The name appears only with the file whole.
    pub fn create(directory: &Path, index: u64, size_bytes: u64) -> Result<Self, String> {
        let path = directory.join(super::segment_name(index));
        let temporary = directory.join(format!("{}.new", super::segment_name(index)));
        let say = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what} the journal segment {}: {error}", path.display());
        let made = reserve(&temporary, size_bytes).and_then(|made| std::fs::rename(&temporary, &path).map(|()| made));
        let (file, map) = made.map_err(|error| {
            // Its blocks are what everybody else on the disk is short of now.
            let _ = std::fs::remove_file(&temporary);
            say("reserve", &error)
        })?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| say("record", &error))?;
        Ok(Self { index, map: Arc::new(map), file, path })
    }

    /// Size, bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Gives back the blocks behind `used_bytes`, or the whole file when nothing was used. Called at a clean end, when the
    /// helper is gone and no slice is left; a failure leaves zeros, which readers take for the end.
    pub fn close(self, used_bytes: usize) {
        drop(self.map);
        let closed = if used_bytes == 0 { std::fs::remove_file(&self.path) } else { self.file.set_len(used_bytes as u64) };
        if let Err(error) = closed {
            tracing::warn!(%error, path = %self.path.display(), "unused journal space could not be given back");
        }
    }

    /// What the helper thread needs to fault pages of this segment in.
    #[must_use]
    pub fn pages(&self) -> Pages {
        Pages { map: Arc::clone(&self.map) }
    }

    /// Says that the bytes from `offset` on will be written soon.
    #[inline]
    pub fn expect_write(&self, offset: usize) {
        shared::expect_write(self.map.as_ptr().wrapping_add(offset));
    }

    /// The bytes `offset..offset + len`.
    #[inline]
    pub fn slice_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset <= self.map.len() && len <= self.map.len() - offset);
        // SAFETY: in bounds by the assertion. `&mut self` makes this the only slice in this process: `Pages` never
        // forms one. No other process writes the file: it is private to this user and its directory is locked.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(offset), len) }
    }
}

/// Creates a file with all its blocks and maps it.
fn reserve(path: &Path, size_bytes: u64) -> std::io::Result<(File, MmapRaw)> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, size_bytes as i64)?;
    let map = MmapOptions::new().len(size_bytes as usize).map_raw(&file)?;
    Ok((file, map))
}

/// Lets the calling thread stand behind every other one that wants its core: faulting pages in early is worth no delay.
pub fn stand_back() {
    // SAFETY: a plain system call with an integer argument; on Linux it concerns the calling thread alone.
    let _ = unsafe { nix::libc::nice(19) };
}

/// The pages of a segment, to be faulted in by another thread. It can neither read nor write them.
#[derive(Debug)]
pub struct Pages {
    map: Arc<MmapRaw>,
}

impl Pages {
    /// Faults pages in; only speed depends on it.
    pub fn populate(&self, offset: usize, len: usize) {
        let len = len.min(self.map.len().saturating_sub(offset));
        if len > 0
            && let Err(error) = self.map.advise_range(Advice::PopulateWrite, offset, len)
        {
            tracing::debug!(%error, "journal pages could not be faulted in ahead");
        }
    }
}
