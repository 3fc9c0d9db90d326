//! The order kernel: checks, risk, one price-time book a symbol, and positions. Pure: the same records give the same
//! bits, however they are cut into batches. No clock, I/O or shared memory enters this module, and threads only `parallel.rs`,
//! where no result depends on how many they are.
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

use std::collections::{BTreeMap, BTreeSet};

use ringlane_layout::orders::{CancelReason, Op, OrderEvent, OrderFlag, OrderRequest, OrderResult, OrderState};

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
mod pages;
mod parallel;
mod risk;
mod shard;
mod side;
mod slab;
mod snapshot;
mod special;
mod state;
mod stops;
mod store;
mod tallies;
mod usual;

pub use config::ConfigError;
pub use parallel::{Parallel, Sequential};
pub use snapshot::{CopySize, Frozen};

use accounts::Accounts;
use attributes::Rare;
use book::Book;
use check::{Checked, Rules, check};
use desk::{Desk, Entry};
use endings::Selection;
use lanes::{Grant, Lanes};
use ops::Answer;
use shard::{Shard, Shards};
use slab::ENTRIES_MAX;
use store::{Room, Store};
use tallies::{Counted, Tallies};

/// Requests that are checked, and whose lines are fetched, before the first of them is matched.
const WINDOW: usize = 32;
/// Orders and positions, 48 bytes each, that the second cache of a core of today (1 to 2 MiB) keeps beside their indices.
const NEAR_ENTRIES_MAX: usize = 24 << 10;
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
    shards: Shards,
    accounts: Accounts,
    tallies: Tallies,
    lanes: Lanes,
    names: BTreeSet<[u8; 24]>,
    /// Sequenced time, nanoseconds since 1970; 0 before the first time record. Every part knows it too.
    now_ns: u64,
    resting_orders_max: usize,
    positions_max: usize,
    near_entries_max: usize,
    /// Whether symbols that are added are watched from the start.
    watches_new_books: bool,
    /// What few orders have that a snapshot is about to give, by order id.
    expected: BTreeMap<u64, Rare>,
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
            shards: Shards::new(hash_seed),
            accounts: Accounts::new(),
            tallies: Tallies::default(),
            lanes: Lanes::new(),
            names: BTreeSet::new(),
            now_ns: 0,
            resting_orders_max: resting_orders_max.min(ENTRIES_MAX),
            positions_max: ENTRIES_MAX,
            near_entries_max: NEAR_ENTRIES_MAX,
            watches_new_books: false,
            expected: BTreeMap::new(),
        }
    }

    /// Lets at most `resting_orders_max` orders rest from now on; orders that rest already stay.
    pub fn set_resting_orders_max(&mut self, resting_orders_max: u64) {
        self.resting_orders_max = usize::try_from(resting_orders_max).map_or(ENTRIES_MAX, |max| max.min(ENTRIES_MAX));
    }

    /// Lets at most `positions_max` positions be made from now on, in all symbols together; an order that needs one more is
    /// `BOOK_FULL`. Unless this is called, 2^26. No record tells it: who replays must say the same.
    pub fn set_positions_max(&mut self, positions_max: usize) {
        self.positions_max = positions_max.min(ENTRIES_MAX);
    }

    /// Fetches ahead what requests name once there are more orders and positions than this; unless it is called, than a core of
    /// today keeps near. Speed alone depends on it.
    pub fn set_near_entries_max(&mut self, near_entries_max: usize) {
        self.near_entries_max = near_entries_max;
    }

    /// From now on fills of orders that no lane owns are told too, as events of lane 0: for who must see every trade.
    pub fn tell_orphans(&mut self) {
        self.shards.all_mut().iter_mut().for_each(|shard| shard.store.tells_orphans = true);
    }

    /// Most orders that may rest.
    #[must_use]
    pub fn resting_orders_max(&self) -> u64 {
        self.resting_orders_max as u64
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
        let mut work = 0;
        for Shard { books, store, .. } in self.shards.all_mut() {
            // Nothing is scanned for a lane without orders, and nothing behind the last one.
            let (mut left, mut orphaned) = (store.owned(lane), 0);
            for at in 0..store.orders.used() {
                if left == 0 {
                    break;
                }
                work += 1;
                let order = store.orders.get_mut(at);
                if !order.is_live() || order.lane != lane {
                    continue;
                }
                left -= 1;
                if cancel_orders {
                    let symbol = store.holdings.get(order.position).symbol;
                    books[shard::index_of(symbol) as usize].cancel(store, at);
                    work += 1;
                } else {
                    order.lane = 0;
                    orphaned += 1;
                }
            }
            store.orphans += u64::from(orphaned);
            store.change_owned(lane, 0, orphaned);
        }
        self.count_all_changes();
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
        let grant = self.grant(lane);
        let (has_room, is_large) = (self.has_room(requests.len()), self.is_large());
        let mut work = 0;
        let mut sequence = first_sequence;
        let mut window = [Checked::NONE; WINDOW];
        for (requests, results) in requests.chunks(WINDOW).zip(results.chunks_mut(WINDOW)) {
            let window = &mut window[..requests.len()];
            let rules = Rules { accounts: &self.accounts, grant, now_ns: self.now_ns };
            for (checked, request) in window.iter_mut().zip(requests) {
                let shard = self.shards.of(request.symbol);
                check(request, &shard.books, &rules, checked);
                ahead::indices(shard, checked, is_large);
            }
            ahead::named(window, is_large, |at| self.shards.of(requests[at].symbol));
            for ((request, result), checked) in requests.iter().zip(results).zip(window.iter()) {
                let entry = Entry { sequence, lane };
                if !has_room {
                    self.measure_room(request.symbol);
                }
                let register = (&mut self.accounts, &self.tallies);
                let shard = self.shards.of_mut(request.symbol);
                if shard.is_for_many(checked) {
                    self.apply_to_many(entry, request, checked, (result, &mut *out, &mut work));
                } else {
                    let outcome = shard.apply(register, entry, request, checked, out, &mut work);
                    if !shard.store.changes.is_empty() {
                        count_changes(&mut self.tallies, &mut shard.store);
                    }
                    shard.answer(entry, request, outcome, result);
                }
                sequence = sequence.wrapping_add(1);
                work += 1;
            }
        }
        if !has_room {
            self.forget_room();
        }
        work
    }

    /// What `lane` may trade.
    fn grant(&self, lane: u32) -> Grant {
        self.lanes.get(&lane).copied().unwrap_or(Grant::NONE)
    }

    /// Applies a checked request that may concern every part: a mass cancel, or a take-over of every symbol.
    #[cold]
    #[inline(never)]
    fn apply_to_many(
        &mut self,
        entry: Entry,
        request: &OrderRequest,
        checked: &Checked,
        (result, out, work): (&mut OrderResult, &mut Vec<Outgoing>, &mut u64),
    ) {
        let answer = match checked.op {
            Op::CancelAll => self.cancel_all(entry, request, request.flags & OrderFlag::THIS_LANE != 0, out, work),
            _ => self.take_over_all(entry.lane, checked.account, work),
        };
        self.shards.of_mut(request.symbol).answer(entry, request, Ok(answer), result);
    }

    /// Orders that rest.
    fn resting(&self) -> usize {
        self.shards.all().iter().map(|shard| shard.store.orders.live()).sum()
    }

    /// Positions that were ever made.
    fn positions_made(&self) -> usize {
        self.shards.all().iter().map(|shard| shard.store.holdings.live()).sum()
    }

    /// Whether there is room for what so many requests may add; each adds an order and a position at most.
    fn has_room(&self, requests: usize) -> bool {
        self.resting() + requests <= self.resting_orders_max && self.positions_made() + requests <= self.positions_max
    }

    /// Whether there is more than the processor keeps near: only then is it worth while to fetch ahead what requests name.
    fn is_large(&self) -> bool {
        self.resting() + self.positions_made() > self.near_entries_max
    }

    /// Says whether there is room for what one request for this symbol may add.
    #[cold]
    #[inline(never)]
    fn measure_room(&mut self, symbol: u32) {
        let room = Room { orders: self.resting() < self.resting_orders_max, positions: self.positions_made() < self.positions_max };
        self.shards.of_mut(symbol).store.room = room;
    }

    /// Unless somebody says otherwise, there is room.
    fn forget_room(&mut self) {
        for shard in self.shards.all_mut() {
            shard.store.room = Room { orders: true, positions: true };
        }
    }

    /// CANCEL_ALL: ends every order that the request names and the lane may trade.
    #[cold]
    fn cancel_all(&mut self, entry: Entry, request: &OrderRequest, this_lane: bool, out: &mut Vec<Outgoing>, work: &mut u64) -> Answer {
        let given = |number: u32| (number != 0).then_some(number);
        let selection = Selection {
            symbol: given(request.symbol),
            account: given(request.account),
            lane: this_lane.then_some(entry.lane),
            grant: self.grant(entry.lane),
        };
        let count = self.end_selected(entry, &selection, CancelReason::MassCancel, out, work);
        let fills = matching::Fills { count, ..matching::Fills::default() };
        Answer { order_id: 0, fills, remaining: 0, state: OrderState::Cancelled }
    }

    /// TAKE_OVER of every symbol.
    #[cold]
    fn take_over_all(&mut self, lane: u32, account: u32, work: &mut u64) -> Answer {
        let taken = self.shards.all_mut().iter_mut().map(|shard| ops::take_over_all(&mut shard.store, lane, account, work)).sum();
        ops::taken_over(taken)
    }

    /// Lets the accounts' tallies count what is noted in every part.
    fn count_all_changes(&mut self) {
        for shard in self.shards.all_mut() {
            count_changes(&mut self.tallies, &mut shard.store);
        }
    }

    /// Counts since the kernel was made, and the orders that rest now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut sum = Counters { resting: self.resting() as u64, ..Counters::default() };
        for Counters { accepted, rejected, not_permitted, trades, resting: _ } in self.shards.all().iter().map(|shard| shard.counters) {
            sum.accepted += accepted;
            sum.rejected += rejected;
            sum.not_permitted += not_permitted;
            sum.trades += trades;
        }
        sum
    }
}

/// What follows an accepted NEW or REPLACE: its rate is counted where a limit asks for it, and stops follow its trades. Returns
/// the trades, its own and those of the stops.
#[inline(always)]
fn entered(book: &mut Book, desk: &mut Desk, account: u32, answer: &Answer) -> u64 {
    if desk.limits.has_more || book.limited {
        count_rate(book, desk, account);
    }
    let mut trades = u64::from(answer.fills.count);
    if trades != 0 && book.stops.is_some() {
        trades += stops::follow(book, desk, answer.fills.first_price, answer.fills.k());
    }
    trades
}

/// Counts an accepted order where a limit asks for the rate.
#[cold]
#[inline(never)]
fn count_rate(book: &Book, desk: &mut Desk, account: u32) {
    if desk.limits.order_rate_max != u32::MAX || book.limited {
        let store = &mut *desk.store;
        if store.symbol_limits.find(book.symbol, account).is_some() {
            store.symbol_tallies.of_mut(book.symbol, account).accept(store.now_ns);
        }
        store.changes.push(Counted::Accepted(account));
    }
}

/// Lets the accounts' tallies count what is noted.
#[inline(never)]
fn count_changes(tallies: &mut Tallies, store: &mut Store) {
    for at in 0..store.changes.len() {
        if let Some(Counted::Open(account, _) | Counted::Accepted(account)) = store.changes.get(at + 8) {
            tallies.fetch(*account);
        }
        tallies.count(store.changes[at], store.now_ns);
    }
    store.changes.clear();
}
