//! A client's mapping of a region, each ring twice in a row, and fresh regions laid over it, as clients in other processes do.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use ringlane_layout::client::Mapping;
use ringlane_layout::region::{LaneGeometry, RING_OFFSET};
use ringlane_layout::shared::SharedBytes;

/// A region in memory.
#[derive(Debug)]
pub struct Region {
    range: MmapRaw,
    ring_bytes: usize,
    bytes: usize,
    writable: bool,
}

impl Region {
    /// A lane's requests.
    pub fn requests(file: &impl AsFd, geometry: LaneGeometry) -> io::Result<Self> {
        Self::new(file, geometry.requests_bytes(), geometry.request_ring_bytes(), true)
    }

    /// A lane's results.
    pub fn results(file: &impl AsFd, geometry: LaneGeometry) -> io::Result<Self> {
        Self::new(file, geometry.results_bytes(), geometry.result_ring_bytes(), false)
    }

    fn new(file: &impl AsFd, bytes: usize, ring_bytes: usize, writable: bool) -> io::Result<Self> {
        let range = MmapRaw::from(MmapOptions::new().len(bytes + ring_bytes).map_anon()?);
        let region = Self { range, ring_bytes, bytes, writable };
        region.lay(file)?;
        Ok(region)
    }

    /// Lays a file of the same size over the region.
    pub fn lay(&self, file: &impl AsFd) -> io::Result<()> {
        let protection = if self.writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        let seam = RING_OFFSET + self.ring_bytes;
        for (at, len, offset) in [(seam, self.bytes - RING_OFFSET, RING_OFFSET), (0, seam, 0)] {
            let (address, len) = (NonZeroUsize::new(self.range.as_ptr() as usize + at), NonZeroUsize::new(len));
            // SAFETY: MAP_FIXED replaces a part of the range that this region owns, and nothing else.
            unsafe {
                mmap(address, len.expect("rings have slots"), protection, MapFlags::MAP_SHARED | MapFlags::MAP_FIXED, file, offset as i64)?
            };
        }
        Ok(())
    }
}

impl Mapping for Region {
    fn bytes(&self) -> SharedBytes {
        // SAFETY: mapped as long as self lives, at a page boundary; no reference is formed into it, and what is mapped for
        // reading is only loaded from.
        unsafe { SharedBytes::new(self.range.as_mut_ptr(), self.range.len()) }
    }
}
