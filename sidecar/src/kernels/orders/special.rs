//! Makers that are not met every day: of the taker's own account group, reduce-only, icebergs, or counted in a tally.

use ringlane_layout::orders::{CancelReason, EventKind, SelfTrade};

use super::Outgoing;
use super::attributes::REDUCE_ONLY;
use super::book::{Book, slot};
use super::desk::{Desk, Told};
use super::matching::{Fills, Taker, fill_event};
use super::store::Store;

/// What became of a maker.
pub(super) enum Next {
    /// It was cancelled; the next one stands in front.
    Gone,
    /// The taker trades no more.
    Done,
    /// It traded: price and quantity.
    Filled(i64, u32),
}

/// Whether the desk's account, `account`, is in one group with `other`.
pub(super) fn same_group(desk: &Desk, account: u32, other: u32) -> bool {
    let group = desk.limits.group;
    account == other || (group != 0 && desk.accounts.limits(desk.accounts.class(other)).group == group)
}

/// The taker meets the maker at `at`, the first of its side.
#[cold]
#[inline(never)]
pub(super) fn meet(book: &mut Book, desk: &mut Desk, taker: &Taker, at: u32, fills: &mut Fills) -> Next {
    let maker = desk.store.orders.get(at);
    let (side, total) = (maker.side(), desk.store.total(at));
    if desk.limits.self_trade != SelfTrade::Allow && same_group(desk, taker.account, maker.account) {
        return prevent(book, desk, at, fills);
    }
    let mut quantity = (taker.terms.quantity - fills.quantity).min(maker.open());
    if maker.has(REDUCE_ONLY) {
        let reducible = desk.store.holdings.get(maker.position).reducible(side);
        if reducible == 0 {
            desk.tell(at, book.symbol, fills.k(), &Told::cancel(CancelReason::ReduceOnly, total, 0));
            fills.other_events += 1;
            book.cancel(desk.store, at);
            return Next::Gone;
        }
        quantity = u64::from(quantity).min(reducible) as u32;
    }
    let price = maker.price();
    book.depth_changes(maker, -i64::from(quantity), -i32::from(quantity == total));
    if maker.lane != 0 || desk.store.tells_orphans {
        let event = fill_event(maker, book.symbol, desk.entry.sequence, fills.k(), (quantity, total - quantity));
        desk.out.push(Outgoing { lane: maker.lane, event });
    }
    let position = desk.store.holdings.get_mut(maker.position);
    position.open[slot(side)] -= u64::from(quantity);
    position.settle(side, i64::from(quantity), price * i64::from(quantity));
    desk.store.tally(at, -i64::from(quantity), -i32::from(quantity == total));
    if quantity == total {
        book.sides[slot(side)].pop(&mut desk.store.orders);
        book.drop_order(desk.store, at);
        return Next::Filled(price, quantity);
    }
    let maker = desk.store.orders.get_mut(at);
    maker.filled_bits += quantity;
    maker.take_off(quantity);
    if maker.open() == 0 {
        let side = &mut book.sides[slot(side)];
        side.unlink(&mut desk.store.orders, at);
        show_more(desk.store, at);
        side.link(&mut desk.store.orders, at);
        let maker = desk.store.orders.get(at);
        book.depth_changes(maker, maker.open().into(), 0);
    }
    Next::Filled(price, quantity)
}

/// Shows of an iceberg as much as its display quantity allows.
pub(super) fn show_more(store: &mut Store, at: u32) {
    let mut rare = store.rare(at);
    let order = store.orders.get_mut(at);
    let all = order.open() + rare.hidden;
    let shown = if rare.display == 0 { all } else { all.min(rare.display) };
    order.take_off(order.open());
    order.word += u64::from(shown) << 1;
    rare.hidden = all - shown;
    store.set_rare(at, rare);
}

/// A trade within a group does not happen.
fn prevent(book: &mut Book, desk: &mut Desk, at: u32, fills: &mut Fills) -> Next {
    let total = desk.store.total(at);
    let stays = desk.limits.self_trade == SelfTrade::CancelNewest;
    let (quantity, remaining) = if stays { (0, total) } else { (total, 0) };
    let reason = Some(CancelReason::SelfTrade);
    desk.tell(at, book.symbol, fills.k(), &Told { reason, ..Told::new(EventKind::TradePrevented, quantity, remaining) });
    fills.other_events += 1;
    if !stays {
        book.cancel(desk.store, at);
    }
    fills.prevented = desk.limits.self_trade != SelfTrade::CancelOldest;
    if fills.prevented { Next::Done } else { Next::Gone }
}
