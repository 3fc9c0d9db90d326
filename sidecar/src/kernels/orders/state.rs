//! What can be asked of the kernel's state, and its canonical hash. Nothing here changes it.

use ringlane_layout::orders::{AccountLimits, BookLevel, Instrument, OpenOrder, Position, Side};
use xxhash_rust::xxh3::Xxh3;

use super::OrderKernel;
use super::book::Book;
use super::shard::Shard;
use super::slab::NIL;
use super::store::{Holding, Store};

/// Version of the state hash's byte order.
const STATE_VERSION: u64 = 3;
const SIDES: [Side; 2] = [Side::Buy, Side::Sell];

impl OrderKernel {
    /// Hash (XXH3, 64 bits, seed 0) of everything that decides about later requests. It does not depend on how memory is
    /// laid out, on batches, or on requests that were rejected.
    ///
    /// The bytes, all integers little-endian and without padding:
    ///
    /// 1. version 3 (u64); sequenced time (u64); count of instruments (u64);
    /// 2. for each instrument, ascending: its 64-byte record; price of the last trade (i64, 0 for none); 1 when halted, else 0
    ///    (u64); then for bids, asks, waiting buy stops, waiting sell stops: count of orders (u64) and each of them as its 72-byte
    ///    `OpenOrder`, best price first (stops: first triggered first), first come first; then count of positions that are
    ///    not all zero (u64) and each of them, ascending by account: account (u32), net quantity (i64), open buy quantity
    ///    (u64), open sell quantity (u64), cash (i128);
    /// 3. count of account ranges (u64) and each of them, ascending, as its 64-byte `AccountLimits` with `live` 0. Ranges are
    ///    maximal: neighbours of equal limits are one. A limit of the largest number is no limit, 0;
    /// 4. the same for limits in symbols, ascending by symbol, then account; a range without any limit is none;
    /// 5. count of accounts that are counted in this second of sequenced time and each of them, ascending: account, accepted
    ///    orders (u32, u32); count of pairs of symbol and account that are, and each: symbol, account, accepted orders. Counted
    ///    are accounts with a rate limit, and those that trade in a symbol where some account has limits;
    /// 6. count of accounts whose last accepted client order id is not 0 (u64) and each of them, ascending: account (u32), id (u64);
    /// 7. count of open lanes (u64) and each of them, ascending: lane (u32), first and last account of its grant (u32, u32);
    /// 8. most orders that may rest (u64).
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        let mut hash = Hasher(Xxh3::new());
        hash.u64(STATE_VERSION);
        hash.u64(self.now_ns);
        hash.u64(self.shards.book_count().into());
        for (book, store) in self.shards.books() {
            hash_book(book, store, &mut hash);
        }
        let ranges = self.accounts.ranges();
        hash.u64(ranges.len() as u64);
        for range in &ranges {
            hash.record(&range.limits.record((range.account_first, range.account_last), 0));
        }
        let in_symbols = self.symbol_limits();
        hash.u64(in_symbols.len() as u64);
        in_symbols.iter().for_each(|record| hash.record(record));
        let (rates, rates_in_symbols) = (self.tallies.rates(self.now_ns), self.rates_in_symbols());
        hash.u64(rates.len() as u64);
        rates.iter().for_each(|(account, rate)| [*account, *rate].into_iter().for_each(|word| hash.u32(word)));
        hash.u64(rates_in_symbols.len() as u64);
        for (symbol, account, rate) in rates_in_symbols {
            [symbol, account, rate].into_iter().for_each(|word| hash.u32(word));
        }
        hash.u64(self.accounts.last_ids().count() as u64);
        for (account, id) in self.accounts.last_ids() {
            hash.u32(account);
            hash.u64(id);
        }
        hash.u64(self.lanes.len() as u64);
        for (lane, grant) in &self.lanes {
            hash.u32(*lane);
            hash.u32(grant.account_first);
            hash.u32(grant.account_last);
        }
        hash.u64(self.resting_orders_max());
        hash.0.digest()
    }

    /// Every range of accounts with limits in a symbol, ascending by symbol and account.
    #[must_use]
    pub fn symbol_limits(&self) -> Vec<AccountLimits> {
        let mut records: Vec<_> = self.shards.all().iter().flat_map(|shard| shard.store.symbol_limits.records()).collect();
        records.sort_unstable_by_key(|record| (record.symbol, record.account_first));
        records
    }

    /// Symbol, account and count of those that are counted in this second in a symbol, ascending.
    pub(super) fn rates_in_symbols(&self) -> Vec<(u32, u32, u32)> {
        let mut rates: Vec<_> = self.shards.all().iter().flat_map(|shard| shard.store.symbol_tallies.rates(self.now_ns)).collect();
        rates.sort_unstable();
        rates
    }

    /// Client order id of the account's last accepted `NEW`; 0 when there was none.
    #[must_use]
    pub fn last_client_order_id(&self, account: u32) -> u64 {
        self.accounts.last_id(account)
    }

    /// The client order id of the account's last accepted `NEW` (0 for none), and its open orders, ascending by symbol, bids
    /// before asks, then by price-time; then the symbol's waiting buy stops and sell stops, first triggered first.
    #[must_use]
    pub fn open_orders(&self, account: u32) -> (u64, Vec<OpenOrder>) {
        let mut orders = Vec::new();
        for (book, store) in self.shards.books() {
            let holding = book.holding(store, account, NIL);
            if holding == NIL {
                continue;
            }
            let open = store.holdings.get(holding).open;
            for side in SIDES.into_iter().filter(|side| open[super::book::slot(*side)] != 0) {
                orders.extend(self.fifo(book.symbol, side).filter(|order| order.account == account));
            }
            if open != [0, 0] {
                let stops = SIDES.into_iter().flat_map(|side| self.stops(book.symbol, side));
                orders.extend(stops.filter(|order| order.account == account));
            }
        }
        (self.accounts.last_id(account), orders)
    }

    /// The account's positions, ascending by symbol. A position that is zero in everything counts as absent.
    #[must_use]
    pub fn positions(&self, account: u32) -> Vec<Position> {
        let holdings = self.shards.books().map(|(book, store)| (store, book.holding(store, account, NIL)));
        holdings
            .filter(|(_, at)| *at != NIL)
            .map(|(store, at)| store.holdings.get(at))
            .filter(|holding| !holding.is_zero())
            .map(Holding::row)
            .collect()
    }

    /// Every position in a symbol that is not zero in everything, ascending by account. Empty when there is no such symbol.
    #[must_use]
    pub fn positions_in(&self, symbol: u32) -> Vec<Position> {
        let book = self.shards.book(symbol).into_iter();
        let holdings = book.flat_map(|(book, store)| book.holdings.iter().map(|at| store.holdings.get(at)));
        let mut rows: Vec<Position> = holdings.filter(|holding| !holding.is_zero()).map(Holding::row).collect();
        rows.sort_unstable_by_key(|row| row.account);
        rows
    }

    /// The best `levels_max` levels of each side: bids best first, then asks best first. `None` when there is no such symbol.
    #[must_use]
    pub fn book(&self, symbol: u32, levels_max: usize) -> Option<Vec<BookLevel>> {
        self.shards.book(symbol)?;
        let mut levels: Vec<BookLevel> = Vec::new();
        for side in SIDES {
            let first = levels.len();
            for order in self.fifo(symbol, side) {
                if levels.len() == first || levels.last().is_some_and(|level| level.price != order.price) {
                    if levels.len() - first >= levels_max {
                        break;
                    }
                    levels.push(BookLevel { price: order.price, side: side as u8, ..BookLevel::default() });
                }
                if let Some(level) = levels.last_mut() {
                    level.quantity += u64::from(order.shown_quantity);
                    level.order_count += 1;
                }
            }
        }
        Some(levels)
    }

    /// Every resting order of one side, best price first, first come first. Empty when there is no such symbol.
    pub fn fifo(&self, symbol: u32, side: Side) -> impl Iterator<Item = OpenOrder> {
        let book = self.shards.book(symbol).into_iter();
        book.flat_map(move |(book, store)| book.sides[super::book::slot(side)].walk(&store.orders).map(move |at| store.row(at, symbol)))
    }

    /// Every stop of one side that waits, first triggered first. Empty when there is no such symbol.
    pub fn stops(&self, symbol: u32, side: Side) -> impl Iterator<Item = OpenOrder> {
        let book = self.shards.book(symbol).into_iter();
        book.flat_map(move |(book, store)| book.waiting(side).map(move |at| store.row(at, symbol)))
    }

    /// Whether a symbol is halted; false when there is no such symbol.
    #[must_use]
    pub fn is_halted(&self, symbol: u32) -> bool {
        self.shards.book(symbol).is_some_and(|(book, _)| book.halted)
    }

    /// Symbols that are halted, ascending.
    #[must_use]
    pub fn halted(&self) -> Vec<u32> {
        self.shards.books().filter(|(book, _)| book.halted).map(|(book, _)| book.symbol).collect()
    }

    /// Heap that books, orders, positions and accounts hold, bytes (the allocator's own overhead is not counted).
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let of_book = |book: &Book| {
            let levels: usize = book.sides.iter().map(super::side::BookSide::heap_bytes).sum();
            levels + book.orders.heap_bytes() + book.holdings.heap_bytes()
        };
        let of_shard = |Shard { books, store, .. }: &Shard| {
            books.iter().map(of_book).sum::<usize>()
                + books.capacity() * size_of::<Book>()
                + store.orders.heap_bytes()
                + store.holdings.heap_bytes()
                + store.attributes.heap_bytes()
                + store.symbol_tallies.heap_bytes()
                + store.changes.capacity() * size_of::<super::Counted>()
        };
        self.shards.all().iter().map(of_shard).sum::<usize>() + self.accounts.heap_bytes() + self.tallies.heap_bytes()
    }

    /// How many instruments there are.
    #[must_use]
    pub fn instrument_count(&self) -> u32 {
        self.shards.book_count()
    }

    /// The instruments, ascending by symbol.
    #[must_use]
    pub fn instruments(&self) -> Vec<Instrument> {
        self.shards.books().map(|(book, _)| book.instrument).collect()
    }
}

fn hash_book(book: &Book, store: &Store, hash: &mut Hasher) {
    hash.record(&book.instrument);
    hash.u64(book.last_price as u64);
    hash.u64(u64::from(book.halted));
    for side in &book.sides {
        hash.u64(side.walk(&store.orders).count() as u64);
        side.walk(&store.orders).for_each(|at| hash.record(&store.row(at, book.symbol)));
    }
    for side in SIDES {
        hash.u64(book.waiting(side).count() as u64);
        book.waiting(side).for_each(|at| hash.record(&store.row(at, book.symbol)));
    }
    let mut holdings: Vec<&Holding> = book.holdings.iter().map(|at| store.holdings.get(at)).filter(|h| !h.is_zero()).collect();
    holdings.sort_unstable_by_key(|holding| holding.account);
    hash.u64(holdings.len() as u64);
    for holding in holdings {
        hash.u32(holding.account);
        hash.u64(holding.net as u64);
        hash.u64(holding.open[0]);
        hash.u64(holding.open[1]);
        hash.0.update(&holding.cash.to_le_bytes());
    }
}

struct Hasher(Xxh3);

impl Hasher {
    fn u64(&mut self, value: u64) {
        self.0.update(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.update(&value.to_le_bytes());
    }

    fn record(&mut self, record: &impl bytemuck::Pod) {
        self.0.update(bytemuck::bytes_of(record));
    }
}
