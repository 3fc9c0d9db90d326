//! The order kernel: checks, risk, one price-time book a symbol, and positions. Pure: the same records give the same
//! bits, however they are cut into batches. No clock, I/O, thread or shared memory enters this module.
//!
//! A request passes the stages structure, validate, risk, business rules, match and settle; `check.rs` lists every check
//! in its order. A request that is rejected changes nothing.
//!
//! # What the ops mean
//! - Trades happen at the price of the maker, best price first, then first come first. The taker's side of all its fills
//!   stands in its result; each fill is a `FILL` event to the lane that owns the maker's order, the taker's own lane too.
//! - `NEW` that is IOC or market and finds nothing is accepted: `CANCELLED`, filled 0. FOK trades in full or is rejected.
//! - `REDUCE` keeps the order's priority; taking off all that is open cancels it.
//! - `REPLACE` keeps both ids, the owner lane, time in force, display quantity and reduce-only. Priority survives only if the
//!   price stays and the quantity does not grow; else the order leaves, trades what crosses, and rests behind the others of
//!   its price. Its result tells of this request's fills only.
//! - `TAKE_OVER` answers `RESTING` with order id 0, and the number of orders that it took over in `fill_count`.
//! - `CANCEL_ALL` answers `CANCELLED` with order id 0 and the number of orders in `fill_count`; every owner is told, its own lane
//!   too (`MASS_CANCEL`).
//! - `CANCEL`, `REDUCE` and `REPLACE` by another lane than the owner give the owner a `CANCEL` event of reason `OTHER_LANE`,
//!   behind the request's fills: `quantity` is what was cancelled or taken off (for `REPLACE`, all that was open before),
//!   `price` and `remaining_quantity` tell how the order stands now.
//! - Events of a request are numbered k = 0, 1, ... over all lanes. An order whose owner lane is 0 emits none, but uses its k;
//!   so does a `REPLACE` in a book where stops follow.
//! - What ends together (mass cancel, administrator, expiry) ends in the order of entry.
//!
//! # What the types mean
//! - A *stop* triggers when a trade happens at its stop price or beyond. One that the last trade would have triggered does not
//!   wait: it enters as what it is. Those that a request's trades trigger follow when it is done, in the order of entry, and
//!   those that they trigger behind them. Each is told `TRIGGERED`, then `TAKER_FILL` for each trade, then perhaps `CANCEL`
//!   (`IMMEDIATE`: nothing left to trade with). Risk is not asked again: what a stop may do was counted while it waited.
//! - An *iceberg* shows `display_quantity` at most. When what it shows is traded away, it shows anew behind the others of its
//!   price, and the taker goes on with the next. `REDUCE` and a `REPLACE` that keeps priority take from what is hidden first.
//! - *Reduce-only* is asked at entry (`NOT_REDUCING`), when a stop triggers (what would do more is cancelled), and when a resting
//!   order is about to trade: it trades at most what brings the position to zero, and is cancelled when the position leaves it
//!   nothing. While nobody trades with it, it stays. A fill-or-kill order does not count on it.
//! - *DAY* and *GTD* orders end by time records only (`advance`); a symbol's halt does not keep them.
//! - *Self-trade prevention* is the choice of the arriving order's account. Each prevented trade is a `TRADE_PREVENTED` event to
//!   the owner of the resting order, and the result of an order that was cancelled for it says `SELF_TRADE`. A fill-or-kill
//!   order that would meet its own group before it is full is `NOT_FILLABLE`, unless `CANCEL_OLDEST` clears its way.
//! - A *halted* symbol takes no `NEW` and no `REPLACE`. Auctions are not part of this kernel: a halt ends as it began.
//!
//! # What the limits mean
//! Limits of an account hold in each symbol (size, notional, collar, position) or over all of them (exposure, open orders,
//! rate); limits in a symbol hold beside them, in that symbol. Waiting stops count as open. Exposure is the worst case of one
//! side: all of its open orders filled at their limit or stop prices. A triggered stop, a fill and an expiry are never refused
//! for a limit.
//!
//! # Example
//! ```
//! use ringlane_layout::orders::{AccountLimits, Instrument, Op, OrderRequest, OrderResult, OrderState, OrderType, Side, TimeInForce};
//! use ringlane_sidecar::kernels::orders::OrderKernel;
//!
//! let mut kernel = OrderKernel::new(1_000);
//! let mut name = [0; 24];
//! name[..4].copy_from_slice(b"RING");
//! kernel.add_instrument(&Instrument { symbol: 1, tick: 1, lot: 1, name, ..Instrument::default() })?;
//! kernel.set_accounts(&AccountLimits { account_first: 1, account_last: 10, ..AccountLimits::default() })?;
//! kernel.open_lane(7, 1, 10);
//!
//! let order = |side: Side, account, quantity| OrderRequest {
//!     op: Op::New as u8,
//!     side: side as u8,
//!     order_type: OrderType::Limit as u8,
//!     time_in_force: TimeInForce::Gtc as u8,
//!     symbol: 1,
//!     account,
//!     client_order_id: 1,
//!     price: 100,
//!     quantity,
//!     ..OrderRequest::default()
//! };
//! let (mut results, mut events) = ([OrderResult::default(); 2], Vec::new());
//! kernel.process(1, 7, &[order(Side::Sell, 1, 5), order(Side::Buy, 2, 3)], &mut results, &mut events);
//! assert_eq!(results[0].state, OrderState::Resting as u8);
//! assert_eq!((results[1].filled_quantity, results[1].notional), (3, 300));
//! assert_eq!((events[0].lane, events[0].event.remaining_quantity), (7, 2));
//! # Ok::<(), ringlane_sidecar::kernels::orders::ConfigError>(())
//! ```

use std::collections::BTreeSet;

use ringlane_layout::orders::{CancelReason, OrderEvent, OrderRequest, OrderResult, OrderState, RejectCode};

mod accounts;
mod administration;
mod ahead;
mod attributes;
mod book;
mod check;
mod config;
mod desk;
mod endings;
mod index;
mod lanes;
mod levels;
mod limits;
mod market;
mod matching;
mod ops;
mod risk;
mod side;
mod slab;
mod snapshot;
mod special;
mod state;
mod stops;
mod store;
mod tallies;

pub use config::ConfigError;
pub use snapshot::{CopySize, Frozen};

use accounts::Accounts;
use book::Book;
use check::{Action, Checked, Rules, check};
use desk::{Desk, Entry};
use endings::Selection;
use lanes::{Grant, Lanes};
use ops::Answer;
use store::Store;

/// Requests that are checked, and whose lines are fetched, before the first of them is matched.
const WINDOW: usize = 32;
/// Seed of the id hashes unless another is given.
const SEED: u64 = 0x5bd1_e995_9d1b_873c;

/// An event and the lane that gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// Lane that owns the resting order; 0 only after [`OrderKernel::tell_orphans`].
    pub lane: u32,
    /// The event; its `number` is 0 until the sequencer numbers it.
    pub event: OrderEvent,
}

/// Counts since the kernel was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that were accepted.
    pub accepted: u64,
    /// Requests that were rejected.
    pub rejected: u64,
    /// Requests for accounts that their lane was not granted; among the rejected ones.
    pub not_permitted: u64,
    /// Fills; each has one taker and one maker.
    pub trades: u64,
    /// Orders that rest now.
    pub resting: u64,
}

/// All books, positions, accounts and open lanes. See the module's documentation.
pub struct OrderKernel {
    books: Vec<Book>,
    store: Store,
    accounts: Accounts,
    lanes: Lanes,
    names: BTreeSet<[u8; 24]>,
    counters: Counters,
}

impl OrderKernel {
    /// A kernel without symbols and accounts that lets at most `resting_orders_max` orders rest (never more than
    /// `limits::RESTING_ORDERS_MAX`); one more is `BOOK_FULL`. Memory is taken as orders come.
    #[must_use]
    pub fn new(resting_orders_max: usize) -> Self {
        Self::with_hash_seed(resting_orders_max, SEED)
    }

    /// As `new`, with a seed for the hashes of ids: with a secret one, no client can choose ids that collide.
    /// No result depends on it.
    #[must_use]
    pub fn with_hash_seed(resting_orders_max: usize, hash_seed: u64) -> Self {
        Self {
            books: Vec::new(),
            store: Store::new(resting_orders_max, hash_seed),
            accounts: Accounts::new(),
            lanes: Lanes::new(),
            names: BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    /// Lets at most `resting_orders_max` orders rest from now on; orders that rest already stay.
    pub fn set_resting_orders_max(&mut self, resting_orders_max: u64) {
        self.store.set_resting_orders_max(resting_orders_max);
    }

    /// From now on fills of orders that no lane owns are told too, as events of lane 0: for who must see every trade.
    pub fn tell_orphans(&mut self) {
        self.store.tells_orphans = true;
    }

    /// Most orders that may rest.
    #[must_use]
    pub fn resting_orders_max(&self) -> u64 {
        self.store.resting_orders_max as u64
    }

    /// Opens `lane` for the accounts `account_first..=account_last`, or changes the grant of an open one. Lane 0 is nobody
    /// and stays closed.
    pub fn open_lane(&mut self, lane: u32, account_first: u32, account_last: u32) {
        if lane != 0 {
            self.lanes.insert(lane, Grant { account_first, account_last });
        }
    }

    /// Closes `lane`: cancels the orders that it owns, or leaves them to nobody (owner lane 0). The lane itself is told
    /// nothing, and nobody else is concerned: no event is added. Returns the work: entries looked at and orders cancelled.
    pub fn close_lane(&mut self, lane: u32, cancel_orders: bool) -> u64 {
        if self.lanes.remove(&lane).is_none() {
            return 0;
        }
        // Nothing is scanned for a lane without orders, and nothing behind the last one.
        let (mut left, mut work, mut orphaned) = (self.store.owned(lane), 0, 0);
        for at in 0..self.store.orders.used() {
            if left == 0 {
                break;
            }
            work += 1;
            let order = self.store.orders.get_mut(at);
            if !order.is_live() || order.lane != lane {
                continue;
            }
            left -= 1;
            if cancel_orders {
                let symbol = self.store.holdings.get(order.position).symbol;
                self.books[symbol as usize - 1].cancel(&mut self.store, at);
                work += 1;
            } else {
                order.lane = 0;
                orphaned += 1;
            }
        }
        self.store.orphans += u64::from(orphaned);
        self.store.change_owned(lane, 0, orphaned);
        work
    }

    /// Takes `requests` of `lane`, numbered from `first_sequence`, and writes the answer of each into its place in
    /// `results` (which is as long). Events are added to `out` in the order of (sequence, k).
    ///
    /// Returns the work: 1 for each request, fill, and resting order that a fill-or-kill check or a take-over looked at.
    pub fn process(
        &mut self,
        first_sequence: u64,
        lane: u32,
        requests: &[OrderRequest],
        results: &mut [OrderResult],
        out: &mut Vec<Outgoing>,
    ) -> u64 {
        assert_eq!(requests.len(), results.len(), "every request has a place for its result");
        let grant = self.lanes.get(&lane).copied().unwrap_or(Grant::NONE);
        let mut work = 0;
        let mut sequence = first_sequence;
        let mut window = [Err(RejectCode::UnknownOp); WINDOW];
        for (requests, results) in requests.chunks(WINDOW).zip(results.chunks_mut(WINDOW)) {
            let window = &mut window[..requests.len()];
            let rules = Rules { books: &self.books, accounts: &self.accounts, grant, now_ns: self.store.now_ns };
            for (checked, request) in window.iter_mut().zip(requests) {
                *checked = check(request, &rules);
                ahead::indices(&self.books, &self.store, checked);
            }
            for checked in window.iter_mut() {
                ahead::entries(&self.books, &self.store, checked);
            }
            for checked in window.iter() {
                ahead::neighbours(&self.store, checked);
            }
            for ((request, result), checked) in requests.iter().zip(results).zip(window.iter()) {
                let entry = Entry { sequence, lane };
                let outcome = match checked {
                    Ok(checked) => self.apply(entry, request, checked, out, &mut work),
                    Err(code) => Err(*code),
                };
                self.answer(entry, request, outcome, result);
                sequence = sequence.wrapping_add(1);
                work += 1;
            }
        }
        work
    }

    /// The stages that need a book: ids, risk, business rules, match, settle.
    #[inline(always)]
    fn apply(
        &mut self,
        entry: Entry,
        request: &OrderRequest,
        checked: &Checked,
        out: &mut Vec<Outgoing>,
        work: &mut u64,
    ) -> Result<Answer, RejectCode> {
        if let Action::CancelAll(this_lane) = checked.action {
            return Ok(self.cancel_all(entry, request, this_lane, out, work));
        }
        let Some(book) = self.books.get_mut(checked.book as usize) else {
            // Only a take-over of every symbol names no book.
            return Ok(ops::take_over_all(&mut self.store, entry.lane, checked, work));
        };
        let limits = self.accounts.limits(checked.class);
        let mut desk = Desk { store: &mut self.store, accounts: &self.accounts, limits, entry, out, work };
        let answer = match &checked.action {
            Action::New(terms) => {
                let answer = ops::new(book, &mut desk, request, (checked, terms))?;
                self.counters.trades += entered(book, &mut desk, checked.account, &answer);
                self.accounts.accepted(checked.account, checked.client_order_id);
                answer
            }
            Action::Cancel => ops::cancel(book, &mut desk, checked)?,
            Action::Reduce(quantity) => ops::reduce(book, &mut desk, checked, *quantity)?,
            Action::Replace(terms) => {
                let answer = ops::replace(book, &mut desk, request, (checked, terms))?;
                self.counters.trades += entered(book, &mut desk, checked.account, &answer);
                answer
            }
            _ => ops::take_over(book, &mut desk, checked),
        };
        Ok(answer)
    }

    /// CANCEL_ALL: ends every order that the request names and the lane may trade.
    #[cold]
    fn cancel_all(&mut self, entry: Entry, request: &OrderRequest, this_lane: bool, out: &mut Vec<Outgoing>, work: &mut u64) -> Answer {
        let given = |number: u32| (number != 0).then_some(number);
        let selection = Selection {
            symbol: given(request.symbol),
            account: given(request.account),
            lane: this_lane.then_some(entry.lane),
            grant: self.lanes.get(&entry.lane).copied().unwrap_or(Grant::NONE),
        };
        let count = self.end_selected(entry, &selection, CancelReason::MassCancel, out, work);
        let fills = matching::Fills { count, ..matching::Fills::default() };
        Answer { order_id: 0, fills, remaining: 0, state: OrderState::Cancelled }
    }

    /// Writes the answer in the request's own place.
    #[inline(always)]
    fn answer(&mut self, entry: Entry, request: &OrderRequest, outcome: Result<Answer, RejectCode>, result: &mut OrderResult) {
        *result = OrderResult { sequence: entry.sequence, client_order_id: request.client_order_id, ..OrderResult::default() };
        match outcome {
            Ok(Answer { order_id, fills, remaining, state }) => {
                self.counters.accepted += 1;
                result.order_id = order_id;
                result.notional = fills.notional;
                result.filled_quantity = fills.quantity;
                result.remaining_quantity = remaining;
                result.fill_count = fills.count;
                result.state = state as u8;
                result.reason = if fills.prevented { CancelReason::SelfTrade as u16 } else { 0 };
            }
            Err(code) => {
                self.counters.rejected += 1;
                self.counters.not_permitted += u64::from(code == RejectCode::AccountNotPermitted);
                result.code = code as u16;
            }
        }
    }

    /// Counts since the kernel was made, and the orders that rest now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { resting: self.store.orders.live() as u64, ..self.counters }
    }
}

/// What follows an accepted NEW or REPLACE: its rate is counted where a limit asks for it, and stops follow its trades. Returns
/// the trades, its own and those of the stops.
#[inline(always)]
fn entered(book: &mut Book, desk: &mut Desk, account: u32, answer: &Answer) -> u64 {
    if desk.limits.order_rate_max != u32::MAX || book.limited {
        let store = &mut *desk.store;
        let in_symbol = store.symbol_limits.find(book.symbol, account).map(|_| book.symbol);
        store.tallies.accept(account, in_symbol, store.now_ns);
    }
    let mut trades = u64::from(answer.fills.count);
    if trades != 0 && book.stops.is_some() {
        trades += stops::follow(book, desk, answer.fills.first_price, answer.fills.k());
    }
    trades
}
