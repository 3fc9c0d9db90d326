//! The kernel's state as it stood at one moment: copied in one go, written as sections, and made anew from them. Taking the
//! copy is all that the sequencer waits for; it is a copy of whole slabs into memory that was touched before.
//!
//! | kind | version | rows |
//! | --- | --- | --- |
//! | 1 | 2 | one: most resting orders, accepted, rejected, trades, rejected for lack of a permit, sequenced time (u64 each) |
//! | 2 | 2 | books, ascending by symbol: `Instrument`, price of the last trade, collar price (i64 each), 1 when halted (u64) |
//! | 3 | 2 | `AccountLimits`, maximal ranges, ascending |
//! | 8 | 1 | `AccountLimits` in symbols, maximal ranges, ascending |
//! | 9 | 1 | rates of this second: symbol (0: all), account, accepted orders, 0 (u32 each) |
//! | 4 | 1 | last accepted client order ids: account (u32), 0 (u32), id (u64) |
//! | 5 | 1 | open lanes: lane, first account, last account, 0 (u32 each) |
//! | 6 | 1 | positions, zero ones too, ascending by symbol and account: account, symbol (u32), net (i64), open buys, open sells (u64), cash (i128) |
//! | 10 | 1 | what few orders have: order id (u64), hidden, display (u32), expiry (u64), stop price (i64), 1 when a market order waits (u64) |
//! | 7 | 2 | orders, ascending by symbol, bids first, then best first, then waiting stops: order id, client order id, price and quantity word (u64), account, lane, filled and attribute bits, symbol (u32) |
//!
//! Whoever adds state to the kernel adds a section here, and its version to whatever rows change.

use ringlane_layout::orders::{AccountLimits, Instrument, Side};

use super::attributes::{DAY, RARE, Rare, STOP};
use super::book::slot;
use super::shard::SHARDS;
use super::slab::{NIL, Slab};
use super::store::{Holding, Order, Store};
use super::{Counters, OrderKernel, count_changes};
use crate::section::{Section, SectionSink, put_rows};

const KERNEL: u32 = 1;
const BOOKS: u32 = 2;
const ACCOUNTS: u32 = 3;
const LAST_IDS: u32 = 4;
const GRANTS: u32 = 5;
const POSITIONS: u32 = 6;
const ORDERS: u32 = 7;
const SYMBOL_LIMITS: u32 = 8;
const RATES: u32 = 9;
const RARE_ORDERS: u32 = 10;

/// How much memory a copy takes, in chunks of the slabs.
#[derive(Debug, Clone, Copy)]
pub struct CopySize {
    orders: [usize; SHARDS],
    holdings: [usize; SHARDS],
}

/// A copy of the kernel's state that can be hashed and written, and nothing else: it lacks the indices of client order ids
/// and the price levels, which follow from the rest.
pub struct Frozen(OrderKernel);

impl Frozen {
    /// Memory for a copy of this size and some more, every page of it touched.
    #[must_use]
    pub fn prepare(size: CopySize) -> Self {
        let mut kernel = OrderKernel::new(0);
        let more = |chunks: usize| chunks + chunks / 16 + 2;
        for (part, shard) in kernel.shards.all_mut().iter_mut().enumerate() {
            shard.store.orders = Slab::touched(more(size.orders[part]));
            shard.store.holdings = Slab::touched(more(size.holdings[part]));
        }
        Self(kernel)
    }

    /// As [`OrderKernel::state_hash`] of the kernel when it was copied.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.0.state_hash()
    }

    /// Orders that rested when the copy was taken.
    #[must_use]
    pub fn resting(&self) -> u64 {
        self.0.counters().resting
    }

    /// Writes the sections of the kernel.
    pub fn write(&self, sink: &mut dyn SectionSink) -> Result<(), String> {
        let kernel = &self.0;
        let Counters { accepted, rejected, trades, resting: _, not_permitted } = kernel.counters();
        let words = [kernel.resting_orders_max(), accepted, rejected, trades, not_permitted, kernel.now_ns];
        put_rows::<48>(sink, (KERNEL, 2), 1, std::iter::once(bytemuck::cast(words)))?;
        let books = kernel.shards.books().map(|(book, _)| {
            let mut row = [0; 88];
            row[..64].copy_from_slice(bytemuck::bytes_of(&book.instrument));
            row[64..].copy_from_slice(bytemuck::bytes_of(&[book.last_price, book.collar_price, book.halted.into()]));
            row
        });
        put_rows(sink, (BOOKS, 2), kernel.shards.book_count() as usize, books)?;
        let ranges = kernel.account_limits();
        put_rows::<64>(sink, (ACCOUNTS, 2), ranges.len(), ranges.iter().map(|range| bytemuck::cast(*range)))?;
        let in_symbols = kernel.symbol_limits();
        put_rows::<64>(sink, (SYMBOL_LIMITS, 1), in_symbols.len(), in_symbols.iter().map(|range| bytemuck::cast(*range)))?;
        let (rates, rates_in_symbols) = (kernel.tallies.rates(kernel.now_ns), kernel.rates_in_symbols());
        let rates: Vec<_> = rates.into_iter().map(|(account, rate)| (0, account, rate)).chain(rates_in_symbols).collect();
        let rows = rates.iter().map(|(symbol, account, rate)| bytemuck::cast([*symbol, *account, *rate, 0]));
        put_rows::<16>(sink, (RATES, 1), rates.len(), rows)?;
        let ids = kernel.accounts.last_ids().map(|(account, id)| bytemuck::cast([u64::from(account), id]));
        put_rows::<16>(sink, (LAST_IDS, 1), kernel.accounts.last_ids().count(), ids)?;
        let grants = kernel.lanes.iter().map(|(lane, grant)| bytemuck::cast([*lane, grant.account_first, grant.account_last, 0]));
        put_rows::<16>(sink, (GRANTS, 1), kernel.lanes.len(), grants)?;
        let mut holdings: Vec<&Holding> = Vec::with_capacity(kernel.positions_made());
        holdings.extend(kernel.shards.books().flat_map(|(book, store)| book.holdings.iter().map(|at| store.holdings.get(at))));
        holdings.sort_unstable_by_key(|holding| (holding.symbol, holding.account));
        put_rows(sink, (POSITIONS, 1), holdings.len(), holdings.into_iter().map(position_row))?;
        let rare = |(_, store, at): &(u32, &Store, u32)| store.orders.get(*at).has(RARE);
        let rows = self.orders().filter(rare).map(|(_, store, at)| rare_row(store, at));
        put_rows(sink, (RARE_ORDERS, 1), self.orders().filter(rare).count(), rows)?;
        let rows = self.orders().map(|(symbol, store, at)| order_row(store.orders.get(at), symbol));
        put_rows(sink, (ORDERS, 2), kernel.resting(), rows)
    }

    /// Symbol, store and index of every order, in the order in which they are written.
    fn orders(&self) -> impl Iterator<Item = (u32, &Store, u32)> {
        self.0.shards.books().flat_map(move |(book, store)| {
            let in_book = book.sides.iter().flat_map(|side| side.walk(&store.orders));
            in_book.chain([Side::Buy, Side::Sell].into_iter().flat_map(|side| book.waiting(side))).map(move |at| (book.symbol, store, at))
        })
    }
}

fn position_row(holding: &Holding) -> [u8; 48] {
    let mut row = [0; 48];
    row[..8].copy_from_slice(bytemuck::bytes_of(&[holding.account, holding.symbol]));
    row[8..16].copy_from_slice(&holding.net.to_le_bytes());
    row[16..32].copy_from_slice(bytemuck::bytes_of(&holding.open));
    row[32..].copy_from_slice(&holding.cash.to_le_bytes());
    row
}

fn order_row(order: &Order, symbol: u32) -> [u8; 40] {
    let mut row = [0; 40];
    row[..24].copy_from_slice(bytemuck::bytes_of(&[order.order_id, order.client_order_id, order.word]));
    row[24..].copy_from_slice(bytemuck::bytes_of(&[order.account, order.lane, order.filled_bits, symbol]));
    row
}

fn rare_row(store: &Store, at: u32) -> [u8; 40] {
    let rare = store.rare(at);
    let shown = u64::from(rare.hidden) | u64::from(rare.display) << 32;
    bytemuck::cast([store.orders.get(at).order_id, shown, rare.expires_ns, rare.stop_price as u64, rare.is_market.into()])
}

impl OrderKernel {
    /// How much memory a copy of the state takes now.
    #[must_use]
    pub fn copy_size(&self) -> CopySize {
        let shards = self.shards.all();
        CopySize {
            orders: std::array::from_fn(|part| shards[part].store.orders.chunks_used()),
            holdings: std::array::from_fn(|part| shards[part].store.holdings.chunks_used()),
        }
    }

    /// Copies the state. Where `frozen` was prepared for less, memory is taken now.
    pub fn freeze(&self, frozen: &mut Frozen) {
        let copy = &mut frozen.0;
        for (mine, shard) in copy.shards.all_mut().iter_mut().zip(self.shards.all()) {
            mine.store.orders.copy_from(&shard.store.orders);
            mine.store.holdings.copy_from(&shard.store.holdings);
            mine.store.attributes = shard.store.attributes.clone();
            mine.store.symbol_tallies = shard.store.symbol_tallies.clone();
            mine.store.symbol_limits = shard.store.symbol_limits.clone();
            mine.books = shard.books.iter().map(super::book::Book::frozen).collect();
            mine.counters = shard.counters;
        }
        copy.shards.set_book_count(self.shards.book_count());
        copy.resting_orders_max = self.resting_orders_max;
        copy.now_ns = self.now_ns;
        copy.tallies = self.tallies.clone();
        copy.accounts = self.accounts.clone();
        copy.lanes = self.lanes.clone();
    }

    /// The accounts that exist, as maximal ranges of equal limits, ascending.
    #[must_use]
    pub fn account_limits(&self) -> Vec<AccountLimits> {
        self.accounts.ranges().iter().map(|range| range.limits.record((range.account_first, range.account_last), 0)).collect()
    }

    /// Takes one section into a kernel that began empty; they must come in the order in which they were written. False: it is
    /// none of the kernel's.
    ///
    /// # Errors
    /// When the section is of another version, or contradicts itself or those before it.
    pub fn restore(&mut self, section: &Section) -> Result<bool, String> {
        match section.kind {
            KERNEL => {
                for [resting_orders_max, accepted, rejected, trades, not_permitted, now_ns] in section.values::<[u64; 6]>(2)? {
                    self.set_now(now_ns);
                    self.set_resting_orders_max(resting_orders_max);
                    self.shards.all_mut()[0].counters = Counters { accepted, rejected, trades, resting: 0, not_permitted };
                }
            }
            BOOKS => section.rows(2, 88)?.try_for_each(|row| self.restore_book(row))?,
            ACCOUNTS | SYMBOL_LIMITS => {
                let version = if section.kind == ACCOUNTS { 2 } else { 1 };
                section
                    .values::<AccountLimits>(version)?
                    .try_for_each(|range| self.set_accounts(&range).map_err(|error| error.to_string()))?;
            }
            RATES => {
                for [symbol, account, rate, _] in section.values::<[u32; 4]>(1)? {
                    let known = self.accounts.class(account) != 0 && symbol <= self.shards.book_count();
                    known.then_some(()).ok_or("a rate belongs to no account or symbol")?;
                    match self.shards.book_mut(symbol) {
                        Some((_, store)) => store.symbol_tallies.of_mut(symbol, account).restore_rate(rate, self.now_ns),
                        None => self.tallies.restore_rate(account, rate, self.now_ns),
                    }
                }
            }
            RARE_ORDERS => {
                for [order_id, shown, expires_ns, stop_price, is_market] in section.values::<[u64; 5]>(1)? {
                    let (hidden, display) = (shown as u32, (shown >> 32) as u32);
                    let rare = Rare { hidden, display, expires_ns, stop_price: stop_price as i64, is_market: is_market != 0 };
                    self.expected.insert(order_id, rare);
                }
            }
            LAST_IDS => {
                for [account, id] in section.values::<[u64; 2]>(1)? {
                    let account = u32::try_from(account).ok().filter(|account| self.accounts.class(*account) != 0);
                    self.accounts.accepted(account.ok_or("a last client order id belongs to no account")?, id);
                }
            }
            GRANTS => section.values::<[u32; 4]>(1)?.for_each(|[lane, first, last, _]| self.open_lane(lane, first, last)),
            POSITIONS => section.rows(1, 48)?.try_for_each(|row| self.restore_position(row))?,
            ORDERS => section.rows(2, 40)?.try_for_each(|row| self.restore_order(row))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn restore_book(&mut self, row: &[u8]) -> Result<(), String> {
        let instrument: Instrument = bytemuck::pod_read_unaligned(&row[..64]);
        let [last_price, collar_price, halted]: [i64; 3] = bytemuck::pod_read_unaligned(&row[64..]);
        self.add_instrument(&instrument).map_err(|error| error.to_string())?;
        if let Some((book, _)) = self.shards.book_mut(instrument.symbol) {
            (book.last_price, book.collar_price, book.halted) = (last_price, collar_price, halted != 0);
        }
        Ok(())
    }

    fn restore_position(&mut self, row: &[u8]) -> Result<(), String> {
        let [account, symbol]: [u32; 2] = bytemuck::pod_read_unaligned(&row[..8]);
        let has_room = self.positions_made() < self.positions_max;
        let (book, store) = self.shards.book_mut(symbol).ok_or("a position is in a symbol that does not exist")?;
        if book.holding(store, account, NIL) != NIL || !has_room {
            return Err(format!("account {account} has two positions in symbol {symbol}"));
        }
        let at = book.holding_or_new(store, NIL, account);
        let holding = store.holdings.get_mut(at);
        holding.net = bytemuck::pod_read_unaligned(&row[8..16]);
        holding.open = bytemuck::pod_read_unaligned(&row[16..32]);
        holding.cash = bytemuck::pod_read_unaligned(&row[32..]);
        Ok(())
    }

    fn restore_order(&mut self, row: &[u8]) -> Result<(), String> {
        let [order_id, client_order_id, word]: [u64; 3] = bytemuck::pod_read_unaligned(&row[..24]);
        let [account, lane, filled_bits, symbol]: [u32; 4] = bytemuck::pod_read_unaligned(&row[24..]);
        let (book, store) = self.shards.book_mut(symbol).ok_or("an order is in a symbol that does not exist")?;
        let position = book.holding(store, account, NIL);
        let hash = store.order_hash(account, client_order_id);
        if position == NIL || word == 0 || book.order(store, (account, client_order_id), hash, NIL) != NIL {
            return Err(format!("order {order_id} of account {account} cannot rest in symbol {symbol}"));
        }
        let order = Order { word, order_id, client_order_id, account, position, lane, filled_bits, ..Order::default() };
        let side = slot(order.side());
        let at = store.orders.insert(order);
        if order.has(RARE) {
            let rare = self.expected.remove(&order_id);
            store.set_rare(at, rare.ok_or_else(|| format!("order {order_id} lacks what its bits say that it has"))?);
        }
        store.attributes.day_orders += u64::from(order.has(DAY));
        let total = store.total(at);
        store.tally(at, total.into(), 1);
        if order.has(STOP) {
            book.place_stop(store, at);
        } else {
            book.sides[side].link(&mut store.orders, at);
        }
        book.index_order(store, at, hash);
        store.count_owned(lane);
        store.orphans += u64::from(lane == 0);
        count_changes(&mut self.tallies, store);
        Ok(())
    }
}
