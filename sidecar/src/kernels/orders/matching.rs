//! Matching by price-time priority and the settlement of each fill. Whether an order may trade was decided before; what
//! becomes of a maker with attributes, or of one in the taker's own group, is decided in `special.rs`.

use ringlane_layout::orders::{EventKind, OrderEvent, SelfTrade, Side};

use super::Outgoing;
use super::attributes;
use super::book::{Book, slot};
use super::check::{Terms, terms};
use super::desk::{Desk, Told};
use super::side::{ANY_RANK, rank};
use super::special::{self, Next};
use super::store::Order;

/// What an order did as taker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fills {
    pub(super) quantity: u32,
    pub(super) count: u32,
    /// Price x quantity. One order's notional always fits.
    pub(super) notional: i64,
    /// Price of the first fill; that of the last is the book's last price.
    pub(super) first_price: i64,
    /// Events that were no fills as maker: the next event's k is `count` + this.
    pub(super) other_events: u32,
    /// Whether a trade was prevented, and what is left of the order cancelled for it.
    pub(super) prevented: bool,
}

impl Fills {
    /// Index of the next event of the request.
    #[inline(always)]
    pub(super) fn k(&self) -> u32 {
        self.count + self.other_events
    }
}

/// The order that trades against the book.
pub(super) struct Taker<'a> {
    pub(super) terms: &'a Terms,
    pub(super) account: u32,
    /// Index of its account's position.
    pub(super) holding: u32,
    /// Index of k before its first event.
    pub(super) first_k: u32,
    /// The order's index when it is a triggered stop, whose owner is told of its fills.
    pub(super) stop: Option<u32>,
}

#[inline(always)]
pub(super) fn opposite(side: Side) -> Side {
    if side == Side::Buy { Side::Sell } else { Side::Buy }
}

/// The worst rank on the other side that the order trades with.
#[inline(always)]
pub(super) fn limit_rank(terms: &Terms) -> i64 {
    if terms.is(terms::MARKET) { ANY_RANK } else { rank(opposite(terms.side), terms.price) }
}

/// Whether an order of these terms would trade at once.
#[inline(always)]
pub(super) fn crosses(book: &Book, terms: &Terms) -> bool {
    book.sides[slot(opposite(terms.side))].meets(limit_rank(terms))
}

/// Whether the book fills these terms in full, and how many resting orders were looked at. What reduce-only orders rest is
/// not counted on, because it may shrink while the order trades.
pub(super) fn fillable(book: &Book, desk: &Desk, account: u32, terms: &Terms) -> (bool, u64) {
    let (other, limit) = (opposite(terms.side), limit_rank(terms));
    let (store, self_trade) = (&*desk.store, desk.limits.self_trade);
    let mut left = terms.quantity;
    let mut touched = 0;
    for at in book.sides[slot(other)].walk(&store.orders) {
        let order = store.orders.get(at);
        touched += 1;
        if rank(other, order.price()) < limit {
            return (false, touched);
        }
        if self_trade != SelfTrade::Allow && special::same_group(desk, account, order.account) {
            if self_trade == SelfTrade::CancelOldest {
                continue;
            }
            return (false, touched);
        }
        if order.has(attributes::REDUCE_ONLY) {
            continue;
        }
        let total = store.total(at);
        if total >= left {
            return (true, touched);
        }
        left -= total;
    }
    (false, touched)
}

/// Trades an order against the book. `TELLS` when it is a triggered stop.
#[inline]
pub(super) fn trade<const TELLS: bool>(book: &mut Book, desk: &mut Desk, taker: &Taker) -> Fills {
    let terms = taker.terms;
    let maker_side = opposite(terms.side);
    let maker_slot = slot(maker_side);
    let limit = limit_rank(terms);
    let prevents = desk.limits.self_trade != SelfTrade::Allow;
    let mut fills = Fills { other_events: taker.first_k, ..Fills::default() };
    while fills.quantity < terms.quantity && book.sides[maker_slot].meets(limit) {
        let at = book.sides[maker_slot].head();
        let maker = desk.store.orders.get_mut(at);
        if prevents || maker.has(attributes::ALL) {
            match special::meet(book, desk, taker, at, &mut fills) {
                Next::Gone => continue,
                Next::Done => break,
                Next::Filled(price, quantity) => settled::<TELLS>(book, desk, taker, (price, quantity), &mut fills),
            }
            continue;
        }
        let price = maker.price();
        let quantity = (terms.quantity - fills.quantity).min(maker.open());
        let remaining = maker.open() - quantity;
        book.depth_changes(maker, -i64::from(quantity), -i32::from(remaining == 0));
        if maker.lane != 0 || desk.store.tells_orphans {
            let event = fill_event(maker, book.symbol, desk.entry.sequence, fills.k(), (quantity, remaining));
            desk.out.push(Outgoing { lane: maker.lane, event });
        }
        let position = desk.store.holdings.get_mut(maker.position);
        position.open[maker_slot] -= u64::from(quantity);
        position.settle(maker_side, i64::from(quantity), price * i64::from(quantity));
        if remaining == 0 {
            book.sides[maker_slot].pop(&mut desk.store.orders);
            book.drop_order(desk.store, at);
        } else {
            maker.filled_bits += quantity;
            maker.take_off(quantity);
        }
        settled::<TELLS>(book, desk, taker, (price, quantity), &mut fills);
    }
    if fills.count > 0 {
        book.collar_price = book.last_price;
        desk.store.holdings.get_mut(taker.holding).settle(terms.side, i64::from(fills.quantity), fills.notional);
    }
    fills
}

/// Counts a fill of the taker.
#[inline(always)]
fn settled<const TELLS: bool>(book: &mut Book, desk: &mut Desk, taker: &Taker, (price, quantity): (i64, u32), fills: &mut Fills) {
    if fills.count == 0 {
        fills.first_price = price;
    }
    fills.quantity += quantity;
    fills.count += 1;
    fills.notional += price * i64::from(quantity);
    book.last_price = price;
    if TELLS && let Some(at) = taker.stop {
        let remaining = taker.terms.quantity - fills.quantity;
        desk.tell(at, book.symbol, fills.k(), &Told { price: Some(price), ..Told::new(EventKind::TakerFill, quantity, remaining) });
        fills.other_events += 1;
    }
}

#[inline(always)]
pub(super) fn fill_event(maker: &Order, symbol: u32, sequence: u64, k: u32, (quantity, remaining): (u32, u32)) -> OrderEvent {
    OrderEvent {
        number: 0,
        sequence,
        order_id: maker.order_id,
        client_order_id: maker.client_order_id,
        price: maker.price(),
        quantity,
        remaining_quantity: remaining,
        kind: EventKind::Fill as u8,
        side: maker.side() as u8,
        reason: 0,
        k,
        symbol,
        account: maker.account,
    }
}
