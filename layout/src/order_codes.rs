//! The numbers that stand in the fields of an order lane's records, each with what it means. Numbers are never reused.

use crate::codes;
use crate::record::{EnumMember, EnumSchema};

codes! {
    /// What a request asks for.
    pub enum Op: u8 {
        /// Enter an order.
        New ("NEW") = 1,
        /// Take the account's order `client_order_id` in `symbol` out of the book.
        Cancel ("CANCEL") = 2,
        /// Take `quantity` off a resting order; it keeps its priority. Taking off all that rests cancels it.
        Reduce ("REDUCE") = 3,
        /// Set price and open quantity of a resting order; it keeps its priority only if the price stays and the quantity does not grow.
        Replace ("REPLACE") = 4,
        /// Make this lane the owner of the account's orders whose lane is closed, in `symbol` or everywhere.
        TakeOver ("TAKE_OVER") = 5,
        /// Cancel every order and waiting stop of `account` (0: of the lane's accounts) in `symbol` (0: everywhere); with `THIS_LANE`
        /// only those that this lane owns. Every owner gets a `CANCEL` event of each, this lane too.
        CancelAll ("CANCEL_ALL") = 6,
    }
}

codes! {
    /// Side of an order.
    pub enum Side: u8 {
        /// Buy.
        Buy ("BUY") = 1,
        /// Sell.
        Sell ("SELL") = 2,
    }
}

codes! {
    /// Type of an order.
    pub enum OrderType: u8 {
        /// Trades at its price or better.
        Limit ("LIMIT") = 1,
        /// Trades at any price; never rests. Its time in force must be IOC or FOK.
        Market ("MARKET") = 2,
        /// Waits until a trade happens at `stop_price` or beyond (a buy: above, a sell: below), then is a market order that is IOC.
        Stop ("STOP") = 3,
        /// As `STOP`, but then is a limit order at `price` that may rest.
        StopLimit ("STOP_LIMIT") = 4,
    }
}

codes! {
    /// How long an order may rest.
    pub enum TimeInForce: u8 {
        /// Good till cancelled.
        Gtc ("GTC") = 1,
        /// Immediate or cancel: what does not trade at once is cancelled.
        Ioc ("IOC") = 2,
        /// Fill or kill: trades in full at once, or is rejected.
        Fok ("FOK") = 3,
        /// Until the trading day ends, which an administrator or the configured hour decides by a time record.
        Day ("DAY") = 4,
        /// Good till `expires_ns`, by sequenced time.
        Gtd ("GTD") = 5,
    }
}

codes! {
    /// Where an order stands after a request.
    pub enum OrderState: u8 {
        /// The request was rejected; nothing changed.
        Rejected ("REJECTED") = 0,
        /// The order rests in the book.
        Resting ("RESTING") = 1,
        /// The order is filled in full.
        Filled ("FILLED") = 2,
        /// Nothing of the order rests, and it was not filled in full.
        Cancelled ("CANCELLED") = 3,
        /// The order is a stop and waits for its trigger.
        Waiting ("WAITING") = 4,
    }
}

codes! {
    /// What an event tells.
    pub enum EventKind: u8 {
        /// A resting order traded as maker.
        Fill ("FILL") = 1,
        /// A resting order or a waiting stop was cancelled, in whole or in part, by somebody or something other than a request for it by this lane.
        Cancel ("CANCEL") = 2,
        /// The reader lagged and events were dropped: numbers `sequence` to `number`; resynchronise by a state query.
        Gap ("GAP") = 3,
        /// A trade of this resting order with its own account group was prevented: `quantity` was taken off it (0: it stays as it was).
        TradePrevented ("TRADE_PREVENTED") = 4,
        /// A waiting stop was triggered by a trade, and is now what its type says.
        Triggered ("TRIGGERED") = 5,
        /// A triggered stop traded as taker; the trade is the maker's, k - 1.
        TakerFill ("TAKER_FILL") = 6,
    }
}

codes! {
    /// Why an order was cancelled without a request for it by the lane that owns it.
    pub enum CancelReason: u16 {
        /// Another lane that holds the account asked for it.
        OtherLane ("OTHER_LANE") = 1,
        // 2 stays reserved: it once meant that the order's lane ended, of which nobody is left to be told.
        /// A `CANCEL_ALL` of a lane, perhaps this one.
        MassCancel ("MASS_CANCEL") = 3,
        /// An administrator cancelled it.
        Administrator ("ADMINISTRATOR") = 4,
        /// Its time ended: `GTD` reached, or the trading day over.
        Expired ("EXPIRED") = 5,
        /// It would have traded with its own account group.
        SelfTrade ("SELF_TRADE") = 6,
        /// It was reduce-only, and the position no longer leaves it so much to reduce.
        ReduceOnly ("REDUCE_ONLY") = 7,
        /// A triggered stop found nothing more to trade with at once.
        Immediate ("IMMEDIATE") = 8,
    }
}

codes! {
    /// Why a request was rejected. Banded by stage: 1xx structure, 2xx validate, 3xx risk, 4xx business rules, 5xx operation. Numbers are never reused.
    pub enum RejectCode: u16 {
        /// The op number is not one of `Op`; use a member of `ringlane.Op`.
        UnknownOp ("UNKNOWN_OP") = 101,
        /// The side is neither BUY nor SELL; use a member of `ringlane.Side`.
        UnknownSide ("UNKNOWN_SIDE") = 102,
        /// The order type is not known; use a member of `ringlane.OrderType`.
        UnknownOrderType ("UNKNOWN_ORDER_TYPE") = 103,
        /// The time in force is not known; use a member of `ringlane.TimeInForce`.
        UnknownTimeInForce ("UNKNOWN_TIME_IN_FORCE") = 104,
        /// A flag bit is set that has no meaning; use sums of `ringlane.OrderFlag`.
        UnknownFlag ("UNKNOWN_FLAG") = 105,
        /// Reserved bytes of the record are not zero; fill records through the lane's dtype, starting from zeros.
        ReservedNotZero ("RESERVED_NOT_ZERO") = 106,
        /// These fields contradict each other: see the table of combinations in the order kernel's documentation (`check.rs`).
        BadCombination ("BAD_COMBINATION") = 107,
        /// No such symbol; `client.symbols` lists them.
        UnknownSymbol ("UNKNOWN_SYMBOL") = 201,
        /// No such account; accounts are configured in the sidecar.
        UnknownAccount ("UNKNOWN_ACCOUNT") = 202,
        /// This lane was not granted the account; open the lane with it, or ask the administrator.
        AccountNotPermitted ("ACCOUNT_NOT_PERMITTED") = 203,
        /// The quantity is zero or negative.
        QuantityNotPositive ("QUANTITY_NOT_POSITIVE") = 204,
        /// The quantity is above the largest that an order can have (134,217,727).
        QuantityTooLarge ("QUANTITY_TOO_LARGE") = 205,
        /// The quantity is not a multiple of the symbol's lot.
        OffLot ("OFF_LOT") = 206,
        /// The price is zero or negative.
        PriceNotPositive ("PRICE_NOT_POSITIVE") = 207,
        /// The price is above the largest that an order can have (68,719,476,735 price units).
        PriceTooLarge ("PRICE_TOO_LARGE") = 208,
        /// The price is not a multiple of the symbol's tick.
        OffTick ("OFF_TICK") = 209,
        /// The account already has a live order of this client order id in the symbol.
        DuplicateOrderId ("DUPLICATE_ORDER_ID") = 210,
        /// The account has no live order of this client order id in the symbol: never entered, filled, cancelled, or somebody else's.
        UnknownOrderId ("UNKNOWN_ORDER_ID") = 211,
        /// The reduction is larger than what rests; nothing was taken off.
        OverReduction ("OVER_REDUCTION") = 212,
        /// The side of a REPLACE is not the order's own; cancel it and enter a new one.
        SideMismatch ("SIDE_MISMATCH") = 213,
        /// A REPLACE states a stop price for an order in the book, none for a waiting stop, or a price for a STOP that has none.
        TypeMismatch ("TYPE_MISMATCH") = 214,
        /// The stop price is not a positive multiple of the symbol's tick, or is above the largest price.
        BadStopPrice ("BAD_STOP_PRICE") = 215,
        /// The display quantity is not a multiple of the symbol's lot, is above the quantity, or below a 256th of it.
        BadDisplayQuantity ("BAD_DISPLAY_QUANTITY") = 216,
        /// The GTD time is not behind the sequenced time; it would expire at once.
        AlreadyExpired ("ALREADY_EXPIRED") = 217,
        /// The quantity is above the account's limit for one order.
        OrderSizeLimit ("ORDER_SIZE_LIMIT") = 301,
        /// The price stands farther from the last trade or reference price than the account's collar allows.
        PriceCollar ("PRICE_COLLAR") = 302,
        /// With this order filled, and the resting ones of its side too, the position would pass the account's limit.
        PositionLimit ("POSITION_LIMIT") = 303,
        /// The books hold as many resting orders as the sidecar was configured for, or the symbol as many waiting stops as there may be.
        BookFull ("BOOK_FULL") = 304,
        /// Price x quantity is above the account's limit for one order.
        NotionalLimit ("NOTIONAL_LIMIT") = 305,
        /// With this order the open orders of its side would be worth more than the account's limit.
        ExposureLimit ("EXPOSURE_LIMIT") = 306,
        /// The account has as many open orders as it may have.
        OpenOrdersLimit ("OPEN_ORDERS_LIMIT") = 307,
        /// The account entered as many orders in this second of sequenced time as it may.
        OrderRate ("ORDER_RATE") = 308,
        /// A post-only order would have traded at once.
        WouldCross ("WOULD_CROSS") = 401,
        /// A fill-or-kill order could not be filled in full.
        NotFillable ("NOT_FILLABLE") = 402,
        /// The symbol is halted: orders can be cancelled and reduced, not entered or replaced.
        SymbolHalted ("SYMBOL_HALTED") = 403,
        /// A reduce-only order would open, turn or enlarge the position.
        NotReducing ("NOT_REDUCING") = 404,
        /// The request crashed the sidecar, and an administrator made it void (`ringlane serve --skip`); it had no effect.
        Voided ("VOIDED") = 501,
    }
}

codes! {
    /// What becomes of a trade between two orders of one account group: it is prevented, and an order is cancelled. The choice
    /// is that of the account whose order arrives.
    pub enum SelfTrade: u8 {
        /// The trade happens.
        Allow ("ALLOW") = 0,
        /// What is left of the arriving order is cancelled; the resting one stays.
        CancelNewest ("CANCEL_NEWEST") = 1,
        /// The resting order is cancelled; the arriving one goes on.
        CancelOldest ("CANCEL_OLDEST") = 2,
        /// The resting order and what is left of the arriving one are cancelled.
        CancelBoth ("CANCEL_BOTH") = 3,
    }
}

codes! {
    /// What an administrator does to books.
    pub enum AdminOp: u8 {
        /// Halt a symbol, or all: orders are cancelled and reduced, not entered or replaced. There is no auction at its end.
        Halt ("HALT") = 1,
        /// End the halt of a symbol, or of all.
        Resume ("RESUME") = 2,
        /// Cancel the orders of a symbol, account and owner lane, as far as each is given.
        CancelAll ("CANCEL_ALL") = 3,
    }
}

/// Bits of `OrderRequest::flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderFlag;

impl OrderFlag {
    /// The order must not trade on entry; if it would, it is rejected.
    pub const POST_ONLY: u32 = 1;
    /// The order may only bring its account's position nearer to zero; what would do more is rejected or cancelled.
    pub const REDUCE_ONLY: u32 = 2;
    /// `CANCEL_ALL`: only orders that this lane owns.
    pub const THIS_LANE: u32 = 4;
    /// Every bit that has a meaning.
    pub const ALL: u32 = Self::POST_ONLY | Self::REDUCE_ONLY | Self::THIS_LANE;
    /// The bits as sent to clients.
    pub const SCHEMA: &'static EnumSchema = &EnumSchema {
        name: "OrderFlag",
        members: &[
            EnumMember {
                name: "POST_ONLY",
                value: Self::POST_ONLY as u64,
                doc: "The order must not trade on entry; if it would, it is rejected. For NEW and REPLACE.",
            },
            EnumMember {
                name: "REDUCE_ONLY",
                value: Self::REDUCE_ONLY as u64,
                doc: "The order may only bring its account's position nearer to zero; what would do more is rejected or cancelled. For NEW.",
            },
            EnumMember { name: "THIS_LANE", value: Self::THIS_LANE as u64, doc: "CANCEL_ALL: only orders that this lane owns." },
        ],
        doc: "Bits of an order's flags field.",
        is_flags: true,
    };
}
