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
//! - `REPLACE` keeps both ids and the owner lane. Priority survives only if the price stays and the quantity does not
//!   grow; else the order leaves, trades what crosses, and rests behind the others of its price. Its result tells of this
//!   request's fills only.
//! - `TAKE_OVER` answers `RESTING` with order id 0, and the number of orders that it took over in `fill_count`.
//! - `CANCEL`, `REDUCE` and `REPLACE` by another lane than the owner give the owner a `CANCEL` event of reason `OTHER_LANE`,
//!   behind the request's fills: `quantity` is what was cancelled or taken off (for `REPLACE`, all that was open before),
//!   `price` and `remaining_quantity` tell how the order stands now.
//! - Events of a request are numbered k = 0, 1, ... over all lanes. An order whose owner lane is 0 emits none, but uses its k.
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

use ringlane_layout::orders::{AccountLimits, Instrument, OrderEvent, OrderRequest, OrderResult, RejectCode};

mod accounts;
mod ahead;
mod book;
mod check;
mod config;
mod index;
mod lanes;
mod levels;
mod matching;
mod ops;
mod risk;
mod side;
mod slab;
mod snapshot;
mod state;
mod store;

pub use config::ConfigError;
pub use snapshot::{CopySize, Frozen};

use accounts::Accounts;
use book::Book;
use check::{Action, Checked, Rules, check};
use lanes::{Grant, Lanes};
use ops::{Answer, Entry};
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

    /// Adds the next symbol.
    ///
    /// # Errors
    /// When the record is wrong or out of turn; nothing has changed then.
    pub fn add_instrument(&mut self, instrument: &Instrument) -> Result<(), ConfigError> {
        config::check_instrument(instrument, self.books.len() as u32 + 1)?;
        if !self.names.insert(instrument.name) {
            return Err(ConfigError::DuplicateName { symbol: instrument.symbol });
        }
        self.books.push(Book::new(instrument));
        Ok(())
    }

    /// Makes a range of accounts exist with these limits; a later record wins. Resting orders stay even where they pass a
    /// lower limit; what comes after is checked against it.
    ///
    /// # Errors
    /// When the record is wrong; nothing has changed then.
    pub fn set_accounts(&mut self, limits: &AccountLimits) -> Result<(), ConfigError> {
        self.accounts.set(limits)
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
            let rules = Rules { books: &self.books, accounts: &self.accounts, grant };
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
                    Ok(checked) => self.apply(entry, checked, out, &mut work),
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
    fn apply(&mut self, entry: Entry, checked: &Checked, out: &mut Vec<Outgoing>, work: &mut u64) -> Result<Answer, RejectCode> {
        let store = &mut self.store;
        let Some(book) = self.books.get_mut(checked.book as usize) else {
            // Only a take-over of every symbol names no book.
            return Ok(ops::take_over_all(store, entry, checked, work));
        };
        let limits = self.accounts.limits(checked.class);
        match &checked.action {
            Action::New(terms) => {
                let answer = ops::new(book, store, (entry, limits), (checked, terms), out, work)?;
                self.counters.trades += u64::from(answer.fills.count);
                self.accounts.accepted(checked.account, checked.client_order_id);
                Ok(answer)
            }
            Action::Cancel => ops::cancel(book, store, entry, checked, out),
            Action::Reduce(quantity) => ops::reduce(book, store, entry, (checked, *quantity), out),
            Action::Replace(terms) => {
                let answer = ops::replace(book, store, (entry, limits), (checked, terms), out, work)?;
                self.counters.trades += u64::from(answer.fills.count);
                Ok(answer)
            }
            Action::TakeOver => Ok(ops::take_over(book, store, entry, checked, work)),
        }
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
