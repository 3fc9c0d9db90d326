//! What is the same in a live sidecar and in a replay: sequence numbers, kernels, and the running hash of their outputs.
//! No lane, file or clock enters here, so that a journal gives the same bits wherever it is applied.

mod voids;

use ringlane_layout::limits::{BATCH_SLOTS_MAX, RESTING_ORDERS_MAX};
use ringlane_layout::market::MarketRecord;
use ringlane_layout::orders::{AccountLimits, AdminAction, BookLimits, Instrument, OrderRequest, OrderResult, TimeRecord};
use ringlane_layout::record::RecordBytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::configured::Configured;
use crate::crash;
use crate::journal::{Frame, FrameKind, LaneClose, LaneOpen};
use crate::kernels::orders::{OrderKernel, Outgoing, Parallel, Sequential};

pub use voids::Broken;

/// Semantic version of the kernels; it changes whenever the same records would give other results.
pub const ENGINE_VERSION: u32 = 2;

/// Sequence numbers, kernels and outputs.
pub struct Engine {
    /// The order kernel.
    pub orders: OrderKernel,
    /// What the configuration said of accounts last.
    pub configured: Configured,
    /// Sequence number of the next record, from 1.
    next_sequence: u64,
    /// Running XXH3-64 of all outputs so far: results, then events, batch by batch.
    output_hash: u64,
    /// As many as the largest batch so far had, or an ordinary one may have.
    results: Vec<OrderResult>,
    events: Vec<Outgoing>,
    /// Threads for large batches.
    parallel: Option<Parallel>,
    matching: Matching,
    /// Highest lane number that was opened.
    lane_last: u32,
    /// Lanes that are open, as they were opened.
    open_lanes: Vec<LaneOpen>,
}

/// How large batches were matched since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Matching {
    /// By symbol on several threads.
    pub parallel: u64,
    /// In sequence, by the reason's number in `Sequential`.
    pub sequential: [u64; Sequential::ALL.len()],
}

/// What one batch gave.
#[derive(Debug)]
pub struct Output<'a> {
    /// One result a request.
    pub results: &'a [OrderResult],
    /// Events for the lanes of resting orders, in (sequence, k) order.
    pub events: &'a [Outgoing],
    /// Work done: one an order, one a fill or cancel.
    pub work: u64,
}

impl Engine {
    /// An engine without instruments, accounts and lanes. `hash_seed` decides where ids lie in hash tables and no result: a
    /// sidecar takes a random one, so that no client can choose ids that collide.
    #[must_use]
    pub fn new(hash_seed: u64) -> Self {
        Self {
            orders: OrderKernel::with_hash_seed(RESTING_ORDERS_MAX, hash_seed),
            configured: Configured::default(),
            next_sequence: 1,
            output_hash: 0,
            results: vec![OrderResult::default(); BATCH_SLOTS_MAX],
            parallel: None,
            matching: Matching::default(),
            events: Vec::with_capacity(4096),
            lane_last: 0,
            open_lanes: Vec::new(),
        }
    }

    /// Sequence number that the next record gets.
    #[must_use]
    pub const fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Running hash of all outputs.
    #[must_use]
    pub const fn output_hash(&self) -> u64 {
        self.output_hash
    }

    /// Highest lane number so far.
    #[must_use]
    pub const fn lane_last(&self) -> u32 {
        self.lane_last
    }

    /// Lanes that were opened and not closed, as they were opened.
    #[must_use]
    pub fn open_lanes(&self) -> &[LaneOpen] {
        &self.open_lanes
    }

    /// Takes numbers over from a snapshot.
    pub fn restore(&mut self, next_sequence: u64, output_hash: u64, lane_last: u32) {
        (self.next_sequence, self.output_hash, self.lane_last) = (next_sequence.max(1), output_hash, lane_last);
    }

    /// Takes an open lane over from a snapshot; its grant is the kernel's and comes with the kernel's sections.
    pub fn restore_lane(&mut self, open: LaneOpen) {
        self.open_lanes.push(open);
    }

    /// From now on batches of `batch_min` orders and more are matched by symbol on `threads` threads, the caller's own among
    /// them, where that is proven to change nothing. One thread: never.
    pub fn match_in_parallel(&mut self, threads: usize, batch_min: usize) -> Result<(), String> {
        self.parallel = if threads > 1 { Some(Parallel::new(threads, batch_min)?) } else { None };
        Ok(())
    }

    /// From how many orders on a batch may be matched on several threads. None: never.
    #[must_use]
    pub fn parallel_from(&self) -> Option<usize> {
        self.parallel.as_ref().map(Parallel::batch_min)
    }

    /// How large batches were matched.
    #[must_use]
    pub const fn matching(&self) -> &Matching {
        &self.matching
    }

    /// Makes places for so many results, if a batch is larger than any before.
    #[inline]
    fn make_places(&mut self, requests: usize) {
        if requests > self.results.len() {
            self.results.resize(requests, OrderResult::default());
        }
    }

    /// Matches a large batch in parallel if it qualifies. None: it must go in sequence.
    #[cold]
    #[inline(never)]
    fn match_large(&mut self, lane: u32, requests: &[OrderRequest]) -> Option<u64> {
        let parallel = self.parallel.as_mut()?;
        let results = &mut self.results[..requests.len()];
        match parallel.process(&mut self.orders, (self.next_sequence, lane), requests, results, &mut self.events) {
            Ok(work) => {
                self.matching.parallel += 1;
                Some(work)
            }
            Err(reason) => {
                self.matching.sequential[reason as usize] += 1;
                None
            }
        }
    }

    /// Applies a batch of order requests, at most `BATCH_SLOTS_MAX`, or `PARALLEL_BATCH_SLOTS_MAX` where batches may be matched in
    /// parallel, or once were.
    #[inline]
    pub fn process_orders(&mut self, lane: u32, requests: &[RecordBytes]) -> Output<'_> {
        let requests: &[OrderRequest] = bytemuck::cast_slice(requests);
        self.make_places(requests.len());
        self.events.clear();
        if let Some(at) = crash::poisoned(requests) {
            self.orders.process(self.next_sequence, lane, &requests[..at], &mut self.results[..at], &mut self.events);
            panic!("a test poisoned this record");
        }
        let large = self.parallel.as_ref().is_some_and(|parallel| requests.len() >= parallel.batch_min());
        let work = if large { self.match_large(lane, requests) } else { None };
        let results = &mut self.results[..requests.len()];
        let work = work.unwrap_or_else(|| self.orders.process(self.next_sequence, lane, requests, results, &mut self.events));
        self.next_sequence += requests.len() as u64;
        self.output_hash = xxh3_64_with_seed(bytemuck::cast_slice(results), self.output_hash);
        self.hash_events();
        Output { results: &self.results[..requests.len()], events: &self.events, work }
    }

    fn hash_events(&mut self) {
        // What nobody gets is no output, though a replay may ask for it.
        for outgoing in self.events.iter().filter(|outgoing| outgoing.lane != 0) {
            self.output_hash = xxh3_64_with_seed(bytemuck::bytes_of(&outgoing.event), self.output_hash ^ u64::from(outgoing.lane));
        }
    }

    /// Applies an instrument record.
    pub fn add_instrument(&mut self, instrument: &Instrument) -> Result<(), String> {
        self.orders.add_instrument(instrument).map_err(|error| error.to_string())?;
        self.next_sequence += 1;
        Ok(())
    }

    /// Applies a book limits record.
    pub fn set_book_limits(&mut self, limits: &BookLimits) {
        self.next_sequence += 1;
        self.orders.set_resting_orders_max(limits.resting_orders_max);
    }

    /// Applies an accounts record.
    pub fn set_accounts(&mut self, accounts: &AccountLimits) -> Result<(), String> {
        self.orders.set_accounts(accounts).map_err(|error| error.to_string())?;
        if accounts.live == 0 {
            self.configured.set(accounts);
        }
        self.next_sequence += 1;
        Ok(())
    }

    /// Applies a time record; orders expire.
    pub fn advance(&mut self, time: &TimeRecord) -> Result<Output<'_>, String> {
        self.events.clear();
        let work = self.orders.advance(self.next_sequence, time, &mut self.events)?;
        self.next_sequence += 1;
        self.hash_events();
        Ok(Output { results: &[], events: &self.events, work })
    }

    /// Applies what an administrator did. Says how many orders it cancelled.
    pub fn administer(&mut self, action: &AdminAction) -> Result<(u32, Output<'_>), String> {
        self.events.clear();
        let (count, work) = self.orders.administer(self.next_sequence, action, &mut self.events)?;
        self.next_sequence += 1;
        self.hash_events();
        Ok((count, Output { results: &[], events: &self.events, work }))
    }

    /// Applies a record by one of the methods here, so that what it put out can be asked for later.
    pub fn decide(&mut self, apply: impl FnOnce(&mut Self) -> Result<u64, String>) -> Result<u64, String> {
        self.events.clear();
        apply(self)
    }

    /// Counts records that change nothing here: what other kernels were asked and answered, and what says which records are void.
    pub fn pass(&mut self, records: usize) {
        self.next_sequence += records as u64;
    }

    /// Applies the opening of a lane.
    pub fn open_lane(&mut self, open: &LaneOpen) {
        self.next_sequence += 1;
        self.lane_last = self.lane_last.max(open.lane);
        self.open_lanes.push(*open);
        self.orders.open_lane(open.lane, open.account_first, open.account_last);
    }

    /// Applies the end of a lane.
    pub fn close_lane(&mut self, close: &LaneClose) -> Output<'_> {
        self.events.clear();
        let work = self.orders.close_lane(close.lane, close.cancel_orders != 0);
        self.next_sequence += 1;
        self.open_lanes.retain(|open| open.lane != close.lane);
        self.hash_events();
        Output { results: &[], events: &self.events, work }
    }

    /// What the frame that was applied last put out, if it had so many order requests.
    #[must_use]
    pub fn outputs(&self, requests: usize) -> Output<'_> {
        Output { results: &self.results[..requests], events: &self.events, work: 0 }
    }

    /// What the record or batch that was applied last changed in watched symbols: `requests` if it were orders.
    #[inline]
    pub fn market(&mut self, requests: Option<&[RecordBytes]>, sink: &mut impl FnMut(MarketRecord)) {
        self.orders.market(self.next_sequence - 1, requests.map(bytemuck::cast_slice), &self.events, sink);
    }

    /// Applies one frame of a journal. An error says what in it contradicts what was applied so far.
    pub fn apply(&mut self, frame: &Frame) -> Result<(), String> {
        if frame.header.first_sequence != self.next_sequence {
            return Err(format!("a frame begins at sequence {} where {} was expected", frame.header.first_sequence, self.next_sequence));
        }
        if frame.header.output_hash != self.output_hash {
            return Err(format!(
                "outputs before sequence {} differ from the recorded ones (hash {:016x}, recorded {:016x})",
                self.next_sequence, self.output_hash, frame.header.output_hash
            ));
        }
        self.events.clear();
        if frame.has_voids() {
            self.apply_void(frame);
            return Ok(());
        }
        let mut records = frame.records.iter();
        match frame.kind {
            FrameKind::Orders => {
                self.process_orders(frame.header.lane, frame.records);
            }
            FrameKind::Instruments => records.try_for_each(|record| self.add_instrument(bytemuck::cast_ref(record)))?,
            FrameKind::Accounts => records.try_for_each(|record| self.set_accounts(bytemuck::cast_ref(record)))?,
            FrameKind::BookLimits => records.for_each(|record| self.set_book_limits(bytemuck::cast_ref(record))),
            FrameKind::LaneOpen => records.for_each(|record| self.open_lane(bytemuck::cast_ref(record))),
            FrameKind::LaneClose => records.for_each(|record| {
                self.close_lane(bytemuck::cast_ref(record));
            }),
            FrameKind::Time => records.try_for_each(|record| self.advance(bytemuck::cast_ref(record)).map(drop))?,
            FrameKind::Admin => records.try_for_each(|record| self.administer(bytemuck::cast_ref(record)).map(drop))?,
            FrameKind::Void | FrameKind::Job => self.pass(frame.records.len()),
            FrameKind::End | FrameKind::Stop => {}
        }
        Ok(())
    }
}
