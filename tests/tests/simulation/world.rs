//! The made-up world of one run: a clock, a disk, helpers that work when it is their turn, and a moment at which the sidecar
//! dies. Everything that is chosen is drawn from the seed.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Error;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use ringlane_sidecar::journal::{list_segments, newest_snapshot_sequence};
use ringlane_sidecar::sequencer::{Pace, Sequencer};
use ringlane_sidecar::world::{HelperTurn, World};
use ringlane_tests::order_flow::Random;
use xxhash_rust::xxh3::Xxh3;

use super::disk::Disk;
use super::flow;
use super::oracle::Oracle;
use super::tally::Tally;

/// What a dying sidecar panics with.
pub struct Crash;

/// Turns that somebody may wait for another one, at most.
const PATIENCE: u64 = 1_000_000;

/// The world.
pub struct Sim {
    clock_ns: Cell<u64>,
    random: RefCell<Random>,
    helpers: RefCell<Vec<(&'static str, HelperTurn)>>,
    /// The sequencer, while there is one.
    pub sequencer: RefCell<Option<(Sequencer, Pace)>>,
    trace: RefCell<Xxh3>,
    /// Places that are still to be passed before the sidecar dies.
    pub crash_in: Cell<Option<u64>>,
    /// Where it died.
    pub died_at: RefCell<String>,
    /// The disk.
    pub disk: RefCell<Disk>,
    /// What must be true.
    pub oracle: RefCell<Oracle>,
    /// What was found to be wrong where nobody could say so.
    pub wrong: RefCell<Option<String>>,
    /// The disk has no room until then; it fails until then; and it is slow until then.
    pub full_until_ns: Cell<u64>,
    pub sick_until_ns: Cell<u64>,
    pub slow_until_ns: Cell<u64>,
    /// How long clients may be away after a start.
    pub grace_ns: Cell<u64>,
    waited: Cell<u64>,
    /// What happened.
    pub tally: RefCell<Tally>,
    /// Where the journal lies, and its newest segment as it was before the frame that the sidecar dies over.
    pub directory: RefCell<PathBuf>,
    pub before_frame: RefCell<Option<(PathBuf, Vec<u8>)>>,
}

impl Sim {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            clock_ns: Cell::new(1_700_000_000_000_000_000),
            random: RefCell::new(Random::new(seed)),
            helpers: RefCell::default(),
            sequencer: RefCell::new(None),
            trace: RefCell::new(Xxh3::new()),
            crash_in: Cell::new(None),
            died_at: RefCell::default(),
            disk: RefCell::default(),
            oracle: RefCell::new(Oracle::new()),
            wrong: RefCell::new(None),
            full_until_ns: Cell::new(0),
            sick_until_ns: Cell::new(0),
            slow_until_ns: Cell::new(0),
            grace_ns: Cell::new(0),
            waited: Cell::new(0),
            tally: RefCell::default(),
            directory: RefCell::default(),
            before_frame: RefCell::new(None),
        }
    }

    /// The time, nanoseconds since 1970.
    pub fn clock_ns(&self) -> u64 {
        self.clock_ns.get()
    }

    /// Time passes.
    pub fn advance(&self, more_ns: u64) {
        self.clock_ns.set(self.clock_ns.get() + more_ns);
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.random.borrow_mut().below(bound)
    }

    /// A number of a range, ends included.
    pub fn within(&self, first: u64, last: u64) -> u64 {
        flow::within(&mut self.random.borrow_mut(), first, last)
    }

    /// True once in `many`.
    pub fn one_in(&self, many: u64) -> bool {
        flow::one_in(&mut self.random.borrow_mut(), many)
    }

    /// Draws something.
    pub fn with_random<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.borrow_mut())
    }

    /// Notes what happened.
    pub fn note(&self, words: &[u64]) {
        self.note_bytes(bytemuck::cast_slice(words));
    }

    /// Notes what happened.
    pub fn note_bytes(&self, bytes: &[u8]) {
        self.trace.borrow_mut().update(bytes);
    }

    /// Hash of everything that happened.
    pub fn trace_hash(&self) -> u64 {
        self.trace.borrow().digest()
    }

    /// Whether the sidecar has this lane open, for a client that is there or away.
    pub fn has_lane(&self, lane: u32) -> bool {
        let sequencer = self.sequencer.borrow();
        sequencer.as_ref().is_some_and(|(sequencer, _)| sequencer.engine().open_lanes().iter().any(|open| open.lane == lane))
    }

    /// Lets one of the helpers take a turn.
    pub fn help(&self) {
        let taken = {
            let mut helpers = self.helpers.borrow_mut();
            let count = helpers.len() as u64;
            if count == 0 {
                return;
            }
            let at = self.below(count) as usize;
            if helpers[at].0 == "journal-sync" && self.clock_ns() < self.slow_until_ns.get() {
                return;
            }
            helpers.remove(at)
        };
        self.turn_of(taken);
    }

    fn turn_of(&self, (name, mut turn): (&'static str, HelperTurn)) -> bool {
        let goes_on = turn();
        if goes_on {
            self.helpers.borrow_mut().push((name, turn));
        }
        goes_on
    }

    /// One turn of the sequencer, if it is there and nobody is in it.
    pub fn turn(&self) {
        if let Ok(mut sequencer) = self.sequencer.try_borrow_mut()
            && let Some((sequencer, pace)) = sequencer.as_mut()
            && !sequencer.is_over()
        {
            sequencer.turn(pace);
        }
    }

    /// Nobody waits any more.
    pub fn rest(&self) {
        self.waited.set(0);
    }

    /// Everybody who works in the sidecar is gone.
    pub fn dismiss_all(&self) {
        let helpers = self.helpers.take();
        let sequencer = self.sequencer.take();
        drop((sequencer, helpers));
        self.crash_in.set(None);
    }

    /// It happened.
    pub fn count(&self, what: &str) {
        self.tally.borrow_mut().add(what, 1);
    }

    fn found(&self, words: String) {
        self.wrong.borrow_mut().get_or_insert(words);
    }
}

impl World for Sim {
    fn now_ns(&self) -> u64 {
        self.advance(50);
        self.clock_ns()
    }

    fn pass(&self, longest: Option<Duration>) {
        self.waited.set(self.waited.get() + 1);
        assert!(self.waited.get() < PATIENCE, "somebody waits for ever");
        let longest_ns = longest.map_or(10_000, |longest| longest.as_nanos() as u64).clamp(1, 100_000);
        self.advance(1 + self.below(longest_ns));
        self.help();
        self.turn();
    }

    fn sync(&self, file: &File) -> Result<(), Error> {
        self.point("sync.before");
        if self.clock_ns() < self.sick_until_ns.get() && self.one_in(2) {
            self.disk.borrow_mut().fail(file, &mut self.random.borrow_mut());
            self.count("syncs that failed");
            return Err(Errno::EIO.into());
        }
        self.disk.borrow_mut().sync(file);
        self.point("sync.after");
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> Result<(), Error> {
        self.point("directory.before");
        self.disk.borrow_mut().sync_names(directory);
        // What a snapshot covers may go soon: it is read before.
        let snapshot = newest_snapshot_sequence(directory).unwrap_or(0);
        self.count("names synced");
        if snapshot > self.oracle.borrow().sequence()
            && let Err(words) = self.oracle.borrow_mut().read(directory, snapshot)
        {
            self.found(format!("beside the snapshot at {snapshot}: {words}"));
        }
        self.point("directory.after");
        Ok(())
    }

    fn written_again(&self, file: &File, offset: u64, len: usize) {
        self.disk.borrow_mut().doubt(file, offset as usize..offset as usize + len);
    }

    fn reserve(&self, _len: u64) -> Result<(), Error> {
        if self.clock_ns() < self.full_until_ns.get() {
            self.count("files without room");
            return Err(Errno::ENOSPC.into());
        }
        Ok(())
    }

    fn readable(&self, len: usize) -> usize {
        if len > 1 && self.one_in(4) { self.within(1, len as u64) as usize } else { len }
    }

    fn hire(&self, name: &'static str, turn: HelperTurn) {
        self.helpers.borrow_mut().push((name, turn));
    }

    fn dismiss(&self, name: &'static str) {
        loop {
            let taken = {
                let mut helpers = self.helpers.borrow_mut();
                let Some(at) = helpers.iter().position(|(helper, _)| *helper == name) else { return };
                helpers.remove(at)
            };
            self.waited.set(self.waited.get() + 1);
            assert!(self.waited.get() < PATIENCE, "{name} does not end");
            self.turn_of(taken);
        }
    }

    fn point(&self, name: &str) {
        let Some(left) = self.crash_in.get() else { return };
        self.crash_in.set(left.checked_sub(1));
        if name == "frame.before" && left <= 2 {
            let newest = list_segments(&self.directory.borrow()).ok().and_then(|mut segments| segments.pop());
            self.before_frame.replace(newest.and_then(|(_, path)| Some((path.clone(), std::fs::read(path).ok()?))));
        }
        if left == 0 {
            self.died_at.replace(name.to_owned());
            self.count(&format!("died at {name}"));
            self.note_bytes(name.as_bytes());
            resume_unwind(Box::new(Crash));
        }
    }
}
