//! Mapping a lane's two regions: checks size, seals and header before anything is believed, and maps each ring twice in a
//! row, so that any run of slots is one contiguous piece of memory. What the slots hold never enters here.
#![allow(unsafe_code)]

use crate::error::Trouble;
use crate::fork::Mapped;
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use nix::sys::stat::fstat;
use ringlane_layout::limits::RECORD_BYTES;
use ringlane_layout::primitive::AtomicU64;
use ringlane_layout::region::RING_OFFSET;
use ringlane_layout::shared::SharedBytes;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

/// Refuses a memfd that is not exactly what the protocol promises.
pub fn check(name: &str, file: &impl AsFd, bytes: usize, sealed_against_writing: bool) -> Result<(), Trouble> {
    let size = fstat(file)?.st_size;
    if size != bytes as i64 {
        return Err(Trouble::Mismatch(format!("the {name} region has {size} bytes, not {bytes}")));
    }
    let seals = SealFlag::from_bits_retain(fcntl(file, FcntlArg::F_GET_SEALS)?);
    let mut wanted = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    if sealed_against_writing {
        wanted |= SealFlag::F_SEAL_FUTURE_WRITE;
    }
    if !seals.contains(wanted) {
        return Err(Trouble::Mismatch(format!("the {name} region lacks seals: it has {seals:?} and needs {wanted:?}")));
    }
    Ok(())
}

/// A part of a region from its start, mapped once.
pub struct Plain {
    // Fields drop in order: the fork entry first, then the mapping.
    _mapped: Mapped,
    bytes: SharedBytes,
    _map: MmapRaw,
}

impl Plain {
    pub fn new(file: &impl AsFd, bytes: usize, writable: bool) -> Result<Self, Trouble> {
        let (mut options, raw) = (MmapOptions::new(), file.as_fd().as_raw_fd());
        options.len(bytes);
        let map = if writable { options.map_raw(raw)? } else { options.map_raw_read_only(raw)? };
        let mapped = Mapped::register(map.as_mut_ptr() as usize, bytes)?;
        // SAFETY: mapped as long as `_map`, which lives as long as self, and every holder of a copy also holds self;
        // page-aligned; nobody forms references into it. A read-only mapping is only loaded from.
        let bytes = unsafe { SharedBytes::new(map.as_mut_ptr(), map.len()) };
        Ok(Self { _mapped: mapped, bytes, _map: map })
    }

    #[inline]
    pub const fn bytes(&self) -> SharedBytes {
        self.bytes
    }

    #[inline]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        self.bytes.word(offset)
    }
}

/// A record ring mapped twice in a row.
pub struct DoubleRing {
    mapped: Option<Mapped>,
    base: NonNull<u8>,
    ring_bytes: usize,
    writable: bool,
}

// SAFETY: only an address range; all access to the bytes goes through `SharedBytes` or through Python's arrays.
unsafe impl Send for DoubleRing {}
// SAFETY: as above.
unsafe impl Sync for DoubleRing {}

impl DoubleRing {
    pub fn new(file: &impl AsFd, ring_bytes: usize, writable: bool) -> Result<Self, Trouble> {
        let reserve = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        let length = NonZeroUsize::new(2 * ring_bytes).expect("a ring has slots");
        // SAFETY: a fresh range of address space that nobody can use yet.
        let base = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_NONE, reserve)? }.cast::<u8>();
        let mut ring = Self { mapped: None, base, ring_bytes, writable };
        let protection = if writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        let half = NonZeroUsize::new(ring_bytes).expect("a ring has slots");
        for at in [base.addr(), base.addr().saturating_add(ring_bytes)] {
            // SAFETY: MAP_FIXED replaces a half of the range that was reserved above and that only `ring` owns.
            unsafe { mmap(Some(at), half, protection, MapFlags::MAP_SHARED | MapFlags::MAP_FIXED, file, RING_OFFSET as i64)? };
        }
        ring.mapped = Some(Mapped::register(base.as_ptr() as usize, 2 * ring_bytes)?);
        Ok(ring)
    }

    #[inline]
    pub fn bytes(&self) -> SharedBytes {
        // SAFETY: mapped as long as self lives, and every holder of the value also holds self; page-aligned. Rust forms no
        // reference into it.
        unsafe { SharedBytes::new(self.base.as_ptr(), 2 * self.ring_bytes) }
    }

    /// Offset of slot `first`; the slots behind it are contiguous.
    #[inline]
    pub fn offset(&self, first: u64) -> usize {
        (first as usize * RECORD_BYTES) & (self.ring_bytes - 1)
    }

    pub const fn is_writable(&self) -> bool {
        self.writable
    }

    /// Sets `count` slots to zero. Only on a writable ring.
    pub fn blank(&self, first: u64, count: u64) {
        assert!(self.writable && count as usize * RECORD_BYTES <= self.ring_bytes);
        // SAFETY: in bounds by the assertion and the doubled mapping; only this process writes the region, and only the
        // holder of the lane's open reservation these slots.
        unsafe { self.base.add(self.offset(first)).write_bytes(0, count as usize * RECORD_BYTES) };
    }

    /// Cuts the range off from the region: whoever still holds an array over it works on private memory from now on.
    pub fn detach(&self) -> Result<(), Trouble> {
        let length = NonZeroUsize::new(2 * self.ring_bytes).expect("a ring has slots");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: replaces, in one step of the kernel, exactly the range that this ring owns.
        unsafe { mmap_anonymous(Some(self.base.addr()), length, protection, MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED)? };
        Ok(())
    }
}

impl Drop for DoubleRing {
    fn drop(&mut self) {
        self.mapped = None;
        // SAFETY: the range is ours, and no array over it is left: each holds a lease, and a lease holds the ring.
        if let Err(error) = unsafe { munmap(self.base.cast(), 2 * self.ring_bytes) } {
            debug_assert!(false, "munmap of an own range failed: {error}");
        }
    }
}
