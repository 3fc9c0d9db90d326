//! Batches that are matched in parallel against the sequential path, bit by bit; and each reason why a batch is not.
//! `RINGLANE_SEED=n` repeats a failed run.

use std::hash::{BuildHasher, RandomState};

use ringlane_layout::limits::{ORDER_PRICE_MAX, ORDER_QUANTITY_MAX};
use ringlane_layout::market::MarketRecord;
use ringlane_layout::orders::{
    AccountLimits, CancelReason, EventKind, Op, OrderFlag, OrderRequest, OrderResult, OrderState, OrderType, RejectCode, SelfTrade, Side,
    TimeRecord,
};
use ringlane_layout::record::RecordBytes;
use ringlane_sidecar::engine::Engine;
use ringlane_sidecar::journal::LaneOpen;
use ringlane_sidecar::kernels::orders::{OrderKernel, Outgoing, Parallel, Sequential};
use ringlane_tests::order_mix::{Between, Mix, Tight, World};
use ringlane_tests::order_pair::{instrument, limit, process_in_parallel, snapshot_bytes};

const LANE: u32 = 1;

/// A kernel that takes its batches in parallel, beside one that takes them in sequence.
struct Beside {
    parallel: Parallel,
    kernel: OrderKernel,
    /// Whether it cuts batches as the other does.
    same_cuts: bool,
    matched: u64,
    reasons: [u64; Sequential::ALL.len()],
    /// Reduce-only orders that were cancelled or cut, in batches that were matched in parallel.
    reduced: u64,
}

impl Beside {
    fn new(threads: usize, kernel: OrderKernel, same_cuts: bool) -> Self {
        let parallel = Parallel::new(threads, 4).expect("there are threads");
        Self { parallel, kernel, same_cuts, matched: 0, reasons: Default::default(), reduced: 0 }
    }

    fn process(
        &mut self,
        numbers: (u64, u32),
        requests: &[OrderRequest],
        results: &mut [OrderResult],
        out: &mut Vec<Outgoing>,
    ) -> Option<u64> {
        match process_in_parallel((&mut self.parallel, &mut self.kernel), numbers, requests, results, out) {
            Ok(work) => {
                self.matched += 1;
                self.reduced += out.iter().filter(|outgoing| outgoing.event.reason == CancelReason::ReduceOnly as u16).count() as u64;
                Some(work)
            }
            Err(reason) => {
                self.reasons[reason as usize] += 1;
                None
            }
        }
    }
}

fn market(kernel: &mut OrderKernel, sequence: u64, requests: Option<&[OrderRequest]>, events: &[Outgoing]) -> Vec<MarketRecord> {
    let mut records = Vec::new();
    kernel.market(sequence, requests, events, &mut |record| records.push(record));
    records
}

/// Sends a batch to all, and demands the same of each.
fn send(mix: &mut Mix, plain: &mut OrderKernel, others: &mut [Beside], numbers: (u64, u32), requests: &[OrderRequest]) {
    let (mut results, mut out) = (vec![OrderResult::default(); requests.len()], Vec::new());
    let work = plain.process(numbers.0, numbers.1, requests, &mut results, &mut out);
    let last = numbers.0 + requests.len() as u64 - 1;
    let told = market(plain, last, Some(requests), &out);
    for other in others {
        let (mut same, mut same_out) = (vec![OrderResult::default(); requests.len()], Vec::new());
        if other.same_cuts {
            let same_work = other.process(numbers, requests, &mut same, &mut same_out);
            assert_eq!(same_work.unwrap_or(work), work);
            assert_eq!(market(&mut other.kernel, last, Some(requests), &same_out), told);
        } else {
            let mut done = 0;
            while done < requests.len() {
                let upto = (done + 1 + mix.random.below(900) as usize).min(requests.len());
                other.process((numbers.0 + done as u64, numbers.1), &requests[done..upto], &mut same[done..upto], &mut same_out);
                done = upto;
            }
        }
        assert_eq!(same, results);
        assert_eq!(same_out, out);
    }
}

fn happen(between: &Between, sequence: u64, kernel: &mut OrderKernel) -> Vec<Outgoing> {
    let mut out = Vec::new();
    match between {
        Between::Time(time) => drop(kernel.advance(sequence, time, &mut out).expect("time does not go back")),
        Between::Admin(action) => drop(kernel.administer(sequence, action, &mut out).expect("the record is right")),
        Between::Reopen(lane, cancel_orders) => {
            kernel.close_lane(*lane, *cancel_orders);
            kernel.open_lane(*lane, 1, ringlane_tests::order_mix::ACCOUNTS);
        }
    }
    out
}

/// One world, some batches, and what they were: matched in parallel, reduce-only orders cancelled in them, and each reason.
fn case(seed: u64) -> (u64, u64, [u64; Sequential::ALL.len()]) {
    let mut chance = ringlane_tests::order_flow::Random::new(seed);
    let symbols = [1, 2, 9, 24, 64][chance.below(5) as usize];
    let resting_orders_max = if chance.below(6) == 0 { 300 } else { 100_000 };
    let world = World {
        symbols,
        resting_orders_max,
        tight: [None, None, Some(Tight::Exposure), Some(Tight::OpenOrders), Some(Tight::Rate)][chance.below(5) as usize],
    };
    let mut mix = Mix::new(chance.next_u64(), &world);
    let mut plain = world.kernel(1);
    let threads = [(1, true), (2, true), (3, false), (8, true)];
    let mut others = threads.map(|(threads, same_cuts)| Beside::new(threads, world.kernel(threads as u64), same_cuts));
    let mut sequence = 1;
    for _ in 0..12 {
        let count = [1 + chance.below(20), 1 + chance.below(400), 1 + chance.below(5_000)][chance.below(3) as usize] as usize;
        let requests = mix.batch(count, chance.below(6) == 0);
        let lane = 1 + chance.below(3) as u32;
        send(&mut mix, &mut plain, &mut others, (sequence, lane), &requests);
        sequence += count as u64;
        if let Some(between) = mix.between(plain.now_ns()) {
            let out = happen(&between, sequence, &mut plain);
            market(&mut plain, sequence, None, &out);
            for other in &mut others {
                assert_eq!(happen(&between, sequence, &mut other.kernel), out);
                market(&mut other.kernel, sequence, None, &out);
            }
            sequence += 1;
        }
        let (hash, counters) = (plain.state_hash(), plain.counters());
        for other in &others {
            assert_eq!((other.kernel.state_hash(), other.kernel.counters()), (hash, counters));
            assert_eq!(other.kernel.next_due_ns(), plain.next_due_ns());
        }
    }
    let bytes = snapshot_bytes(&plain);
    for other in &others {
        assert!(snapshot_bytes(&other.kernel) == bytes, "snapshots are the same");
    }
    (others[1].matched, others[1].reduced, others[1].reasons)
}

#[test]
fn batches_in_parallel_are_those_in_sequence_to_the_bit() {
    let seed = std::env::var("RINGLANE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    let cases: u64 = std::env::var("RINGLANE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    println!("RINGLANE_SEED={seed} repeats this run");
    let (mut matched, mut reduced, mut reasons) = (0, 0, [0; Sequential::ALL.len()]);
    for number in 0..cases {
        let (more, more_reduced, of_case) = case(seed.wrapping_add(number));
        (matched, reduced) = (matched + more, reduced + more_reduced);
        reasons.iter_mut().zip(of_case).for_each(|(sum, count)| *sum += count);
    }
    println!("{matched} batches in parallel, {reduced} reduce-only orders cancelled in them; in sequence {reasons:?}");
    assert!(matched > 4 * cases, "most batches qualify: {matched} in {cases} worlds");
    if cases >= 60 {
        assert!(reasons.iter().all(|count| *count > 0), "every reason was met: {reasons:?}");
        assert!(reduced > 4 * cases, "reduce-only orders meet positions near zero: {reduced} in {cases} worlds");
    }
}

/// Kernels with four symbols, of four parts, and twenty accounts with these limits.
fn pair(resting_orders_max: usize, limits: &AccountLimits) -> (OrderKernel, OrderKernel) {
    let kernel = || {
        let mut kernel = OrderKernel::new(resting_orders_max);
        (1..=4).for_each(|symbol| kernel.add_instrument(&instrument(symbol, 1, 1, 0)).expect("the record is right"));
        let record = AccountLimits { account_first: 1, account_last: 20, ..*limits };
        kernel.set_accounts(&record).expect("the record is right");
        kernel.open_lane(LANE, 1, 20);
        kernel
    };
    (kernel(), kernel())
}

/// A good-till-cancelled order in this symbol.
fn order(symbol: u32, side: Side, account: u32, client_order_id: u64, price: i64, quantity: i64) -> OrderRequest {
    OrderRequest { symbol, ..limit(side, account, client_order_id, price, quantity) }
}

/// Sends `before` in sequence, then `batch` both ways: the same must come of it. Gives the outcome in parallel and the results.
fn both_ways(
    (mut plain, mut other): (OrderKernel, OrderKernel),
    before: &[OrderRequest],
    batch: &[OrderRequest],
    batch_min: usize,
) -> (Result<u64, Sequential>, Vec<OrderResult>, Vec<Outgoing>) {
    let mut out = Vec::new();
    let mut results = vec![OrderResult::default(); before.len()];
    for kernel in [&mut plain, &mut other] {
        kernel.process(1, LANE, before, &mut results, &mut out);
    }
    assert!(results.iter().all(|result| result.code == 0), "what comes before is accepted: {results:?}");
    let numbers = (1 + before.len() as u64, LANE);
    let (mut results, mut same) = (vec![OrderResult::default(); batch.len()], vec![OrderResult::default(); batch.len()]);
    let (mut out, mut same_out) = (Vec::new(), Vec::new());
    plain.process(numbers.0, numbers.1, batch, &mut results, &mut out);
    let mut parallel = Parallel::new(2, batch_min).expect("there is a thread");
    let outcome = process_in_parallel((&mut parallel, &mut other), numbers, batch, &mut same, &mut same_out);
    assert_eq!(same, results);
    assert_eq!(same_out, out);
    assert_eq!(other.state_hash(), plain.state_hash());
    assert_eq!(other.counters(), plain.counters());
    (outcome, results, out)
}

/// The codes of the last two answers.
fn last_codes(results: &[OrderResult]) -> [u16; 2] {
    [results[results.len() - 2].code, results[results.len() - 1].code]
}

#[test]
fn a_small_batch_wakes_nobody() {
    let batch = [order(1, Side::Buy, 1, 1, 100, 1), order(2, Side::Buy, 1, 1, 100, 1)];
    let free = AccountLimits::default();
    assert_eq!(both_ways(pair(100, &free), &[], &batch, 3).0, Err(Sequential::Small));
    assert_eq!(both_ways(pair(100, &free), &[], &batch, 2).0, Ok(2));
}

#[test]
fn a_mass_cancel_and_a_take_over_look_at_every_symbol() {
    let rest = [order(1, Side::Buy, 1, 1, 100, 1), order(2, Side::Buy, 1, 2, 100, 1), order(3, Side::Buy, 1, 3, 100, 1)];
    for op in [Op::CancelAll, Op::TakeOver] {
        let all = OrderRequest { op: op as u8, account: 1, ..OrderRequest::default() };
        let batch = [order(4, Side::Buy, 1, 4, 100, 1), all, order(1, Side::Sell, 2, 5, 100, 1)];
        let (outcome, results, _) = both_ways(pair(100, &AccountLimits::default()), &rest, &batch, 1);
        assert_eq!(outcome, Err(Sequential::Barrier));
        assert_eq!(results[1].fill_count, if op == Op::CancelAll { 4 } else { 0 });
    }
}

#[test]
fn orders_that_could_fill_the_books_go_in_sequence() {
    let rest = [order(1, Side::Buy, 1, 1, 100, 1), order(2, Side::Buy, 1, 2, 100, 1)];
    let batch = [order(3, Side::Buy, 1, 3, 100, 1), order(4, Side::Buy, 1, 4, 100, 1)];
    let free = AccountLimits::default();
    let (outcome, results, _) = both_ways(pair(3, &free), &rest, &batch, 1);
    assert_eq!((outcome, last_codes(&results)), (Err(Sequential::Room), [0, RejectCode::BookFull as u16]));
    let (outcome, results, _) = both_ways(pair(4, &free), &rest, &batch, 1);
    assert_eq!((outcome, last_codes(&results)), (Ok(2), [0, 0]));
}

#[test]
fn accounts_that_could_need_the_last_positions_go_in_sequence() {
    let free = AccountLimits::default();
    let rest = [order(1, Side::Buy, 1, 1, 100, 1), order(2, Side::Buy, 1, 2, 100, 1)];
    let batch = [order(3, Side::Buy, 1, 3, 100, 1), order(4, Side::Buy, 1, 4, 100, 1)];
    let with = |positions_max| {
        let (mut plain, mut other) = pair(100, &free);
        plain.set_positions_max(positions_max);
        other.set_positions_max(positions_max);
        (plain, other)
    };
    let (outcome, results, _) = both_ways(with(3), &rest, &batch, 1);
    assert_eq!((outcome, last_codes(&results)), (Err(Sequential::Room), [0, RejectCode::BookFull as u16]));
    let (outcome, results, _) = both_ways(with(4), &rest, &batch, 1);
    assert_eq!((outcome, last_codes(&results)), (Ok(2), [0, 0]));
}

/// Two orders in two symbols behind one that rests in a third: `limits` let only the first of them in, `wider` ones both.
fn meets_a_limit(limits: &AccountLimits, wider: &AccountLimits, reason: Sequential, code: RejectCode) {
    let rest = [order(1, Side::Sell, 1, 1, 100, 10)];
    let stop = OrderRequest { order_type: OrderType::Stop as u8, price: 0, stop_price: 100, ..order(2, Side::Sell, 1, 2, 0, 10) };
    for first in [order(2, Side::Sell, 1, 2, 100, 10), stop] {
        let batch = [first, order(3, Side::Sell, 1, 3, 100, 10)];
        let (outcome, results, _) = both_ways(pair(100, limits), &rest, &batch, 1);
        assert_eq!((outcome, last_codes(&results)), (Err(reason), [0, code as u16]));
        let (outcome, results, _) = both_ways(pair(100, wider), &rest, &batch, 1);
        assert_eq!((outcome, last_codes(&results)), (Ok(2), [0, 0]));
    }
}

#[test]
fn an_account_near_its_exposure_goes_in_sequence() {
    let of = |exposure_max| AccountLimits { exposure_max, ..AccountLimits::default() };
    meets_a_limit(&of(2_999), &of(3_000), Sequential::Exposure, RejectCode::ExposureLimit);
}

#[test]
fn a_replace_counts_towards_exposure() {
    let of = |exposure_max| AccountLimits { exposure_max, ..AccountLimits::default() };
    let rest = [order(1, Side::Buy, 1, 1, 100, 10), order(2, Side::Buy, 1, 1, 100, 10)];
    let replace =
        |symbol| OrderRequest { op: Op::Replace as u8, order_type: 0, time_in_force: 0, ..order(symbol, Side::Buy, 1, 1, 100, 20) };
    let (outcome, results, _) = both_ways(pair(100, &of(3_500)), &rest, &[replace(1), replace(2)], 1);
    assert_eq!((outcome, last_codes(&results)), (Err(Sequential::Exposure), [0, RejectCode::ExposureLimit as u16]));
    assert_eq!(both_ways(pair(100, &of(6_000)), &rest, &[replace(1), replace(2)], 1).0, Ok(2));
}

#[test]
fn an_account_near_its_open_orders_goes_in_sequence() {
    let of = |open_orders_max| AccountLimits { open_orders_max, ..AccountLimits::default() };
    meets_a_limit(&of(2), &of(3), Sequential::OpenOrders, RejectCode::OpenOrdersLimit);
}

#[test]
fn an_account_near_its_rate_goes_in_sequence() {
    let of = |order_rate_max| AccountLimits { order_rate_max, ..AccountLimits::default() };
    meets_a_limit(&of(2), &of(3), Sequential::OrderRate, RejectCode::OrderRate);
}

#[test]
fn what_comes_to_no_limit_keeps_its_threads() {
    let of = |limits: AccountLimits| pair(100, &limits);
    let free = AccountLimits::default();
    // No limit is no number, however much is open; another limit has the account asked.
    let most = |symbol| order(symbol, Side::Buy, 1, 1, ORDER_PRICE_MAX, ORDER_QUANTITY_MAX);
    let outcome = both_ways(of(AccountLimits { order_rate_max: 9, ..free }), &[], &[most(1), most(2), most(3)], 1).0;
    assert_eq!(outcome, Ok(3), "without a limit on exposure");
    // A replaced order is one already.
    let rest = [order(1, Side::Buy, 1, 1, 100, 10), order(2, Side::Buy, 1, 1, 100, 10)];
    let replace =
        |symbol| OrderRequest { op: Op::Replace as u8, order_type: 0, time_in_force: 0, ..order(symbol, Side::Buy, 1, 1, 99, 20) };
    let outcome = both_ways(of(AccountLimits { open_orders_max: 2, ..free }), &rest, &[replace(1), replace(2)], 1).0;
    assert_eq!(outcome, Ok(2), "replaced at the most open orders");
    // What an earlier batch could have come to is nothing to a later one; neither is what was entered in an earlier second.
    let (mut kernel, _) = of(AccountLimits { open_orders_max: 3, order_rate_max: 4, ..free });
    let mut parallel = Parallel::new(2, 1).expect("there is a thread");
    let mut send = |kernel: &mut OrderKernel, sequence, batch: &[OrderRequest]| {
        let (mut results, mut out) = (vec![OrderResult::default(); batch.len()], Vec::new());
        parallel.process(kernel, (sequence, LANE), batch, &mut results, &mut out)
    };
    let cancels = rest.map(|order| OrderRequest { op: Op::Cancel as u8, ..order });
    for round in 0..6 {
        let time = TimeRecord { time_ns: (round + 1) * 500_000_000, ..TimeRecord::default() };
        kernel.advance(5 * round + 1, &time, &mut Vec::new()).expect("time does not go back");
        assert_eq!(send(&mut kernel, 5 * round + 2, &rest), Ok(2), "round {round}");
        assert_eq!(send(&mut kernel, 5 * round + 4, &cancels), Ok(2), "cancels of round {round}");
    }
    assert_eq!(send(&mut kernel, 31, &rest), Ok(2), "four in this second");
    assert_eq!(send(&mut kernel, 33, &cancels), Ok(2));
    assert_eq!(send(&mut kernel, 35, &rest), Err(Sequential::OrderRate), "six in this second");
}

#[test]
fn what_a_limit_forbids_for_good_is_rejected_in_parallel_too() {
    // A position limit and a limit in a symbol look at one symbol only: near or far, they keep no batch from its threads.
    let limits = AccountLimits { position_max: 10, ..AccountLimits::default() };
    let (mut plain, mut other) = pair(100, &limits);
    let in_symbol = AccountLimits { account_first: 1, account_last: 5, symbol: 2, open_orders_max: 1, ..AccountLimits::default() };
    for kernel in [&mut plain, &mut other] {
        kernel.set_accounts(&in_symbol).expect("the record is right");
    }
    let batch = [
        order(1, Side::Buy, 1, 1, 100, 10),
        order(1, Side::Buy, 1, 2, 100, 1),
        order(2, Side::Buy, 1, 1, 100, 1),
        order(2, Side::Buy, 1, 2, 100, 1),
    ];
    let (outcome, results, _) = both_ways((plain, other), &[], &batch, 1);
    assert_eq!(outcome, Ok(4));
    let codes: Vec<u16> = results.iter().map(|result| result.code).collect();
    assert_eq!(codes, [0, RejectCode::PositionLimit as u16, 0, RejectCode::OpenOrdersLimit as u16]);
}

#[test]
fn trades_within_a_group_are_prevented_in_parallel_too() {
    let limits = AccountLimits { self_trade: SelfTrade::CancelOldest as u8, group: 7, ..AccountLimits::default() };
    let rest = [order(1, Side::Sell, 1, 1, 100, 5), order(2, Side::Sell, 1, 1, 100, 5)];
    let batch = [order(2, Side::Buy, 2, 1, 100, 5), order(1, Side::Buy, 3, 1, 100, 5)];
    let (outcome, _, out) = both_ways(pair(100, &limits), &rest, &batch, 1);
    assert!(outcome.is_ok());
    let told: Vec<_> = out.iter().map(|outgoing| (outgoing.event.sequence, outgoing.event.kind)).collect();
    assert_eq!(told, [(3, EventKind::TradePrevented as u8), (4, EventKind::TradePrevented as u8)]);
}

#[test]
fn stops_trigger_and_reduce_only_orders_shrink_in_parallel_too() {
    let stop =
        |symbol| OrderRequest { order_type: OrderType::Stop as u8, price: 0, stop_price: 100, ..order(symbol, Side::Buy, 2, 9, 0, 3) };
    let reduce = |symbol| OrderRequest { flags: OrderFlag::REDUCE_ONLY, ..order(symbol, Side::Sell, 3, 8, 105, 4) };
    let of_symbol = |symbol| {
        // Account 3 buys 4, offers them at 105 to reduce, and sells 2 of them otherwise; account 2's stop waits for a trade at 100.
        [
            order(symbol, Side::Sell, 1, 1, 90, 4),
            order(symbol, Side::Buy, 3, 1, 90, 4),
            reduce(symbol),
            order(symbol, Side::Buy, 4, 1, 80, 2),
            order(symbol, Side::Sell, 3, 2, 80, 2),
            order(symbol, Side::Sell, 1, 2, 100, 1),
            stop(symbol),
        ]
    };
    let rest: Vec<_> = [of_symbol(1), of_symbol(2)].concat();
    let batch = [order(2, Side::Buy, 5, 1, 100, 1), order(1, Side::Buy, 5, 1, 100, 1)];
    let (outcome, results, out) = both_ways(pair(100, &AccountLimits::default()), &rest, &batch, 1);
    assert!(outcome.is_ok());
    assert!(results.iter().all(|result| result.state == OrderState::Filled as u8));
    let of = |sequence| out.iter().filter(move |outgoing| outgoing.event.sequence == sequence);
    for sequence in [15, 16] {
        let kinds: Vec<_> = of(sequence).map(|outgoing| outgoing.event.kind).collect();
        let (fill, triggered, taker, cancel) =
            (EventKind::Fill as u8, EventKind::Triggered as u8, EventKind::TakerFill as u8, EventKind::Cancel as u8);
        assert_eq!(kinds, [fill, triggered, fill, taker, cancel, cancel]);
        let reasons: Vec<_> = of(sequence).map(|outgoing| outgoing.event.reason).filter(|reason| *reason != 0).collect();
        assert_eq!(reasons, [CancelReason::ReduceOnly as u16, CancelReason::Immediate as u16]);
    }
}

#[test]
fn the_last_client_order_id_is_that_of_the_last_request() {
    let batch = [
        order(1, Side::Buy, 1, 11, 100, 1),
        order(2, Side::Buy, 1, 12, 100, 1),
        order(1, Side::Buy, 1, 13, 100, 1),
        order(4, Side::Buy, 1, 14, 0, 1),
    ];
    let (mut plain, _) = pair(100, &AccountLimits::default());
    let (mut results, mut out) = ([OrderResult::default(); 4], Vec::new());
    let mut parallel = Parallel::new(2, 1).expect("there is a thread");
    parallel.process(&mut plain, (1, LANE), &batch, &mut results, &mut out).expect("nothing looks across symbols");
    assert_eq!(plain.last_client_order_id(1), 13, "what was rejected is none");
}

#[test]
fn an_engine_with_threads_puts_out_what_one_without_does() {
    let mut plain = Engine::new(1);
    let mut shared = Engine::new(2);
    shared.match_in_parallel(3, 64).expect("there are threads");
    for engine in [&mut plain, &mut shared] {
        (1..=9).for_each(|symbol| engine.add_instrument(&instrument(symbol, 1, 1, 100)).expect("the record is right"));
        let accounts = AccountLimits { account_first: 1, account_last: 40, ..AccountLimits::default() };
        engine.set_accounts(&accounts).expect("the record is right");
        engine.open_lane(&LaneOpen { lane: LANE, account_first: 1, account_last: 40, ..LaneOpen::default() });
    }
    let mut mix = Mix::new(5, &World { symbols: 9, resting_orders_max: 0, tight: None });
    for count in [1, 63, 64, 300, 4096, 10, 4096] {
        let mut requests = mix.batch(count, false);
        if count == 300 {
            requests[150] = OrderRequest { op: Op::CancelAll as u8, account: 1, ..OrderRequest::default() };
        }
        let records: Vec<RecordBytes> = requests.iter().map(|request| bytemuck::must_cast(*request)).collect();
        let expected = plain.process_orders(LANE, &records);
        let (results, events) = (expected.results.to_vec(), expected.events.to_vec());
        let output = shared.process_orders(LANE, &records);
        assert_eq!((output.results, output.events), (&results[..], &events[..]));
        assert_eq!(shared.output_hash(), plain.output_hash());
    }
    assert_eq!(shared.orders.state_hash(), plain.orders.state_hash());
    let matching = shared.matching();
    assert_eq!((matching.parallel, matching.sequential[Sequential::Barrier as usize]), (3, 1));
    assert_eq!(plain.matching().parallel, 0);
}
