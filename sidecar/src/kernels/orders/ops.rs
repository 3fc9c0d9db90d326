//! What each op does to its book once its request is checked. Each first asks everything that can reject it, then acts:
//! a rejected request changes nothing.

use ringlane_layout::limits::ORDER_QUANTITY_MAX;
use ringlane_layout::orders::{CancelReason, OrderRequest, OrderState, RejectCode};

use super::attributes::{DAY, RARE, REDUCE_ONLY, Rare, STOP, TALLIED};
use super::book::Book;
use super::check::{Checked, Terms, terms, too_many_parts};
use super::desk::{Desk, Told};
use super::matching::{Fills, Taker, crosses, trade};
use super::risk::{Released, business_rules, risk};
use super::slab::NIL;
use super::special::show_more;
use super::stops::unmark;
use super::store::{Order, Store};

/// What an accepted request did to its order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) order_id: u64,
    pub(super) fills: Fills,
    /// Quantity that rests now.
    pub(super) remaining: u32,
    pub(super) state: OrderState,
}

/// Work beyond the request itself is added to the desk's.
type Outcome = Result<Answer, RejectCode>;

#[inline(always)]
fn answer(order_id: u64, state: OrderState, remaining: u32, fills: Fills) -> Answer {
    Answer { order_id, fills, remaining, state }
}

/// NEW: trades what crosses, then rests or ends; a stop may wait.
#[inline(always)]
pub(super) fn new(book: &mut Book, desk: &mut Desk, request: &OrderRequest, checked: &Checked) -> Outcome {
    let terms = &checked.terms;
    let account = checked.account;
    let found = book.holding(desk.store, account, checked.hint);
    // An account without open quantity in the symbol has no live order, so no id can be taken.
    let is_taken = || book.order(desk.store, (account, checked.client_order_id), checked.order_hash, NIL) != NIL;
    if found != NIL && desk.store.holdings.get(found).open != [0, 0] && is_taken() {
        return Err(RejectCode::DuplicateOrderId);
    }
    risk(book, desk, checked, terms, found, Released::default())?;
    let may_rest = terms.is(terms::MAY_REST);
    if !desk.store.has_room(may_rest, found) || (terms.is(terms::STOP) && !book.has_room_for_stop()) {
        return Err(RejectCode::BookFull);
    }
    business_rules(book, desk, account, terms, found)?;
    if terms.is(terms::STOP) {
        return new_stop(book, desk, request, (checked, terms), found);
    }
    enter(book, desk, request, (checked, terms), found)
}

/// A stop that nothing rejects any more waits, or enters at once when its price was met already.
#[cold]
#[inline(never)]
fn new_stop(book: &mut Book, desk: &mut Desk, request: &OrderRequest, (checked, terms): (&Checked, &Terms), found: u32) -> Outcome {
    if book.triggers(terms.side, request.stop_price) {
        return enter(book, desk, request, (checked, &triggered(*terms)), found);
    }
    Ok(wait(book, desk, request, (checked, terms), found))
}

/// What a triggered stop is: a market order, or a limit order that may rest.
fn triggered(mut terms: Terms) -> Terms {
    let gone = if terms.is(terms::MARKET) { terms::STOP | terms::MAY_REST | terms::DAY } else { terms::STOP };
    terms.bits &= !gone;
    terms
}

/// Nothing rejects the order any more: it trades, rests or ends.
#[inline(always)]
fn enter(book: &mut Book, desk: &mut Desk, request: &OrderRequest, (checked, terms): (&Checked, &Terms), found: u32) -> Outcome {
    let sequence = desk.entry.sequence;
    let may_rest = terms.is(terms::MAY_REST);
    let trades = crosses(book, terms);
    if !trades && !may_rest {
        return Ok(answer(sequence, OrderState::Cancelled, 0, Fills::default()));
    }
    let account = checked.account;
    let holding = book.holding_or_new(desk.store, found, account);
    let mut fills = Fills::default();
    if trades {
        fills = trade::<false>(book, desk, &Taker { terms, account, holding, first_k: 0, stop: None });
        *desk.work += u64::from(fills.k());
    }
    let left = terms.quantity - fills.quantity;
    let state = match left {
        0 => OrderState::Filled,
        _ if !may_rest || fills.prevented => OrderState::Cancelled,
        _ => OrderState::Resting,
    };
    if state != OrderState::Resting {
        return Ok(answer(sequence, state, 0, fills));
    }
    let at = insert(book, desk, request, (checked, terms), (holding, left, fills.quantity));
    book.rest(desk.store, at);
    book.index_order(desk.store, at, checked.order_hash);
    Ok(answer(sequence, OrderState::Resting, left, fills))
}

/// Makes the order's entry, neither linked nor indexed.
#[inline(always)]
fn insert(
    book: &Book,
    desk: &mut Desk,
    request: &OrderRequest,
    (checked, terms): (&Checked, &Terms),
    (holding, open, filled): (u32, u32, u32),
) -> u32 {
    let order = Order {
        word: Order::pack(terms.side, terms.price, open),
        order_id: desk.entry.sequence,
        client_order_id: checked.client_order_id,
        account: checked.account,
        position: holding,
        lane: desk.entry.lane,
        filled_bits: filled,
        next: NIL,
        previous: NIL,
    };
    let at = desk.store.orders.insert(order);
    desk.store.count_owned(desk.entry.lane);
    if terms.is(terms::SPECIAL) || desk.limits.tallied || book.limited {
        note(book, desk, request, terms, at);
    }
    at
}

/// Notes what few orders have.
#[cold]
#[inline(never)]
fn note(book: &Book, desk: &mut Desk, request: &OrderRequest, terms: &Terms, at: u32) {
    let store = &mut *desk.store;
    let tallied = desk.limits.tallied || store.symbol_limits.find(book.symbol, store.orders.get(at).account).is_some();
    let bit = |bit, is| if is { bit } else { 0 };
    let order = store.orders.get_mut(at);
    order.filled_bits |= bit(DAY, terms.is(terms::DAY)) | bit(REDUCE_ONLY, terms.is(terms::REDUCE_ONLY)) | bit(TALLIED, tallied);
    store.attributes.day_orders += u64::from(order.has(DAY));
    let waits = terms.is(terms::STOP);
    // A GTD stop's expiry stands in the request too, though its terms are those of the order that it became.
    let rare = Rare {
        hidden: 0,
        display: request.display_quantity,
        expires_ns: request.expires_ns,
        stop_price: if waits { request.stop_price } else { 0 },
        is_market: waits && terms.is(terms::MARKET),
    };
    store.set_rare(at, rare);
    if rare.display != 0 {
        show_more(store, at);
    }
}

/// Lets a new stop wait.
fn wait(book: &mut Book, desk: &mut Desk, request: &OrderRequest, (checked, terms): (&Checked, &Terms), found: u32) -> Answer {
    let holding = book.holding_or_new(desk.store, found, checked.account);
    let at = insert(book, desk, request, (checked, terms), (holding, terms.quantity, 0));
    book.wait(desk.store, at);
    book.index_order(desk.store, at, checked.order_hash);
    answer(desk.entry.sequence, OrderState::Waiting, terms.quantity, Fills::default())
}

/// The live order that a request names.
#[inline]
fn named(book: &Book, store: &Store, checked: &Checked) -> Result<u32, RejectCode> {
    match book.order(store, (checked.account, checked.client_order_id), checked.order_hash, checked.hint) {
        NIL => Err(RejectCode::UnknownOrderId),
        at => Ok(at),
    }
}

/// Tells the order's owner lane that another lane took `quantity` off it.
#[inline]
fn tell_owner(desk: &mut Desk, at: u32, symbol: u32, (k, quantity, remaining): (u32, u32, u32)) {
    if desk.store.orders.get(at).lane != desk.entry.lane {
        desk.tell(at, symbol, k, &Told::cancel(CancelReason::OtherLane, quantity, remaining));
    }
}

/// CANCEL: takes the order out.
#[inline]
pub(super) fn cancel(book: &mut Book, desk: &mut Desk, checked: &Checked) -> Outcome {
    let at = named(book, desk.store, checked)?;
    Ok(cancel_at(book, desk, at))
}

#[inline]
fn cancel_at(book: &mut Book, desk: &mut Desk, at: u32) -> Answer {
    let order_id = desk.store.orders.get(at).order_id;
    let total = desk.store.total(at);
    tell_owner(desk, at, book.symbol, (0, total, 0));
    book.cancel(desk.store, at);
    answer(order_id, OrderState::Cancelled, 0, Fills::default())
}

/// Where an order stands that is neither filled nor cancelled.
fn standing(store: &Store, at: u32) -> OrderState {
    if store.orders.get(at).has(STOP) { OrderState::Waiting } else { OrderState::Resting }
}

/// REDUCE: takes quantity off in place; taking off all is a cancel.
#[inline]
pub(super) fn reduce(book: &mut Book, desk: &mut Desk, checked: &Checked) -> Outcome {
    let quantity = checked.terms.quantity;
    let at = named(book, desk.store, checked)?;
    let open = desk.store.total(at);
    if quantity > open {
        return Err(RejectCode::OverReduction);
    }
    if quantity == open {
        return Ok(cancel_at(book, desk, at));
    }
    book.take_off(desk.store, at, quantity);
    let remaining = open - quantity;
    tell_owner(desk, at, book.symbol, (0, quantity, remaining));
    Ok(answer(desk.store.orders.get(at).order_id, standing(desk.store, at), remaining, Fills::default()))
}

/// REPLACE: sets price and open quantity. In place if the order keeps its priority; else it leaves and enters again.
#[inline(never)]
pub(super) fn replace(book: &mut Book, desk: &mut Desk, request: &OrderRequest, checked: &Checked) -> Outcome {
    let mut terms = checked.terms;
    let at = named(book, desk.store, checked)?;
    let open = desk.store.total(at);
    let order = desk.store.orders.get(at);
    let (holding, order_id, waits) = (order.position, order.order_id, order.has(STOP));
    if order.side() != terms.side {
        return Err(RejectCode::SideMismatch);
    }
    if waits != terms.is(terms::STOP) || (waits && desk.store.rare(at).is_market != terms.is(terms::MARKET)) {
        return Err(RejectCode::TypeMismatch);
    }
    if i64::from(order.filled()) + i64::from(terms.quantity) > ORDER_QUANTITY_MAX {
        return Err(RejectCode::QuantityTooLarge);
    }
    if order.has(RARE) && too_many_parts(terms.quantity.into(), desk.store.rare(at).display) {
        return Err(RejectCode::BadDisplayQuantity);
    }
    let keeps_priority = !waits && terms.price == order.price() && terms.quantity <= open;
    let released = Released { is_replace: true, open, notional: order.price() as u128 * u128::from(open) };
    if order.has(REDUCE_ONLY) {
        terms.bits |= terms::REDUCE_ONLY;
    }
    risk(book, desk, checked, &terms, holding, released)?;
    business_rules(book, desk, checked.account, &terms, holding)?;

    if keeps_priority {
        if terms.quantity != open {
            book.take_off(desk.store, at, open - terms.quantity);
        }
        tell_owner(desk, at, book.symbol, (0, open, terms.quantity));
        return Ok(answer(order_id, OrderState::Resting, terms.quantity, Fills { other_events: 1, ..Fills::default() }));
    }
    book.leave(desk.store, at);
    if waits && !book.triggers(terms.side, request.stop_price) {
        let rare = Rare { stop_price: request.stop_price, ..desk.store.rare(at) };
        desk.store.set_rare(at, rare);
        desk.store.orders.get_mut(at).word = Order::pack(terms.side, terms.price, terms.quantity);
        book.wait(desk.store, at);
        tell_owner(desk, at, book.symbol, (0, open, terms.quantity));
        return Ok(answer(order_id, OrderState::Waiting, terms.quantity, Fills::default()));
    }
    if waits {
        unmark(desk.store, at);
        terms = triggered(terms);
    }
    let taker = Taker { terms: &terms, account: checked.account, holding, first_k: 0, stop: None };
    let mut fills = trade::<false>(book, desk, &taker);
    *desk.work += u64::from(fills.k());
    let left = terms.quantity - fills.quantity;
    let state = match left {
        0 => OrderState::Filled,
        _ if fills.prevented || terms.is(terms::MARKET) => OrderState::Cancelled,
        _ => OrderState::Resting,
    };
    let remaining = if state == OrderState::Resting { left } else { 0 };
    let order = desk.store.orders.get_mut(at);
    order.filled_bits += fills.quantity;
    order.word = Order::pack(terms.side, terms.price, remaining);
    tell_replaced(desk, at, book.symbol, (fills.k(), open, remaining), terms.is(terms::MARKET));
    // The owner's event has its k, whether or not anybody is told.
    fills.other_events += 1;
    if state == OrderState::Resting {
        hide(desk.store, at);
        book.rest(desk.store, at);
    } else {
        book.drop_order(desk.store, at);
    }
    Ok(answer(order_id, state, remaining, fills))
}

/// As `tell_owner`; what was a STOP has no price.
fn tell_replaced(desk: &mut Desk, at: u32, symbol: u32, (k, quantity, remaining): (u32, u32, u32), is_market: bool) {
    if desk.store.orders.get(at).lane != desk.entry.lane {
        let told = Told { price: is_market.then_some(0), ..Told::cancel(CancelReason::OtherLane, quantity, remaining) };
        desk.tell(at, symbol, k, &told);
    }
}

/// An iceberg whose whole open quantity was set shows no more of it than it may.
#[inline]
fn hide(store: &mut Store, at: u32) {
    let mut rare = store.rare(at);
    if rare.display != 0 {
        rare.hidden = 0;
        store.set_rare(at, rare);
        show_more(store, at);
    }
}

/// TAKE_OVER in one book: the account's orders that nobody owns get this lane.
pub(super) fn take_over(book: &Book, desk: &mut Desk, checked: &Checked) -> Answer {
    let (mut taken, mut seen) = (0, 0);
    let (store, lane) = (&mut *desk.store, desk.entry.lane);
    if store.orphans > 0 {
        for side in &book.sides {
            let mut at = side.head();
            while at != NIL && seen < store.orphans {
                let order = store.orders.get_mut(at);
                seen += u64::from(order.lane == 0);
                taken += u32::from(order.change_owner(checked.account, lane));
                at = order.next;
                *desk.work += 1;
            }
        }
        for at in book.stops.iter().flat_map(|stops| stops.all()) {
            taken += u32::from(store.orders.get_mut(at).change_owner(checked.account, lane));
            *desk.work += 1;
        }
    }
    give(store, lane, taken);
    taken_over(taken)
}

/// TAKE_OVER in every book of a part: how many orders it took.
pub(super) fn take_over_all(store: &mut Store, lane: u32, account: u32, work: &mut u64) -> u32 {
    let (mut taken, mut seen) = (0, 0);
    for at in 0..store.orders.used() {
        if seen == store.orphans {
            break;
        }
        let order = store.orders.get_mut(at);
        seen += u64::from(order.is_live() && order.lane == 0);
        taken += u32::from(order.change_owner(account, lane));
        *work += 1;
    }
    give(store, lane, taken);
    taken
}

/// Orders that nobody owned belong to `lane` now.
fn give(store: &mut Store, lane: u32, taken: u32) {
    store.change_owned(0, lane, taken);
    store.orphans -= u64::from(taken);
}

/// The answer to a TAKE_OVER of so many orders.
pub(super) fn taken_over(taken: u32) -> Answer {
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
