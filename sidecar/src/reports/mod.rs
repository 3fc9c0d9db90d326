//! Reports of what went wrong, for Sentry: panics, faults of lanes above a rate, errors of the journal. They carry the lane's
//! context and nothing of what clients sent. A bounded queue and a thread of its own: nobody waits for Sentry; what does not
//! fit, or what it does not take, is dropped and counted on the board.

mod envelope;
mod panic;
mod pick;
mod sender;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use ringlane_layout::limits::{REPORT_LAST_NS, REPORT_QUEUE_REPORTS};

use crate::board::{Board, BoardRow};
use crate::config::{Dsn, SentryConfig};
use ringlane_layout::board::SENTRY;

pub use panic::serving;
pub use pick::{Pick, picked};

/// What is reported, on its way to the thread that sends.
#[derive(Debug)]
enum Report {
    /// A lane ended by a fault.
    Fault(Words),
    /// Something else that the log tells of too.
    Error(Words),
    /// A panic.
    Panic(Box<panic::Panicked>),
}

/// What was said of it, and by whom.
#[derive(Debug)]
struct Words {
    message: String,
    /// Module that said it.
    target: &'static str,
    /// What it was about, by name.
    fields: BTreeMap<&'static str, String>,
}

/// Where reports wait, once there is somebody to send them.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

#[derive(Debug)]
struct Queue {
    reports: ArrayQueue<Report>,
    dropped: AtomicU64,
    stopping: AtomicBool,
    /// The sidecar's address, as soon as it has a board.
    address: OnceLock<String>,
}

impl Queue {
    /// Leaves a report, or counts it where there is no room. Never waits.
    fn push(&self, report: Report) {
        if self.reports.push(report).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Reports something that ends a start.
pub fn tell_start(words: &str) {
    if let Some(queue) = QUEUE.get() {
        let message = format!("cannot start: {words}");
        queue.push(Report::Error(Words { message, target: module_path!(), fields: BTreeMap::new() }));
    }
}

/// The thread that sends, until it is dropped.
pub struct Reports {
    queue: Arc<Queue>,
    row: Arc<OnceLock<BoardRow>>,
    thread: Option<JoinHandle<()>>,
}

impl Reports {
    /// Starts it, if a Sentry is configured. Once a process.
    pub fn start(config: &SentryConfig) -> Result<Option<Self>, String> {
        let Some(dsn) = config.dsn.as_deref().and_then(Dsn::read) else { return Ok(None) };
        let queue = Arc::new(Queue {
            reports: ArrayQueue::new(REPORT_QUEUE_REPORTS),
            dropped: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            address: OnceLock::new(),
        });
        if QUEUE.set(Arc::clone(&queue)).is_err() {
            return Err("reports to Sentry can be started once in a process".into());
        }
        let row = Arc::new(OnceLock::new());
        let mut sender = sender::Sender::new(dsn, config, Arc::clone(&queue), Arc::clone(&row));
        let thread = std::thread::Builder::new()
            .name("reports".into())
            .spawn(move || sender.run())
            .map_err(|error| format!("cannot start the thread that reports errors: {error}"))?;
        panic::hook(Arc::clone(&queue));
        Ok(Some(Self { queue, row, thread: Some(thread) }))
    }

    /// There is a board now: counts go there, and what it says of a lane goes into its reports.
    pub fn show_on(&self, board: &Board, address: &str) {
        let _ = self.row.set(board.row(&SENTRY, 0));
        let _ = self.queue.address.set(address.to_owned());
    }
}

impl Drop for Reports {
    /// What is left is sent, if that takes no longer than `REPORT_LAST_NS`; also while a panic ends the sidecar.
    fn drop(&mut self) {
        self.queue.stopping.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        let until = Instant::now() + Duration::from_nanos(REPORT_LAST_NS);
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
