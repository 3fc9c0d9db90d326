//! What each op does to its book once its request is checked. Each first asks everything that can reject it, then acts:
//! a rejected request changes nothing.

use ringlane_layout::limits::ORDER_QUANTITY_MAX;
use ringlane_layout::orders::{CancelReason, EventKind, OrderEvent, OrderState, RejectCode, TimeInForce};

use super::Outgoing;
use super::accounts::Limits;
use super::book::{Book, slot};
use super::check::{Checked, Terms};
use super::matching::{Fills, crosses, trade};
use super::risk::{business_rules, risk};
use super::slab::NIL;
use super::store::{Order, Store};

/// Who asks, and under which number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) lane: u32,
}

/// What an accepted request did to its order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) order_id: u64,
    pub(super) fills: Fills,
    /// Quantity that rests now.
    pub(super) remaining: u32,
    pub(super) state: OrderState,
}

/// Work beyond the request itself is added to `work`.
type Outcome = Result<Answer, RejectCode>;

#[inline(always)]
fn answer(order_id: u64, state: OrderState, remaining: u32, fills: Fills) -> Answer {
    Answer { order_id, fills, remaining, state }
}

/// NEW: trades what crosses, then rests or ends.
#[inline]
pub(super) fn new(
    book: &mut Book,
    store: &mut Store,
    (entry, limits): (Entry, &Limits),
    (checked, terms): (&Checked, &Terms),
    out: &mut Vec<Outgoing>,
    work: &mut u64,
) -> Outcome {
    let account = checked.account;
    let found = book.holding(store, account, checked.hint);
    // An account without open quantity in the symbol has no live order, so no id can be taken.
    if found != NIL && store.holdings.get(found).open != [0, 0] && book.order(store, account, checked.client_order_id, NIL) != NIL {
        return Err(RejectCode::DuplicateOrderId);
    }
    risk(book, store, limits, terms, found, 0)?;
    let may_rest = terms.time_in_force == TimeInForce::Gtc;
    if !store.has_room(may_rest, found) {
        return Err(RejectCode::BookFull);
    }
    let (verdict, touched) = business_rules(book, store, terms);
    *work += touched;
    verdict?;

    let trades = crosses(book, terms);
    if !trades && !may_rest {
        return Ok(answer(entry.sequence, OrderState::Cancelled, 0, Fills::default()));
    }
    let holding = book.holding_or_new(store, found, account);
    let fills = if trades { trade(book, store, terms, holding, entry.sequence, out) } else { Fills::default() };
    *work += u64::from(fills.count);
    let left = terms.quantity - fills.quantity;
    let state = match (left, may_rest) {
        (0, _) => OrderState::Filled,
        (_, false) => OrderState::Cancelled,
        (_, true) => OrderState::Resting,
    };
    let remaining = if state == OrderState::Resting { left } else { 0 };
    if remaining != 0 {
        let order = Order {
            word: Order::pack(terms.side, terms.price, remaining),
            order_id: entry.sequence,
            client_order_id: checked.client_order_id,
            account,
            position: holding,
            lane: entry.lane,
            filled: fills.quantity,
            next: NIL,
            previous: NIL,
        };
        let at = store.orders.insert(order);
        store.count_owned(entry.lane);
        rest(book, store, at);
        book.index_order(store, at);
    }
    Ok(answer(entry.sequence, state, remaining, fills))
}

/// Links an order with its terms set behind its price's others, and counts its open quantity.
#[inline]
fn rest(book: &mut Book, store: &mut Store, at: u32) {
    let order = store.orders.get(at);
    let side = slot(order.side());
    store.holdings.get_mut(order.position).open[side] += u64::from(order.open());
    book.sides[side].link(&mut store.orders, at);
}

/// The live order that a request names.
#[inline]
fn named(book: &Book, store: &Store, checked: &Checked) -> Result<u32, RejectCode> {
    match book.order(store, checked.account, checked.client_order_id, checked.hint) {
        NIL => Err(RejectCode::UnknownOrderId),
        at => Ok(at),
    }
}

/// Tells the order's owner lane that another lane took `quantity` off it. Lane 0 is nobody.
#[inline]
fn tell_owner(entry: Entry, order: &Order, symbol: u32, (k, quantity, remaining): (u32, u32, u32), out: &mut Vec<Outgoing>) {
    if order.lane == entry.lane || order.lane == 0 {
        return;
    }
    let event = OrderEvent {
        number: 0,
        sequence: entry.sequence,
        order_id: order.order_id,
        client_order_id: order.client_order_id,
        price: order.price(),
        quantity,
        remaining_quantity: remaining,
        kind: EventKind::Cancel as u8,
        side: order.side() as u8,
        reason: CancelReason::OtherLane as u16,
        k,
        symbol,
        account: order.account,
    };
    out.push(Outgoing { lane: order.lane, event });
}

/// CANCEL: takes the order out.
#[inline]
pub(super) fn cancel(book: &mut Book, store: &mut Store, entry: Entry, checked: &Checked, out: &mut Vec<Outgoing>) -> Outcome {
    let at = named(book, store, checked)?;
    Ok(cancel_at(book, store, entry, at, out))
}

#[inline]
fn cancel_at(book: &mut Book, store: &mut Store, entry: Entry, at: u32, out: &mut Vec<Outgoing>) -> Answer {
    let order = store.orders.get(at);
    let order_id = order.order_id;
    tell_owner(entry, order, book.symbol, (0, order.open(), 0), out);
    book.cancel(store, at);
    answer(order_id, OrderState::Cancelled, 0, Fills::default())
}

/// REDUCE: takes quantity off in place; taking off all is a cancel.
#[inline]
pub(super) fn reduce(
    book: &mut Book,
    store: &mut Store,
    entry: Entry,
    (checked, quantity): (&Checked, u32),
    out: &mut Vec<Outgoing>,
) -> Outcome {
    let at = named(book, store, checked)?;
    let order = store.orders.get_mut(at);
    let open = order.open();
    if quantity > open {
        return Err(RejectCode::OverReduction);
    }
    if quantity == open {
        return Ok(cancel_at(book, store, entry, at, out));
    }
    order.take_off(quantity);
    store.holdings.get_mut(order.position).open[slot(order.side())] -= u64::from(quantity);
    let remaining = open - quantity;
    tell_owner(entry, order, book.symbol, (0, quantity, remaining), out);
    Ok(answer(order.order_id, OrderState::Resting, remaining, Fills::default()))
}

/// REPLACE: sets price and open quantity. In place if the order keeps its priority; else it leaves and enters again.
#[inline]
pub(super) fn replace(
    book: &mut Book,
    store: &mut Store,
    (entry, limits): (Entry, &Limits),
    (checked, terms): (&Checked, &Terms),
    out: &mut Vec<Outgoing>,
    work: &mut u64,
) -> Outcome {
    let at = named(book, store, checked)?;
    let order = store.orders.get(at);
    let (open, holding, order_id) = (order.open(), order.position, order.order_id);
    if order.side() != terms.side {
        return Err(RejectCode::SideMismatch);
    }
    if i64::from(order.filled) + i64::from(terms.quantity) > ORDER_QUANTITY_MAX {
        return Err(RejectCode::QuantityTooLarge);
    }
    let keeps_priority = terms.price == order.price() && terms.quantity <= open;
    risk(book, store, limits, terms, holding, open)?;
    business_rules(book, store, terms).0?;

    if keeps_priority {
        let order = store.orders.get_mut(at);
        order.take_off(open - terms.quantity);
        store.holdings.get_mut(holding).open[slot(terms.side)] -= u64::from(open - terms.quantity);
        tell_owner(entry, order, book.symbol, (0, open, terms.quantity), out);
        return Ok(answer(order_id, OrderState::Resting, terms.quantity, Fills::default()));
    }
    let side = slot(terms.side);
    store.holdings.get_mut(holding).open[side] -= u64::from(open);
    book.sides[side].unlink(&mut store.orders, at);
    let fills = trade(book, store, terms, holding, entry.sequence, out);
    *work += u64::from(fills.count);
    let remaining = terms.quantity - fills.quantity;
    let order = store.orders.get_mut(at);
    order.filled += fills.quantity;
    order.word = Order::pack(terms.side, terms.price, remaining);
    tell_owner(entry, order, book.symbol, (fills.count, open, remaining), out);
    if remaining == 0 {
        book.drop_order(store, at);
        return Ok(answer(order_id, OrderState::Filled, 0, fills));
    }
    rest(book, store, at);
    Ok(answer(order_id, OrderState::Resting, remaining, fills))
}

/// TAKE_OVER in one book: the account's orders that nobody owns get this lane.
pub(super) fn take_over(book: &Book, store: &mut Store, entry: Entry, checked: &Checked, work: &mut u64) -> Answer {
    let (mut taken, mut seen) = (0, 0);
    if store.orphans > 0 {
        for side in &book.sides {
            let mut at = side.head();
            while at != NIL && seen < store.orphans {
                let order = store.orders.get_mut(at);
                seen += u64::from(order.lane == 0);
                taken += u32::from(order.change_owner(checked.account, entry.lane));
                at = order.next;
                *work += 1;
            }
        }
    }
    taken_over(store, entry.lane, taken)
}

/// TAKE_OVER in every book.
pub(super) fn take_over_all(store: &mut Store, entry: Entry, checked: &Checked, work: &mut u64) -> Answer {
    let (mut taken, mut seen) = (0, 0);
    for at in 0..store.orders.used() {
        if seen == store.orphans {
            break;
        }
        let order = store.orders.get_mut(at);
        seen += u64::from(order.is_live() && order.lane == 0);
        taken += u32::from(order.change_owner(checked.account, entry.lane));
        *work += 1;
    }
    taken_over(store, entry.lane, taken)
}

fn taken_over(store: &mut Store, lane: u32, taken: u32) -> Answer {
    store.change_owned(0, lane, taken);
    store.orphans -= u64::from(taken);
    let fills = Fills { count: taken, ..Fills::default() };
    answer(0, OrderState::Resting, 0, fills)
}

impl Order {
    /// Makes `lane` the owner if this is an order of `account` that nobody owns.
    #[inline]
    fn change_owner(&mut self, account: u32, lane: u32) -> bool {
        let takes = self.is_live() && self.lane == 0 && self.account == account;
        if takes {
            self.lane = lane;
        }
        takes
    }
}
