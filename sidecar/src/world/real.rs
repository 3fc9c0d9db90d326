//! The real outside: clocks, system calls and threads.

use std::fs::File;
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::epoll::EpollTimeout;

/// A clock that never goes back.
#[inline(always)]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall clock, nanoseconds since 1970.
#[must_use]
pub fn wall_clock_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Makes a file's bytes durable, and as much of what is said of it as is needed to read them.
pub fn sync_data(file: &File) -> Result<(), Error> {
    file.sync_data()
}

/// Makes a whole file durable.
pub fn sync_all(file: &File) -> Result<(), Error> {
    file.sync_all()
}

/// Makes the names in a directory durable.
pub fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory)?.sync_all()
}

/// Writes bytes that stand there already, so that the next sync writes them.
pub fn write_again(file: &File, bytes: &[u8], offset: u64) -> Result<(), Error> {
    file.write_all_at(bytes, offset)
}

/// Reserves the blocks of a file of this length.
pub fn reserve(file: &File, len: u64) -> Result<(), Error> {
    Ok(fallocate(file, FallocateFlags::empty(), 0, len as i64)?)
}

/// How many of `len` bytes one read gives at most.
#[inline(always)]
#[must_use]
pub fn readable(len: usize) -> usize {
    len
}

/// How long a wait for descriptors may be.
#[inline(always)]
#[must_use]
pub fn doze(longest: EpollTimeout) -> EpollTimeout {
    longest
}

/// Does nothing for so long.
pub fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// What a thread waits for that asked another one; at most so long, if that is said.
pub fn wait_for<T>(answer: &Receiver<T>, longest: Option<Duration>) -> Result<T, RecvTimeoutError> {
    match longest {
        Some(longest) => answer.recv_timeout(longest),
        None => answer.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// The next job of a helper; at most so long, if that is said.
pub fn take_job<T>(jobs: &Receiver<T>, longest: Option<Duration>) -> Result<T, RecvTimeoutError> {
    wait_for(jobs, longest)
}

/// A thread that helps another one.
#[derive(Debug)]
pub struct Helper(JoinHandle<()>);

impl Helper {
    /// Starts it: it begins, and then takes turns until one of them says that it was the last (false). In a turn it may wait
    /// for its next job only.
    pub fn start(
        name: &'static str,
        begin: impl FnOnce() + Send + 'static,
        mut turn: impl FnMut() -> bool + Send + 'static,
    ) -> Result<Self, Error> {
        let run = move || {
            begin();
            while turn() {}
        };
        std::thread::Builder::new().name(name.into()).spawn(run).map(Self)
    }

    /// Waits for its end.
    pub fn join(self) {
        if let Err(panic) = self.0.join() {
            tracing::error!(?panic, "a helper thread panicked");
        }
    }
}
