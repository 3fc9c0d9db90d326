//! What a window of requests will touch, asked for before the first of them is matched: first the index lines, then what
//! those name, then what that is linked to. A rejected request names no book, and nothing is asked for. Only hints come of it: requests of the same window may change what is seen here.

use super::book::{Book, slot};
use super::check::{Action, Checked};
use super::matching::opposite;
use super::shard::Shard;
use super::slab::NIL;
use super::store::Store;

/// The lines of the indices.
#[inline(always)]
pub(super) fn indices(Shard { books, store, .. }: &Shard, checked: &mut Checked) {
    let Some(book) = books.get(checked.book as usize) else { return };
    checked.order_hash = store.order_hash(checked.account, checked.client_order_id);
    book.orders.prefetch(checked.order_hash);
    if let Action::New(_) = checked.action {
        book.holdings.prefetch(store.account_hash(checked.account));
    }
}

/// The order that a change names, or the position of a new order's account and the order that it may trade with.
#[inline(always)]
pub(super) fn entries(Shard { books, store, .. }: &Shard, checked: &mut Checked) {
    let Some(book) = books.get(checked.book as usize) else { return };
    if let Action::New(terms) = &checked.action {
        checked.hint = book.holdings.peek(store.account_hash(checked.account)).unwrap_or(NIL);
        store.holdings.prefetch(checked.hint);
        store.orders.prefetch(book.sides[slot(opposite(terms.side))].head());
    } else {
        checked.hint = book.orders.peek(checked.order_hash).unwrap_or(NIL);
        store.orders.prefetch(checked.hint);
    }
}

/// The position of the order that a change names, and the orders before and behind it; of a watched book, the level.
#[inline(always)]
pub(super) fn neighbours(Shard { books, store, .. }: &Shard, checked: &Checked) {
    if store.tells_orphans {
        level(books, store, checked);
    }
    if checked.hint == NIL || matches!(checked.action, Action::New(_)) {
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
    match &checked.action {
        Action::New(terms) => book.fetch_level(terms.side, terms.price),
        _ if checked.hint == NIL => {}
        _ => {
            let order = store.orders.get(checked.hint);
            book.fetch_level(order.side(), order.price());
        }
    }
}
