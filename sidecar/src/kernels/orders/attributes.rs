//! What few orders have: hidden quantity, an expiry, a stop price. An order's hot struct says by a bit that there is more to
//! know; the rest stands here, by slab index. Nothing here knows books.

use std::collections::{BTreeMap, BTreeSet};

/// The order has an entry in `Attributes`.
pub(super) const RARE: u32 = 1 << 27;
/// It expires when a trading day ends.
pub(super) const DAY: u32 = 1 << 28;
/// It may only bring its account's position nearer to zero.
pub(super) const REDUCE_ONLY: u32 = 1 << 29;
/// It is a stop that waits: in no list of the book.
pub(super) const STOP: u32 = 1 << 30;
/// Its open quantity is counted in the tallies of its account.
pub(super) const TALLIED: u32 = 1 << 31;
/// Every bit; what is below counts the filled quantity.
pub(super) const ALL: u32 = RARE | DAY | REDUCE_ONLY | STOP | TALLIED;

const _: () = assert!(ringlane_layout::limits::ORDER_QUANTITY_MAX as u32 == !ALL);

/// What is seldom set. Zero everywhere: nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rare {
    /// Quantity that the book does not show.
    pub(super) hidden: u32,
    /// The most that the book shows at a time; 0 shows all.
    pub(super) display: u32,
    /// When a GTD order ends, nanoseconds since 1970; 0 for never.
    pub(super) expires_ns: u64,
    /// Stop price while the order waits.
    pub(super) stop_price: i64,
    /// Whether a waiting stop becomes a market order.
    pub(super) is_market: bool,
}

/// The rare attributes of all orders.
#[derive(Clone, Default)]
pub(super) struct Attributes {
    rare: BTreeMap<u32, Rare>,
    /// GTD orders: when, order id, slab index.
    expiries: BTreeSet<(u64, u64, u32)>,
    /// Orders with the DAY bit.
    pub(super) day_orders: u64,
}

impl Attributes {
    /// What the order at `at` has; nothing, if its bits do not say otherwise.
    pub(super) fn get(&self, at: u32) -> Rare {
        self.rare.get(&at).copied().unwrap_or_default()
    }

    /// Gives the order at `at` these attributes; it had none, or others with the same expiry.
    pub(super) fn set(&mut self, at: u32, order_id: u64, rare: Rare) {
        if rare.expires_ns != 0 {
            self.expiries.insert((rare.expires_ns, order_id, at));
        }
        self.rare.insert(at, rare);
    }

    /// Forgets the order at `at`, which ended, or has nothing rare any more.
    pub(super) fn remove(&mut self, at: u32, order_id: u64) {
        if let Some(rare) = self.rare.remove(&at) {
            self.expiries.remove(&(rare.expires_ns, order_id, at));
        }
    }

    /// When the next GTD order ends.
    pub(super) fn next_expiry_ns(&self) -> Option<u64> {
        self.expiries.first().map(|(expires_ns, ..)| *expires_ns)
    }

    /// Order id and slab index of the orders that end at `now_ns` or before.
    pub(super) fn expired(&self, now_ns: u64) -> impl Iterator<Item = (u64, u32)> {
        self.expiries.range(..=(now_ns, u64::MAX, u32::MAX)).map(|(_, order_id, at)| (*order_id, *at))
    }

    /// Heap that the attributes hold, bytes, nearly.
    pub(super) fn heap_bytes(&self) -> usize {
        self.rare.len() * (size_of::<Rare>() + 8) + self.expiries.len() * 32
    }
}
