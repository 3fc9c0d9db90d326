//! Traces: what the sequencer did with the requests of a worker's span, as child spans for an OpenTelemetry collector.
//!
//! The sequencer notes one [`BatchTrace`] for each batch and each span in it, of fixed size, in a bounded queue; a thread of
//! its own makes spans of them and sends them as OTLP over HTTP. Nobody waits for that thread: what does not fit, or what the
//! collector does not take, is dropped and counted on the board.

mod collector;
mod otlp;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam::queue::ArrayQueue;
use ringlane_layout::limits::TRACE_QUEUE_RECORDS;
use ringlane_layout::region::SpanContext;

use crate::board::BoardRow;
use crate::config::TracesConfig;

/// What the sequencer did with those requests of one batch that belong to one span of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchTrace {
    /// The worker's span.
    pub context: SpanContext,
    /// The lane.
    pub lane: u32,
    /// Sequence number of the first of those requests.
    pub sequence: u64,
    /// How many of the batch's requests are the span's.
    pub requests: u32,
    /// How many requests the batch has.
    pub batch: u32,
    /// When they were first seen, when the batch began, and when it was journaled, computed and visible; nanoseconds since 1970.
    pub times_ns: [u64; 5],
}

/// Where the sequencer leaves what it did.
#[derive(Debug)]
pub struct TraceQueue {
    records: ArrayQueue<BatchTrace>,
    dropped: AtomicU64,
    stopping: AtomicBool,
}

impl TraceQueue {
    fn new() -> Self {
        Self { records: ArrayQueue::new(TRACE_QUEUE_RECORDS), dropped: AtomicU64::new(0), stopping: AtomicBool::new(false) }
    }

    /// Leaves a record, or counts it where there is no room. Never waits.
    #[inline]
    pub fn push(&self, record: BatchTrace) {
        if self.records.push(record).is_err() {
            self.drop_some(1);
        }
    }

    /// Counts records for which there was no room.
    #[cold]
    pub fn drop_some(&self, records: u64) {
        self.dropped.fetch_add(records, Ordering::Relaxed);
    }
}

/// The thread that sends spans.
#[derive(Debug)]
pub struct Exporter {
    queue: Arc<TraceQueue>,
    thread: JoinHandle<()>,
}

impl Exporter {
    /// Starts it, if a collector is configured. `row` is its own row of the board.
    pub fn start(config: &TracesConfig, row: BoardRow) -> Result<Option<Self>, String> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let queue = Arc::new(TraceQueue::new());
        let mut collector = collector::Collector::new(endpoint, Arc::clone(&queue), row);
        let thread = std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || collector.run())
            .map_err(|error| format!("cannot start the thread that sends traces: {error}"))?;
        tracing::info!(endpoint, "traces");
        Ok(Some(Self { queue, thread }))
    }

    /// Where records go.
    #[must_use]
    pub fn queue(&self) -> Arc<TraceQueue> {
        Arc::clone(&self.queue)
    }

    /// Sends what is left, for as long as one sending may take, and ends the thread.
    pub fn stop(self) {
        self.queue.stopping.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}
