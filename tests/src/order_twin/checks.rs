//! The twin's checks of a request by itself, as the kernel's tables of checks and combinations say them.

use ringlane_layout::orders::{OrderRequest, RejectCode, Side};

use super::{Twin, Wanted};

pub(super) const QUANTITY_MAX: i128 = 134_217_727;
const PRICE_MAX: i128 = 68_719_476_735;

pub(super) fn structure(request: &OrderRequest) -> Result<(), RejectCode> {
    let check = |bad: bool, code: RejectCode| if bad { Err(code) } else { Ok(()) };
    let (is_new, is_replace, is_cancel_all) = (request.op == 1, request.op == 4, request.op == 6);
    check(!(1..=6).contains(&request.op), RejectCode::UnknownOp)?;
    check((is_new || is_replace) && ![1, 2].contains(&request.side), RejectCode::UnknownSide)?;
    check(is_new && !(1..=4).contains(&request.order_type), RejectCode::UnknownOrderType)?;
    check(is_new && !(1..=5).contains(&request.time_in_force), RejectCode::UnknownTimeInForce)?;
    check((is_new || is_replace || is_cancel_all) && request.flags > 7, RejectCode::UnknownFlag)?;
    check(request.reserved != [0; 4], RejectCode::ReservedNotZero)?;
    let (limit, market, stop, stop_limit) = (1, 2, 3, 4);
    let (kind, tif) = (request.order_type, request.time_in_force);
    let immediate = tif == 2 || tif == 3;
    let post_only = request.flags & 1 != 0;
    let bad = match request.op {
        1 => {
            (kind == market && (!immediate || request.price != 0 || post_only))
                || (kind == stop && (immediate || request.price != 0 || post_only))
                || (kind == stop_limit && (immediate || post_only))
                || (kind <= 2 && request.stop_price != 0)
                || (post_only && immediate)
                || ((tif == 5) != (request.expires_ns != 0))
                || (request.display_quantity != 0 && (kind != limit || immediate))
                || request.flags & 4 != 0
        }
        4 => request.flags & 6 != 0 || (post_only && request.stop_price != 0),
        6 => request.flags & 3 != 0,
        _ => false,
    };
    check(bad, RejectCode::BadCombination)
}

impl Twin {
    pub(super) fn who_and_where(&self, lane: u32, request: &OrderRequest) -> Result<(), RejectCode> {
        let everywhere = request.symbol == 0 && [5, 6].contains(&request.op);
        if !everywhere && !(1..=self.instruments.len()).contains(&(request.symbol as usize)) {
            return Err(RejectCode::UnknownSymbol);
        }
        let grant = self.lanes.get(&lane).copied();
        if request.op == 6 && request.account == 0 && grant.is_some() {
            return Ok(());
        }
        if !self.limits.contains_key(&(0, request.account)) {
            return Err(RejectCode::UnknownAccount);
        }
        match grant {
            Some((first, last)) if (first..=last).contains(&request.account) => Ok(()),
            _ => Err(RejectCode::AccountNotPermitted),
        }
    }

    pub(super) fn numbers(&self, request: &OrderRequest) -> Result<Wanted, RejectCode> {
        let (quantity, price) = (i128::from(request.quantity), i128::from(request.price));
        let instrument = self.instruments.get((request.symbol as usize).wrapping_sub(1)).copied().unwrap_or_default();
        if [1, 3, 4].contains(&request.op) {
            if quantity <= 0 {
                return Err(RejectCode::QuantityNotPositive);
            }
            if quantity > QUANTITY_MAX {
                return Err(RejectCode::QuantityTooLarge);
            }
            if quantity % i128::from(instrument.lot) != 0 {
                return Err(RejectCode::OffLot);
            }
        }
        let is_new = request.op == 1;
        let is_stop = (is_new && request.order_type >= 3) || (request.op == 4 && request.stop_price != 0);
        let is_market = (is_new && [2, 3].contains(&request.order_type)) || (request.op == 4 && is_stop && request.price == 0);
        if [1, 4].contains(&request.op) && !is_market {
            if price <= 0 {
                return Err(RejectCode::PriceNotPositive);
            }
            if price > PRICE_MAX {
                return Err(RejectCode::PriceTooLarge);
            }
            if price % i128::from(instrument.tick) != 0 {
                return Err(RejectCode::OffTick);
            }
        }
        let stop = i128::from(request.stop_price);
        if is_stop && (stop <= 0 || stop > PRICE_MAX || stop % i128::from(instrument.tick) != 0) {
            return Err(RejectCode::BadStopPrice);
        }
        let display = i128::from(request.display_quantity);
        if is_new && (display > quantity || (display > 0 && quantity > 256 * display) || display % i128::from(instrument.lot.max(1)) != 0) {
            return Err(RejectCode::BadDisplayQuantity);
        }
        if is_new && request.expires_ns != 0 && request.expires_ns <= self.now_ns {
            return Err(RejectCode::AlreadyExpired);
        }
        let side = if request.side == 2 { Side::Sell } else { Side::Buy };
        Ok(Wanted { side, price: (!is_market).then_some(price), quantity })
    }
}
