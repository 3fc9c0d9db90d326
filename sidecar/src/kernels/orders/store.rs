//! What the kernel remembers of an order and of a position, and the slabs that all books share. Prices are compared
//! and lists linked elsewhere.

use ringlane_layout::orders::{OpenOrder, OrderFlag, OrderType, Position, Side, TimeInForce};

use super::attributes::{self, Attributes, DAY, REDUCE_ONLY, Rare};
use super::index::{account_hash, order_hash};
use super::limits::SymbolLimits;
use super::slab::{Entry, NIL, Slab};
use super::tallies::{Counted, SymbolTallies};

const QUANTITY_BITS: u32 = 27;
const QUANTITY_MASK: u64 = (1 << QUANTITY_BITS) - 1;

/// A resting order: 48 bytes. It stands in its side's list, best price first, then first come first.
#[derive(Clone, Copy, Default)]
pub(super) struct Order {
    /// Price (36 bits), open quantity (27 bits), side (1 bit: sell). Zero while the entry is unused.
    pub(super) word: u64,
    pub(super) order_id: u64,
    pub(super) client_order_id: u64,
    pub(super) next: u32,
    pub(super) previous: u32,
    pub(super) account: u32,
    /// Index of the position of this account in this symbol.
    pub(super) position: u32,
    /// Lane that gets the events; 0 for nobody.
    pub(super) lane: u32,
    /// Cumulative quantity filled (27 bits: with the open quantity never above `ORDER_QUANTITY_MAX`), and the attribute bits.
    pub(super) filled_bits: u32,
}

const _: () = assert!(size_of::<Order>() == 48);
const _: () = assert!(ringlane_layout::limits::ORDER_QUANTITY_MAX as u64 == QUANTITY_MASK);
const _: () = assert!(ringlane_layout::limits::ORDER_PRICE_MAX as u64 == u64::MAX >> (QUANTITY_BITS + 1));

impl Order {
    #[inline(always)]
    pub(super) fn price(&self) -> i64 {
        (self.word >> (QUANTITY_BITS + 1)) as i64
    }

    #[inline(always)]
    pub(super) fn open(&self) -> u32 {
        (self.word >> 1 & QUANTITY_MASK) as u32
    }

    #[inline(always)]
    pub(super) fn side(&self) -> Side {
        if self.word & 1 == 0 { Side::Buy } else { Side::Sell }
    }

    /// What the order asks for, as its word. Price and quantity are checked and positive.
    #[inline(always)]
    pub(super) fn pack(side: Side, price: i64, open: u32) -> u64 {
        (price as u64) << (QUANTITY_BITS + 1) | u64::from(open) << 1 | u64::from(side == Side::Sell)
    }

    /// Takes `quantity`, at most what is open, off the open quantity.
    #[inline(always)]
    pub(super) fn take_off(&mut self, quantity: u32) {
        self.word -= u64::from(quantity) << 1;
    }

    #[inline(always)]
    pub(super) fn is_live(&self) -> bool {
        self.word != 0
    }

    /// Cumulative quantity filled.
    #[inline(always)]
    pub(super) fn filled(&self) -> u32 {
        self.filled_bits & !attributes::ALL
    }

    /// Whether one of these attribute bits is set.
    #[inline(always)]
    pub(super) fn has(&self, bits: u32) -> bool {
        self.filled_bits & bits != 0
    }
}

impl Entry for Order {
    fn free_next(&self) -> u32 {
        self.next
    }
    fn set_free(&mut self, next: u32) {
        self.word = 0;
        self.next = next;
    }
}

/// Position of one account in one symbol: 48 bytes. Made by the account's first accepted order in the symbol, then kept.
#[derive(Clone, Copy, Default)]
pub(super) struct Holding {
    pub(super) account: u32,
    pub(super) symbol: u32,
    /// Bought minus sold.
    pub(super) net: i64,
    /// Open quantity of the resting orders: buys, sells.
    pub(super) open: [u64; 2],
    /// Received minus paid. Below 2^127: an order's notional stays below 2^63, and there are fewer than 2^64 orders.
    pub(super) cash: i128,
}

const _: () = assert!(size_of::<Holding>() == 48);

impl Holding {
    /// The most that an order on `side` can trade before the position is flat; 0 when it would open or enlarge it.
    #[inline]
    pub(super) fn reducible(&self, side: Side) -> u64 {
        match side {
            Side::Buy => self.net.min(0).unsigned_abs(),
            Side::Sell => self.net.max(0).unsigned_abs(),
        }
    }

    /// Books a fill of this account on `side`.
    #[inline(always)]
    pub(super) fn settle(&mut self, side: Side, quantity: i64, notional: i64) {
        // All ones for a sell: (x ^ sign) - sign negates x.
        let sign = -i64::from(side == Side::Sell);
        self.net += (quantity ^ sign) - sign;
        self.cash -= i128::from((notional ^ sign) - sign);
    }

    /// Whether there is anything to tell: entries that came back to zero count as absent.
    pub(super) fn is_zero(&self) -> bool {
        self.net == 0 && self.open == [0, 0] && self.cash == 0
    }

    pub(super) fn row(&self) -> Position {
        Position {
            account: self.account,
            symbol: self.symbol,
            net_quantity: self.net,
            open_buy_quantity: self.open[0],
            open_sell_quantity: self.open[1],
            cash_low: self.cash as u64,
            cash_high: (self.cash >> 64) as i64,
            ..Position::default()
        }
    }
}

impl Entry for Holding {
    fn free_next(&self) -> u32 {
        NIL
    }
    fn set_free(&mut self, _: u32) {}
}

/// Whether there is a place for one more of each.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// One more resting order.
    pub(super) orders: bool,
    /// One more position.
    pub(super) positions: bool,
}

/// Counts of owned orders: four times the lanes that may be open, so that two of them seldom share one.
const OWNERS: usize = 4 * ringlane_layout::limits::LANES_MAX;

/// Orders and positions of the books of one part.
pub(super) struct Store {
    pub(super) orders: Slab<Order>,
    pub(super) holdings: Slab<Holding>,
    pub(super) attributes: Attributes,
    /// Changes of what accounts have open, in all symbols together, that their tallies do not count yet.
    pub(super) changes: Vec<Counted>,
    /// What accounts with limits in a symbol have open there.
    pub(super) symbol_tallies: SymbolTallies,
    pub(super) symbol_limits: SymbolLimits,
    /// Sequenced time, nanoseconds since 1970; 0 before the first time record.
    pub(super) now_ns: u64,
    /// Whether one more order may rest, and one more account have a position. Who asks for many things at once sees to it that
    /// this holds for all of them, or says it anew before each.
    pub(super) room: Room,
    /// Resting orders that no lane owns.
    pub(super) orphans: u64,
    /// Resting orders by owner lane. Lanes whose numbers differ by a multiple of `OWNERS` share a count, so it is an upper
    /// bound of a lane's own.
    owned: Box<[u32; OWNERS]>,
    /// Whether fills of orders that nobody owns are told too, to lane 0.
    pub(super) tells_orphans: bool,
    /// Seed of the id hashes; no result depends on it.
    pub(super) seed: u64,
}

impl Store {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            orders: Slab::new(),
            holdings: Slab::new(),
            attributes: Attributes::default(),
            changes: Vec::new(),
            symbol_tallies: SymbolTallies::default(),
            symbol_limits: SymbolLimits::default(),
            now_ns: 0,
            room: Room { orders: true, positions: true },
            orphans: 0,
            owned: Box::new([0; OWNERS]),
            tells_orphans: false,
            seed,
        }
    }

    /// Most resting orders that `lane` may own.
    #[inline(always)]
    pub(super) fn owned(&self, lane: u32) -> u32 {
        self.owned[lane as usize % OWNERS]
    }

    #[inline(always)]
    pub(super) fn count_owned(&mut self, lane: u32) {
        self.owned[lane as usize % OWNERS] += 1;
    }

    #[inline(always)]
    pub(super) fn uncount_owned(&mut self, lane: u32) {
        self.owned[lane as usize % OWNERS] -= 1;
    }

    /// `count` orders of lane `from` belong to lane `to` now.
    pub(super) fn change_owned(&mut self, from: u32, to: u32, count: u32) {
        self.owned[from as usize % OWNERS] -= count;
        self.owned[to as usize % OWNERS] += count;
    }

    /// Whether there is a place for one more resting order, if the order may rest, and for the account's position, if it
    /// has none (`holding` is NIL).
    #[inline]
    pub(super) fn has_room(&self, may_rest: bool, holding: u32) -> bool {
        (!may_rest || self.room.orders) && (holding != NIL || self.room.positions)
    }

    /// What the order at `at` has beyond its hot struct.
    #[inline]
    pub(super) fn rare(&self, at: u32) -> Rare {
        if self.orders.get(at).has(attributes::RARE) { self.attributes.get(at) } else { Rare::default() }
    }

    /// Sets what the order at `at` has beyond its hot struct.
    pub(super) fn set_rare(&mut self, at: u32, rare: Rare) {
        let order = self.orders.get_mut(at);
        if rare == Rare::default() {
            order.filled_bits &= !attributes::RARE;
            self.attributes.remove(at, order.order_id);
        } else {
            order.filled_bits |= attributes::RARE;
            self.attributes.set(at, order.order_id, rare);
        }
    }

    /// All that is open of the order at `at`, what the book does not show included.
    #[inline(always)]
    pub(super) fn total(&self, at: u32) -> u32 {
        let order = self.orders.get(at);
        order.open() + if order.has(attributes::RARE) { self.attributes.get(at).hidden } else { 0 }
    }

    /// Counts a change of the open quantity of the order at `at` in its account's tallies, if it is counted there.
    #[inline]
    pub(super) fn tally(&mut self, at: u32, quantity: i64, orders: i32) {
        let order = self.orders.get(at);
        if order.has(attributes::TALLIED) {
            let symbol = self.holdings.get(order.position).symbol;
            let change = (order.side(), order.price(), quantity, orders);
            if self.symbol_limits.find(symbol, order.account).is_some() {
                self.symbol_tallies.of_mut(symbol, order.account).change(change);
            }
            self.changes.push(Counted::Open(order.account, change));
        }
    }

    /// Takes `quantity` off the order at `at`, which has more open: what is hidden first.
    #[inline]
    pub(super) fn take_off(&mut self, at: u32, quantity: u32) {
        self.tally(at, -i64::from(quantity), 0);
        let order = self.orders.get(at);
        self.holdings.get_mut(order.position).open[super::book::slot(order.side())] -= u64::from(quantity);
        let mut rare = self.rare(at);
        let from_hidden = quantity.min(rare.hidden);
        if from_hidden != 0 {
            rare.hidden -= from_hidden;
            self.set_rare(at, rare);
        }
        self.orders.get_mut(at).take_off(quantity - from_hidden);
    }

    /// Forgets what an ending order had beyond its hot struct.
    #[cold]
    pub(super) fn forget_attributes(&mut self, at: u32) {
        let order = self.orders.get(at);
        self.attributes.day_orders -= u64::from(order.has(DAY));
        if order.has(attributes::RARE) {
            self.attributes.remove(at, order.order_id);
        }
    }

    /// The order at `at` as queries tell it.
    pub(super) fn row(&self, at: u32, symbol: u32) -> OpenOrder {
        let (order, rare) = (self.orders.get(at), self.rare(at));
        let waits = order.has(attributes::STOP);
        let order_type = match (waits, rare.is_market) {
            (false, _) => OrderType::Limit,
            (true, false) => OrderType::StopLimit,
            (true, true) => OrderType::Stop,
        };
        let time_in_force = if order.has(DAY) {
            TimeInForce::Day
        } else if rare.expires_ns != 0 {
            TimeInForce::Gtd
        } else {
            TimeInForce::Gtc
        };
        OpenOrder {
            order_id: order.order_id,
            client_order_id: order.client_order_id,
            price: if order_type == OrderType::Stop { 0 } else { order.price() },
            stop_price: rare.stop_price,
            expires_ns: rare.expires_ns,
            remaining_quantity: order.open() + rare.hidden,
            shown_quantity: if waits { 0 } else { order.open() },
            display_quantity: rare.display,
            filled_quantity: order.filled(),
            symbol,
            account: order.account,
            lane: order.lane,
            side: order.side() as u8,
            order_type: order_type as u8,
            time_in_force: time_in_force as u8,
            flags: if order.has(REDUCE_ONLY) { OrderFlag::REDUCE_ONLY as u8 } else { 0 },
        }
    }

    #[inline(always)]
    pub(super) fn order_hash(&self, account: u32, client_order_id: u64) -> u64 {
        order_hash(self.seed, account, client_order_id)
    }

    #[inline(always)]
    pub(super) fn account_hash(&self, account: u32) -> u64 {
        account_hash(self.seed, account)
    }
}
