//! Who is at the other end of the control socket, by the kernel's word, and a descriptor that tells when that process ends.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use ringlane_layout::limits::{OVERFLOW_UID, PEER_GROUPS_MAX};

/// A peer's identity.
#[derive(Debug)]
pub struct Peer {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Group ids: the primary one, then the supplementary ones.
    pub gids: Vec<u32>,
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
    let mut gids = vec![credentials.gid()];
    gids.extend(peer_groups(socket).map_err(|error| format!("its groups cannot be had: {error}"))?);
    Ok(Peer { pid: pid.unsigned_abs(), uid, gids, pidfd: peer_pidfd(socket, pid) })
}

/// The peer's supplementary groups as they were when it connected (Linux 4.13).
fn peer_groups(socket: &impl AsFd) -> Result<Vec<u32>, Errno> {
    const SO_PEERGROUPS: libc::c_int = 59;
    let mut gids = vec![0_u32; 64];
    loop {
        let mut bytes = (gids.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes into `gids`, which are that many.
        let got = unsafe {
            libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, SO_PEERGROUPS, gids.as_mut_ptr().cast(), &raw mut bytes)
        };
        let count = bytes as usize / size_of::<u32>();
        match Errno::result(got) {
            Ok(_) => {
                gids.truncate(count);
                return Ok(gids);
            }
            // Too little room: the kernel has said how much it needs.
            Err(Errno::ERANGE) if gids.len() < count && count <= PEER_GROUPS_MAX => gids.resize(count, 0),
            // A socket that knows no groups, such as one end of a pair.
            Err(Errno::ENODATA) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_known_by_user_groups_and_process() {
        let (mine, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = identify(&mine).unwrap();
        assert_eq!((peer.pid, peer.uid), (std::process::id(), nix::unistd::geteuid().as_raw()));
        assert_eq!(peer.gids[0], nix::unistd::getegid().as_raw());
        let mut groups: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let mut found = peer.gids[1..].to_vec();
        groups.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, groups);
        assert!(peer.pidfd.is_some());
    }
}
