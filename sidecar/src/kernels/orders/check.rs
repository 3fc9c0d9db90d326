//! From an `OrderRequest`, which is an allegation, to a `Checked` request, which the books accept. Only what the record,
//! the configuration and the lane's grant can answer is asked here; ids, risk and business rules need a book.
//!
//! # The order of checks
//! The first check that fails names the reject; nothing has changed then. Fields that an op does not use are not read.
//!
//! | stage | check, in this order | ops |
//! | --- | --- | --- |
//! | structure | `UNKNOWN_OP` | all |
//! | | `UNKNOWN_SIDE` | NEW, REPLACE |
//! | | `UNKNOWN_ORDER_TYPE`, `UNKNOWN_TIME_IN_FORCE` | NEW |
//! | | `UNKNOWN_FLAG` | NEW, REPLACE |
//! | | `RESERVED_NOT_ZERO` | all |
//! | | `BAD_COMBINATION`: a market order is IOC or FOK, with price 0 and no flag; POST_ONLY is GTC | NEW |
//! | validate | `UNKNOWN_SYMBOL` (0 is none, but for TAKE_OVER it is all), `UNKNOWN_ACCOUNT`, `ACCOUNT_NOT_PERMITTED` | all |
//! | | `QUANTITY_NOT_POSITIVE`, `QUANTITY_TOO_LARGE`, `OFF_LOT` | NEW, REDUCE, REPLACE |
//! | | `PRICE_NOT_POSITIVE`, `PRICE_TOO_LARGE`, `OFF_TICK` | NEW (limit), REPLACE |
//! | | `DUPLICATE_ORDER_ID` | NEW |
//! | | `UNKNOWN_ORDER_ID` | CANCEL, REDUCE, REPLACE |
//! | | `OVER_REDUCTION` | REDUCE |
//! | | `SIDE_MISMATCH`, then `QUANTITY_TOO_LARGE` when filled + new open quantity pass the largest order quantity | REPLACE |
//! | risk | `ORDER_SIZE_LIMIT` (on `quantity`) | NEW, REPLACE |
//! | | `PRICE_COLLAR` | NEW (limit), REPLACE |
//! | | `POSITION_LIMIT` | NEW, REPLACE |
//! | | `BOOK_FULL`: asked before the order trades, because it may have to rest | NEW (GTC) |
//! | business rules | `WOULD_CROSS` | NEW and REPLACE with POST_ONLY |
//! | | `NOT_FILLABLE` | NEW (FOK) |

use ringlane_layout::limits::{ORDER_PRICE_MAX, ORDER_QUANTITY_MAX};
use ringlane_layout::orders::{Op, OrderFlag, OrderRequest, OrderType, RejectCode, Side, TimeInForce};

use super::accounts::Accounts;
use super::book::Book;
use super::lanes::Grant;
use super::slab::NIL;

/// A request whose structure is right, and whose symbol, account, price and quantity may stand in a book.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    /// Index of the book; out of range for a TAKE_OVER of every symbol.
    pub(super) book: u32,
    pub(super) account: u32,
    /// The account's class of limits.
    pub(super) class: u32,
    pub(super) client_order_id: u64,
    /// Where the account's position (NEW) or the named order probably is; NIL, or an entry that must be asked whether it is the one.
    pub(super) hint: u32,
    pub(super) action: Action,
}

/// What to do, with checked numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    New(Terms),
    Cancel,
    /// Quantity to take off.
    Reduce(u32),
    Replace(Terms),
    TakeOver,
}

/// What a new or replaced order asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) side: Side,
    /// A market order has price 0.
    pub(super) is_market: bool,
    pub(super) post_only: bool,
    pub(super) time_in_force: TimeInForce,
    pub(super) quantity: u32,
    pub(super) price: i64,
}

/// What requests are checked against, the same for a whole batch.
pub(super) struct Rules<'a> {
    pub(super) books: &'a [Book],
    pub(super) accounts: &'a Accounts,
    pub(super) grant: Grant,
}

/// Checks structure, then what the configuration can answer.
#[inline]
pub(super) fn check(request: &OrderRequest, rules: &Rules<'_>) -> Result<Checked, RejectCode> {
    let shape = Shape::try_from(request)?;
    let account = request.account;
    let to_all = shape.op == Op::TakeOver && request.symbol == 0;
    let index = request.symbol.wrapping_sub(1);
    let book = rules.books.get(index as usize);
    if book.is_none() && !to_all {
        return Err(RejectCode::UnknownSymbol);
    }
    let class = rules.accounts.class(account);
    if class == 0 {
        return Err(RejectCode::UnknownAccount);
    }
    if !rules.grant.permits(account) {
        return Err(RejectCode::AccountNotPermitted);
    }
    let action = match (shape.op, book) {
        (Op::New, Some(book)) => Action::New(shape.terms(request, book)?),
        (Op::Replace, Some(book)) => Action::Replace(shape.terms(request, book)?),
        (Op::Reduce, Some(book)) => Action::Reduce(quantity(request, book)?),
        (Op::Cancel, _) => Action::Cancel,
        _ => Action::TakeOver,
    };
    Ok(Checked { book: index, account, class, client_order_id: request.client_order_id, hint: NIL, action })
}

/// The enum fields that the op uses; others hold a stand-in.
struct Shape {
    op: Op,
    side: Side,
    is_market: bool,
    time_in_force: TimeInForce,
    post_only: bool,
}

impl TryFrom<&OrderRequest> for Shape {
    type Error = RejectCode;

    #[inline(always)]
    fn try_from(request: &OrderRequest) -> Result<Self, RejectCode> {
        let op = Op::try_from(request.op).map_err(|_| RejectCode::UnknownOp)?;
        if op == Op::CancelAll {
            return Err(RejectCode::UnknownOp);
        }
        let mut shape = Self { op, side: Side::Buy, is_market: false, time_in_force: TimeInForce::Gtc, post_only: false };
        if matches!(op, Op::New | Op::Replace) {
            shape.side = Side::try_from(request.side).map_err(|_| RejectCode::UnknownSide)?;
            if op == Op::New {
                let order_type = OrderType::try_from(request.order_type).map_err(|_| RejectCode::UnknownOrderType)?;
                shape.is_market = order_type == OrderType::Market;
                if matches!(order_type, OrderType::Stop | OrderType::StopLimit) {
                    return Err(RejectCode::UnknownOrderType);
                }
                shape.time_in_force = TimeInForce::try_from(request.time_in_force).map_err(|_| RejectCode::UnknownTimeInForce)?;
                if matches!(shape.time_in_force, TimeInForce::Day | TimeInForce::Gtd) {
                    return Err(RejectCode::UnknownTimeInForce);
                }
            }
            if request.flags & !OrderFlag::POST_ONLY != 0 {
                return Err(RejectCode::UnknownFlag);
            }
            shape.post_only = request.flags & OrderFlag::POST_ONLY != 0;
        }
        let later = (request.stop_price, request.expires_ns, request.display_quantity) != (0, 0, 0);
        if request.reserved != [0; 4] || later {
            return Err(RejectCode::ReservedNotZero);
        }
        let rests = shape.time_in_force == TimeInForce::Gtc;
        if (shape.is_market && (rests || shape.post_only || request.price != 0)) || (shape.post_only && !rests) {
            return Err(RejectCode::BadCombination);
        }
        Ok(shape)
    }
}

impl Shape {
    #[inline(always)]
    fn terms(&self, request: &OrderRequest, book: &Book) -> Result<Terms, RejectCode> {
        let &Self { side, is_market, post_only, time_in_force, .. } = self;
        let quantity = quantity(request, book)?;
        let price = if is_market { 0 } else { price(request, book)? };
        Ok(Terms { side, is_market, post_only, time_in_force, quantity, price })
    }
}

#[inline(always)]
fn quantity(request: &OrderRequest, book: &Book) -> Result<u32, RejectCode> {
    let quantity = request.quantity;
    if quantity <= 0 {
        return Err(RejectCode::QuantityNotPositive);
    }
    if quantity > ORDER_QUANTITY_MAX {
        return Err(RejectCode::QuantityTooLarge);
    }
    if !(quantity as u32).is_multiple_of(book.lot) {
        return Err(RejectCode::OffLot);
    }
    Ok(quantity as u32)
}

#[inline(always)]
fn price(request: &OrderRequest, book: &Book) -> Result<i64, RejectCode> {
    let price = request.price;
    if price <= 0 {
        return Err(RejectCode::PriceNotPositive);
    }
    if price > ORDER_PRICE_MAX {
        return Err(RejectCode::PriceTooLarge);
    }
    if !(price as u64).is_multiple_of(book.tick) {
        return Err(RejectCode::OffTick);
    }
    Ok(price)
}
