//! An outside that a test makes up, for one thread: whoever runs in it sees the test's clock, loses what the test's disk loses,
//! and has helpers that work when the test lets them. A thread without one has the real outside.

use std::cell::RefCell;
use std::fs::File;
use std::io::Error;
use std::path::Path;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};
use nix::sys::epoll::EpollTimeout;

use super::real;

/// One turn of a helper; false: it was the last.
pub type HelperTurn = Box<dyn FnMut() -> bool + Send>;

/// What a test makes up.
pub trait World {
    /// Wall clock, nanoseconds since 1970; it never goes back.
    fn now_ns(&self) -> u64;
    /// Somebody waits, at most so long: others work, or time passes.
    fn pass(&self, longest: Option<Duration>);
    /// A file is to be durable.
    fn sync(&self, file: &File) -> Result<(), Error>;
    /// The names in a directory are to be durable.
    fn sync_directory(&self, directory: &Path) -> Result<(), Error>;
    /// These bytes of a file were written once more as they stand there.
    fn written_again(&self, file: &File, offset: u64, len: usize);
    /// Whether a file of this length may have its blocks.
    fn reserve(&self, len: u64) -> Result<(), Error>;
    /// How many of `len` bytes a read gives; at least one.
    fn readable(&self, len: usize) -> usize;
    /// A helper that works from now on.
    fn hire(&self, name: &'static str, turn: HelperTurn);
    /// A helper that is to take turns until its last one.
    fn dismiss(&self, name: &'static str);
    /// A named place at which the sidecar may die, by a panic.
    fn point(&self, name: &str);
}

thread_local! {
    static WORLD: RefCell<Option<Rc<dyn World>>> = const { RefCell::new(None) };
}

/// Leaves the world when it is dropped.
#[derive(Debug)]
pub struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        WORLD.set(None);
    }
}

/// From here on this thread lives in this world.
#[must_use]
pub fn enter(world: Rc<dyn World>) -> Entered {
    WORLD.set(Some(world));
    Entered(())
}

fn world() -> Option<Rc<dyn World>> {
    WORLD.try_with(|world| world.try_borrow().ok().and_then(|world| world.clone())).ok().flatten()
}

/// A clock that never goes back.
#[must_use]
pub fn now() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    world().map_or_else(real::now, |world| *BASE.get_or_init(Instant::now) + Duration::from_nanos(world.now_ns()))
}

/// Wall clock, nanoseconds since 1970.
#[must_use]
pub fn wall_clock_ns() -> u64 {
    world().map_or_else(real::wall_clock_ns, |world| world.now_ns())
}

/// Makes a file's bytes durable, and as much of what is said of it as is needed to read them.
pub fn sync_data(file: &File) -> Result<(), Error> {
    world().map_or_else(|| real::sync_data(file), |world| world.sync(file))
}

/// Makes a whole file durable.
pub fn sync_all(file: &File) -> Result<(), Error> {
    world().map_or_else(|| real::sync_all(file), |world| world.sync(file))
}

/// Makes the names in a directory durable.
pub fn sync_directory(directory: &Path) -> Result<(), Error> {
    world().map_or_else(|| real::sync_directory(directory), |world| world.sync_directory(directory))
}

/// Writes bytes that stand there already, so that the next sync writes them.
pub fn write_again(file: &File, bytes: &[u8], offset: u64) -> Result<(), Error> {
    real::write_again(file, bytes, offset)?;
    world().into_iter().for_each(|world| world.written_again(file, offset, bytes.len()));
    Ok(())
}

/// Reserves the blocks of a file of this length.
pub fn reserve(file: &File, len: u64) -> Result<(), Error> {
    world().map_or(Ok(()), |world| world.reserve(len))?;
    real::reserve(file, len)
}

/// How many of `len` bytes one read gives at most.
#[must_use]
pub fn readable(len: usize) -> usize {
    world().map_or_else(|| real::readable(len), |world| world.readable(len))
}

/// How long a wait for descriptors may be.
#[must_use]
pub fn doze(longest: EpollTimeout) -> EpollTimeout {
    let Some(world) = world() else { return real::doze(longest) };
    world.pass(Some(Duration::try_from(longest).unwrap_or_default()));
    EpollTimeout::ZERO
}

/// Does nothing for so long.
pub fn pause(length: Duration) {
    world().map_or_else(|| real::pause(length), |world| world.pass(Some(length)));
}

/// What a thread waits for that asked another one; at most so long, if that is said.
pub fn wait_for<T>(answer: &Receiver<T>, longest: Option<Duration>) -> Result<T, RecvTimeoutError> {
    let Some(world) = world() else { return real::wait_for(answer, longest) };
    let until_ns = longest.map(|longest| world.now_ns() + longest.as_nanos() as u64);
    loop {
        match answer.try_recv() {
            Ok(answer) => return Ok(answer),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) if until_ns.is_some_and(|until_ns| world.now_ns() >= until_ns) => {
                return Err(RecvTimeoutError::Timeout);
            }
            Err(TryRecvError::Empty) => world.pass(longest),
        }
    }
}

/// The next job of a helper; at most so long, if that is said. Nobody waits in a made-up world: a helper is called again.
pub fn take_job<T>(jobs: &Receiver<T>, longest: Option<Duration>) -> Result<T, RecvTimeoutError> {
    if world().is_none() {
        return real::take_job(jobs, longest);
    }
    jobs.try_recv().map_err(|error| match error {
        TryRecvError::Empty => RecvTimeoutError::Timeout,
        TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
    })
}

/// A named place at which the sidecar may die.
pub fn point(name: &str) {
    if let Some(world) = world() {
        world.point(name);
    }
}

/// Who helps another one: a thread, or somebody who works when the test lets him.
#[derive(Debug)]
pub enum Helper {
    /// A thread.
    Real(real::Helper),
    /// Somebody of this name.
    Hired(&'static str),
}

impl Helper {
    /// Starts it: it begins, and then takes turns until one of them says that it was the last (false). In a turn it may wait
    /// for its next job only.
    pub fn start(
        name: &'static str,
        begin: impl FnOnce() + Send + 'static,
        turn: impl FnMut() -> bool + Send + 'static,
    ) -> Result<Self, Error> {
        let Some(world) = world() else { return real::Helper::start(name, begin, turn).map(Self::Real) };
        world.hire(name, Box::new(turn));
        Ok(Self::Hired(name))
    }

    /// Waits for its end.
    pub fn join(self) {
        match self {
            Self::Real(helper) => helper.join(),
            Self::Hired(name) => world().into_iter().for_each(|world| world.dismiss(name)),
        }
    }
}
