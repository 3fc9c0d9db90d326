//! The thread that empties the queue and sends it to the collector. All waiting for the collector happens here.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use prost::Message;
use ringlane_layout::board::traces;
use ringlane_layout::limits::{TRACE_RECORDS_A_REQUEST, TRACE_SEND_NS, TRACE_SEND_NS_MAX};
use ureq::Agent;

use super::otlp::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use super::{BatchTrace, TraceQueue, otlp};
use crate::board::BoardRow;
use crate::https::sender_to;

/// Time between two lines of the log about a collector that takes nothing.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// A collector, and what has become of the spans for it.
pub(super) struct Collector {
    agent: Agent,
    url: String,
    queue: Arc<TraceQueue>,
    row: BoardRow,
    /// Makes span ids: they need to be different, not secret.
    random: RandomState,
    spans: u64,
    told: Option<Instant>,
    /// Records whose loss in the queue the board knows of.
    dropped: u64,
}

impl Collector {
    pub(super) fn new(endpoint: &str, queue: Arc<TraceQueue>, row: BoardRow) -> Self {
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let agent = sender_to(&url, Duration::from_nanos(TRACE_SEND_NS_MAX));
        Self { agent, url, queue, row, random: RandomState::new(), spans: 0, told: None, dropped: 0 }
    }

    /// Until the sidecar ends: then what is left is sent once more, in one request.
    pub(super) fn run(&mut self) {
        loop {
            let is_last = self.queue.stopping.load(Ordering::Relaxed);
            let records: Vec<BatchTrace> = std::iter::from_fn(|| self.queue.records.pop()).take(TRACE_RECORDS_A_REQUEST).collect();
            if !records.is_empty() {
                self.send(&records);
            }
            self.count_dropped();
            if is_last {
                return;
            }
            if records.len() < TRACE_RECORDS_A_REQUEST {
                park_timeout(Duration::from_nanos(TRACE_SEND_NS));
            }
        }
    }

    fn send(&mut self, records: &[BatchTrace]) {
        let request = otlp::request(records, || {
            self.spans += 1;
            self.random.hash_one(self.spans).max(1)
        });
        let spans = (records.len() * otlp::SPANS_A_RECORD) as u64;
        match self.post(&request) {
            Ok(rejected) => {
                let rejected = rejected.min(spans);
                self.row.add(traces::SPANS_SENT, spans - rejected);
                self.row.add(traces::SPANS_DROPPED, rejected);
            }
            Err(words) => {
                self.row.add(traces::SPANS_DROPPED, spans);
                self.row.add(traces::SENDINGS_FAILED, 1);
                if self.told.is_none_or(|told| told.elapsed() > LINE_EVERY) {
                    self.told = Some(Instant::now());
                    tracing::warn!(url = self.url, spans, "the collector of traces takes nothing, so spans are dropped: {words}");
                }
            }
        }
    }

    /// Gives how many spans were rejected.
    fn post(&self, request: &ExportTraceServiceRequest) -> Result<u64, String> {
        let body = request.encode_to_vec();
        let mut answer =
            self.agent.post(&self.url).header("content-type", "application/x-protobuf").send(&body).map_err(|error| error.to_string())?;
        let body = answer.body_mut().with_config().limit(65536).read_to_vec().unwrap_or_default();
        let partial = ExportTraceServiceResponse::decode(&body[..]).ok().and_then(|answer| answer.partial_success);
        Ok(partial.map_or(0, |partial| partial.rejected_spans.max(0) as u64))
    }

    /// Tells the board of records for which the queue had no room.
    fn count_dropped(&mut self) {
        let dropped = self.queue.dropped.load(Ordering::Relaxed);
        if dropped != self.dropped {
            self.row.add(traces::SPANS_DROPPED, (dropped - self.dropped) * otlp::SPANS_A_RECORD as u64);
            self.dropped = dropped;
        }
    }
}
