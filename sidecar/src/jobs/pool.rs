//! The threads that jobs run on. Orders come first: while an order lane is open, jobs run on threads that the system lets run
//! only where nobody else wants to (SCHED_IDLE), and while orders are hot, on one core less than there are.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam::queue::SegQueue;
use nix::libc;
use nix::unistd::{Pid, gettid};
use rayon::{ThreadPool, ThreadPoolBuilder};
use ringlane_layout::board::pool;

use super::Heat;
use super::hand::{Hand, Scratch};
use crate::cores::Cores;

/// Threads up to which the one that is kept for orders is sorely missed.
const THREADS_FEW: usize = 4;

/// Work that waits, and who does it.
pub struct Pool {
    /// At most one entry for each hand of each lane, and two more a lane.
    queue: SegQueue<Hand>,
    /// Threads that take work.
    active: AtomicUsize,
    workers: Box<[Worker]>,
    cores: Cores,
    turns: AtomicU64,
    busy_ns: AtomicU64,
    heat: Arc<Heat>,
}

/// Who does it: one thread, in either of two classes. Each is a pool of its own, for who sends it decides where it wakes.
struct Worker {
    is_sent: AtomicBool,
    /// Behind everybody.
    idle: ThreadPool,
    /// As anybody, and its number for the system.
    plain: (ThreadPool, Pid),
}

impl Worker {
    fn new(index: usize) -> Result<Self, String> {
        let build = |name: &'static str, start: fn(usize)| {
            let pool = ThreadPoolBuilder::new().num_threads(1).thread_name(move |_| format!("{name}-{index}"));
            pool.start_handler(start).build().map_err(|error| format!("cannot start the threads of jobs: {error}"))
        };
        let (idle, plain) = (build("jobs-idle", |_| stand_last())?, build("jobs", |_| {})?);
        let number = plain.install(gettid);
        Ok(Self { is_sent: AtomicBool::new(false), idle, plain: (plain, number) })
    }
}

impl Pool {
    /// As many threads as there are cores, or as are told.
    pub fn new(threads: Option<usize>, heat: Arc<Heat>) -> Result<Arc<Self>, String> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = threads.unwrap_or(cores).max(1);
        Ok(Arc::new(Self {
            queue: SegQueue::new(),
            active: AtomicUsize::new(0),
            workers: (0..threads).map(Worker::new).collect::<Result<_, _>>()?,
            cores: Cores::new(threads),
            turns: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            heat,
        }))
    }

    fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Threads that may work now.
    pub fn allowed(&self) -> usize {
        if self.heat.is_hot() { (self.threads() - 1).max(1) } else { self.threads() }
    }

    /// Whether work waits.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What the board tells of it.
    pub fn words(&self) -> [(usize, u64); 5] {
        [
            (pool::THREADS, self.threads() as u64),
            (pool::QUEUED, self.queue.len() as u64),
            (pool::RUNNING, self.active.load(Ordering::Relaxed) as u64),
            (pool::JOBS, self.turns.load(Ordering::Relaxed)),
            (pool::BUSY_NS, self.busy_ns.load(Ordering::Relaxed)),
        ]
    }

    /// Queues work, and sends a thread for it.
    pub fn submit(self: &Arc<Self>, hand: Hand) {
        self.queue.push(hand);
        self.staff();
    }

    /// Sends one thread more, if one may work and is not sent yet.
    fn staff(self: &Arc<Self>) {
        let allowed = self.allowed();
        let sent = self.active.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |active| (active < allowed).then_some(active + 1));
        if sent.is_ok() {
            let (pool, behind, index) = (Arc::clone(self), self.heat.has_orders(), self.vacant());
            let Worker { idle, plain: (plain, thread), .. } = &self.workers[index];
            if behind {
                idle.spawn(move || pool.drain(index, behind));
            } else {
                self.cores.keep_apart(index, *thread);
                plain.spawn(move || pool.drain(index, behind));
            }
        } else if allowed < self.threads() && self.threads() <= THREADS_FEW {
            self.heat.set_wanted(true);
        }
    }

    /// A worker that nobody has sent, for the caller to send. There is one: the caller is counted as active, and no more than
    /// there are workers can be.
    fn vacant(&self) -> usize {
        loop {
            if let Some(index) = self.workers.iter().position(|worker| !worker.is_sent.swap(true, Ordering::SeqCst)) {
                return index;
            }
            std::hint::spin_loop();
        }
    }

    /// One worker's turn: works until nothing waits, too many work, or it is in the wrong class.
    fn drain(self: Arc<Self>, index: usize, behind: bool) {
        thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new()));
        if !behind {
            self.cores.open(index);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            while self.active.load(Ordering::SeqCst) <= self.allowed() && behind == self.heat.has_orders() {
                let Some(hand) = self.queue.pop() else {
                    self.heat.set_wanted(false);
                    break;
                };
                self.cores.come(index);
                let begin = Instant::now();
                let again = hand.turn(&self, scratch);
                let others_wait = self.is_busy();
                again.into_iter().for_each(|hand| self.queue.push(hand));
                self.turns.fetch_add(1, Ordering::Relaxed);
                self.busy_ns.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
                if others_wait {
                    self.staff();
                }
                if behind {
                    // A kernel that preempts lazily looks who wants the core only when a thread enters it, or at its tick.
                    std::thread::yield_now();
                }
            }
        });
        self.cores.go(index);
        self.workers[index].is_sent.store(false, Ordering::SeqCst);
        self.active.fetch_sub(1, Ordering::SeqCst);
        // Whoever queued work since the last look saw this thread as active.
        if self.is_busy() {
            self.staff();
        }
    }
}

/// The calling thread runs from now on only where nobody else wants to.
fn stand_last() {
    // SAFETY: a plain structure of the C interface, for which zeros are a value.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: a system call about the calling thread (0) that reads the structure it is given.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) } != 0 {
        tracing::warn!("jobs could not be put behind orders: sched_setscheduler failed");
    }
}
