//! Stops that wait, and what happens when trades trigger them.
//!
//! A stop triggers when a trade happens at its stop price or beyond: a buy above, a sell below. Those that one request's
//! trades trigger follow when it is done, in the order in which they were entered; those that they trigger follow behind
//! them. A triggered stop passes no risk check again: what it might do was counted when it was entered.

use std::collections::{BTreeSet, VecDeque};

use ringlane_layout::limits::STOPS_MAX;
use ringlane_layout::orders::{CancelReason, EventKind, Side};

use super::attributes::{REDUCE_ONLY, STOP};
use super::book::{Book, slot};
use super::check::{Terms, terms};
use super::desk::{Desk, Told};
use super::matching::{Fills, Taker, trade};
use super::store::{Order, Store};

/// Waiting stops: buys by stop price, sells by negated stop price, then by order id; and the slab index. The first one of a
/// side triggers first.
#[derive(Clone, Default)]
pub(super) struct Stops {
    sides: [BTreeSet<(i64, u64, u32)>; 2],
}

impl Stops {
    /// Indices of all that wait.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        self.sides.iter().flatten().map(|(.., at)| *at)
    }
}

fn key(side: Side, stop_price: i64) -> i64 {
    if side == Side::Buy { stop_price } else { -stop_price }
}

impl Book {
    /// Whether one more stop may wait.
    pub(super) fn has_room_for_stop(&self) -> bool {
        self.stops.as_ref().is_none_or(|stops| stops.sides[0].len() + stops.sides[1].len() < STOPS_MAX)
    }

    /// Whether the last trade triggers a stop of these terms.
    pub(super) fn triggers(&self, side: Side, stop_price: i64) -> bool {
        self.last_price != 0 && key(side, self.last_price) >= key(side, stop_price)
    }

    /// Lets the order at `at`, whose stop price is set, wait.
    pub(super) fn wait(&mut self, store: &mut Store, at: u32) {
        self.place_stop(store, at);
        self.count_open(store, at);
    }

    /// As `wait`, for an order whose open quantity is counted.
    pub(super) fn place_stop(&mut self, store: &mut Store, at: u32) {
        let stop_price = store.rare(at).stop_price;
        let order = store.orders.get_mut(at);
        order.filled_bits |= STOP;
        let side = order.side();
        self.stops.get_or_insert_default().sides[slot(side)].insert((key(side, stop_price), order.order_id, at));
    }

    /// Takes the order at `at` out of the waiting ones, if it is one of them.
    pub(super) fn forget_stop(&mut self, store: &Store, at: u32) -> bool {
        let order = store.orders.get(at);
        if !order.has(STOP) {
            return false;
        }
        if let Some(stops) = &mut self.stops {
            stops.sides[slot(order.side())].remove(&(key(order.side(), store.rare(at).stop_price), order.order_id, at));
            if stops.sides.iter().all(BTreeSet::is_empty) {
                self.stops = None;
            }
        }
        true
    }

    /// Indices of the stops of one side that wait, in the order in which a price that moves away triggers them.
    pub(super) fn waiting(&self, side: Side) -> impl Iterator<Item = u32> {
        self.stops.iter().flat_map(move |stops| stops.sides[slot(side)].iter().map(|(.., at)| *at))
    }

    /// Takes out the stops that trades from `low` to `high` trigger: order id and index, in the order of their entry.
    fn take_triggered(&mut self, low: i64, high: i64) -> Vec<(u64, u32)> {
        let Some(stops) = &mut self.stops else { return Vec::new() };
        let mut triggered = Vec::new();
        for (side, reached) in stops.sides.iter_mut().zip([key(Side::Buy, high), key(Side::Sell, low)]) {
            let waiting = side.split_off(&(reached + 1, 0, 0));
            triggered.extend(std::mem::replace(side, waiting).into_iter().map(|(_, order_id, at)| (order_id, at)));
        }
        if stops.sides.iter().all(BTreeSet::is_empty) {
            self.stops = None;
        }
        triggered.sort_unstable();
        triggered
    }
}

/// Lets every stop follow that the trades from `first_price` to the last one trigger. `k` is the index of the next event.
/// Returns the trades.
#[cold]
#[inline(never)]
pub(super) fn follow(book: &mut Book, desk: &mut Desk, first_price: i64, mut k: u32) -> u64 {
    let mut trades = 0;
    let mut queue = VecDeque::new();
    let mut first_price = Some(first_price);
    loop {
        // Prices of one order's trades ascend or descend, so these two are the ends.
        if let Some(first) = first_price.take() {
            queue.extend(book.take_triggered(first.min(book.last_price), first.max(book.last_price)));
        }
        let Some((_, at)) = queue.pop_front() else { return trades };
        let account = desk.store.orders.get(at).account;
        let limits = desk.accounts.limits(desk.accounts.class(account));
        let (store, out, work) = (&mut *desk.store, &mut *desk.out, &mut *desk.work);
        let fills = activate(
            book,
            &mut Desk { store, accounts: desk.accounts, tallies: desk.tallies, limits, entry: desk.entry, out, work },
            at,
            k,
        );
        k = fills.k();
        trades += u64::from(fills.count);
        *desk.work += u64::from(fills.count) + 1;
        first_price = (fills.count > 0).then_some(fills.first_price);
    }
}

/// A triggered stop trades, then rests or ends. It waits no more, and `k` is the index of its first event.
fn activate(book: &mut Book, desk: &mut Desk, at: u32, mut k: u32) -> Fills {
    let symbol = book.symbol;
    let order = desk.store.orders.get(at);
    let (open, side, price, account, holding) = (order.open(), order.side(), order.price(), order.account, order.position);
    desk.tell(at, symbol, k, &Told::new(EventKind::Triggered, open, open));
    k += 1;
    let is_market = desk.store.rare(at).is_market;
    let told_price = if is_market { 0 } else { price };
    let mut quantity = open;
    if order_is(desk.store, at, REDUCE_ONLY) {
        let reducible = desk.store.holdings.get(holding).reducible(side);
        quantity = u64::from(open).min(reducible) as u32;
    }
    // It leaves every count; what rests in the end is counted anew.
    desk.store.tally(at, -i64::from(open), -1);
    desk.store.holdings.get_mut(holding).open[slot(side)] -= u64::from(open);
    unmark(desk.store, at);
    if quantity < open {
        let told = Told::cancel(CancelReason::ReduceOnly, open - quantity, quantity);
        desk.tell(at, symbol, k, &Told { price: Some(told_price), ..told });
        k += 1;
    }
    if quantity == 0 {
        book.drop_order(desk.store, at);
        return Fills { other_events: k, ..Fills::default() };
    }
    let terms = Terms { side, bits: if is_market { terms::MARKET } else { terms::MAY_REST }, quantity, price };
    let mut fills = trade::<true>(book, desk, &Taker { terms: &terms, account, holding, first_k: k, stop: Some(at) });
    let left = quantity - fills.quantity;
    desk.store.orders.get_mut(at).filled_bits += fills.quantity;
    if left != 0 && (is_market || fills.prevented) {
        let reason = if fills.prevented { CancelReason::SelfTrade } else { CancelReason::Immediate };
        desk.tell(at, symbol, fills.k(), &Told { price: Some(told_price), ..Told::cancel(reason, left, 0) });
        fills.other_events += 1;
        book.drop_order(desk.store, at);
    } else if left == 0 {
        book.drop_order(desk.store, at);
    } else {
        desk.store.orders.get_mut(at).word = Order::pack(side, price, left);
        book.rest(desk.store, at);
    }
    fills
}

fn order_is(store: &Store, at: u32, bits: u32) -> bool {
    store.orders.get(at).has(bits)
}

/// The order at `at` is a stop no more.
pub(super) fn unmark(store: &mut Store, at: u32) {
    let mut rare = store.rare(at);
    (rare.stop_price, rare.is_market) = (0, false);
    store.orders.get_mut(at).filled_bits &= !STOP;
    store.set_rare(at, rare);
}
