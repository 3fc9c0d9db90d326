//! What a fork does to lanes: in the child every mapping becomes private zeros and every descriptor is closed, before any
//! Python code runs there. So a child can neither disturb its parent's lanes nor keep the sidecar from seeing its end.
//! The handler may run while other threads of the parent held locks: it uses nothing but atomics and system calls.
#![allow(unsafe_code)]

use crate::error::End;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Mappings and descriptors that one process can have at a time: two of each a lane, and some a client.
const ENTRIES_MAX: usize = 16384;
/// `Row::base` while it is being filled, and after a child closed the descriptor that stood there.
const NOTHING: usize = 1;
/// What is added to a descriptor to make a `Row::base`.
const DESCRIPTOR_BASE: usize = 2;

struct Row {
    /// Address of a mapping, or a descriptor; 0 while the row is free.
    base: AtomicUsize,
    /// Size of a mapping, bytes; 0 for a descriptor.
    len: AtomicUsize,
}

static ROWS: [Row; ENTRIES_MAX] = [const { Row { base: AtomicUsize::new(0), len: AtomicUsize::new(0) } }; ENTRIES_MAX];
static GENERATION: AtomicU64 = AtomicU64::new(0);

extern "C" fn in_child() {
    for row in &ROWS {
        let (base, len) = (row.base.load(Ordering::Acquire), row.len.load(Ordering::Relaxed));
        if base > NOTHING && len > 0 {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: base and len are a whole mapping of ours, alive by its `Entry`; replacing it is the purpose, and every
            // later use of it through a lane is refused by the generation.
            unsafe { libc::mmap(base as *mut libc::c_void, len, protection, flags, -1, 0) };
        } else if base > NOTHING {
            row.base.store(NOTHING, Ordering::Relaxed);
            // SAFETY: the descriptor is owned by a `Descriptor` of the parent, which does not close it in this generation.
            unsafe { libc::close((base - DESCRIPTOR_BASE) as i32) };
        }
    }
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Installs the handler, once a process.
pub fn install() -> PyResult<()> {
    static FAILED: OnceLock<i32> = OnceLock::new();
    // SAFETY: the handler is async-signal-safe: atomics, mmap and close only.
    let failed = *FAILED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(in_child)) });
    if failed == 0 { Ok(()) } else { Err(PyOSError::new_err(format!("pthread_atfork failed with error {failed}"))) }
}

/// The process in which something was made.
#[derive(Clone, Copy)]
pub struct Home {
    /// How many forks lie between the first process and that one.
    generation: u64,
    pid: u32,
}

impl Home {
    pub fn here() -> Self {
        Self { generation: GENERATION.load(Ordering::Relaxed), pid: std::process::id() }
    }

    /// Whether this is still that process. In a fork of it, another thread's lock may be held for ever.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.generation == GENERATION.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn check(&self) -> Result<(), End> {
        if self.is_here() { Ok(()) } else { Err(End::Forked(self.pid)) }
    }
}

/// What the child handler must know of; given back on drop, which must come before the unmapping or closing.
pub struct Entry(&'static Row);

impl Entry {
    /// A mapping, or with `len` 0 a descriptor.
    pub fn register(base: usize, len: usize) -> io::Result<Self> {
        let free = |row: &&Row| row.base.compare_exchange(0, NOTHING, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let row = ROWS.iter().find(free).ok_or_else(|| io::Error::other("this process has too many lanes open"))?;
        row.len.store(len, Ordering::Relaxed);
        row.base.store(base, Ordering::Release);
        Ok(Self(row))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.base.store(0, Ordering::Release);
    }
}

/// A descriptor that came from the control socket: owned here, closed once, and never closed by a forked child's drops (the
/// handler did that already, and the number may belong to somebody else by then).
pub struct Descriptor {
    // Fields drop in order: the entry first, then the descriptor.
    _entry: Entry,
    owned: Option<OwnedFd>,
    home: Home,
}

impl Descriptor {
    /// Takes ownership of a number that Python received and gives away.
    pub fn adopt(number: RawFd) -> io::Result<Self> {
        // SAFETY: not negative; used for one fcntl that fails harmlessly when the descriptor is not open.
        let is_open = number >= 0 && fcntl(unsafe { BorrowedFd::borrow_raw(number) }, FcntlArg::F_GETFD).is_ok();
        if !is_open {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: the descriptor is open, and the caller gives it up: the package hands over what it received, once.
        let owned = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Self { _entry: Entry::register(owned.as_raw_fd() as usize + DESCRIPTOR_BASE, 0)?, owned: Some(owned), home: Home::here() })
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.owned.as_ref().expect("it is there until drop").as_fd()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if !self.home.is_here() {
            let _ = self.owned.take().map(IntoRawFd::into_raw_fd);
        }
    }
}
