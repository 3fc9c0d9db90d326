//! What a batch changed for those who watch the market: its trades, its price levels and the best of each side. Nobody asks
//! the books for it unless a symbol is watched, and whether one is changes no result: this is a copy, kept beside the book.
//!
//! A watched book has its *depth*: quantity and orders of each price, hashed by price. Orders that come, trade and go change
//! it, and note the level as touched; `OrderKernel::market` then tells each touched level once, as it stands at the end of
//! the batch, and nothing of a level that stands as it was told last. Where and when this is published is decided elsewhere.

use ringlane_layout::market::{MarketKind, MarketRecord};
use ringlane_layout::orders::{EventKind, OrderRequest, Side};

use super::book::{Book, slot};
use super::index::fold;
use super::slab::NIL;
use super::store::{Order, Store};
use super::{OrderKernel, Outgoing};
use crate::kernels::prefetch;

const SLOTS_MIN: usize = 64;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A price level of a watched book. `key` is 0 in an empty slot.
#[derive(Clone, Copy, Default)]
struct Level {
    key: u64,
    quantity: u64,
    told_quantity: u64,
    orders: u32,
    told_orders: u32,
}

impl Level {
    fn is_told(&self) -> bool {
        (self.quantity, self.orders) == (self.told_quantity, self.told_orders)
    }
}

/// Side and price as one number that is not 0: prices of resting orders are positive.
#[inline(always)]
fn key(side: Side, price: i64) -> u64 {
    (price as u64) << 1 | u64::from(side == Side::Sell)
}

fn side_and_price(key: u64) -> (Side, i64) {
    (if key & 1 == 0 { Side::Buy } else { Side::Sell }, (key >> 1) as i64)
}

/// All levels of one book, by open addressing with linear probing, at most half full.
pub(super) struct Depth {
    slots: Vec<Level>,
    used: usize,
    seed: u64,
    /// Slots of levels that may stand other than they were told.
    touched: Vec<u32>,
    /// Keys of touched levels that nothing rests at any more.
    gone: Vec<u64>,
    /// Price and quantity of the best bid and ask that were told last.
    top: [(i64, u64); 2],
    /// Where the best bid and ask were last: mostly where they are.
    top_at: [usize; 2],
}

impl Depth {
    fn new(seed: u64) -> Self {
        let slots = vec![Level::default(); SLOTS_MIN];
        Self { slots, used: 0, seed, touched: Vec::new(), gone: Vec::new(), top: [(0, 0); 2], top_at: [0; 2] }
    }

    /// The slot of `key`, or the empty one where it would be. The seed is secret: no client can choose prices that collide.
    #[inline(always)]
    fn find(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = fold(key ^ self.seed, MULTIPLIER) as usize & mask;
        while self.slots[at].key != key && self.slots[at].key != 0 {
            at = (at + 1) & mask;
        }
        at
    }

    /// Asks for the line of a level.
    #[inline]
    pub(super) fn fetch(&self, side: Side, price: i64) {
        prefetch::line(&self.slots[fold(key(side, price) ^ self.seed, MULTIPLIER) as usize & (self.slots.len() - 1)]);
    }

    /// A level has so much more or less.
    #[inline]
    fn change(&mut self, side: Side, price: i64, quantity: i64, orders: i32) {
        let key = key(side, price);
        let at = self.find(key);
        let level = &mut self.slots[at];
        if level.is_told() {
            self.touched.push(at as u32);
        }
        level.quantity = level.quantity.wrapping_add_signed(quantity);
        level.orders = level.orders.wrapping_add_signed(orders);
        if level.key == 0 {
            level.key = key;
            self.used += 1;
            if self.used * 2 > self.slots.len() {
                self.grow();
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let more = vec![Level::default(); self.slots.len() * 2];
        let touched: Vec<u64> = self.touched.iter().map(|at| self.slots[*at as usize].key).collect();
        for level in std::mem::replace(&mut self.slots, more) {
            if level.key != 0 {
                let at = self.find(level.key);
                self.slots[at] = level;
            }
        }
        self.touched = touched.into_iter().map(|key| self.find(key) as u32).collect();
    }

    /// Empties a slot, and moves what stands behind it to where it is found.
    fn remove(&mut self, mut at: usize) {
        let mask = self.slots.len() - 1;
        self.slots[at] = Level::default();
        self.used -= 1;
        loop {
            at = (at + 1) & mask;
            let level = std::mem::take(&mut self.slots[at]);
            if level.key == 0 {
                return;
            }
            let home = self.find(level.key);
            self.slots[home] = level;
        }
    }

    /// Tells every touched level that stands other than it was told.
    #[inline]
    fn tell(&mut self, blank: &MarketRecord, sink: &mut impl FnMut(MarketRecord)) {
        for at in self.touched.drain(..) {
            let level = &mut self.slots[at as usize];
            // It may have been touched twice, and told the first time.
            if !level.is_told() {
                (level.told_quantity, level.told_orders) = (level.quantity, level.orders);
                sink(level.record(blank));
            }
            if level.orders == 0 {
                self.gone.push(level.key);
            }
        }
        // Only now: who is removed moves others.
        while let Some(key) = self.gone.pop() {
            let at = self.find(key);
            if self.slots[at].key == key {
                self.remove(at);
            }
        }
    }

    /// Quantity at the best price of a side.
    #[inline]
    fn best(&mut self, side: Side, price: i64) -> u64 {
        let key = key(side, price);
        let mut at = self.top_at[slot(side)];
        if self.slots[at].key != key {
            at = self.find(key);
            self.top_at[slot(side)] = at;
        }
        self.slots[at].quantity
    }
}

impl Level {
    fn record(&self, blank: &MarketRecord) -> MarketRecord {
        let (side, price) = side_and_price(self.key);
        let kind = MarketKind::Level as u8;
        MarketRecord { kind, side: side as u8, price, quantity: self.quantity, order_count: self.orders, ..*blank }
    }
}

impl Book {
    /// The level of this order has so much more or less; `quantity` is what the book shows.
    #[inline(always)]
    pub(super) fn depth_changes(&mut self, order: &Order, quantity: i64, orders: i32) {
        if let Some(depth) = &mut self.depth {
            depth.change(order.side(), order.price(), quantity, orders);
        }
    }

    /// Asks for the line of a level, if the book is watched.
    #[inline(always)]
    pub(super) fn fetch_level(&self, side: Side, price: i64) {
        if let Some(depth) = &self.depth {
            depth.fetch(side, price);
        }
    }

    /// Takes `quantity` off the order at `at`, which has more open.
    #[inline]
    pub(super) fn take_off(&mut self, store: &mut Store, at: u32, quantity: u32) {
        let before = store.orders.get(at).open();
        store.take_off(at, quantity);
        let order = store.orders.get(at);
        if !order.has(super::attributes::STOP) {
            self.depth_changes(order, i64::from(order.open()) - i64::from(before), 0);
        }
    }

    /// Begins to keep the book's depth. Gives the orders that were looked at.
    fn watch(&mut self, store: &Store) -> u64 {
        if self.depth.is_some() {
            return 0;
        }
        let (mut depth, mut work) = (Depth::new(store.seed), 0);
        for at in self.sides.iter().flat_map(|side| side.walk(&store.orders)) {
            let order = store.orders.get(at);
            depth.change(order.side(), order.price(), order.open().into(), 1);
            work += 1;
        }
        depth.tell(&MarketRecord::default(), &mut |_| {});
        depth.top = self.best(store, &mut depth);
        self.depth = Some(Box::new(depth));
        work
    }

    /// Price and quantity of the best bid and ask.
    #[inline]
    fn best(&self, store: &Store, depth: &mut Depth) -> [(i64, u64); 2] {
        [Side::Buy, Side::Sell].map(|side| match self.sides[slot(side)].head() {
            NIL => (0, 0),
            at => {
                let price = store.orders.get(at).price();
                (price, depth.best(side, price))
            }
        })
    }

    /// Tells what changed since it was told last, if the book is watched. Asked for each request, and mostly nothing is left.
    #[inline(always)]
    fn tell_depth(&mut self, store: &Store, sequence: u64, sink: &mut impl FnMut(MarketRecord)) {
        if self.depth.as_ref().is_some_and(|depth| !depth.touched.is_empty()) {
            self.tell_touched(store, sequence, sink);
        }
    }

    #[inline(never)]
    fn tell_touched(&mut self, store: &Store, sequence: u64, sink: &mut impl FnMut(MarketRecord)) {
        let Some(mut depth) = self.depth.take() else { return };
        let blank = MarketRecord { symbol: self.symbol, sequence, ..MarketRecord::default() };
        depth.tell(&blank, sink);
        let top = self.best(store, &mut depth);
        if top != depth.top {
            depth.top = top;
            sink(top_record(&blank, top));
        }
        self.depth = Some(depth);
    }
}

fn top_record(blank: &MarketRecord, [(price, quantity), (ask_price, ask_quantity)]: [(i64, u64); 2]) -> MarketRecord {
    MarketRecord { kind: MarketKind::Top as u8, price, quantity, ask_price, ask_quantity, ..*blank }
}

impl OrderKernel {
    /// Watches a symbol from now on, if there is such a one. Gives the resting orders that were looked at: all of the symbol's,
    /// the first time.
    pub fn watch(&mut self, symbol: u32) -> u64 {
        self.tell_orphans();
        self.shards.book_mut(symbol).map_or(0, |(book, store)| book.watch(store))
    }

    /// Watches every symbol that is added from now on.
    pub fn watch_new_symbols(&mut self) {
        self.watches_new_books = true;
    }

    /// Tells what requests changed in watched symbols: `events` are those that they gave, `requests` they themselves (none: any
    /// symbol may have changed), and `sequence` is the number of the last of them. Trades come first, in their order, then,
    /// symbol by symbol, levels and the best of both sides.
    pub fn market(&mut self, sequence: u64, requests: Option<&[OrderRequest]>, events: &[Outgoing], sink: &mut impl FnMut(MarketRecord)) {
        for Outgoing { event, .. } in events {
            if event.kind == EventKind::Fill as u8 && self.is_watched(event.symbol) {
                sink(MarketRecord {
                    kind: MarketKind::Trade as u8,
                    side: if event.side == Side::Buy as u8 { Side::Sell as u8 } else { Side::Buy as u8 },
                    sequence: event.sequence,
                    k: event.k,
                    symbol: event.symbol,
                    price: event.price,
                    quantity: event.quantity.into(),
                    ..MarketRecord::default()
                });
            }
        }
        let symbols = self.instrument_count();
        let mut tell = |symbol: u32| {
            if let Some((book, store)) = self.shards.book_mut(symbol) {
                book.tell_depth(store, sequence, sink);
            }
        };
        match requests {
            Some(requests) if requests.iter().all(|request| request.symbol != 0) => {
                requests.iter().for_each(|request| tell(request.symbol))
            }
            _ => (1..=symbols).for_each(tell),
        }
    }

    fn is_watched(&self, symbol: u32) -> bool {
        self.shards.book(symbol).is_some_and(|(book, _)| book.depth.is_some())
    }

    /// Adds the whole book of a watched symbol, as it was told last: `CLEAR`, its levels in no order, and `TOP`. Nothing when the
    /// symbol is not watched.
    pub fn market_snapshot(&self, symbol: u32, sequence: u64, number: u64, rows: &mut Vec<MarketRecord>) {
        let Some(depth) = self.shards.book(symbol).and_then(|(book, _)| book.depth.as_deref()) else { return };
        let blank = MarketRecord { symbol, sequence, number, ..MarketRecord::default() };
        rows.push(MarketRecord { kind: MarketKind::Clear as u8, ..blank });
        rows.extend(depth.slots.iter().filter(|level| level.key != 0).map(|level| level.record(&blank)));
        rows.push(top_record(&blank, depth.top));
    }
}
