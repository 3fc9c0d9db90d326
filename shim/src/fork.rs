//! What a fork does to lanes: in the child every mapping becomes private zeros and every descriptor is closed, before any
//! Python code runs there. So a child can neither disturb its parent's lanes nor keep the sidecar from seeing its end.
//! The handler may run while other threads of the parent held locks: it uses nothing but atomics and system calls.
#![allow(unsafe_code)]

use nix::libc;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

/// Mappings that one process can have at a time: four a lane.
const MAPPINGS_MAX: usize = 8192;
/// Descriptors that one process can have at a time: two a lane and some a client.
const DESCRIPTORS_MAX: usize = 8192;

struct MappingEntry {
    /// 0 while the entry is free, 1 while it is being filled.
    base: AtomicUsize,
    len: AtomicUsize,
}

static MAPPINGS: [MappingEntry; MAPPINGS_MAX] =
    [const { MappingEntry { base: AtomicUsize::new(0), len: AtomicUsize::new(0) } }; MAPPINGS_MAX];
/// Descriptor + 1; 0 while the entry is free.
static DESCRIPTORS: [AtomicI32; DESCRIPTORS_MAX] = [const { AtomicI32::new(0) }; DESCRIPTORS_MAX];
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// How many forks lie between the first process and this one.
#[inline]
pub fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

extern "C" fn in_child() {
    for entry in &MAPPINGS {
        let base = entry.base.load(Ordering::Acquire);
        if base > 1 {
            let (len, protection) = (entry.len.load(Ordering::Relaxed), libc::PROT_READ | libc::PROT_WRITE);
            let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: base and len are a whole mapping of ours, alive by `Mapped`; replacing it is the purpose, and every
            // later use of it through a lane is refused by the generation.
            unsafe { libc::mmap(base as *mut libc::c_void, len, protection, flags, -1, 0) };
        }
    }
    for entry in &DESCRIPTORS {
        let descriptor = entry.swap(0, Ordering::Relaxed) - 1;
        if descriptor >= 0 {
            // SAFETY: the descriptor is owned by a `Descriptor` of the parent, which does not close it in this generation.
            unsafe { libc::close(descriptor) };
        }
    }
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Installs the handler, once a process.
pub fn install() -> PyResult<()> {
    static ONCE: Once = Once::new();
    let mut failed = 0;
    ONCE.call_once(|| {
        // SAFETY: the handler is async-signal-safe: atomics, mmap and close only.
        failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    if failed == 0 { Ok(()) } else { Err(PyOSError::new_err(format!("pthread_atfork failed with error {failed}"))) }
}

/// A mapping's entry; given back on drop, which must come before the unmapping.
pub struct Mapped(usize);

impl Mapped {
    pub fn register(base: usize, len: usize) -> std::io::Result<Self> {
        for (index, entry) in MAPPINGS.iter().enumerate() {
            if entry.base.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                entry.len.store(len, Ordering::Relaxed);
                entry.base.store(base, Ordering::Release);
                return Ok(Self(index));
            }
        }
        Err(std::io::Error::other("this process has too many lanes open"))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        MAPPINGS[self.0].base.store(0, Ordering::Release);
    }
}

/// Enters a descriptor; the number is what [`forget_descriptor`] wants.
pub fn register_descriptor(descriptor: i32) -> std::io::Result<usize> {
    let free = |entry: &AtomicI32| entry.compare_exchange(0, descriptor + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    DESCRIPTORS.iter().position(free).ok_or_else(|| std::io::Error::other("this process has too many lanes open"))
}

/// Takes a descriptor out again, before it is closed.
pub fn forget_descriptor(entry: usize) {
    DESCRIPTORS[entry].store(0, Ordering::Relaxed);
}
