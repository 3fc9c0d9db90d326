//! Waiting on a client's one notify socket, shared by all its lanes, threads and asyncio loops. Sync waiters are leader and
//! followers: one thread polls and drains the socket, the others sleep on a condition variable; whoever drains wakes all.
//! Loops watch the socket too, and an eventfd each that is poked when somebody else drained it.

use crate::descriptor::Descriptor;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{MsgFlags, recv};
use pyo3::prelude::*;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Locks; a thread that panicked inside left nothing half done that matters here.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads of one drain, 256 notifications each.
const DRAIN_READS_MAX: usize = 64;

struct State {
    /// Counts the times that somebody drained the socket.
    epoch: u64,
    /// Whether a thread polls the socket.
    led: bool,
    watches: Vec<Weak<Descriptor>>,
}

/// The client's side of the notify socket.
pub struct Notifications {
    socket: Descriptor,
    state: Mutex<State>,
    moved: Condvar,
    ended: AtomicBool,
}

impl Notifications {
    /// Whether the sidecar's end is closed.
    #[inline]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// To be taken before the announcement after which the thread sleeps.
    pub fn epoch(&self) -> u64 {
        lock(&self.state).epoch
    }

    /// Sleeps until somebody drained the socket after `epoch` was taken, or until `end`. The GIL must not be held.
    pub fn sleep(&self, epoch: u64, end: Instant) {
        let mut state = lock(&self.state);
        if state.epoch != epoch || self.has_ended() {
            return;
        }
        let rest = end.saturating_duration_since(Instant::now());
        if state.led {
            drop(self.moved.wait_timeout(state, rest));
            return;
        }
        state.led = true;
        drop(state);
        let drained = self.poll(rest) && self.drain();
        let mut state = lock(&self.state);
        state.led = false;
        if drained {
            self.wake_all(&mut state);
        } else {
            self.moved.notify_one(); // somebody must lead
        }
    }

    fn poll(&self, rest: Duration) -> bool {
        let mut entries = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        // One millisecond more than the rest, because poll rounds down.
        let timeout = PollTimeout::try_from(rest + Duration::from_millis(u64::from(!rest.is_zero()))).unwrap_or(PollTimeout::MAX);
        poll(&mut entries, timeout).is_ok_and(|ready| ready > 0)
    }

    /// Empties the socket. True: something was there, or the other end is closed.
    fn drain(&self) -> bool {
        let mut bytes = [0; 256];
        let mut any = false;
        for _ in 0..DRAIN_READS_MAX {
            match recv(self.socket.as_fd().as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => {
                    self.ended.store(true, Ordering::Relaxed);
                    return true;
                }
                Ok(_) => any = true,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        any
    }

    fn wake_all(&self, state: &mut State) {
        state.epoch += 1;
        self.moved.notify_all();
        state.watches.retain(|watch| {
            let Some(poke) = watch.upgrade() else { return false };
            // Full means poked already.
            let _ = nix::unistd::write(poke.as_fd(), &1_u64.to_ne_bytes());
            true
        });
    }

    /// What a loop does when the socket or its eventfd is readable.
    fn drain_and_wake(&self) {
        if self.drain() {
            self.wake_all(&mut lock(&self.state));
        }
    }
}

/// A client's notify socket. Takes the descriptor over.
#[pyclass(frozen, module = "ringlane._shim")]
pub struct Hub(pub Arc<Notifications>);

#[pymethods]
impl Hub {
    #[new]
    fn new(notify: i32) -> PyResult<Self> {
        let state = Mutex::new(State { epoch: 0, led: false, watches: Vec::new() });
        let socket = Descriptor::adopt(notify)?;
        Ok(Self(Arc::new(Notifications { socket, state, moved: Condvar::new(), ended: AtomicBool::new(false) })))
    }

    /// The notify socket's number, for an event loop to watch.
    fn fileno(&self) -> i32 {
        self.0.socket.as_fd().as_raw_fd()
    }

    /// Whether the sidecar's end of the socket is known to be closed; looks without waiting.
    #[getter]
    fn ended(&self) -> bool {
        self.0.drain_and_wake();
        self.0.has_ended()
    }

    /// A second thing to watch, for one event loop.
    fn watch(&self) -> PyResult<Watch> {
        let poke = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(std::io::Error::from)?;
        let poke = Arc::new(Descriptor::new(OwnedFd::from(poke))?);
        lock(&self.0.state).watches.push(Arc::downgrade(&poke));
        Ok(Watch { hub: self.0.clone(), poke })
    }
}

/// What an event loop watches beside the notify socket: readable after another thread or loop emptied that socket.
#[pyclass(frozen, module = "ringlane._shim")]
pub struct Watch {
    hub: Arc<Notifications>,
    poke: Arc<Descriptor>,
}

#[pymethods]
impl Watch {
    fn fileno(&self) -> i32 {
        self.poke.as_fd().as_raw_fd()
    }

    /// Empties both, and wakes whoever else waits on the socket.
    fn drain(&self) {
        self.hub.drain_and_wake();
        let mut count = [0; 8];
        // Empty is fine: the socket may have been what was readable.
        let _ = nix::unistd::read(self.poke.as_fd(), &mut count);
    }
}
