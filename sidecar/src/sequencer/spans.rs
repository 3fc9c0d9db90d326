//! Which batches hold requests of a worker's span, and when their stages ended. Without a collector a batch pays a branch;
//! without the feature `otel` nothing.

use crate::lanes::Lane;

#[cfg(feature = "otel")]
pub(super) use on::Tracing;

#[cfg(not(feature = "otel"))]
pub(super) use off::Tracing;

/// When the slots of a row's lane were first seen.
#[derive(Debug, Default)]
pub(super) struct Sighted {
    /// Slots below this were first seen at `since_ns`.
    #[cfg_attr(not(feature = "otel"), expect(dead_code))]
    upto: u64,
    /// Nanoseconds since 1970.
    #[cfg_attr(not(feature = "otel"), expect(dead_code))]
    since_ns: u64,
}

#[cfg(feature = "otel")]
mod on {
    use std::sync::Arc;

    use ringlane_layout::limits::TRACED_SPANS_A_BATCH;
    use ringlane_layout::region::SpanContext;

    use super::{Lane, Sighted};
    use crate::sequencer::wall_clock_ns;
    use crate::traces::{BatchTrace, TraceQueue};

    /// Requests of one span in a batch.
    #[derive(Debug, Clone, Copy)]
    struct Found {
        context: SpanContext,
        /// Place of the first one in the batch.
        first: u32,
        count: u32,
    }

    /// A batch that is traced.
    #[derive(Debug)]
    pub(in crate::sequencer) struct Times {
        ns: [u64; 5],
        sequence: u64,
        batch: u32,
        /// How many of `ns` are known.
        known: usize,
    }

    /// The sequencer's way to the traces.
    #[derive(Debug, Default)]
    pub(in crate::sequencer) struct Tracing {
        queue: Option<Arc<TraceQueue>>,
        /// Spans of the batch at hand.
        found: Vec<Found>,
    }

    impl Tracing {
        /// Leaves records in this queue from now on.
        pub(in crate::sequencer) fn into_queue(queue: Arc<TraceQueue>) -> Self {
            Self { queue: Some(queue), found: Vec::with_capacity(TRACED_SPANS_A_BATCH) }
        }

        /// The slots of a lane below `end` were submitted.
        #[inline]
        pub(in crate::sequencer) fn see(&self, sighted: &mut Sighted, lane: &Lane, end: u64) {
            if self.queue.is_some() && lane.is_traced() && lane.next_slot() >= sighted.upto {
                *sighted = Sighted { upto: end, since_ns: wall_clock_ns() };
            }
        }

        /// A batch of `count` slots begins, the first of them with number `sequence`.
        #[inline]
        pub(in crate::sequencer) fn begin(&mut self, sighted: &Sighted, lane: &Lane, count: usize, sequence: u64) -> Option<Times> {
            if self.queue.is_none() || !lane.is_traced() {
                return None;
            }
            self.find(lane, count);
            if self.found.is_empty() {
                return None;
            }
            let now_ns = wall_clock_ns();
            let seen_ns = if sighted.since_ns == 0 { now_ns } else { sighted.since_ns.min(now_ns) };
            Some(Times { ns: [seen_ns, now_ns, 0, 0, 0], sequence, batch: count as u32, known: 2 })
        }

        /// Collects the spans of the slots that come next; what goes beyond so many of them is counted as dropped.
        fn find(&mut self, lane: &Lane, count: usize) {
            self.found.clear();
            for index in 0..count {
                let Some(context) = lane.span_context(lane.next_slot() + index as u64) else { continue };
                match self.found.iter().rposition(|found| found.context == context) {
                    Some(at) => self.found[at].count += 1,
                    None if self.found.len() < TRACED_SPANS_A_BATCH => {
                        self.found.push(Found { context, first: index as u32, count: 1 });
                    }
                    None => self.queue.iter().for_each(|queue| queue.drop_some(1)),
                }
            }
        }

        /// A stage of the batch ended.
        #[inline]
        pub(in crate::sequencer) fn lap(times: &mut Option<Times>) {
            if let Some(times) = times {
                // The clock may be set back; spans do not end before they begin.
                times.ns[times.known] = wall_clock_ns().max(times.ns[times.known - 1]);
                times.known += 1;
            }
        }

        /// The results of the batch are visible, and all its stages have ended.
        #[inline]
        pub(in crate::sequencer) fn end(&self, times: Option<Times>, lane: u32) {
            let (Some(times), Some(queue)) = (times, &self.queue) else { return };
            for found in &self.found {
                queue.push(BatchTrace {
                    context: found.context,
                    lane,
                    sequence: times.sequence + u64::from(found.first),
                    requests: found.count,
                    batch: times.batch,
                    times_ns: times.ns,
                });
            }
        }
    }
}

#[cfg(not(feature = "otel"))]
mod off {
    use super::{Lane, Sighted};

    /// Nothing is traced.
    #[derive(Debug, Default)]
    pub(in crate::sequencer) struct Tracing {}

    impl Tracing {
        #[inline]
        pub(in crate::sequencer) fn see(&self, _: &mut Sighted, _: &Lane, _: u64) {}

        #[inline]
        pub(in crate::sequencer) fn begin(&mut self, _: &Sighted, _: &Lane, _: usize, _: u64) -> Option<()> {
            None
        }

        #[inline]
        pub(in crate::sequencer) fn lap(_: &mut Option<()>) {}

        #[inline]
        pub(in crate::sequencer) fn end(&self, _: Option<()>, _: u32) {}
    }
}
