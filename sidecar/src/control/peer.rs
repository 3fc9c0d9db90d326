//! Who is at the other end of the control socket, by the kernel's word, and a descriptor that tells when that process ends.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// User id that a peer of another user namespace arrives as; nothing can be proven of it.
const OVERFLOW_UID: u32 = 65534;

/// A peer's identity.
#[derive(Debug)]
pub struct Peer {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Readable once the process has ended, even while a forked child still holds the socket.
    pub pidfd: Option<OwnedFd>,
}

/// Asks the kernel who connected. An error says why the peer cannot be served.
pub fn identify(socket: &impl AsFd) -> Result<Peer, String> {
    let credentials = getsockopt(socket, PeerCredentials).map_err(|error| format!("its credentials cannot be had: {error}"))?;
    let (pid, uid) = (credentials.pid(), credentials.uid());
    if uid == OVERFLOW_UID {
        return Err("it comes from another user namespace (uid 65534), where user ids prove nothing".into());
    }
    Ok(Peer { pid: pid.unsigned_abs(), uid, pidfd: peer_pidfd(socket, pid) })
}

/// A descriptor of the peer's process: from the socket itself (Linux 6.5), which cannot name a later process of the same
/// number, else by number.
fn peer_pidfd(socket: &impl AsFd, pid: i32) -> Option<OwnedFd> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `fd`, which is that long.
    let got = unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, (&raw mut fd).cast(), &raw mut len) };
    if got != 0 {
        // SAFETY: a plain system call with integer arguments.
        fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as libc::c_int;
    }
    // SAFETY: a non-negative result is a fresh descriptor that nobody else owns.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}
