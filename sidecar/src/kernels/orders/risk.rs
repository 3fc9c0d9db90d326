//! Risk and business rules: what a well-formed order may not do now. Nothing changes here.

use ringlane_layout::orders::{RejectCode, Side};

use super::book::{Book, slot};
use super::check::{Checked, Terms, terms};
use super::desk::Desk;
use super::limits::Limits;
use super::matching::{crosses, fillable};
use super::slab::NIL;
use super::tallies::Tally;

/// What an order replaces: its open quantity and what that is worth.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Released {
    pub(super) is_replace: bool,
    pub(super) open: u32,
    pub(super) notional: u128,
}

/// Checks the limits of the account for an order of these terms. `holding` is its position or NIL.
#[inline(always)]
pub(super) fn risk(book: &Book, desk: &Desk, checked: &Checked, terms: &Terms, holding: u32, released: Released) -> Result<(), RejectCode> {
    let limits = desk.limits;
    usual(book, desk, limits, terms, holding, released.open)?;
    if limits.has_more || book.limited {
        return more(book, desk, checked, terms, holding, released);
    }
    Ok(())
}

/// The limits that most accounts have.
#[inline(always)]
fn usual(book: &Book, desk: &Desk, limits: &Limits, terms: &Terms, holding: u32, released: u32) -> Result<(), RejectCode> {
    if i64::from(terms.quantity) > limits.order_quantity_max {
        return Err(RejectCode::OrderSizeLimit);
    }
    let collar_bps = limits.price_collar_bps;
    if !terms.is(terms::MARKET) && collar_bps != 0 && outside_collar(terms.price, book.collar_price, collar_bps) {
        return Err(RejectCode::PriceCollar);
    }
    let (net, open) = match holding {
        NIL => (0, 0),
        at => {
            let position = desk.store.holdings.get(at);
            (position.net, position.open[slot(terms.side)])
        }
    };
    if passes_position(net, open - u64::from(released), terms, limits.position_max) {
        return Err(RejectCode::PositionLimit);
    }
    Ok(())
}

/// The other limits of the account, then all of those that it has in this symbol alone.
#[cold]
#[inline(never)]
fn more(book: &Book, desk: &Desk, checked: &Checked, terms: &Terms, holding: u32, released: Released) -> Result<(), RejectCode> {
    let (store, account) = (&*desk.store, checked.account);
    counted(book, desk, desk.limits, &desk.tallies.of(account), terms, released)?;
    if let Some(limits) = store.symbol_limits.find(book.symbol, account) {
        usual(book, desk, limits, terms, holding, released.open)?;
        counted(book, desk, limits, &store.symbol_tallies.of(book.symbol, account), terms, released)?;
    }
    Ok(())
}

/// Limits on what an order is worth, and on what the account has open and does.
fn counted(book: &Book, desk: &Desk, limits: &Limits, tally: &Tally, terms: &Terms, released: Released) -> Result<(), RejectCode> {
    let price = if terms.price == 0 { book.collar_price } else { terms.price };
    let notional = price as u128 * u128::from(terms.quantity);
    if notional > limits.order_notional_max as u128 {
        return Err(RejectCode::NotionalLimit);
    }
    if terms.is(terms::MAY_REST) {
        // The tally of a batch that is matched in parallel may not count yet what is released; such a batch has far less open
        // than it may.
        let open = tally.notional[slot(terms.side)];
        if limits.exposure_max != i64::MAX && open.saturating_sub(released.notional) + notional > limits.exposure_max as u128 {
            return Err(RejectCode::ExposureLimit);
        }
        if !released.is_replace && tally.open_orders >= limits.open_orders_max {
            return Err(RejectCode::OpenOrdersLimit);
        }
    }
    if tally.rate(desk.store.now_ns) >= limits.order_rate_max {
        return Err(RejectCode::OrderRate);
    }
    Ok(())
}

/// Whether |price - reference| / reference is above the collar; without a reference there is none.
#[inline]
fn outside_collar(price: i64, reference: i64, collar_bps: u32) -> bool {
    // Prices are below 2^36, so ten thousand times a distance is far from 2^64; a collar that wide is none.
    let distance = price.abs_diff(reference) * 10_000;
    reference != 0 && distance > (reference as u64).saturating_mul(collar_bps.into())
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

/// Checks the rules of the book and of the order's own flags.
#[inline(always)]
pub(super) fn business_rules(book: &Book, desk: &mut Desk, account: u32, terms: &Terms, holding: u32) -> Result<(), RejectCode> {
    if book.halted {
        return Err(RejectCode::SymbolHalted);
    }
    if terms.is(terms::REDUCE_ONLY) {
        let reducible = if holding == NIL { 0 } else { desk.store.holdings.get(holding).reducible(terms.side) };
        if u64::from(terms.quantity) > reducible {
            return Err(RejectCode::NotReducing);
        }
    }
    if terms.is(terms::POST_ONLY) && crosses(book, terms) {
        return Err(RejectCode::WouldCross);
    }
    if terms.is(terms::FOK) {
        let (fills, touched) = fillable(book, desk, account, terms);
        *desk.work += touched;
        return if fills { Ok(()) } else { Err(RejectCode::NotFillable) };
    }
    Ok(())
}
