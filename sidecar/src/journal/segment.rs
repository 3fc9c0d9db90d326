//! One segment file, preallocated or recycled, and mapped where durability does not forbid it. The only place where the
//! journal's mapped bytes become Rust slices.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Error;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use ringlane_layout::shared;

use super::{FORMAT_VERSION, FRAMES_OFFSET, RESERVE_MAGIC, RESERVE_OFFSET, SegmentReserve, reserve_crc, segment_name};
use crate::world;

/// A file with all its blocks that will be a segment. Its name is not yet one of a segment, so that nobody reads it.
#[derive(Debug)]
pub struct Spare {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Spare {
    /// Creates the file and reserves its blocks.
    pub fn create(path: PathBuf, len: u64) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        if let Err(error) = world::reserve(&file, len) {
            // Its blocks are what everybody else on the disk is short of now.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self { file, path, len })
    }

    /// Takes the file of a segment that nobody needs any more, with its blocks and its pages in memory.
    pub fn recycle(old: &Path, path: PathBuf, len: u64) -> Result<Self, Error> {
        std::fs::rename(old, &path)?;
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        if file.metadata()?.len() != len {
            file.set_len(len)?;
        }
        // A segment that was closed gave its tail back. Blocks that are there cost nothing here.
        world::reserve(&file, len)?;
        Ok(Self { file, path, len })
    }

    /// Maps it for writing.
    pub fn map(&self) -> Result<Arc<MmapRaw>, Error> {
        MmapOptions::new().len(self.len as usize).map_raw(&self.file).map(Arc::new)
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Makes it segment `index`: its first page says so before its name does.
    pub fn into_segment(self, directory: &Path, index: u64, map: Option<Arc<MmapRaw>>) -> Result<Segment, Error> {
        let frame_seed = RandomState::new().hash_one(index) as u32;
        let mut reserve =
            SegmentReserve { magic: RESERVE_MAGIC, format_version: FORMAT_VERSION, frame_seed, index, ..SegmentReserve::default() };
        reserve.crc32c = reserve_crc(&reserve);
        // And zeros where the first frame will be: what was recycled begins with an old one.
        let mut page = [0; FRAMES_OFFSET + 64];
        page[RESERVE_OFFSET..RESERVE_OFFSET + size_of::<SegmentReserve>()].copy_from_slice(bytemuck::bytes_of(&reserve));
        let path = directory.join(segment_name(index));
        let named = self.file.write_all_at(&page, 0).and_then(|()| {
            if map.is_none() {
                // Else the machine's end could leave the name without the page, or a header without its reserve.
                world::sync_data(&self.file)?;
            }
            std::fs::rename(&self.path, &path)?;
            world::sync_directory(directory)
        });
        if let Err(error) = named {
            // It is tried again with another file; this one would only take room.
            let _ = std::fs::remove_file(&self.path);
            return Err(error);
        }
        Ok(Segment { index, frame_seed, map, len: self.len as usize, file: Arc::new(self.file), path })
    }

    /// Gives its space back.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A segment that is being written. Its file belongs to this process alone (mode 0600, directory locked).
#[derive(Debug)]
pub struct Segment {
    /// Number, from 1.
    pub index: u64,
    /// What the checksum of each of its frames begins with.
    pub frame_seed: u32,
    map: Option<Arc<MmapRaw>>,
    len: usize,
    file: Arc<File>,
    path: PathBuf,
}

impl Segment {
    /// Its file, for who writes it without a map.
    #[must_use]
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Size, bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Its file's name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives back the blocks behind `used_bytes`, or the whole file when nothing was used. Called at a clean end, when the
    /// helper is gone and no slice is left; a failure leaves what stands there, which readers know to be no frames.
    pub fn close(self, used_bytes: usize) {
        drop(self.map);
        let closed = if used_bytes == 0 { std::fs::remove_file(&self.path) } else { self.file.set_len(used_bytes as u64) };
        if let Err(error) = closed {
            tracing::warn!(%error, path = %self.path.display(), "unused journal space could not be given back");
        }
    }

    /// What the helper thread needs to fault pages of this segment in; none when it is not mapped.
    #[must_use]
    pub fn pages(&self) -> Option<Pages> {
        self.map.as_ref().map(|map| Pages { map: Arc::clone(map) })
    }

    /// Says that the bytes from `offset` on will be written soon.
    #[inline]
    pub fn expect_write(&self, offset: usize) {
        shared::expect_write(self.mapped().as_ptr().wrapping_add(offset));
    }

    /// The bytes `offset..offset + len`.
    #[inline]
    pub fn slice_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        let map = self.mapped();
        assert!(offset <= map.len() && len <= map.len() - offset);
        // SAFETY: in bounds by the assertion. `&mut self` makes this the only slice in this process: `Pages` never
        // forms one. No other process writes the file: it is private to this user and its directory is locked.
        unsafe { std::slice::from_raw_parts_mut(map.as_mut_ptr().add(offset), len) }
    }

    #[inline]
    fn mapped(&self) -> &MmapRaw {
        self.map.as_deref().expect("only a mapped segment is written through memory")
    }
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
    /// Those of a file that is no segment yet.
    #[must_use]
    pub fn of(map: &Arc<MmapRaw>) -> Self {
        Self { map: Arc::clone(map) }
    }

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
