//! One side of a book: all its orders in one list, best price first and first come first within a price, and the
//! levels that say where a price's orders end. Whether an order may enter is decided elsewhere.

use ringlane_layout::orders::Side;

use super::levels::Levels;
use super::slab::{NIL, Slab};
use super::store::Order;

/// Rank of a side without orders, below every real one.
const NO_RANK: i64 = i64::MIN;
/// A limit that every real rank meets, and an empty side does not.
pub(super) const ANY_RANK: i64 = i64::MIN + 1;

/// Orders prices on a side so that higher is better.
#[inline(always)]
pub(super) fn rank(side: Side, price: i64) -> i64 {
    if side == Side::Buy { price } else { -price }
}

/// The resting orders of one side.
pub(super) struct BookSide {
    /// Rank of the best level, so that the usual order is known not to trade by one compare.
    best: i64,
    head: u32,
    side: Side,
    levels: Levels,
}

impl BookSide {
    pub(super) fn new(side: Side) -> Self {
        Self { best: NO_RANK, head: NIL, side, levels: Levels::default() }
    }

    /// A copy without price levels, for walking only.
    pub(super) fn frozen(&self) -> Self {
        Self { levels: Levels::default(), ..*self }
    }

    /// Heap that the levels hold, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.levels.heap_bytes()
    }

    /// The first order of the best level, or NIL.
    #[inline(always)]
    pub(super) fn head(&self) -> u32 {
        self.head
    }

    /// Whether the best order is at `limit`, a rank of this side, or better.
    #[inline(always)]
    pub(super) fn meets(&self, limit: i64) -> bool {
        self.best >= limit
    }

    /// Links the order at `at` behind all others of its price.
    #[inline]
    pub(super) fn link(&mut self, orders: &mut Slab<Order>, at: u32) {
        let rank = rank(self.side, orders.get(at).price());
        let spot = self.levels.find(rank);
        let previous = self.levels.tail(spot).unwrap_or(NIL);
        if spot.exists {
            self.levels.set_tail(spot, at);
        } else {
            self.levels.insert(spot, rank, at);
            self.best = self.best.max(rank);
        }
        let next =
            if previous == NIL { std::mem::replace(&mut self.head, at) } else { std::mem::replace(&mut orders.get_mut(previous).next, at) };
        if next != NIL {
            orders.get_mut(next).previous = at;
        }
        let order = orders.get_mut(at);
        order.previous = previous;
        order.next = next;
    }

    /// Takes the order at `at` out of the list, and its level with it if it was the only one.
    #[inline]
    pub(super) fn unlink(&mut self, orders: &mut Slab<Order>, at: u32) {
        let order = orders.get(at);
        let (price, previous, next) = (order.price(), order.previous, order.next);
        let mut last_of_level = true;
        if next != NIL {
            let order = orders.get_mut(next);
            order.previous = previous;
            last_of_level = order.price() != price;
        }
        let mut first_of_level = true;
        if previous == NIL {
            self.head = next;
        } else {
            let order = orders.get_mut(previous);
            order.next = next;
            first_of_level = order.price() != price;
        }
        if last_of_level {
            self.end_level(orders, price, previous, first_of_level);
        }
    }

    /// The last order of the level at `price` went; `previous` is the one before it in the list.
    fn end_level(&mut self, orders: &Slab<Order>, price: i64, previous: u32, was_only: bool) {
        if was_only && previous == NIL {
            self.levels.remove_best();
            self.refresh_best(orders);
            return;
        }
        let spot = self.levels.find(rank(self.side, price));
        debug_assert!(spot.exists, "an order's level exists");
        if was_only {
            self.levels.remove(spot);
        } else {
            self.levels.set_tail(spot, previous);
        }
    }

    /// Takes the best order out of the list after it was filled.
    #[inline]
    pub(super) fn pop(&mut self, orders: &mut Slab<Order>) {
        let order = orders.get(self.head);
        let (price, next) = (order.price(), order.next);
        self.head = next;
        let mut last_of_level = true;
        if next != NIL {
            let order = orders.get_mut(next);
            order.previous = NIL;
            last_of_level = order.price() != price;
        }
        if last_of_level {
            self.levels.remove_best();
            self.refresh_best(orders);
        }
    }

    #[inline]
    fn refresh_best(&mut self, orders: &Slab<Order>) {
        self.best = if self.head == NIL { NO_RANK } else { rank(self.side, orders.get(self.head).price()) };
    }

    /// Indices of all orders, best price first, first come first.
    pub(super) fn walk<'a>(&self, orders: &'a Slab<Order>) -> impl Iterator<Item = u32> + 'a {
        let some = |at: u32| (at != NIL).then_some(at);
        std::iter::successors(some(self.head), move |&at| some(orders.get(at).next))
    }
}
