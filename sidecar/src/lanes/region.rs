//! The memfds of a lane: created, really reserved, mapped and sealed here, before any client sees them.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};
use ringlane_layout::shared::SharedBytes;

/// Nobody may ever map it writable again; nix does not name this seal (Linux 5.1).
const F_SEAL_FUTURE_WRITE: i32 = nix::libc::F_SEAL_FUTURE_WRITE;

/// A mapped, sealed memfd. Dropping it unmaps and closes; the client's own mapping lives on.
#[derive(Debug)]
pub struct Region {
    fd: OwnedFd,
    map: MmapRaw,
}

impl Region {
    /// A region that the client writes and the sidecar maps read-only.
    pub fn for_requests(size_bytes: usize, header: &[u8]) -> Result<Self, String> {
        let fd = reserve(c"ringlane-requests", size_bytes, header)?;
        let map = MmapOptions::new().len(size_bytes).map_raw_read_only(&fd).map_err(|error| format!("cannot map a lane: {error}"))?;
        seal(&fd, SealFlag::empty())?;
        populate(&map, Advice::PopulateRead);
        Ok(Self { fd, map })
    }

    /// A region that only the sidecar writes: mapped writable first, then sealed against every later writable mapping.
    pub fn for_results(size_bytes: usize, header: &[u8]) -> Result<Self, String> {
        let fd = reserve(c"ringlane-results", size_bytes, header)?;
        let map = MmapOptions::new().len(size_bytes).map_raw(&fd).map_err(|error| format!("cannot map a lane: {error}"))?;
        seal(&fd, SealFlag::from_bits_retain(F_SEAL_FUTURE_WRITE))?;
        populate(&map, Advice::PopulateWrite);
        Ok(Self { fd, map })
    }

    /// The mapped bytes.
    #[must_use]
    pub fn bytes(&self) -> SharedBytes {
        // SAFETY: the map covers these bytes and is page-aligned; the lane that owns this region drops its views with it. A
        // read-only map is only loaded from: `requests` words and records are never stored to by the sidecar.
        unsafe { SharedBytes::new(self.map.as_mut_ptr(), self.map.len()) }
    }

    /// The file descriptor to hand to the client.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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
pub fn sealed_rows(rows: &[u8]) -> Result<OwnedFd, String> {
    let fd = memfd_create(c"ringlane-rows", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map_err(|error| error.to_string())?;
    let mut written = 0;
    while written < rows.len() {
        written +=
            nix::sys::uio::pwrite(&fd, &rows[written..], written as i64).map_err(|error| format!("cannot hold the reply: {error}"))?;
    }
    seal(&fd, SealFlag::F_SEAL_WRITE)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn nobody_can_write_or_resize_results() {
        let region = Region::for_results(8192, b"header").unwrap();
        region.bytes().write(4096, &7_u64.to_ne_bytes());
        assert!(MmapOptions::new().len(8192).map_raw(&region.fd).is_err());
        assert_eq!(nix::sys::uio::pwrite(&region.fd, b"x", 0), Err(Errno::EPERM));
        assert_eq!(nix::unistd::ftruncate(&region.fd, 0), Err(Errno::EPERM));
        let mut word = [0; 8];
        region.bytes().read(4096, &mut word);
        assert_eq!(u64::from_ne_bytes(word), 7);
    }

    #[test]
    fn requests_are_writable_and_not_resizable() {
        let region = Region::for_requests(8192, b"header").unwrap();
        assert_eq!(nix::unistd::ftruncate(&region.fd, 4096), Err(Errno::EPERM));
        nix::sys::uio::pwrite(&region.fd, &9_u64.to_ne_bytes(), 128).unwrap();
        assert_eq!(region.bytes().word(128).load(std::sync::atomic::Ordering::Relaxed), 9);
    }
}
