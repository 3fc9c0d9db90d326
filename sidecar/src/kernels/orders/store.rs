//! What the kernel remembers of an order and of a position, and the slabs that all books share. Prices are compared
//! and lists linked elsewhere.

use ringlane_layout::orders::{OpenOrder, OrderType, Position, Side, TimeInForce};

use super::index::{account_hash, order_hash};
use super::slab::{ENTRIES_MAX, Entry, NIL, Slab};

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
    /// Cumulative quantity filled; with the open quantity never above `ORDER_QUANTITY_MAX`.
    pub(super) filled: u32,
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

    pub(super) fn row(&self, symbol: u32) -> OpenOrder {
        OpenOrder {
            order_id: self.order_id,
            client_order_id: self.client_order_id,
            price: self.price(),
            stop_price: 0,
            expires_ns: 0,
            remaining_quantity: self.open(),
            shown_quantity: self.open(),
            display_quantity: 0,
            filled_quantity: self.filled,
            symbol,
            account: self.account,
            lane: self.lane,
            side: self.side() as u8,
            order_type: OrderType::Limit as u8,
            time_in_force: TimeInForce::Gtc as u8,
            flags: 0,
        }
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

/// Counts of owned orders: four times the lanes that may be open, so that two of them seldom share one.
const OWNERS: usize = 4 * ringlane_layout::limits::LANES_MAX;

/// Orders and positions of all books.
pub(super) struct Store {
    pub(super) orders: Slab<Order>,
    pub(super) holdings: Slab<Holding>,
    /// Most resting orders.
    pub(super) resting_orders_max: usize,
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
    pub(super) fn new(resting_orders_max: usize, seed: u64) -> Self {
        let resting_orders_max = resting_orders_max.min(ENTRIES_MAX);
        Self {
            orders: Slab::new(),
            holdings: Slab::new(),
            resting_orders_max,
            orphans: 0,
            owned: Box::new([0; OWNERS]),
            tells_orphans: false,
            seed,
        }
    }

    pub(super) fn set_resting_orders_max(&mut self, resting_orders_max: u64) {
        self.resting_orders_max = usize::try_from(resting_orders_max).map_or(ENTRIES_MAX, |max| max.min(ENTRIES_MAX));
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
        (!may_rest || self.orders.live() < self.resting_orders_max) && (holding != NIL || self.holdings.live() < ENTRIES_MAX)
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
