//! The one hint that a kernel gives the processor: fetch this line, it is needed soon. Nothing that changes a result
//! may enter, and no other unsafe code.

/// Asks for the cache line that holds the first bytes of `value`. Never faults, never changes a result.
#[inline(always)]
pub(super) fn line<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint that reads no architectural state; any address is allowed, and this one is a live reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(value).cast::<i8>()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
