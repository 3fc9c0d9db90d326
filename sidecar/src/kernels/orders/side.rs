//! One side of a book: all its orders in one list, best price first and first come first within a price; where each price's
//! orders end; and which prices have orders. Whether an order may enter is decided elsewhere.

use ringlane_layout::orders::Side;

use super::index::{Index, price_hash};
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
    /// The last order of each level, by price.
    tails: Index,
    /// Seed of the prices' hashes; no result depends on it.
    seed: u64,
}

impl BookSide {
    pub(super) fn new(side: Side, seed: u64) -> Self {
        Self { best: NO_RANK, head: NIL, side, levels: Levels::default(), tails: Index::new(), seed }
    }

    /// A copy without price levels, for walking only.
    pub(super) fn frozen(&self) -> Self {
        Self { levels: Levels::default(), tails: Index::new(), ..*self }
    }

    /// Heap that the levels hold, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.levels.heap_bytes() + self.tails.heap_bytes()
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
        let price = orders.get(at).price();
        let hash = price_hash(self.seed, price);
        let previous = match self.tails.swap(hash, at, |tail| orders.get(tail).price() == price) {
            Some(tail) => tail,
            None => self.add_level(orders, at, hash),
        };
        let next =
            if previous == NIL { std::mem::replace(&mut self.head, at) } else { std::mem::replace(&mut orders.get_mut(previous).next, at) };
        if next != NIL {
            orders.get_mut(next).previous = at;
        }
        let order = orders.get_mut(at);
        order.previous = previous;
        order.next = next;
    }

    /// Adds the level of the order at `at`; the last order of the next better level, or NIL.
    fn add_level(&mut self, orders: &Slab<Order>, at: u32, hash: u64) -> u32 {
        let rank = rank(self.side, orders.get(at).price());
        self.best = self.best.max(rank);
        let tail = self.levels.insert(rank).and_then(|better| {
            // A rank of a side is its price, or that negated.
            let price = better.abs();
            self.tails.find(price_hash(self.seed, price), |tail| orders.get(tail).price() == price)
        });
        let seed = self.seed;
        self.tails.insert(hash, at, |tail| price_hash(seed, orders.get(tail).price()));
        tail.unwrap_or(NIL)
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
            self.end_level(orders, (at, price), previous, first_of_level);
        }
    }

    /// The last order of the level at `price` went, which was at `at`; `previous` is the one before it in the list.
    fn end_level(&mut self, orders: &Slab<Order>, (at, price): (u32, i64), previous: u32, was_only: bool) {
        let hash = price_hash(self.seed, price);
        if !was_only {
            let swapped = self.tails.swap(hash, previous, |tail| tail == at);
            debug_assert!(swapped.is_some(), "an order's level exists");
            return;
        }
        self.tails.remove(hash, at);
        if previous == NIL {
            self.levels.remove_best();
            self.refresh_best(orders);
        } else {
            self.levels.remove(rank(self.side, price));
        }
    }

    /// Takes the best order out of the list after it was filled.
    #[inline]
    pub(super) fn pop(&mut self, orders: &mut Slab<Order>) {
        let at = self.head;
        let order = orders.get(at);
        let (price, next) = (order.price(), order.next);
        self.head = next;
        let mut last_of_level = true;
        if next != NIL {
            let order = orders.get_mut(next);
            order.previous = NIL;
            last_of_level = order.price() != price;
        }
        if last_of_level {
            self.end_level(orders, (at, price), NIL, true);
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
