//! The order lane's records: what a worker asks, what it is told, what happens to its resting orders, and the rows that
//! state queries and the journal's configuration frames hold. Rules about orders live in the kernel, not here.

use crate::{codes, record};

record! {
    /// One instruction to the order kernel. Fields that an `op` does not name in its description are ignored; reserved bytes must be zero.
    pub struct OrderRequest: 64 {
        /// What to do; see `Op`.
        op: u8 as Op,
        /// Buy or sell; for `NEW` and `REPLACE` (where it must be the order's own side).
        side: u8 as Side,
        /// Limit or market; for `NEW`.
        order_type: u8 as OrderType,
        /// How long the order may rest; for `NEW`.
        time_in_force: u8 as TimeInForce,
        /// Symbol number, from 1; 0 means every symbol, for `TAKE_OVER` only.
        symbol: u32,
        /// Account number, from 1.
        account: u32,
        /// Sum of `OrderFlag` bits; for `NEW` and `REPLACE`.
        flags: u32 as OrderFlag,
        /// The client's own order id, unique among the account's live orders in the symbol.
        client_order_id: u64,
        /// Limit price in price units (10^-price_decimals of the symbol's currency); a multiple of the symbol's tick; 0 for a market order.
        price: i64,
        /// `NEW`: order quantity. `REDUCE`: how much to take off. `REPLACE`: the new open quantity. A multiple of the symbol's lot.
        quantity: i64,
        /// Zero.
        reserved: [u8; 24],
    }
}

record! {
    /// The answer in the paired slot.
    pub struct OrderResult: 64 {
        /// Global sequence number of the request, from 1.
        sequence: u64,
        /// Order id: the sequence number at which the order was entered; 0 when the request was rejected.
        order_id: u64,
        /// The client order id of the request.
        client_order_id: u64,
        /// Sum of price x quantity over this request's fills, exact, in price units x quantity.
        notional: i64,
        /// Quantity that this request filled as taker.
        filled_quantity: u32,
        /// Quantity of the order that rests in the book after this request.
        remaining_quantity: u32,
        /// Fills of this request as taker; for `TAKE_OVER`, the orders taken over.
        fill_count: u32,
        /// 0 when accepted, else why not; see `RejectCode`.
        code: u16 as RejectCode,
        /// Where the order stands after this request; see `OrderState`.
        state: u8 as OrderState,
        /// Zero.
        reserved0: u8,
        /// Zero.
        reserved1: [u8; 16],
    }
}

record! {
    /// What happened to an order that this lane entered or took over, by somebody else's request.
    pub struct OrderEvent: 64 {
        /// Event number within the lane, from 1, without gap; for `GAP`, the last number that was dropped.
        number: u64,
        /// Sequence number of the request that caused it; for `GAP`, the first event number that was dropped.
        sequence: u64,
        /// Order id of the resting order.
        order_id: u64,
        /// Client order id of the resting order.
        client_order_id: u64,
        /// Price of the fill, or of the cancelled order, in price units.
        price: i64,
        /// Quantity filled or cancelled.
        quantity: u32,
        /// Quantity of the order that still rests.
        remaining_quantity: u32,
        /// What happened; see `EventKind`.
        kind: u8 as EventKind,
        /// Side of the resting order.
        side: u8 as Side,
        /// Why a `CANCEL` happened; see `CancelReason`; 0 otherwise.
        reason: u16 as CancelReason,
        /// Index k among the events of `sequence`, over all lanes; a trade's id is (sequence, k).
        k: u32,
        /// Symbol number.
        symbol: u32,
        /// Account of the resting order.
        account: u32,
    }
}

record! {
    /// An open order, as `orders` queries give it.
    pub struct OpenOrder: 64 {
        /// Order id.
        order_id: u64,
        /// Client order id.
        client_order_id: u64,
        /// Limit price, price units.
        price: i64,
        /// Quantity that rests.
        remaining_quantity: u32,
        /// Cumulative quantity filled since the order was entered.
        filled_quantity: u32,
        /// Symbol number.
        symbol: u32,
        /// Account number.
        account: u32,
        /// Lane that gets its events; 0 when its lane is closed and nobody took the order over.
        lane: u32,
        /// Side.
        side: u8 as Side,
        /// Zero.
        reserved: [u8; 3],
        /// Zero.
        reserved1: [u8; 16],
    }
}

record! {
    /// A position of one account in one symbol, as `positions` queries give it.
    pub struct Position: 64 {
        /// Account number.
        account: u32,
        /// Symbol number.
        symbol: u32,
        /// Bought minus sold quantity.
        net_quantity: i64,
        /// Quantity of the account's resting buy orders.
        open_buy_quantity: u64,
        /// Quantity of the account's resting sell orders.
        open_sell_quantity: u64,
        /// Low 64 bits of the cash flow: received minus paid, price units x quantity, two's complement of 128 bits.
        cash_low: u64,
        /// High 64 bits of the cash flow.
        cash_high: i64,
        /// Zero.
        reserved: [u8; 16],
    }
}

record! {
    /// One price level of a book, as `book` queries give it.
    pub struct BookLevel: 32 {
        /// Price, price units.
        price: i64,
        /// Sum of resting quantity.
        quantity: u64,
        /// Orders at this price.
        order_count: u32,
        /// Side.
        side: u8 as Side,
        /// Zero.
        reserved: [u8; 3],
        /// Zero.
        reserved1: [u8; 8],
    }
}

record! {
    /// An instrument: configuration that the journal records, and the row of the `instruments` query.
    pub struct Instrument: 64 {
        /// Symbol number, from 1, without gap.
        symbol: u32,
        /// Decimals of a price: one price unit is 10^-price_decimals.
        price_decimals: u32,
        /// Smallest price step, price units.
        tick: i64,
        /// Smallest quantity step.
        lot: i64,
        /// Price that the collar uses before the first trade, price units; 0 for none.
        reference_price: i64,
        /// Symbol name, ASCII, padded with zero bytes.
        name: [u8; 24],
        /// Zero.
        reserved: [u8; 8],
    }
}

record! {
    /// A range of accounts that exist, with the limits of each: configuration that the journal records. A later record wins.
    pub struct AccountLimits: 64 {
        /// First account number of the range, from 1.
        account_first: u32,
        /// Last account number of the range.
        account_last: u32,
        /// Largest quantity of one order; 0 for no limit.
        order_quantity_max: i64,
        /// Largest absolute position in one symbol, resting orders counted as filled; 0 for no limit.
        position_max: i64,
        /// Farthest that a limit price may stand from the last trade (before one: the reference price), in basis points; 0 for no collar.
        price_collar_bps: u32,
        /// Zero.
        reserved0: [u8; 4],
        /// Zero.
        reserved1: [u8; 32],
    }
}

record! {
    /// What all books together may hold: configuration that the journal records, because it decides `BOOK_FULL`. A later record wins.
    pub struct BookLimits: 64 {
        /// Most resting orders in all books together.
        resting_orders_max: u64,
        /// Zero.
        reserved0: [u8; 24],
        /// Zero.
        reserved1: [u8; 32],
    }
}

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
    }
}

codes! {
    /// What an event tells.
    pub enum EventKind: u8 {
        /// A resting order traded as maker.
        Fill ("FILL") = 1,
        /// A resting order was cancelled by somebody other than this lane.
        Cancel ("CANCEL") = 2,
        /// The reader lagged and events were dropped: numbers `sequence` to `number`; resynchronise by a state query.
        Gap ("GAP") = 3,
    }
}

codes! {
    /// Why a resting order was cancelled.
    pub enum CancelReason: u16 {
        /// Another lane that holds the account asked for it.
        OtherLane ("OTHER_LANE") = 1,
        // 2 stays reserved: it once meant that the order's lane ended, of which nobody is left to be told.
    }
}

codes! {
    /// Why a request was rejected. Banded by stage: 1xx structure, 2xx validate, 3xx risk, 4xx business rules. Numbers are never reused.
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
        /// These fields contradict each other: a market order must be IOC or FOK with price 0 and without POST_ONLY, and POST_ONLY must be GTC.
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
        /// The quantity is above the account's limit for one order.
        OrderSizeLimit ("ORDER_SIZE_LIMIT") = 301,
        /// The price stands farther from the last trade or reference price than the account's collar allows.
        PriceCollar ("PRICE_COLLAR") = 302,
        /// With this order filled, and the resting ones of its side too, the position would pass the account's limit.
        PositionLimit ("POSITION_LIMIT") = 303,
        /// The books hold as many resting orders as the sidecar was configured for.
        BookFull ("BOOK_FULL") = 304,
        /// A post-only order would have traded at once.
        WouldCross ("WOULD_CROSS") = 401,
        /// A fill-or-kill order could not be filled in full.
        NotFillable ("NOT_FILLABLE") = 402,
    }
}

/// Bits of `OrderRequest::flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderFlag;

impl OrderFlag {
    /// The order must not trade on entry; if it would, it is rejected.
    pub const POST_ONLY: u32 = 1;
    /// Every bit that has a meaning.
    pub const ALL: u32 = Self::POST_ONLY;
    /// The bits as sent to clients.
    pub const SCHEMA: &'static crate::record::EnumSchema = &crate::record::EnumSchema {
        name: "OrderFlag",
        members: &[crate::record::EnumMember {
            name: "POST_ONLY",
            value: Self::POST_ONLY as u64,
            doc: "The order must not trade on entry; if it would, it is rejected.",
        }],
        doc: "Bits of an order's flags field.",
        is_flags: true,
    };
}

/// Schemas of the order lane's request, result and event.
pub const RECORDS: &[&crate::record::RecordSchema] = {
    use crate::record::Record;
    &[OrderRequest::SCHEMA, OrderResult::SCHEMA, OrderEvent::SCHEMA]
};

/// Every enum that stands in a field of the order lane's records.
pub const ENUMS: &[&crate::record::EnumSchema] = &[
    Op::SCHEMA,
    Side::SCHEMA,
    OrderType::SCHEMA,
    TimeInForce::SCHEMA,
    OrderFlag::SCHEMA,
    OrderState::SCHEMA,
    EventKind::SCHEMA,
    CancelReason::SCHEMA,
    RejectCode::SCHEMA,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_enum_named_by_a_field_is_sent() {
        use crate::record::Record;
        let schemas = [OrderRequest::SCHEMA, OrderResult::SCHEMA, OrderEvent::SCHEMA, OpenOrder::SCHEMA, BookLevel::SCHEMA];
        for field in schemas.iter().flat_map(|schema| schema.fields) {
            assert!(field.enum_name.is_empty() || ENUMS.iter().any(|e| e.name == field.enum_name), "{}", field.enum_name);
        }
    }

    #[test]
    fn members_ascend_and_stand_in_their_bands() {
        for schema in ENUMS {
            assert!(schema.members.is_sorted_by(|a, b| a.value < b.value), "{}", schema.name);
        }
        assert!(RejectCode::SCHEMA.members.iter().all(|m| (101..500).contains(&m.value)));
    }
}
