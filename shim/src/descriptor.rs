//! File descriptors that came from the control socket: owned here, closed once, and never closed by a forked child's drops
//! (the fork handler did that already, and the number may belong to somebody else by then).
#![allow(unsafe_code)]

use crate::fork;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub struct Descriptor {
    owned: ManuallyDrop<OwnedFd>,
    entry: usize,
    generation: u64,
}

impl Descriptor {
    /// Takes ownership of a number that Python received and gives away.
    pub fn adopt(number: RawFd) -> std::io::Result<Self> {
        if nix::fcntl::fcntl(borrow(number)?, nix::fcntl::FcntlArg::F_GETFD).is_err() {
            return Err(std::io::Error::from_raw_os_error(nix::libc::EBADF));
        }
        // SAFETY: the descriptor is open, and the caller gives it up: the package hands over what it received, once.
        Self::new(unsafe { OwnedFd::from_raw_fd(number) })
    }

    pub fn new(owned: OwnedFd) -> std::io::Result<Self> {
        let entry = fork::register_descriptor(owned.as_raw_fd())?;
        Ok(Self { owned: ManuallyDrop::new(owned), entry, generation: fork::generation() })
    }
}

fn borrow<'a>(number: RawFd) -> std::io::Result<BorrowedFd<'a>> {
    if number < 0 {
        return Err(std::io::Error::from_raw_os_error(nix::libc::EBADF));
    }
    // SAFETY: not negative; used for one fcntl that fails harmlessly when the descriptor is not open.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.owned.as_fd()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.generation == fork::generation() {
            fork::forget_descriptor(self.entry);
            // SAFETY: dropped once, here; nothing uses it after.
            unsafe { ManuallyDrop::drop(&mut self.owned) };
        }
    }
}
