//! The memfds of a lane: created, really reserved, mapped and sealed here, before any client sees them.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};
use ringlane_layout::shared::SharedBytes;

/// Nobody may ever map it writable again; nix does not name this seal (Linux 5.1).
const F_SEAL_FUTURE_WRITE: i32 = nix::libc::F_SEAL_FUTURE_WRITE;

/// A mapped, sealed memfd. Dropping it unmaps and closes; the client's own mapping lives on.
#[derive(Debug)]
pub struct Region {
    memory: Memory,
    map: MmapRaw,
}

/// A memfd, and the way to hand it out so that it can be told later whether anybody still has it.
#[derive(Debug, Clone)]
pub struct Memory(Arc<OwnedFd>);

impl Memory {
    /// A descriptor for a client: an opening of its own, because only those are counted by the kernel.
    pub fn hand_out(&self, writable: bool) -> std::io::Result<OwnedFd> {
        Ok(self.reopen(writable)?.into())
    }

    fn reopen(&self, writable: bool) -> std::io::Result<File> {
        OpenOptions::new().read(true).write(writable).open(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Whether the sidecar is through with it and no other process has a descriptor or a mapping: only then is its memory free.
    ///
    /// A write lease is granted on a file only that nobody else has open. It is given back with its descriptor at once.
    #[must_use]
    pub fn is_free(&self) -> bool {
        if Arc::strong_count(&self.0) > 1 {
            return false;
        }
        let Ok(probe) = self.reopen(false) else { return false };
        // SAFETY: a plain system call with integer arguments on a descriptor that lives until the end of this function.
        let leased = unsafe { libc::fcntl(probe.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        // Where leases are not to be had nothing can be told, and what a client keeps is not charged.
        leased == 0 || !matches!(Errno::last(), Errno::EAGAIN | Errno::EINTR)
    }
}

impl Region {
    /// A region that the client writes and the sidecar maps read-only.
    pub fn for_requests(size_bytes: usize, header: &[u8]) -> Result<Self, String> {
        let fd = reserve(c"ringlane-requests", size_bytes, header)?;
        let map = MmapOptions::new().len(size_bytes).map_raw_read_only(&fd).map_err(|error| format!("cannot map a lane: {error}"))?;
        seal(&fd, SealFlag::empty())?;
        populate(&map, Advice::PopulateRead);
        Ok(Self { memory: Memory(Arc::new(fd)), map })
    }

    /// A region that only the sidecar writes: mapped writable first, then sealed against every later writable mapping.
    pub fn for_results(size_bytes: usize, header: &[u8]) -> Result<Self, String> {
        let fd = reserve(c"ringlane-results", size_bytes, header)?;
        let map = MmapOptions::new().len(size_bytes).map_raw(&fd).map_err(|error| format!("cannot map a lane: {error}"))?;
        seal(&fd, SealFlag::from_bits_retain(F_SEAL_FUTURE_WRITE))?;
        populate(&map, Advice::PopulateWrite);
        Ok(Self { memory: Memory(Arc::new(fd)), map })
    }

    /// The mapped bytes.
    #[must_use]
    pub fn bytes(&self) -> SharedBytes {
        // SAFETY: the map covers these bytes and is page-aligned; the lane that owns this region drops its views with it. A
        // read-only map is only loaded from: `requests` words and records are never stored to by the sidecar.
        unsafe { SharedBytes::new(self.map.as_mut_ptr(), self.map.len()) }
    }

    /// Sets a word in the memory of a region that the sidecar itself maps read-only, before any client has it.
    pub fn set_word(&self, offset: usize, value: u64) -> Result<(), String> {
        let written = nix::sys::uio::pwrite(&*self.memory.0, &value.to_ne_bytes(), offset as i64);
        written.map(drop).map_err(|error| format!("cannot initialise a lane: {error}"))
    }

    /// Its memory, to hand out and to watch.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

/// A memfd of exactly this size whose pages exist, closed to other users, with `header` at its start.
fn reserve(name: &CStr, size_bytes: usize, header: &[u8]) -> Result<OwnedFd, String> {
    let say = |what: &str, error: nix::errno::Errno| format!("cannot {what} {size_bytes} bytes of shared memory: {error}");
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map_err(|error| say("create", error))?;
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|error| say("protect", error))?;
    fallocate(&fd, FallocateFlags::empty(), 0, size_bytes as i64).map_err(|error| say("reserve", error))?;
    nix::sys::uio::pwrite(&fd, header, 0).map_err(|error| say("initialise", error))?;
    Ok(fd)
}

fn seal(fd: &OwnedFd, more: SealFlag) -> Result<(), String> {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL | more;
    fcntl(fd, FcntlArg::F_ADD_SEALS(seals)).map(drop).map_err(|error| format!("cannot seal a lane: {error}"))
}

/// Faults the pages in now rather than at the first order; only speed depends on it.
fn populate(map: &MmapRaw, advice: Advice) {
    if let Err(error) = map.advise(advice) {
        tracing::debug!(%error, "a lane's pages could not be faulted in ahead");
    }
}

/// A memfd with the rows of a query reply, sealed against every change.
pub fn sealed_rows(rows: &[u8]) -> Result<Memory, String> {
    let fd = memfd_create(c"ringlane-rows", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map_err(|error| error.to_string())?;
    let mut written = 0;
    while written < rows.len() {
        written +=
            nix::sys::uio::pwrite(&fd, &rows[written..], written as i64).map_err(|error| format!("cannot hold the reply: {error}"))?;
    }
    seal(&fd, SealFlag::F_SEAL_WRITE)?;
    Ok(Memory(Arc::new(fd)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn nobody_can_write_or_resize_results() {
        let region = Region::for_results(8192, b"header").unwrap();
        region.bytes().write(4096, &7_u64.to_ne_bytes());
        assert!(MmapOptions::new().len(8192).map_raw(&region.memory.0).is_err());
        assert_eq!(nix::sys::uio::pwrite(&region.memory.0, b"x", 0), Err(Errno::EPERM));
        assert_eq!(nix::unistd::ftruncate(&region.memory.0, 0), Err(Errno::EPERM));
        let mut word = [0; 8];
        region.bytes().read(4096, &mut word);
        assert_eq!(u64::from_ne_bytes(word), 7);
    }

    #[test]
    fn requests_are_writable_and_not_resizable() {
        let region = Region::for_requests(8192, b"header").unwrap();
        assert_eq!(nix::unistd::ftruncate(&region.memory.0, 4096), Err(Errno::EPERM));
        nix::sys::uio::pwrite(&region.memory.0, &9_u64.to_ne_bytes(), 128).unwrap();
        assert_eq!(region.bytes().word(128).load(std::sync::atomic::Ordering::Relaxed), 9);
    }

    #[test]
    fn memory_is_free_when_nobody_has_it() {
        let region = Region::for_results(8192, b"header").unwrap();
        let memory = region.memory().clone();
        let fd = memory.hand_out(false).unwrap();
        assert!(MmapOptions::new().len(8192).map_raw(&fd).is_err(), "it was handed out for reading");
        let map = MmapOptions::new().len(8192).map_raw_read_only(&fd).unwrap();
        assert!(!memory.is_free(), "the sidecar has it");
        drop(region);
        assert!(!memory.is_free(), "a client has it open");
        drop(fd);
        assert!(!memory.is_free(), "a client has it mapped");
        drop(map);
        assert!(memory.is_free());
        let fd = memory.hand_out(true).unwrap();
        let again = fd.try_clone().unwrap();
        drop(fd);
        assert!(!memory.is_free(), "a client has a duplicate");
        drop(again);
        assert!(memory.is_free());
    }
}
