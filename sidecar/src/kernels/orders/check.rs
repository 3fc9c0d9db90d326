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
//! | | `UNKNOWN_FLAG` | NEW, REPLACE, CANCEL_ALL |
//! | | `RESERVED_NOT_ZERO` | all |
//! | | `BAD_COMBINATION`: see below | NEW, REPLACE, CANCEL_ALL |
//! | validate | `UNKNOWN_SYMBOL` (0 is none, but for TAKE_OVER and CANCEL_ALL it is all) | all |
//! | | `UNKNOWN_ACCOUNT`, `ACCOUNT_NOT_PERMITTED` (0 is none, but for CANCEL_ALL it is all of the lane's) | all |
//! | | `QUANTITY_NOT_POSITIVE`, `QUANTITY_TOO_LARGE`, `OFF_LOT` | NEW, REDUCE, REPLACE |
//! | | `PRICE_NOT_POSITIVE`, `PRICE_TOO_LARGE`, `OFF_TICK` | NEW (limit, stop-limit), REPLACE (but of a STOP) |
//! | | `BAD_STOP_PRICE` | NEW (stops), REPLACE with a stop price |
//! | | `BAD_DISPLAY_QUANTITY` | NEW with a display quantity |
//! | | `ALREADY_EXPIRED` | NEW (GTD) |
//! | | `DUPLICATE_ORDER_ID` | NEW |
//! | | `UNKNOWN_ORDER_ID` | CANCEL, REDUCE, REPLACE |
//! | | `OVER_REDUCTION` | REDUCE |
//! | | `SIDE_MISMATCH`, `TYPE_MISMATCH`, then `QUANTITY_TOO_LARGE` when filled + new open quantity pass the largest order quantity, then `BAD_DISPLAY_QUANTITY` when an iceberg would grow to more parts than it may have | REPLACE |
//! | risk | `ORDER_SIZE_LIMIT` (on `quantity`), `PRICE_COLLAR` (where there is a limit price), `POSITION_LIMIT` | NEW, REPLACE |
//! | | `NOTIONAL_LIMIT` | NEW, REPLACE |
//! | | `EXPOSURE_LIMIT` | NEW that may rest, REPLACE |
//! | | `OPEN_ORDERS_LIMIT` | NEW that may rest |
//! | | `ORDER_RATE` | NEW, REPLACE |
//! | | the same seven again with the account's limits in the symbol, where it has any | NEW, REPLACE |
//! | | `BOOK_FULL`: asked before the order trades, because it may have to rest | NEW that may rest |
//! | business rules | `SYMBOL_HALTED` | NEW, REPLACE |
//! | | `NOT_REDUCING` | NEW and REPLACE of a reduce-only order |
//! | | `WOULD_CROSS` | NEW and REPLACE with POST_ONLY |
//! | | `NOT_FILLABLE` | NEW (FOK) |
//!
//! # Combinations
//! | of | it must hold |
//! | --- | --- |
//! | `MARKET` | IOC or FOK; price 0; not POST_ONLY |
//! | `STOP` | GTC, DAY or GTD; price 0; not POST_ONLY |
//! | `STOP_LIMIT` | GTC, DAY or GTD; not POST_ONLY |
//! | other types | `stop_price` 0 |
//! | POST_ONLY | GTC, DAY or GTD; for REPLACE: `stop_price` 0 |
//! | `GTD` | `expires_ns` is not 0; with every other time in force it is |
//! | `display_quantity` not 0 | `LIMIT`; GTC, DAY or GTD |
//! | flags | NEW: POST_ONLY, REDUCE_ONLY; REPLACE: POST_ONLY; CANCEL_ALL: THIS_LANE |

use ringlane_layout::limits::{ICEBERG_PARTS_MAX, ORDER_PRICE_MAX, ORDER_QUANTITY_MAX};
use ringlane_layout::orders::{Op, OrderFlag, OrderRequest, OrderType, RejectCode, Side, TimeInForce};

use super::accounts::Accounts;
use super::book::Book;
use super::lanes::Grant;
use super::shard::index_of;
use super::slab::NIL;
use super::usual::usual;

/// A request whose structure is right, and whose symbol, account, price and quantity may stand in a book; or why not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    /// Why the request is rejected; nothing else but `book` and `hint` means anything then.
    pub(super) reject: Option<RejectCode>,
    /// Index of the book in its part; out of range for a CANCEL_ALL, a TAKE_OVER of every symbol and a rejected request.
    pub(super) book: u32,
    pub(super) account: u32,
    /// The account's class of limits.
    pub(super) class: u32,
    pub(super) client_order_id: u64,
    /// Hash of account and client order id, which is asked for several times.
    pub(super) order_hash: u64,
    /// Where the account's position (NEW) or the named order probably is; NIL, or an entry that must be asked whether it is the one.
    pub(super) hint: u32,
    pub(super) op: Op,
    /// Of a NEW or REPLACE; of a REDUCE the quantity to take off.
    pub(super) terms: Terms,
}

impl Checked {
    /// What stands in a window before it is used.
    pub(super) const NONE: Self = Self {
        reject: None,
        book: u32::MAX,
        account: 0,
        class: 0,
        client_order_id: 0,
        order_hash: 0,
        hint: NIL,
        op: Op::Cancel,
        terms: Terms { side: Side::Buy, bits: 0, quantity: 0, price: 0 },
    };
}

/// What a new or replaced order asks for. What a `SPECIAL` one asks for beyond this stands in its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) side: Side,
    /// Bits of `terms`.
    pub(super) bits: u8,
    pub(super) quantity: u32,
    /// A market order has price 0, a STOP its stop price.
    pub(super) price: i64,
}

/// Bits of `Terms`.
pub(super) mod terms {
    /// Trades at any price, and never rests.
    pub(in super::super) const MARKET: u8 = 1;
    pub(in super::super) const POST_ONLY: u8 = 1 << 1;
    pub(in super::super) const FOK: u8 = 1 << 2;
    /// What does not trade rests.
    pub(in super::super) const MAY_REST: u8 = 1 << 3;
    pub(in super::super) const REDUCE_ONLY: u8 = 1 << 4;
    /// Waits for its stop price.
    pub(in super::super) const STOP: u8 = 1 << 5;
    pub(in super::super) const DAY: u8 = 1 << 6;
    /// Has an expiry or a display quantity.
    pub(in super::super) const RARE: u8 = 1 << 7;
    /// Bits of what few orders have.
    pub(in super::super) const SPECIAL: u8 = REDUCE_ONLY | STOP | DAY | RARE;
}

impl Terms {
    /// Whether one of these bits is set.
    #[inline(always)]
    pub(super) fn is(&self, bits: u8) -> bool {
        self.bits & bits != 0
    }
}

/// What requests are checked against beside the books, the same for a whole batch.
pub(super) struct Rules<'a> {
    pub(super) accounts: &'a Accounts,
    pub(super) grant: Grant,
    /// Sequenced time.
    pub(super) now_ns: u64,
}

/// Checks structure, then what the configuration can answer; `books` are those of the symbol's part. Written in its place: a window's answers are not copied.
#[inline(always)]
pub(super) fn check(request: &OrderRequest, books: &[Book], rules: &Rules<'_>, checked: &mut Checked) {
    let account = request.account;
    let index = index_of(request.symbol);
    let class = rules.accounts.class(account);
    checked.hint = NIL;
    checked.reject = None;
    checked.book = index;
    checked.account = account;
    checked.class = class;
    checked.client_order_id = request.client_order_id;
    let named = class != 0 && rules.grant.permits(account);
    if named
        && let Some(book) = books.get(index as usize)
        && let Some((op, terms)) = usual(request, book)
    {
        checked.op = op;
        checked.terms = terms;
        return;
    }
    one_by_one(request, books, rules, checked);
}

/// What is not usual: notes what asking one by one says.
#[cold]
#[inline(never)]
fn one_by_one(request: &OrderRequest, books: &[Book], rules: &Rules<'_>, checked: &mut Checked) {
    match op_and_terms(request, books, rules) {
        Ok((op, terms)) => {
            checked.op = op;
            checked.terms = terms;
            if op == Op::CancelAll {
                checked.book = u32::MAX;
            }
        }
        Err(code) => {
            checked.reject = Some(code);
            checked.book = u32::MAX;
        }
    }
}

/// Asks in the stated order, until something is wrong.
pub(super) fn op_and_terms(request: &OrderRequest, books: &[Book], rules: &Rules<'_>) -> Result<(Op, Terms), RejectCode> {
    let shape = Shape::try_from(request)?;
    let (op, account) = (shape.op, request.account);
    let book = books.get(index_of(request.symbol) as usize);
    if book.is_none() {
        one_or_all(request.symbol == 0 && matches!(op, Op::TakeOver | Op::CancelAll), RejectCode::UnknownSymbol)?;
    }
    let class = rules.accounts.class(account);
    if class == 0 || !rules.grant.permits(account) {
        let code = if class == 0 { RejectCode::UnknownAccount } else { RejectCode::AccountNotPermitted };
        one_or_all(account == 0 && op == Op::CancelAll && rules.grant != Grant::NONE, code)?;
    }
    let terms = match (op, book) {
        (Op::New | Op::Replace, Some(book)) => shape.terms(request, book, rules.now_ns)?,
        (Op::Reduce, Some(book)) => Terms { quantity: quantity(request, book)?, ..Checked::NONE.terms },
        _ => Checked::NONE.terms,
    };
    Ok((op, terms))
}

/// A request that names no symbol or account of ours is rejected, unless it means all of them.
fn one_or_all(means_all: bool, code: RejectCode) -> Result<(), RejectCode> {
    if means_all { Ok(()) } else { Err(code) }
}

/// The enum fields that the op uses; others hold a stand-in.
struct Shape {
    op: Op,
    side: Side,
    /// Bits of `terms`.
    bits: u8,
}

impl TryFrom<&OrderRequest> for Shape {
    type Error = RejectCode;

    fn try_from(request: &OrderRequest) -> Result<Self, RejectCode> {
        let op = Op::try_from(request.op).map_err(|_| RejectCode::UnknownOp)?;
        let mut shape = Self { op, side: Side::Buy, bits: 0 };
        let mut fits = true;
        match op {
            Op::New => {
                shape.side = Side::try_from(request.side).map_err(|_| RejectCode::UnknownSide)?;
                let order_type = OrderType::try_from(request.order_type).map_err(|_| RejectCode::UnknownOrderType)?;
                let time_in_force = TimeInForce::try_from(request.time_in_force).map_err(|_| RejectCode::UnknownTimeInForce)?;
                known_flags(request)?;
                fits = shape.combine(request, order_type, time_in_force);
            }
            Op::Replace => {
                shape.side = Side::try_from(request.side).map_err(|_| RejectCode::UnknownSide)?;
                known_flags(request)?;
                let is_stop = request.stop_price != 0;
                let post_only = request.flags & OrderFlag::POST_ONLY != 0;
                shape.bits = terms::MAY_REST | if post_only { terms::POST_ONLY } else { 0 };
                if is_stop {
                    shape.bits |= terms::STOP | if request.price == 0 { terms::MARKET } else { 0 };
                }
                fits = request.flags & !OrderFlag::POST_ONLY == 0 && !(is_stop && post_only);
            }
            Op::CancelAll => {
                known_flags(request)?;
                fits = request.flags & !OrderFlag::THIS_LANE == 0;
            }
            Op::Cancel | Op::Reduce | Op::TakeOver => {}
        }
        if request.reserved != [0; 4] {
            return Err(RejectCode::ReservedNotZero);
        }
        if fits { Ok(shape) } else { Err(RejectCode::BadCombination) }
    }
}

fn known_flags(request: &OrderRequest) -> Result<(), RejectCode> {
    if request.flags & !OrderFlag::ALL == 0 { Ok(()) } else { Err(RejectCode::UnknownFlag) }
}

impl Shape {
    /// Sets the bits of a NEW. Says whether its fields fit together.
    fn combine(&mut self, request: &OrderRequest, order_type: OrderType, time_in_force: TimeInForce) -> bool {
        let set = |bit, is| if is { bit } else { 0 };
        let rests = !matches!(time_in_force, TimeInForce::Ioc | TimeInForce::Fok);
        let post_only = request.flags & OrderFlag::POST_ONLY != 0;
        let is_stop = matches!(order_type, OrderType::Stop | OrderType::StopLimit);
        let has_price = matches!(order_type, OrderType::Limit | OrderType::StopLimit);
        self.bits = set(terms::MARKET, !has_price)
            | set(terms::POST_ONLY, post_only)
            | set(terms::FOK, time_in_force == TimeInForce::Fok)
            | set(terms::MAY_REST, rests)
            | set(terms::REDUCE_ONLY, request.flags & OrderFlag::REDUCE_ONLY != 0)
            | set(terms::STOP, is_stop)
            | set(terms::DAY, time_in_force == TimeInForce::Day)
            | set(terms::RARE, request.display_quantity != 0 || time_in_force == TimeInForce::Gtd);
        request.flags & OrderFlag::THIS_LANE == 0
            && (has_price || request.price == 0)
            && (order_type != OrderType::Market || !rests)
            && (!is_stop || rests)
            && (!post_only || (rests && has_price && !is_stop))
            && (is_stop || request.stop_price == 0)
            && (request.expires_ns != 0) == (time_in_force == TimeInForce::Gtd)
            && (request.display_quantity == 0 || (order_type == OrderType::Limit && rests))
    }

    fn terms(&self, request: &OrderRequest, book: &Book, now_ns: u64) -> Result<Terms, RejectCode> {
        let &Self { side, bits, .. } = self;
        let quantity = quantity(request, book)?;
        let mut price = if bits & terms::MARKET != 0 { 0 } else { price(request, book)? };
        if bits & (terms::STOP | terms::RARE) != 0 {
            price = special(request, book, bits, now_ns)?.unwrap_or(price);
        }
        Ok(Terms { side, bits, quantity, price })
    }
}

/// Checks the numbers that only stops, icebergs and GTD orders have. A STOP stands at its stop price.
fn special(request: &OrderRequest, book: &Book, bits: u8, now_ns: u64) -> Result<Option<i64>, RejectCode> {
    let stop_price = request.stop_price;
    if bits & terms::STOP != 0 && (!(1..=ORDER_PRICE_MAX).contains(&stop_price) || !(stop_price as u64).is_multiple_of(book.tick)) {
        return Err(RejectCode::BadStopPrice);
    }
    let display = request.display_quantity;
    if bits & terms::RARE != 0 {
        if !display.is_multiple_of(book.lot) || i64::from(display) > request.quantity || too_many_parts(request.quantity, display) {
            return Err(RejectCode::BadDisplayQuantity);
        }
        if request.expires_ns != 0 && request.expires_ns <= now_ns {
            return Err(RejectCode::AlreadyExpired);
        }
    }
    Ok((bits & terms::STOP != 0 && bits & terms::MARKET != 0).then_some(stop_price))
}

/// Whether an iceberg that shows `display` at a time would show its quantity in too many parts.
pub(super) fn too_many_parts(quantity: i64, display: u32) -> bool {
    display != 0 && quantity > i64::from(display) * i64::from(ICEBERG_PARTS_MAX)
}

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
