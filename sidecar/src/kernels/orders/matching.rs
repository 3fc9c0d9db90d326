//! Matching by price-time priority and the settlement of each fill. Whether an order may trade was decided before.

use ringlane_layout::orders::{EventKind, OrderEvent, Side};

use super::Outgoing;
use super::book::{Book, slot};
use super::check::Terms;
use super::side::{ANY_RANK, rank};
use super::store::{Order, Store};

/// What an order did as taker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fills {
    pub(super) quantity: u32,
    pub(super) count: u32,
    /// Price x quantity. One order's notional always fits.
    pub(super) notional: i64,
}

#[inline(always)]
pub(super) fn opposite(side: Side) -> Side {
    if side == Side::Buy { Side::Sell } else { Side::Buy }
}

/// The worst rank on the other side that the order trades with.
#[inline(always)]
pub(super) fn limit_rank(terms: &Terms) -> i64 {
    if terms.is_market { ANY_RANK } else { rank(opposite(terms.side), terms.price) }
}

/// Whether an order of these terms would trade at once.
#[inline(always)]
pub(super) fn crosses(book: &Book, terms: &Terms) -> bool {
    book.sides[slot(opposite(terms.side))].meets(limit_rank(terms))
}

/// Whether the book fills these terms in full, and how many resting orders were looked at.
pub(super) fn fillable(book: &Book, store: &Store, terms: &Terms) -> (bool, u64) {
    let (other, limit) = (opposite(terms.side), limit_rank(terms));
    let mut left = terms.quantity;
    let mut touched = 0;
    for at in book.sides[slot(other)].walk(&store.orders) {
        let order = store.orders.get(at);
        touched += 1;
        if rank(other, order.price()) < limit {
            return (false, touched);
        }
        if order.open() >= left {
            return (true, touched);
        }
        left -= order.open();
    }
    (false, touched)
}

/// Trades an order of these terms against the book, for the account whose position is `holding`.
#[inline]
pub(super) fn trade(book: &mut Book, store: &mut Store, terms: &Terms, holding: u32, sequence: u64, out: &mut Vec<Outgoing>) -> Fills {
    let maker_side = opposite(terms.side);
    let maker_slot = slot(maker_side);
    let limit = limit_rank(terms);
    let mut fills = Fills::default();
    while fills.quantity < terms.quantity && book.sides[maker_slot].meets(limit) {
        let at = book.sides[maker_slot].head();
        let maker = store.orders.get_mut(at);
        let price = maker.price();
        let quantity = (terms.quantity - fills.quantity).min(maker.open());
        let remaining = maker.open() - quantity;
        let notional = price * i64::from(quantity);
        if maker.lane != 0 || store.tells_orphans {
            let event = fill_event(maker, book.symbol, sequence, fills.count, quantity, remaining);
            out.push(Outgoing { lane: maker.lane, event });
        }
        let position = store.holdings.get_mut(maker.position);
        position.open[maker_slot] -= u64::from(quantity);
        position.settle(maker_side, i64::from(quantity), notional);
        if remaining == 0 {
            book.sides[maker_slot].pop(&mut store.orders);
            book.drop_order(store, at);
        } else {
            maker.filled += quantity;
            maker.take_off(quantity);
        }
        fills.quantity += quantity;
        fills.count += 1;
        fills.notional += notional;
        book.last_price = price;
    }
    if fills.count > 0 {
        book.collar_price = book.last_price;
        store.holdings.get_mut(holding).settle(terms.side, i64::from(fills.quantity), fills.notional);
    }
    fills
}

#[inline(always)]
fn fill_event(maker: &Order, symbol: u32, sequence: u64, k: u32, quantity: u32, remaining: u32) -> OrderEvent {
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
