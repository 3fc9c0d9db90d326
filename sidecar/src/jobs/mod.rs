//! Jobs: what runs kernels other than that of orders. A thread of its own collects doorbells and what control asks; the work
//! itself, cursors included, is done by the threads of a pool, so that nothing here can keep an order waiting.

mod ages;
mod hand;
mod keeper;
mod pool;
mod served;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use ringlane_layout::board::{KERNEL, LANE, POOL, kernel, pool as pool_words};
use ringlane_layout::limits::{
    COMMANDS_MAX, DOORBELLS_A_LOOK, JOB_LANES_MAX, JOBS_STOP_NS_MAX, KERNELS_MAX, LANES_MAX, SLEEP_NS_MAX, SURVEY_PARKED_NS,
};
use ringlane_layout::region::LaneStatus;

use crate::board::{Board, BoardRow};
use crate::kernels::door::OpenKernel;
use crate::lanes::{JobCursors, JobLane};
use hand::Hand;
pub use keeper::Keeper;
use pool::Pool;
use served::Served;

/// Epoll data of the thread's own wake-up; lane numbers stay below.
const WAKE: u64 = u64::MAX;

/// Whether orders need the machine, as the sequencer last knew, and whether jobs wait for its core.
#[derive(Debug, Default)]
pub struct Heat {
    hot: AtomicBool,
    orders: AtomicBool,
    wanted: AtomicBool,
}

impl Heat {
    /// Whether the sequencer polls lanes.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        self.hot.load(Ordering::Relaxed)
    }

    /// Whether an order lane is open.
    #[must_use]
    pub fn has_orders(&self) -> bool {
        self.orders.load(Ordering::Relaxed)
    }

    /// Whether jobs wait for the core on which the sequencer polls quiet lanes, and it is a large part of the machine.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Notes whether the sequencer polls lanes.
    pub fn set_hot(&self, hot: bool) {
        self.hot.store(hot, Ordering::Relaxed);
    }

    /// Notes whether an order lane is open.
    pub fn set_orders(&self, orders: bool) {
        self.orders.store(orders, Ordering::Relaxed);
    }
}

/// A lane that is to be served.
pub struct Opening {
    /// Its memory.
    pub lane: JobLane,
    /// Its cursors.
    pub cursors: JobCursors,
    /// Name of its kernel.
    pub kernel: String,
    /// What it computes with.
    pub open: OpenKernel,
    /// The way to the journal, for a lane that is recorded.
    pub keeper: Option<Keeper>,
}

enum Command {
    Open(Box<Opening>, Sender<Result<(), String>>),
    Close(u32, LaneStatus, Option<Sender<bool>>),
    Stop,
}

/// The control thread's end.
#[derive(Clone)]
pub struct Jobs {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
}

impl Jobs {
    /// Starts the thread, and the pool of `threads` (none: as many as there are cores).
    pub fn start(rows: JobRows, heat: Arc<Heat>, threads: Option<usize>) -> Result<(Self, JoinHandle<()>), String> {
        let say = |error: nix::errno::Errno| format!("cannot prepare the jobs: {error}");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(say)?;
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(say)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE)).map_err(say)?;
        let (commands, asked) = bounded(COMMANDS_MAX);
        let (ended, ends) = unbounded(); // at most one word a lane
        let wake = Arc::new(wake);
        let jobs = Self { commands, wake: Arc::clone(&wake) };
        let over = Over { ended, wake: Arc::clone(&wake) };
        let room = Room {
            pool: Pool::new(threads, heat)?,
            epoll,
            wake,
            asked,
            over,
            ends,
            lanes: HashMap::new(),
            free: (0..JOB_LANES_MAX).rev().collect(),
            rows,
            counts: Vec::new(),
            surveyed: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("jobs".into()).spawn(move || room.run());
        Ok((jobs, thread.map_err(|error| format!("cannot start the jobs' thread: {error}"))?))
    }

    fn send(&self, command: Command) -> bool {
        let sent = self.commands.send(command).is_ok();
        let _ = self.wake.write(1); // its count is read at every wake-up
        sent
    }

    /// Serves a lane from now on. None: the sidecar is stopping.
    #[must_use]
    pub fn open(&self, opening: Opening) -> Option<Result<(), String>> {
        let (answer, answered) = bounded(1);
        if !self.send(Command::Open(Box::new(opening), answer)) {
            return None;
        }
        answered.recv().ok()
    }

    /// Ends a lane once what it has submitted is done; tells `answer` then.
    pub fn close(&self, lane: u32, status: LaneStatus, answer: Option<Sender<bool>>) {
        let _ = self.send(Command::Close(lane, status, answer));
    }

    /// Lets every lane end, and the thread then.
    pub fn stop(&self) {
        let _ = self.send(Command::Stop);
    }
}

/// How the pool says that a lane is over.
#[derive(Clone)]
struct Over {
    ended: Sender<(u32, Option<LaneStatus>)>,
    wake: Arc<EventFd>,
}

impl Over {
    fn tell(&self, lane: u32, failed: Option<LaneStatus>) {
        let _ = self.ended.send((lane, failed));
        let _ = self.wake.write(1);
    }
}

/// What the thread owns. It waits for no lock that a thread of the pool may hold.
struct Room {
    pool: Arc<Pool>,
    epoll: Epoll,
    wake: Arc<EventFd>,
    asked: Receiver<Command>,
    over: Over,
    ends: Receiver<(u32, Option<LaneStatus>)>,
    lanes: HashMap<u32, Arc<Served>>,
    /// Lane rows that are free.
    free: Vec<usize>,
    rows: JobRows,
    /// Kernels in the order of their rows.
    counts: Vec<KernelCount>,
    /// When lanes were last told of that do not tell of themselves.
    surveyed: Instant,
}

impl Room {
    fn run(mut self) {
        let mut stopping = None;
        loop {
            let mut events = [EpollEvent::empty(); DOORBELLS_A_LOOK];
            // An interrupted wait is a wait that found nothing.
            let count = self.epoll.wait(&mut events, EpollTimeout::from((SLEEP_NS_MAX / 1_000_000) as u16)).unwrap_or(0);
            for event in &events[..count] {
                match self.lanes.get(&(event.data() as u32)) {
                    _ if event.data() == WAKE => drop(self.wake.read()),
                    Some(served) if !served.rung.swap(true, Ordering::SeqCst) => self.pool.submit(Hand::Doorbell(Arc::clone(served))),
                    _ => {}
                }
            }
            self.forget_ended();
            let stop = self.obey();
            self.publish();
            if stop && stopping.is_none() {
                stopping = Some(Instant::now());
                for served in self.lanes.values() {
                    self.pool.submit(Hand::Close(Arc::clone(served), LaneStatus::ShuttingDown, None));
                }
            }
            let late = stopping.is_some_and(|since| since.elapsed() > Duration::from_nanos(JOBS_STOP_NS_MAX));
            if late || stopping.is_some() && self.lanes.is_empty() {
                return;
            }
        }
    }

    /// Carries out what control asks. True: it is time to stop.
    fn obey(&mut self) -> bool {
        loop {
            match self.asked.try_recv() {
                Ok(Command::Open(opening, answer)) => drop(answer.send(self.open(*opening))),
                Ok(Command::Close(number, status, answer)) => match self.lanes.get(&number) {
                    Some(served) => self.pool.submit(Hand::Close(Arc::clone(served), status, answer)),
                    None => drop(answer.map(|answer| answer.send(true))),
                },
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    fn open(&mut self, opening: Opening) -> Result<(), String> {
        let number = opening.lane.number;
        let Some(row) = self.free.pop() else {
            return Err(format!("all {JOB_LANES_MAX} lanes for kernels other than orders are open"));
        };
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, u64::from(number));
        if let Err(error) = self.epoll.add(opening.lane.doorbell().as_fd(), event) {
            self.free.push(row);
            return Err(format!("cannot watch the lane's doorbell: {error}"));
        }
        let served = Served::new(opening, (row, Arc::clone(&self.rows.lanes[row])), self.over.clone());
        let _ = self.count_of(&served.kernel);
        self.lanes.insert(number, Arc::clone(&served));
        // Its first look parks it.
        self.pool.submit(Hand::Doorbell(served));
        Ok(())
    }

    fn forget_ended(&mut self) {
        while let Ok((number, failed)) = self.ends.try_recv() {
            if let Some(served) = self.lanes.remove(&number) {
                // Before the descriptor closes: a duplicate that the client keeps would leave a ghost in the set.
                let _ = self.epoll.delete(served.lane.doorbell().as_fd());
                self.free.push(served.row);
                if let Some(count) = self.count_of(&served.kernel) {
                    count.requests += served.done_slots.load(Ordering::Relaxed);
                    count.faults += u64::from(failed.is_some());
                    count.panics += u64::from(failed == Some(LaneStatus::KernelPanicked));
                }
            }
        }
    }

    /// The count of a kernel; none when there are more of them than rows.
    fn count_of(&mut self, name: &str) -> Option<&mut KernelCount> {
        let known = self.counts.iter().position(|count| count.name == name);
        if known.is_none() && self.counts.len() < self.rows.kernels.len() {
            self.rows.kernels[self.counts.len()].write_texts(&[(kernel::NAME, name)]);
            self.counts.push(KernelCount { name: name.to_owned(), requests: 0, faults: 0, panics: 0 });
        }
        self.counts.iter_mut().find(|count| count.name == name)
    }

    /// Tells the board what the kernels have done. Lanes tell of themselves while they are at work.
    fn publish(&mut self) {
        if self.surveyed.elapsed() >= Duration::from_nanos(SURVEY_PARKED_NS) {
            self.surveyed = Instant::now();
            self.lanes.values().for_each(|served| served.survey());
        }
        for (count, row) in self.counts.iter().zip(&self.rows.kernels) {
            let lanes = || self.lanes.values().filter(|served| served.kernel == count.name);
            let open: u64 = lanes().map(|served| served.done_slots.load(Ordering::Relaxed)).sum();
            let words = [
                (kernel::USED, 1),
                (kernel::LANES, lanes().count() as u64),
                (kernel::REQUESTS, count.requests + open),
                (kernel::FAULTS, count.faults),
                (kernel::PANICS, count.panics),
            ];
            row.write(&words);
        }
        self.rows.pool.write(&self.pool.words());
    }
}

/// What a kernel's closed lanes have done.
struct KernelCount {
    name: String,
    requests: u64,
    faults: u64,
    panics: u64,
}

/// The rows of the board that jobs write.
pub struct JobRows {
    lanes: Vec<Arc<BoardRow>>,
    kernels: Vec<BoardRow>,
    pool: BoardRow,
}

impl JobRows {
    /// Those of this board.
    #[must_use]
    pub fn of(board: &Board) -> Self {
        let pool = board.row(&POOL, 0);
        pool.write_texts(&[(pool_words::NAME, "jobs")]);
        Self {
            lanes: (LANES_MAX..LANE.rows).map(|row| Arc::new(board.row(&LANE, row))).collect(),
            kernels: (1..KERNELS_MAX).map(|row| board.row(&KERNEL, row)).collect(),
            pool,
        }
    }
}
