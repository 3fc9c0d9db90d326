//! What the operating system and the allocator say of this process.
#![allow(unsafe_code)]

use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};

/// What the operating system says.
pub struct Process {
    /// Memory in RAM, bytes.
    pub resident_bytes: u64,
    /// Memory that is mapped, bytes.
    pub virtual_bytes: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Most descriptors.
    pub max_fds: u64,
    /// Processor time of all threads, seconds.
    pub cpu_seconds: f64,
}

impl Process {
    /// This process now; none where /proc is not mounted.
    pub fn look() -> Option<Self> {
        let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()? as u64;
        let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
        let mut pages = statm.split_ascii_whitespace().map_while(|word| word.parse::<u64>().ok());
        let (virtual_bytes, resident_bytes) = (pages.next()? * page_bytes, pages.next()? * page_bytes);
        let open_fds = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
        let cpu_seconds = (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6;
        let (max_fds, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        Some(Self { resident_bytes, virtual_bytes, open_fds, max_fds, cpu_seconds })
    }
}

/// Memory that the allocator has given out, bytes.
#[cfg(target_env = "gnu")]
pub fn heap_bytes() -> u64 {
    // SAFETY: takes no argument, touches the allocator's own counters under its own locks, and returns a plain struct.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

/// The same where the C library does not say.
#[cfg(not(target_env = "gnu"))]
pub fn heap_bytes() -> u64 {
    0
}
