//! Waiting on a client's one notify socket, shared by all its lanes, threads and asyncio loops. Sync waiters are leader and
//! followers: one thread polls and drains the socket, the others sleep on a condition variable; whoever drains wakes all.
//! Loops watch the socket too, and an eventfd each that is poked when somebody else drained it.

use crate::error::End;
use crate::fork::Descriptor;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use pyo3::prelude::*;
use ringlane_layout::entries::Home;
use ringlane_layout::lookout::Lookout;
use ringlane_layout::primitive::lock;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Reads of one drain, 256 notifications each.
const DRAIN_READS_MAX: usize = 64;
/// Between two looks whether the sidecar is back.
const NAP: Duration = Duration::from_millis(5);

/// A client's notify socket. Takes the descriptor over.
#[pyclass(frozen, module = "ringlane._shim")]
pub struct Hub {
    home: Home,
    socket: Descriptor,
    /// Its epoch is to be taken before the announcement after which a thread sleeps.
    pub lookout: Lookout,
    /// The loops' eventfds.
    pokes: Mutex<Vec<Descriptor>>,
    has_ended: AtomicBool,
    /// Whether the connection, once ended, will be made anew: until then lanes wait.
    pub mends: AtomicBool,
}

impl Hub {
    /// Whether the sidecar's end is closed.
    #[inline]
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Sleeps until somebody drained the socket after `epoch` was taken, or until `end`; without the socket while the sidecar
    /// `is_away`, until it is back. The GIL must not be held.
    pub fn sleep(&self, epoch: u64, end: Instant, is_away: bool) {
        if is_away {
            self.lookout.sleep(epoch, end, |rest| {
                std::thread::sleep(rest.min(NAP));
                false
            });
        } else if !self.has_ended() && self.lookout.sleep(epoch, end, |rest| self.poll(rest) && self.empty()) {
            self.poke_loops();
        }
    }

    fn poll(&self, rest: Duration) -> bool {
        let mut entries = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        // One millisecond more than the rest, because poll rounds down.
        let timeout = PollTimeout::try_from(rest + Duration::from_millis(u64::from(!rest.is_zero()))).unwrap_or(PollTimeout::MAX);
        poll(&mut entries, timeout).is_ok_and(|ready| ready > 0)
    }

    /// Empties the socket. True: something was there, or the other end is closed.
    fn empty(&self) -> bool {
        let mut bytes = [0; 256];
        let mut any = false;
        for _ in 0..DRAIN_READS_MAX {
            match recv(self.socket.as_fd().as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => {
                    self.has_ended.store(true, Ordering::Relaxed);
                    return true;
                }
                Ok(_) => any = true,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        any
    }

    fn poke_loops(&self) {
        for poke in lock(&self.pokes).iter() {
            // Full means poked already.
            let _ = nix::unistd::write(poke, &1_u64.to_ne_bytes());
        }
    }
}

#[pymethods]
impl Hub {
    #[new]
    #[pyo3(signature = (notify, mends=false))]
    fn new(notify: i32, mends: bool) -> PyResult<Self> {
        let (socket, lookout, pokes) = (Descriptor::adopt(notify)?, Lookout::default(), Mutex::default());
        Ok(Self { home: Home::here(), socket, lookout, pokes, has_ended: AtomicBool::new(false), mends: mends.into() })
    }

    /// The connection was made anew: its notify socket takes the old one's place and number; or (None) never will be.
    #[pyo3(signature = (notify=None))]
    fn replace(&self, notify: Option<i32>) -> PyResult<()> {
        self.home.check(End::Forked)?;
        notify.map_or(Ok(()), |notify| self.socket.replace(&Descriptor::adopt(notify)?))?;
        self.mends.fetch_and(notify.is_some(), Ordering::Relaxed);
        self.has_ended.store(notify.is_none(), Ordering::Release);
        self.lookout.wake();
        self.poke_loops();
        Ok(())
    }

    /// The notify socket's number, for an event loop to watch.
    fn fileno(&self) -> i32 {
        self.socket.as_fd().as_raw_fd()
    }

    /// Whether there is nobody at the other end, so that the socket is readable and says nothing, and whether somebody will be;
    /// looks without waiting.
    #[getter]
    fn ended(&self) -> (bool, bool) {
        self.drain();
        (self.has_ended(), self.mends.load(Ordering::Relaxed))
    }

    /// Takes over an eventfd that an event loop watches beside the socket, and adds 1 to it after every draining.
    fn watch(&self, poke: i32) -> PyResult<()> {
        self.home.check(End::Forked)?;
        lock(&self.pokes).push(Descriptor::adopt(poke)?);
        Ok(())
    }

    /// The end of `watch`: closes the eventfd.
    fn unwatch(&self, poke: i32) {
        if self.home.is_here() {
            lock(&self.pokes).retain(|watched| watched.as_fd().as_raw_fd() != poke);
        }
    }

    /// Empties the socket, and wakes whoever waits on it. What a loop does when the socket or its eventfd is readable.
    fn drain(&self) {
        if self.home.is_here() && self.empty() {
            self.lookout.wake();
            self.poke_loops();
        }
    }
}
