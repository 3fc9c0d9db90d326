//! One symbol's book: its instrument, both sides, and the indices from client order ids and accounts to the slabs.
//! Matching and what ops mean live beside it.

use ringlane_layout::orders::{Instrument, Side};

use super::attributes;
use super::index::Index;
use super::market::Depth;
use super::side::BookSide;
use super::slab::NIL;
use super::stops::Stops;
use super::store::{Holding, Store};

/// A book.
pub(super) struct Book {
    pub(super) lot: u32,
    pub(super) symbol: u32,
    pub(super) tick: u64,
    /// Price of the last trade; before one, the instrument's reference price; 0 for none.
    pub(super) collar_price: i64,
    /// Price of the last trade, 0 before one.
    pub(super) last_price: i64,
    /// Bids, asks.
    pub(super) sides: [BookSide; 2],
    /// Live orders by (account, client order id).
    pub(super) orders: Index,
    /// Positions by account.
    pub(super) holdings: Index,
    pub(super) instrument: Instrument,
    /// Stops that wait; none: there are none.
    pub(super) stops: Option<Box<Stops>>,
    /// What is kept for those who watch the market; none: nobody does.
    pub(super) depth: Option<Box<Depth>>,
    /// Whether orders are neither entered nor replaced.
    pub(super) halted: bool,
    /// Whether some account has limits of its own in this symbol.
    pub(super) limited: bool,
}

/// Index of a side in pairs of (buy, sell).
#[inline(always)]
pub(super) fn slot(side: Side) -> usize {
    (side == Side::Sell) as usize
}

impl Book {
    /// A book without orders. The record is checked.
    pub(super) fn new(instrument: &Instrument, seed: u64) -> Self {
        Self {
            lot: instrument.lot as u32,
            symbol: instrument.symbol,
            tick: instrument.tick as u64,
            collar_price: instrument.reference_price,
            last_price: 0,
            sides: [Side::Buy, Side::Sell].map(|side| BookSide::new(side, seed)),
            orders: Index::new(),
            holdings: Index::new(),
            instrument: *instrument,
            stops: None,
            depth: None,
            halted: false,
            limited: false,
        }
    }

    /// A copy for a snapshot: without what follows from the orders themselves.
    pub(super) fn frozen(&self) -> Self {
        let sides = [self.sides[0].frozen(), self.sides[1].frozen()];
        Self { sides, orders: Index::new(), holdings: self.holdings.clone(), stops: self.stops.clone(), depth: None, ..*self }
    }

    /// The account's position, or NIL while it has none. `hint` is NIL or any entry that was ever used.
    #[inline]
    pub(super) fn holding(&self, store: &Store, account: u32, hint: u32) -> u32 {
        // There is one position of this account and symbol, so an entry that is one is the one.
        if hint != NIL {
            let holding = store.holdings.get(hint);
            if holding.account == account && holding.symbol == self.symbol {
                return hint;
            }
        }
        self.holdings.find(store.account_hash(account), |at| store.holdings.get(at).account == account).unwrap_or(NIL)
    }

    /// The account's position, made if it has none. The caller has asked `Store::has_room` or found that nothing is to be made.
    #[inline]
    pub(super) fn holding_or_new(&mut self, store: &mut Store, found: u32, account: u32) -> u32 {
        if found != NIL {
            return found;
        }
        let at = store.holdings.insert(Holding { account, symbol: self.symbol, ..Holding::default() });
        let (holdings, seed) = (&store.holdings, store.seed);
        self.holdings.insert(store.account_hash(account), at, |other| super::index::account_hash(seed, holdings.get(other).account));
        at
    }

    /// The account's live order of this client order id, or NIL. `hash` is that of both; `hint` is NIL or any entry that was ever used.
    #[inline]
    pub(super) fn order(&self, store: &Store, (account, client_order_id): (u32, u64), hash: u64, hint: u32) -> u32 {
        let is_it = |at: u32| {
            let order = store.orders.get(at);
            order.client_order_id == client_order_id && order.account == account
        };
        // These ids name one live order in this symbol, so a live order of theirs in this symbol is the one.
        if hint != NIL && is_it(hint) {
            let order = store.orders.get(hint);
            if order.is_live() && store.holdings.get(order.position).symbol == self.symbol {
                return hint;
            }
        }
        self.orders.find(hash, is_it).unwrap_or(NIL)
    }

    /// Enters a linked order under the hash of its ids.
    #[inline]
    pub(super) fn index_order(&mut self, store: &Store, at: u32, hash: u64) {
        let hash_of = |at: u32| {
            let order = store.orders.get(at);
            store.order_hash(order.account, order.client_order_id)
        };
        self.orders.insert(hash, at, hash_of);
    }

    /// Forgets an order that no list holds any more: its ids and its place.
    #[inline]
    pub(super) fn drop_order(&mut self, store: &mut Store, at: u32) {
        let order = store.orders.get(at);
        self.orders.remove(store.order_hash(order.account, order.client_order_id), at);
        let lane = order.lane;
        if order.has(attributes::ALL) {
            store.forget_attributes(at);
        }
        store.orphans -= u64::from(lane == 0);
        store.uncount_owned(lane);
        store.orders.remove(at);
    }

    /// Takes a live order out of the book with all that it holds.
    #[inline]
    pub(super) fn cancel(&mut self, store: &mut Store, at: u32) {
        self.leave(store, at);
        self.drop_order(store, at);
    }

    /// Takes a live order out of its list, and what is open of it out of every count.
    #[inline]
    pub(super) fn leave(&mut self, store: &mut Store, at: u32) {
        let total = store.total(at);
        let order = store.orders.get(at);
        let side = slot(order.side());
        let special = order.has(attributes::ALL);
        store.holdings.get_mut(order.position).open[side] -= u64::from(total);
        if special {
            store.tally(at, -i64::from(total), -1);
            if self.forget_stop(store, at) {
                return;
            }
        }
        self.depth_changes(store.orders.get(at), -i64::from(store.orders.get(at).open()), -1);
        self.sides[side].unlink(&mut store.orders, at);
    }

    /// Counts what is open of an order with its terms set, and links it behind its price's others.
    #[inline]
    pub(super) fn rest(&mut self, store: &mut Store, at: u32) {
        self.count_open(store, at);
        let order = store.orders.get(at);
        let side = slot(order.side());
        self.depth_changes(order, order.open().into(), 1);
        self.sides[side].link(&mut store.orders, at);
    }

    /// Counts what is open of an order with its terms set.
    #[inline]
    pub(super) fn count_open(&self, store: &mut Store, at: u32) {
        let total = store.total(at);
        let order = store.orders.get(at);
        let side = slot(order.side());
        let tallied = order.has(attributes::TALLIED);
        store.holdings.get_mut(order.position).open[side] += u64::from(total);
        if tallied {
            store.tally(at, i64::from(total), 1);
        }
    }
}
