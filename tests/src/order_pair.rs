//! The order kernel and its twin side by side: every request goes to both, every answer is compared.

use ringlane_layout::orders::{
    AccountLimits, AdminAction, Instrument, Op, OrderEvent, OrderRequest, OrderResult, OrderType, Side, TimeInForce, TimeRecord,
};
use ringlane_sidecar::kernels::orders::{Frozen, OrderKernel, Outgoing, Parallel, Sequential};
use ringlane_sidecar::section::{Section, SectionSink};

use crate::coverage::Coverage;
use crate::market_reader::MarketReader;
use crate::order_twin::Twin;

/// An instrument that is right, named S1, S2, ...
#[must_use]
pub fn instrument(symbol: u32, tick: i64, lot: i64, reference_price: i64) -> Instrument {
    let mut name = [0; 24];
    let text = format!("S{symbol}");
    name[..text.len()].copy_from_slice(text.as_bytes());
    Instrument { symbol, tick, lot, reference_price, name, ..Instrument::default() }
}

/// A good-till-cancelled limit order in symbol 1.
#[must_use]
pub fn limit(side: Side, account: u32, client_order_id: u64, price: i64, quantity: i64) -> OrderRequest {
    OrderRequest {
        op: Op::New as u8,
        side: side as u8,
        order_type: OrderType::Limit as u8,
        time_in_force: TimeInForce::Gtc as u8,
        symbol: 1,
        account,
        client_order_id,
        price,
        quantity,
        ..OrderRequest::default()
    }
}

#[derive(Default)]
struct Sections(Vec<(u32, u32, u64, Vec<u8>)>);

impl SectionSink for Sections {
    fn begin(&mut self, kind: u32, version: u32, bytes: u64) -> Result<(), String> {
        self.0.push((kind, version, bytes, Vec::new()));
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.last_mut().ok_or("a section was not begun")?.3.extend_from_slice(bytes);
        Ok(())
    }
}

/// Every byte of a kernel's snapshot.
#[must_use]
pub fn snapshot_bytes(kernel: &OrderKernel) -> Vec<u8> {
    let mut frozen = Frozen::prepare(kernel.copy_size());
    kernel.freeze(&mut frozen);
    let mut sections = Sections::default();
    frozen.write(&mut sections).expect("memory takes everything");
    sections
        .0
        .into_iter()
        .flat_map(|(kind, version, _, bytes)| [kind.to_le_bytes().to_vec(), version.to_le_bytes().to_vec(), bytes].concat())
        .collect()
}

/// Applies a batch in parallel, or in sequence where that must be.
pub fn process_in_parallel(
    (parallel, kernel): (&mut Parallel, &mut OrderKernel),
    numbers: (u64, u32),
    requests: &[OrderRequest],
    results: &mut [OrderResult],
    out: &mut Vec<Outgoing>,
) -> Result<u64, Sequential> {
    let outcome = parallel.process(kernel, numbers, requests, results, out);
    if outcome.is_err() {
        kernel.process(numbers.0, numbers.1, requests, results, out);
    }
    outcome
}

/// The kernel as a snapshot of it gives it back.
#[must_use]
pub fn through_snapshot(kernel: &OrderKernel, hash_seed: u64) -> OrderKernel {
    let mut frozen = Frozen::prepare(kernel.copy_size());
    kernel.freeze(&mut frozen);
    let mut sections = Sections::default();
    frozen.write(&mut sections).expect("memory takes everything");
    let mut restored = OrderKernel::with_hash_seed(0, hash_seed);
    for (kind, version, announced, bytes) in &sections.0 {
        assert_eq!(*announced, bytes.len() as u64, "length of section {kind}");
        let section = Section { kind: *kind, version: *version, bytes };
        assert!(restored.restore(&section).expect("what was written can be read"), "section {kind} is the kernel's own");
        let newer = Section { version: version + 1, ..section };
        assert!(OrderKernel::new(0).restore(&newer).is_err(), "a newer section {kind} is refused");
    }
    assert_eq!(frozen.state_hash(), kernel.state_hash(), "state hash of the copy");
    assert_eq!(restored.state_hash(), kernel.state_hash(), "state hash behind the snapshot");
    assert_eq!(restored.counters(), kernel.counters());
    restored
}

/// Kernels that see the same stream in different cuts and with different hash seeds, and the twin.
pub struct Pair {
    /// The kernel under test; its symbols are watched, and nobody else's.
    pub kernel: OrderKernel,
    reader: MarketReader,
    /// What the streams reached.
    pub coverage: Coverage,
    /// Another one, which takes every request as a batch of its own, and goes through a snapshot at each comparison.
    one_by_one: OrderKernel,
    /// A third one, which takes the batches of the first, by symbol on two threads where that may be.
    in_parallel: OrderKernel,
    parallel: Parallel,
    /// The twin.
    pub twin: Twin,
    sequence: u64,
    symbols: u32,
    accounts: u32,
}

impl Pair {
    /// Neither symbols nor accounts.
    #[must_use]
    pub fn new(resting_orders_max: usize) -> Self {
        let mut kernel = OrderKernel::new(resting_orders_max);
        let one_by_one = OrderKernel::with_hash_seed(resting_orders_max, 0x1234_5678_9abc_def0);
        let mut in_parallel = OrderKernel::with_hash_seed(resting_orders_max, 77);
        // What is fetched ahead may have changed before it is used; a small kernel would not fetch.
        kernel.set_near_entries_max(0);
        in_parallel.set_near_entries_max(0);
        Self {
            kernel,
            reader: MarketReader::default(),
            coverage: Coverage::default(),
            one_by_one,
            in_parallel,
            parallel: Parallel::new(2, 1).expect("there is a thread"),
            twin: Twin::new(resting_orders_max),
            sequence: 0,
            symbols: 0,
            accounts: 0,
        }
    }

    /// Adds an instrument that is right.
    pub fn add_instrument(&mut self, record: &Instrument) {
        self.kernel.watch_new_symbols();
        self.kernel.add_instrument(record).expect("the record is right");
        self.one_by_one.add_instrument(record).expect("the record is right");
        self.in_parallel.add_instrument(record).expect("the record is right");
        self.twin.add_instrument(record);
        self.symbols += 1;
    }

    /// Sets limits that are right.
    pub fn set_accounts(&mut self, record: &AccountLimits) {
        self.kernel.set_accounts(record).expect("the record is right");
        self.one_by_one.set_accounts(record).expect("the record is right");
        self.in_parallel.set_accounts(record).expect("the record is right");
        self.twin.set_accounts(record);
        self.accounts = self.accounts.max(record.account_last.min(64));
    }

    /// Opens a lane.
    pub fn open_lane(&mut self, lane: u32, first: u32, last: u32) {
        self.kernel.open_lane(lane, first, last);
        self.one_by_one.open_lane(lane, first, last);
        self.in_parallel.open_lane(lane, first, last);
        self.twin.open_lane(lane, first, last);
    }

    /// Closes a lane, which adds no event.
    pub fn close_lane(&mut self, lane: u32, cancel_orders: bool) {
        self.sequence += 1;
        self.kernel.close_lane(lane, cancel_orders);
        self.reader.read(&mut self.kernel, self.sequence, None, &[]);
        self.one_by_one.close_lane(lane, cancel_orders);
        self.in_parallel.close_lane(lane, cancel_orders);
        self.twin.close_lane(lane, cancel_orders);
    }

    /// Lets sequenced time advance; never back. Every event must be the twin's.
    pub fn advance(&mut self, time_ns: u64, ends_day: bool) -> Vec<(u32, OrderEvent)> {
        let time = TimeRecord { time_ns: time_ns.max(self.kernel.now_ns()), ends_day: ends_day.into(), ..TimeRecord::default() };
        self.sequence += 1;
        let (mut out, mut out_single, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        self.kernel.advance(self.sequence, &time, &mut out).expect("time does not go back");
        self.reader.read(&mut self.kernel, self.sequence, None, &out);
        self.one_by_one.advance(self.sequence, &time, &mut out_single).expect("time does not go back");
        self.in_parallel.advance(self.sequence, &time, &mut Vec::new()).expect("time does not go back");
        self.twin.advance(self.sequence, &time, &mut expected);
        self.told(out, &out_single, expected)
    }

    /// Does what an administrator asks, which is right. Every event must be the twin's.
    pub fn administer(&mut self, action: &AdminAction) -> Vec<(u32, OrderEvent)> {
        self.sequence += 1;
        let (mut out, mut out_single, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        let (count, _) = self.kernel.administer(self.sequence, action, &mut out).expect("the record is right");
        self.reader.read(&mut self.kernel, self.sequence, None, &out);
        self.one_by_one.administer(self.sequence, action, &mut out_single).expect("the record is right");
        self.in_parallel.administer(self.sequence, action, &mut Vec::new()).expect("the record is right");
        assert_eq!(count, self.twin.administer(self.sequence, action, &mut expected));
        self.told(out, &out_single, expected)
    }

    /// Sends requests in batches of `cut`; every result and event must be the twin's.
    pub fn send(&mut self, lane: u32, requests: &[OrderRequest], cut: usize) -> (Vec<OrderResult>, Vec<(u32, OrderEvent)>) {
        let mut results = vec![OrderResult::default(); requests.len()];
        let (mut out, mut out_single, mut expected_events) = (Vec::new(), Vec::new(), Vec::new());
        let first = self.sequence + 1;
        let mut next = first;
        for (requests, results) in requests.chunks(cut.max(1)).zip(results.chunks_mut(cut.max(1))) {
            let told = out.len();
            let work = self.kernel.process(next, lane, requests, results, &mut out);
            assert!(work >= requests.len() as u64);
            let (mut same_results, mut same_out) = (results.to_vec(), Vec::new());
            let both = (&mut self.parallel, &mut self.in_parallel);
            if let Ok(same_work) = process_in_parallel(both, (next, lane), requests, &mut same_results, &mut same_out) {
                assert_eq!(same_work, work, "work in parallel");
            }
            assert_eq!(same_results, results, "results in parallel");
            // Nobody watches there, so what orphans trade is not told.
            let told_here: Vec<_> = out[told..].iter().filter(|outgoing| outgoing.lane != 0).copied().collect();
            assert_eq!(same_out, told_here, "events in parallel");
            next += requests.len() as u64;
            self.reader.read(&mut self.kernel, next - 1, Some(requests), &out[told..]);
        }
        for (request, result) in requests.iter().zip(&results) {
            self.sequence += 1;
            let expected = self.twin.process(self.sequence, lane, request, &mut expected_events);
            assert_eq!(*result, expected, "answer to {request:?} of lane {lane}");
            let mut single = [OrderResult::default()];
            self.one_by_one.process(self.sequence, lane, std::slice::from_ref(request), &mut single, &mut out_single);
            assert_eq!(single[0], expected, "answer to {request:?} by itself");
        }
        self.coverage.answers(requests, &results);
        let events = self.told(out, &out_single, expected_events);
        (results, events)
    }

    /// The events of all three, which must be the same.
    fn told(&mut self, out: Vec<Outgoing>, out_single: &[Outgoing], expected: Vec<(u32, OrderEvent)>) -> Vec<(u32, OrderEvent)> {
        let events = same_events(out, out_single, expected);
        self.coverage.events(&events);
        events
    }

    /// Compares everything that can be asked, and the state hash.
    pub fn compare(&mut self) {
        for symbol in 1..=self.symbols {
            for side in [Side::Buy, Side::Sell] {
                assert_eq!(self.kernel.fifo(symbol, side).collect::<Vec<_>>(), self.twin.fifo(symbol, side));
                assert_eq!(self.kernel.stops(symbol, side).collect::<Vec<_>>(), self.twin.stops(symbol, side));
            }
            for levels_max in [0, 2, usize::MAX] {
                assert_eq!(self.kernel.book(symbol, levels_max), Some(self.twin.book(symbol, levels_max)));
            }
        }
        for account in 0..=self.accounts + 1 {
            assert_eq!(self.kernel.open_orders(account), self.twin.open_orders(account));
            assert_eq!(self.kernel.positions(account), self.twin.positions(account));
        }
        self.reader.compare(&self.kernel, self.symbols);
        let counters = self.kernel.counters();
        assert_eq!((counters.accepted, counters.rejected, counters.trades), self.twin.counts);
        assert_eq!(counters.resting, self.twin.resting() as u64);
        assert_eq!(self.kernel.state_hash(), self.twin.state_hash(), "state hash");
        assert_eq!(self.one_by_one.state_hash(), self.twin.state_hash(), "state hash of other cuts and another hash seed");
        assert_eq!(self.in_parallel.state_hash(), self.twin.state_hash(), "state hash of batches matched in parallel");
        assert_eq!(self.in_parallel.counters(), counters, "counters of batches matched in parallel");
        self.one_by_one = through_snapshot(&self.one_by_one, self.sequence);
    }
}

fn same_events(mut out: Vec<Outgoing>, out_single: &[Outgoing], expected: Vec<(u32, OrderEvent)>) -> Vec<(u32, OrderEvent)> {
    // Fills of orders that nobody owns are told where somebody watches.
    out.retain(|outgoing| outgoing.lane != 0);
    assert_eq!(out, out_single, "cuts change events");
    let events: Vec<(u32, OrderEvent)> = out.into_iter().map(|Outgoing { lane, event }| (lane, event)).collect();
    assert_eq!(events, expected);
    events
}
