//! Batches that are matched by symbol on several threads, and mean what they mean in sequence: results, events, numbers and
//! state are the same to the bit, however many threads there are.
//!
//! # Why that holds
//! A request of `NEW`, `CANCEL`, `REDUCE` or `REPLACE` names its symbol, and nearly all that decides about it stands in that
//! symbol's part: ids, orders, stops, positions and their limits, collars, halts, limits in a symbol, self-trade prevention
//! (who is in one group is configuration), reduce-only (a position is of one symbol), what a trade triggers. So none of
//! these keeps a batch from being matched in parallel: each part takes its own requests in their order.
//!
//! What is left looks across symbols, and [`Parallel`] proves of the whole batch, before anything happens, that it cannot
//! matter: [`Sequential`] lists every reason why a batch goes in sequence instead. The proof takes the worst case: every request
//! is accepted, rests in full, and nothing ends meanwhile. Sums of accounts are noted by each part and counted when all are done;
//! sums do not depend on the order. The client order id that an account had accepted last is told in the order of requests.
//!
//! Time, administrators, lanes and configuration are records of their own, never in a batch: what comes behind waits for them.
//! Threads never enter another module of this kernel.

use std::sync::Mutex;

use ringlane_layout::orders::{Op, OrderRequest, OrderResult, Side};

use super::accounts::Accounts;
use super::book::slot;
use super::check::{Checked, Rules, check};
use super::desk::Entry;
use super::pages::Pages;
use super::shard::{Register, SHARDS, Shard, shard_of};
use super::tallies::Tallies;
use super::{OrderKernel, Outgoing, WINDOW, ahead};
use crate::kernels::prefetch;

/// Why a batch is matched in sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Sequential {
    /// It is smaller than what is worth waking a thread for.
    Small,
    /// A `TAKE_OVER` or `CANCEL_ALL` may concern every symbol.
    Barrier,
    /// The orders that rest in all symbols together may come to the most that may rest, or positions to theirs.
    Room,
    /// An account's open orders may come to be worth more than it may have open in all symbols.
    Exposure,
    /// An account may come to more open orders than it may have in all symbols.
    OpenOrders,
    /// An account may come to more orders in this second than it may enter in all symbols.
    OrderRate,
}

impl Sequential {
    /// Every reason, and its name in counters.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Small, "small"),
        (Self::Barrier, "barrier"),
        (Self::Room, "room"),
        (Self::Exposure, "exposure"),
        (Self::OpenOrders, "open_orders"),
        (Self::OrderRate, "order_rate"),
    ];
}

/// Threads for the parts of a batch, and what a batch needs beside the books. It belongs to one kernel.
pub struct Parallel {
    /// None: the caller does everything.
    pool: Option<rayon::ThreadPool>,
    threads: usize,
    batch_min: usize,
    bounds: Bounds,
    outputs: [Output; SHARDS],
    /// Bits of the requests that are `NEW` and were accepted.
    accepted: Vec<u64>,
}

/// What a part put out, beside the results.
#[derive(Default)]
struct Output {
    events: Vec<Outgoing>,
    /// Places in the batch of accepted `NEW`s.
    accepted: Vec<u32>,
    work: u64,
}

/// What a part has to do: places in the batch, each with the place of its result.
struct Task<'a> {
    shard: &'a mut Shard,
    output: &'a mut Output,
    places: Vec<(u32, &'a mut OrderResult)>,
}

/// The batch, for all parts.
struct Batch<'a> {
    /// As they stood before the batch.
    tallies: &'a Tallies,
    rules: Rules<'a>,
    requests: &'a [OrderRequest],
    first_sequence: u64,
    lane: u32,
    /// See [`OrderKernel::is_large`].
    is_large: bool,
}

impl Parallel {
    /// `threads` of them, the caller's own among them, for batches of `batch_min` requests or more.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(threads: usize, batch_min: usize) -> Result<Self, String> {
        let helpers = threads.saturating_sub(1);
        let build = || {
            let builder = rayon::ThreadPoolBuilder::new().num_threads(helpers).thread_name(|number| format!("orders-{number}"));
            builder.build().map_err(|error| format!("cannot start {helpers} threads for orders: {error}"))
        };
        Ok(Self {
            pool: if helpers == 0 { None } else { Some(build()?) },
            threads: threads.max(1),
            batch_min,
            bounds: Bounds::default(),
            outputs: std::array::from_fn(|_| Output::default()),
            accepted: Vec::new(),
        })
    }

    /// From how many requests on a batch is matched in parallel.
    #[must_use]
    pub const fn batch_min(&self) -> usize {
        self.batch_min
    }

    /// As [`OrderKernel::process`], on all threads; the work, or why the batch must go in sequence: nothing has happened then.
    pub fn process(
        &mut self,
        kernel: &mut OrderKernel,
        (first_sequence, lane): (u64, u32),
        requests: &[OrderRequest],
        results: &mut [OrderResult],
        out: &mut Vec<Outgoing>,
    ) -> Result<u64, Sequential> {
        assert_eq!(requests.len(), results.len(), "every request has a place for its result");
        let mut places = self.prove(kernel, requests, results)?;
        let is_large = kernel.is_large();
        let rules = Rules { accounts: &kernel.accounts, grant: kernel.grant(lane), now_ns: kernel.now_ns };
        let batch = Batch { tallies: &kernel.tallies, rules, requests, first_sequence, lane, is_large };
        let mut tasks: [Option<Task>; SHARDS] = [const { None }; SHARDS];
        let parts = kernel.shards.all_mut().iter_mut().zip(&mut self.outputs).zip(&mut places);
        for (task, ((shard, output), places)) in tasks.iter_mut().zip(parts) {
            if !places.is_empty() {
                *task = Some(Task { shard, output, places: std::mem::take(places) });
            }
        }
        run(self.pool.as_ref(), self.threads, tasks, &batch);
        kernel.count_all_changes();
        Ok(self.join(kernel, requests, out))
    }

    /// Proves that nothing in the batch can look across symbols, and gives each part its places.
    fn prove<'a>(
        &mut self,
        kernel: &OrderKernel,
        requests: &[OrderRequest],
        results: &'a mut [OrderResult],
    ) -> Result<[Vec<(u32, &'a mut OrderResult)>; SHARDS], Sequential> {
        if requests.len() < self.batch_min {
            return Err(Sequential::Small);
        }
        if !kernel.has_room(requests.len()) {
            return Err(Sequential::Room);
        }
        let each = requests.len() / SHARDS;
        let mut places: [Vec<_>; SHARDS] = std::array::from_fn(|_| Vec::with_capacity(each + each / 4 + 16));
        self.bounds.clear();
        let asks_accounts = kernel.accounts.any_counted();
        for ((place, request), result) in (0..).zip(requests).zip(results) {
            if request.op == Op::TakeOver as u8 || request.op == Op::CancelAll as u8 {
                return Err(Sequential::Barrier);
            }
            if asks_accounts && let Some(ahead) = requests.get(place as usize + AHEAD) {
                self.bounds.accounts.fetch(ahead.account);
                kernel.tallies.fetch(ahead.account);
            }
            if asks_accounts && (request.op == Op::New as u8 || request.op == Op::Replace as u8) {
                self.bounds.add(kernel, request)?;
            }
            places[shard_of(request.symbol)].push((place, result));
        }
        Ok(places)
    }

    /// Puts together what the parts put out: events in the order of requests, last client order ids. Gives the work.
    fn join(&mut self, kernel: &mut OrderKernel, requests: &[OrderRequest], out: &mut Vec<Outgoing>) -> u64 {
        self.accepted.clear();
        self.accepted.resize(requests.len().div_ceil(64), 0);
        let mut work = 0;
        for output in &mut self.outputs {
            output.accepted.drain(..).for_each(|place| self.accepted[place as usize / 64] |= 1 << (place % 64));
            work += std::mem::take(&mut output.work);
        }
        for (word, first) in self.accepted.iter().zip((0..).step_by(64)) {
            let mut word = *word;
            while word != 0 {
                let request = &requests[first + word.trailing_zeros() as usize];
                kernel.accounts.accepted(request.account, request.client_order_id);
                word &= word - 1;
            }
        }
        self.merge(out);
        work
    }

    /// Moves the events of all parts to `out`; those of one request stand in one part, and each part has its own in order.
    fn merge(&mut self, out: &mut Vec<Outgoing>) {
        let mut at = [0_usize; SHARDS];
        let head = |output: &Output, at: usize| output.events.get(at).map_or(u64::MAX, |outgoing| outgoing.event.sequence);
        let mut heads: [u64; SHARDS] = std::array::from_fn(|part| head(&self.outputs[part], 0));
        loop {
            let (mut part, mut first) = (0, heads[0]);
            for (other, sequence) in heads.iter().enumerate() {
                if *sequence < first {
                    (part, first) = (other, *sequence);
                }
            }
            if first == u64::MAX {
                break;
            }
            while heads[part] == first {
                out.push(self.outputs[part].events[at[part]]);
                at[part] += 1;
                heads[part] = head(&self.outputs[part], at[part]);
            }
        }
        self.outputs.iter_mut().for_each(|output| output.events.clear());
    }
}

/// Lets the caller and the pool's threads take parts until none is left. Each begins elsewhere and where it began the last time,
/// so that a part's memory mostly stays with one core.
fn run(pool: Option<&rayon::ThreadPool>, threads: usize, tasks: [Option<Task>; SHARDS], batch: &Batch) {
    let parts = tasks.iter().flatten().count();
    let tasks = tasks.map(Mutex::new);
    let take = |number: usize| {
        for offset in 0..SHARDS {
            let task = tasks[(number * SHARDS / threads + offset) % SHARDS].lock().ok().and_then(|mut task| task.take());
            if let Some(task) = task {
                task.run(batch);
            }
        }
    };
    match pool {
        Some(pool) if parts > 1 => pool.in_place_scope(|scope| {
            let take = &take;
            for number in 1..threads.min(parts) {
                scope.spawn(move |_| take(number));
            }
            take(0);
        }),
        _ => take(0),
    }
}

/// Notes which requests are new orders that were accepted.
struct Noted<'a> {
    accounts: &'a Accounts,
    accepted: &'a mut Vec<u32>,
    place: u32,
}

impl Register for Noted<'_> {
    #[inline(always)]
    fn accounts(&self) -> &Accounts {
        self.accounts
    }
    #[inline(always)]
    fn accepted(&mut self, _: u32, _: u64) {
        self.accepted.push(self.place);
    }
}

impl Task<'_> {
    /// As the loop of [`OrderKernel::process`], over the requests of one part.
    fn run(mut self, batch: &Batch) {
        let mut window = [Checked::NONE; WINDOW];
        let (shard, output) = (self.shard, self.output);
        let places = &mut self.places[..];
        (0..WINDOW.min(places.len())).for_each(|at| fetch(places, at, batch));
        for first in (0..places.len()).step_by(WINDOW) {
            let upto = (first + WINDOW).min(places.len());
            (upto..(upto + WINDOW).min(places.len())).for_each(|at| fetch(places, at, batch));
            let places = &mut places[first..upto];
            let window = &mut window[..places.len()];
            for (checked, (place, _)) in window.iter_mut().zip(&*places) {
                check(&batch.requests[*place as usize], &shard.books, &batch.rules, checked);
                ahead::indices(shard, checked, batch.is_large);
            }
            ahead::named(window, batch.is_large, |_| shard);
            for ((place, result), checked) in places.iter_mut().zip(window.iter()) {
                let request = &batch.requests[*place as usize];
                let entry = Entry { sequence: batch.first_sequence.wrapping_add(u64::from(*place)), lane: batch.lane };
                let Output { events, accepted, work } = &mut *output;
                let mut noted = Noted { accounts: batch.rules.accounts, accepted, place: *place };
                // What means more than one part was found before.
                let outcome = shard.apply((&mut noted, batch.tallies), entry, request, checked, events, work);
                shard.answer(entry, request, outcome, result);
                *work += 1;
            }
        }
    }
}

/// Asks for the lines of a request and its result, which lie apart where a part has few of a batch.
#[inline(always)]
fn fetch(places: &[(u32, &mut OrderResult)], at: usize, batch: &Batch) {
    let (place, result) = &places[at];
    prefetch::line(&batch.requests[*place as usize]);
    prefetch::line(&**result);
}

/// The most that a batch may add to what accounts have open and do. Only accounts with limits over all symbols are asked.
#[derive(Default)]
struct Bounds {
    accounts: Pages<Bound>,
    /// Accounts that have a bound other than nothing.
    touched: Vec<u32>,
}

/// Requests of which the accounts' lines are asked for ahead.
const AHEAD: usize = 12;

#[derive(Clone, Copy, Default)]
struct Bound {
    /// Price x quantity of buys and sells; what no longer fits is too much anyway.
    notional: [u64; 2],
    opened: u32,
    entered: u32,
}

impl Bounds {
    fn clear(&mut self) {
        for account in self.touched.drain(..) {
            *self.accounts.of_mut(account) = Bound::default();
        }
    }

    /// Adds a `NEW` or `REPLACE`, and asks whether its account could come to a limit that holds over all symbols.
    #[inline]
    fn add(&mut self, kernel: &OrderKernel, request: &OrderRequest) -> Result<(), Sequential> {
        let account = request.account;
        let limits = kernel.accounts.limits(kernel.accounts.class(account));
        if !limits.has_more {
            return Ok(());
        }
        // A stop that becomes a market order is worth its stop price. What is out of range is rejected, whatever is counted here.
        let worth = (request.price.max(request.stop_price) as u64).wrapping_mul(request.quantity as u64);
        let bound = self.accounts.of_mut(account);
        if bound.entered == 0 {
            self.touched.push(account);
        }
        let notional = &mut bound.notional[usize::from(request.side == Side::Sell as u8)];
        *notional = notional.saturating_add(worth);
        bound.opened += u32::from(request.op == Op::New as u8);
        bound.entered += 1;
        let bound = *bound;
        let tally = kernel.tallies.of(account);
        let worth = |side: Side| tally.notional[slot(side)] + u128::from(bound.notional[slot(side)]);
        let exposure = worth(Side::Buy).max(worth(Side::Sell));
        if limits.exposure_max != i64::MAX && exposure > limits.exposure_max as u128 {
            return Err(Sequential::Exposure);
        }
        if limits.open_orders_max.saturating_sub(tally.open_orders) < bound.opened {
            return Err(Sequential::OpenOrders);
        }
        if limits.order_rate_max.saturating_sub(tally.rate(kernel.now_ns)) < bound.entered {
            return Err(Sequential::OrderRate);
        }
        Ok(())
    }
}
