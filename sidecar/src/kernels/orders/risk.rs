//! Risk and business rules: what a well-formed order may not do now. Nothing changes here.

use ringlane_layout::orders::{RejectCode, Side, TimeInForce};

use super::accounts::Limits;
use super::book::{Book, slot};
use super::check::Terms;
use super::matching::{crosses, fillable};
use super::slab::NIL;
use super::store::Store;

/// Checks the limits of the account for an order of these terms. `holding` is its position or NIL; `released` is open
/// quantity of the same side that the order replaces.
#[inline]
pub(super) fn risk(book: &Book, store: &Store, limits: &Limits, terms: &Terms, holding: u32, released: u32) -> Result<(), RejectCode> {
    if i64::from(terms.quantity) > limits.order_quantity_max {
        return Err(RejectCode::OrderSizeLimit);
    }
    if !terms.is_market && limits.price_collar_bps != 0 && outside_collar(terms.price, book.collar_price, limits.price_collar_bps) {
        return Err(RejectCode::PriceCollar);
    }
    let (net, open) = match holding {
        NIL => (0, 0),
        at => {
            let position = store.holdings.get(at);
            (position.net, position.open[slot(terms.side)])
        }
    };
    if passes_position(net, open - u64::from(released), terms, limits.position_max) {
        return Err(RejectCode::PositionLimit);
    }
    Ok(())
}

/// Whether |price - reference| / reference is above the collar; without a reference there is none.
#[inline]
fn outside_collar(price: i64, reference: i64, collar_bps: u32) -> bool {
    let distance = u128::from(price.abs_diff(reference)) * 10_000;
    reference != 0 && distance > reference as u128 * u128::from(collar_bps)
}

/// Whether the position passes the limit, or the range of its type, once this order and all resting ones of its side are
/// filled. Only the end towards which the side moves is asked: an order that leads back inside is never refused.
#[inline]
fn passes_position(net: i64, open: u64, terms: &Terms, position_max: i64) -> bool {
    // At most 2^26 resting orders below 2^27 each.
    let change = open as i64 + i64::from(terms.quantity);
    match terms.side {
        Side::Buy => net.checked_add(change).is_none_or(|worst| worst > position_max),
        Side::Sell => net.checked_sub(change).is_none_or(|worst| worst < -position_max),
    }
}

/// Checks the rules of the order's own flags against the book. Returns how many resting orders were looked at.
#[inline]
pub(super) fn business_rules(book: &Book, store: &Store, terms: &Terms) -> (Result<(), RejectCode>, u64) {
    if terms.post_only && crosses(book, terms) {
        return (Err(RejectCode::WouldCross), 0);
    }
    if terms.time_in_force == TimeInForce::Fok {
        let (fills, touched) = fillable(book, store, terms);
        return (if fills { Ok(()) } else { Err(RejectCode::NotFillable) }, touched);
    }
    (Ok(()), 0)
}
