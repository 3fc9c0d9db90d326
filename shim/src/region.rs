//! Mapping a lane's two regions: checks size and seals before anything is believed, and maps each ring twice in a row, so
//! that any run of slots is one contiguous piece of memory. What the slots hold never enters here.
#![allow(unsafe_code)]

use crate::error::SchemaMismatch;
use crate::fork::register;
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use nix::sys::stat::fstat;
use pyo3::prelude::*;
use ringlane_layout::client::Mapping;
use ringlane_layout::entries::{Entry, Thing};
use ringlane_layout::region::{LaneGeometry, RING_OFFSET};
use ringlane_layout::shared::SharedBytes;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;

/// A region in memory: header page, ring, the ring once more, and what stands behind it.
pub struct Region {
    // Fields drop in order: the fork entry first, then the mapping.
    _entry: Entry,
    range: MmapRaw,
    pub writable: bool,
}

impl Region {
    /// Maps a lane's `requests`, which this process writes.
    pub fn requests(file: &impl AsFd, geometry: LaneGeometry) -> PyResult<Self> {
        check("requests", file, geometry.requests_bytes(), SealFlag::empty())?;
        Ok(Self::new(file, geometry.requests_bytes(), geometry.request_ring_bytes(), true)?)
    }

    /// Maps a lane's `results`, which nobody but the sidecar can write.
    pub fn results(file: &impl AsFd, geometry: LaneGeometry) -> PyResult<Self> {
        check("results", file, geometry.results_bytes(), SealFlag::F_SEAL_FUTURE_WRITE)?;
        Ok(Self::new(file, geometry.results_bytes(), geometry.result_ring_bytes(), false)?)
    }

    fn new(file: &impl AsFd, bytes: usize, ring_bytes: usize, writable: bool) -> io::Result<Self> {
        // A fresh range of address space, over which the file is laid.
        let range = MmapRaw::from(MmapOptions::new().len(bytes + ring_bytes).no_reserve_swap().map_anon()?);
        let region = Self { _entry: register(Thing::Mapping(range.as_ptr() as usize, range.len()))?, range, writable };
        region.lay(file, bytes, ring_bytes)?;
        Ok(region)
    }

    /// Lays a file of the same sizes over the region, in whose place it is from then on; without a ring the header page only.
    pub fn lay(&self, file: &impl AsFd, bytes: usize, ring_bytes: usize) -> io::Result<()> {
        let protection = if self.writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        let seam = RING_OFFSET + ring_bytes;
        // The header last: whoever sees its cursors finds behind them what they speak of.
        for (at, length, offset) in
            [(seam, bytes - RING_OFFSET, RING_OFFSET), (0, seam, 0)].into_iter().filter(|(_, length, _)| *length > 0)
        {
            let (address, length) = (nonzero(self.range.as_ptr() as usize + at), nonzero(length));
            // SAFETY: MAP_FIXED replaces, in one step of the kernel, a part of the range that this region owns.
            unsafe { mmap(Some(address), length, protection, MapFlags::MAP_SHARED | MapFlags::MAP_FIXED, file, offset as i64)? };
        }
        Ok(())
    }

    /// Cuts both copies of the ring off from the region: whoever still holds an array over it works on private memory from now on.
    pub fn detach_ring(&self, ring_bytes: usize) -> PyResult<()> {
        let (address, length) = (nonzero(self.range.as_ptr() as usize + RING_OFFSET), nonzero(2 * ring_bytes));
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: replaces, in one step of the kernel, a part of the range that this region owns.
        unsafe { mmap_anonymous(Some(address), length, protection, MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED) }
            .map_err(io::Error::from)?;
        Ok(())
    }
}

/// Refuses a memfd that is not exactly what the protocol promises.
fn check(name: &str, file: &impl AsFd, bytes: usize, more: SealFlag) -> PyResult<()> {
    let size = fstat(file).map_err(io::Error::from)?.st_size;
    if size != bytes as i64 {
        return Err(SchemaMismatch::new_err(format!("the {name} region has {size} bytes, not {bytes}")));
    }
    let seals = SealFlag::from_bits_retain(fcntl(file, FcntlArg::F_GET_SEALS).map_err(io::Error::from)?);
    let wanted = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL | more;
    if !seals.contains(wanted) {
        return Err(SchemaMismatch::new_err(format!("the {name} region lacks seals: it has {seals:?} and needs {wanted:?}")));
    }
    Ok(())
}

fn nonzero(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).expect("no mapping begins at 0, and a ring has slots")
}

impl Mapping for Region {
    #[inline]
    fn bytes(&self) -> SharedBytes {
        // SAFETY: mapped as long as self lives, and every holder of the value also holds self; page-aligned. Rust forms no
        // reference into it, and a region that is not writable is only loaded from.
        unsafe { SharedBytes::new(self.range.as_mut_ptr(), self.range.len()) }
    }
}
