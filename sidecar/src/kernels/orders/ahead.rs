//! What a window of requests will touch, asked for before the first of them is matched: first the index lines, then what
//! those name, then, where there is more than the processor keeps near, what that is linked to. A rejected request names no
//! book, and nothing is asked for. Only hints come of it: requests of the same window may change what is seen here.

use ringlane_layout::orders::Op;

use super::book::{Book, slot};
use super::check::Checked;
use super::matching::opposite;
use super::shard::Shard;
use super::slab::NIL;
use super::store::Store;

/// The lines of the indices; those of positions are few, and near unless there is more than is near.
#[inline(always)]
pub(super) fn indices(Shard { books, store, .. }: &Shard, checked: &mut Checked, is_large: bool) {
    let Some(book) = books.get(checked.book as usize) else { return };
    checked.order_hash = store.order_hash(checked.account, checked.client_order_id);
    book.orders.prefetch(checked.order_hash);
    if is_large && checked.op == Op::New {
        book.holdings.prefetch(store.account_hash(checked.account));
    }
}

/// What a window's indices name, and where that is not all near, what it is linked to; `shard` is the part of the request at a place.
#[inline(always)]
pub(super) fn named<'a>(window: &mut [Checked], is_large: bool, shard: impl Fn(usize) -> &'a Shard) {
    if !is_large {
        window.iter().enumerate().for_each(|(at, checked)| likely(shard(at), checked));
        return;
    }
    window.iter_mut().enumerate().for_each(|(at, checked)| entries(shard(at), checked));
    window.iter().enumerate().for_each(|(at, checked)| neighbours(shard(at), checked));
}

/// Where all is near, but not all in the nearest cache: the order that a change most likely names. A new order's place is
/// looked at too, for nothing: cheaper than a branch that nobody can foresee.
#[inline(always)]
fn likely(Shard { books, store, .. }: &Shard, checked: &Checked) {
    let Some(book) = books.get(checked.book as usize) else { return };
    store.orders.prefetch(book.orders.first(checked.order_hash));
}

/// The order that a change names, or the position of a new order's account and the order that it may trade with.
#[inline(always)]
fn entries(Shard { books, store, .. }: &Shard, checked: &mut Checked) {
    let Some(book) = books.get(checked.book as usize) else { return };
    if checked.op == Op::New {
        checked.hint = book.holdings.peek(store.account_hash(checked.account)).unwrap_or(NIL);
        store.holdings.prefetch(checked.hint);
        store.orders.prefetch(book.sides[slot(opposite(checked.terms.side))].head());
    } else {
        checked.hint = book.orders.peek(checked.order_hash).unwrap_or(NIL);
        store.orders.prefetch(checked.hint);
    }
}

/// The position of the order that a change names, and the orders before and behind it; of a watched book, the level.
#[inline(always)]
fn neighbours(Shard { books, store, .. }: &Shard, checked: &Checked) {
    if store.tells_orphans {
        level(books, store, checked);
    }
    if checked.hint == NIL || checked.op == Op::New {
        return;
    }
    let order = store.orders.get(checked.hint);
    store.holdings.prefetch(order.position);
    store.orders.prefetch(order.previous);
    store.orders.prefetch(order.next);
}

/// The level of a watched book at which a request begins: who watches one has its orphans told too.
fn level(books: &[Book], store: &Store, checked: &Checked) {
    let Some(book) = books.get(checked.book as usize) else { return };
    match checked.op {
        Op::New => book.fetch_level(checked.terms.side, checked.terms.price),
        _ if checked.hint == NIL => {}
        _ => {
            let order = store.orders.get(checked.hint);
            book.fetch_level(order.side(), order.price());
        }
    }
}
