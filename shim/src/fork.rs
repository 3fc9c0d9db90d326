//! What a fork does to lanes: in the child every mapping becomes private zeros and every descriptor is closed, before any
//! Python code runs there. So a child can neither disturb its parent's lanes nor keep the sidecar from seeing its end.
//! The handler may run while other threads of the parent held locks: it uses nothing but atomics and system calls.
#![allow(unsafe_code)]

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use ringlane_layout::entries::{self, Entry, Home, Thing};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

extern "C" fn in_child() {
    entries::take_over(|thing| match thing {
        Thing::Mapping(base, len) => {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: base and len are a whole mapping of ours, alive by its `Entry`; replacing it is the purpose, and every
            // later use of it through a lane is refused by the generation.
            unsafe { libc::mmap(base as *mut libc::c_void, len, protection, flags, -1, 0) };
        }
        // SAFETY: the descriptor is owned by a `Descriptor` of the parent, which does not close it in this generation.
        Thing::Descriptor(number) => drop(unsafe { libc::close(number) }),
    });
}

/// Installs the handler, once a process.
pub fn install() -> PyResult<()> {
    static FAILED: OnceLock<i32> = OnceLock::new();
    // SAFETY: the handler is async-signal-safe: atomics, mmap and close only.
    let failed = *FAILED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(in_child)) });
    if failed == 0 { Ok(()) } else { Err(PyOSError::new_err(format!("pthread_atfork failed with error {failed}"))) }
}

/// Notes what the child handler must know of.
pub fn register(thing: Thing) -> io::Result<Entry> {
    Entry::register(thing).ok_or_else(|| io::Error::other("this process has too many lanes open"))
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
        Ok(Self { _entry: register(Thing::Descriptor(owned.as_raw_fd()))?, owned: Some(owned), home: Home::here() })
    }

    /// Lets this number name what `fresh` names, in one step of the kernel.
    pub fn replace(&self, fresh: &Self) -> io::Result<()> {
        // SAFETY: both are open; this number stays the one that `self` owns.
        let made = unsafe { libc::dup3(fresh.as_fd().as_raw_fd(), self.as_fd().as_raw_fd(), libc::O_CLOEXEC) };
        if made < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
