//! The one file that touches memory which another process may write: words as atomics, bytes copied word by word.
//! No reference to such bytes is ever formed; what was copied out is private and can be checked.
#![allow(unsafe_code)]

use crate::limits::RECORD_BYTES;
use crate::primitive::{AtomicU64, Ordering};

/// Asks the processor to own the cache line at `address` before it is written: the store that comes then, and every store
/// behind it, need not wait for the other core. A hint: it never faults and changes no result.
#[inline(always)]
pub fn expect_write(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetchw touches no register, flag or architectural memory state, and any address is allowed.
    unsafe {
        std::arch::asm!("prefetchw [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Copies bytes of which another process may write some meanwhile: by one instruction that the compiler knows nothing of, so
/// that it can assume nothing of what it reads, or byte by byte through atomics where there is no such instruction.
///
/// # Safety
/// `from..from + len` must be readable and `to..to + len` writable, and they must not overlap. No Rust reference may exist to
/// the shared one of the two.
#[inline]
unsafe fn copy_bulk(from: *const u8, to: *mut u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's ranges; the direction flag is clear at every asm block by its rules.
    unsafe {
        std::arch::asm!("rep movsb", inout("rcx") len => _, inout("rsi") from => _, inout("rdi") to => _, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    for at in 0..len {
        use std::sync::atomic::AtomicU8;
        // SAFETY: the caller's ranges; both are touched through atomics only.
        unsafe { (*to.add(at).cast::<AtomicU8>()).store((*from.add(at).cast::<AtomicU8>()).load(Ordering::Relaxed), Ordering::Relaxed) };
    }
}

/// A mapped region that this process may write. The mapping must outlive it.
#[derive(Debug, Clone, Copy)]
pub struct SharedBytes {
    base: *mut u8,
    len: usize,
}

// SAFETY: every access goes through atomics, so sharing between threads adds no race; the mapping outlives it by contract of `new`.
unsafe impl Send for SharedBytes {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    /// A view of `len` mapped bytes.
    ///
    /// # Safety
    /// `base..base + len` must be mapped readable (writable too, if `write` or the words' stores are used) for as long as
    /// the value or a copy of it lives, and `base` must be a multiple of 8. No Rust reference may exist to these bytes.
    #[must_use]
    pub const unsafe fn new(base: *mut u8, len: usize) -> Self {
        Self { base, len }
    }

    /// Size, bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of `offset`, for handing a buffer to Python.
    #[must_use]
    pub fn address(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len);
        self.base.wrapping_add(offset)
    }

    /// The word at `offset` bytes.
    #[inline]
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len);
        // SAFETY: in bounds and aligned by the assertion; mapped by the contract of `new`; an AtomicU64 may be shared with
        // other threads and processes. On a read-only mapping callers only load, Relaxed.
        unsafe { &*self.base.add(offset).cast::<AtomicU64>() }
    }

    /// Copies bytes out, word by word, into private memory. `offset` and the length must be multiples of 8.
    #[inline]
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(offset.is_multiple_of(8) && into.len().is_multiple_of(8));
        assert!(offset <= self.len && into.len() <= self.len - offset);
        // SAFETY: in bounds by the assertions; the source is read by atomics only, the target is ours alone.
        unsafe {
            let source = self.base.add(offset).cast::<AtomicU64>();
            for (index, chunk) in into.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *chunk = (*source.add(index)).load(Ordering::Relaxed).to_ne_bytes();
            }
        }
    }

    /// Copies private bytes in, word by word. `offset` and the length must be multiples of 8; the mapping must be writable.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) {
        assert!(offset.is_multiple_of(8) && from.len().is_multiple_of(8));
        assert!(offset <= self.len && from.len() <= self.len - offset);
        // SAFETY: in bounds by the assertions; the target is written by atomics only.
        unsafe {
            let target = self.base.add(offset).cast::<AtomicU64>();
            for (index, chunk) in from.as_chunks::<8>().0.iter().enumerate() {
                (*target.add(index)).store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
            }
        }
    }

    /// Copies bytes of any number and place out into private memory: for large pieces, of whose words no order is needed.
    #[inline]
    pub fn read_bulk(&self, offset: usize, into: &mut [u8]) {
        assert!(offset <= self.len && into.len() <= self.len - offset);
        // SAFETY: in bounds by the assertion; the target is ours alone, and the source is mapped by the contract of `new`.
        unsafe { copy_bulk(self.base.add(offset), into.as_mut_ptr(), into.len()) };
    }

    /// Copies private bytes of any number in, to any place; as [`SharedBytes::read_bulk`]. The mapping must be writable.
    #[inline]
    pub fn write_bulk(&self, offset: usize, from: &[u8]) {
        assert!(offset <= self.len && from.len() <= self.len - offset);
        // SAFETY: in bounds by the assertion; the source is ours, and the target is mapped by the contract of `new`.
        unsafe { copy_bulk(from.as_ptr(), self.base.add(offset), from.len()) };
    }

    /// Sets bytes to zero that nobody but the caller reads or writes now, such as slots that are not submitted yet.
    pub fn blank(&self, offset: usize, len: usize) {
        assert!(offset <= self.len && len <= self.len - offset);
        // SAFETY: in bounds by the assertion, and nobody else's turn by contract. (Not by words: this is a whole batch, and
        // a peer that looks all the same sees bytes of which it may believe nothing.)
        unsafe { self.base.add(offset).write_bytes(0, len) };
    }
}

#[cfg(test)]
impl SharedBytes {
    /// Zeroed memory that is never given back, for tests.
    pub(crate) fn leaked(len: usize) -> Self {
        let words = Box::leak(vec![0_u64; len / 8].into_boxed_slice());
        // SAFETY: leaked, so mapped for ever; aligned as u64; the only reference to it ends here.
        unsafe { Self::new(words.as_mut_ptr().cast(), len) }
    }
}

/// A ring of 64-byte records inside a region, mapped once: `first` counts slots for ever, wraps are handled here.
#[derive(Debug, Clone, Copy)]
pub struct RecordRing {
    bytes: SharedBytes,
    offset: usize,
    mask: u64,
}

impl RecordRing {
    /// A ring of `capacity` records (a power of two) at `offset`.
    #[must_use]
    pub fn new(bytes: SharedBytes, offset: usize, capacity: u64) -> Self {
        assert!(capacity.is_power_of_two() && offset + capacity as usize * RECORD_BYTES <= bytes.len());
        Self { bytes, offset, mask: capacity - 1 }
    }

    /// Offset of slot `index` in the region, and how many bytes follow before the wrap.
    #[inline]
    fn place(&self, index: u64) -> (usize, usize) {
        let slot = (index & self.mask) as usize;
        (self.offset + slot * RECORD_BYTES, (self.mask as usize + 1 - slot) * RECORD_BYTES)
    }

    /// Says that slot `index` will be written soon.
    #[inline]
    pub fn expect_write(&self, index: u64) {
        expect_write(self.bytes.address(self.place(index).0));
    }

    /// Copies the records from slot `first` on into private memory; the length is a multiple of 64 and at most the ring's.
    #[inline]
    pub fn read(&self, first: u64, into: &mut [u8]) {
        let (offset, before_wrap) = self.place(first);
        let (head, tail) = into.split_at_mut(before_wrap.min(into.len()));
        self.bytes.read(offset, head);
        if !tail.is_empty() {
            self.bytes.read(self.offset, tail);
        }
    }

    /// Copies private records into the ring from slot `first` on; the length is a multiple of 64 and at most the ring's.
    #[inline]
    pub fn write(&self, first: u64, from: &[u8]) {
        let (offset, before_wrap) = self.place(first);
        let (head, tail) = from.split_at(before_wrap.min(from.len()));
        self.bytes.write(offset, head);
        if !tail.is_empty() {
            self.bytes.write(self.offset, tail);
        }
    }
}
