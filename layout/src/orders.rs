//! The order lane's records: what a worker asks, what it is told, what happens to its resting orders, and the rows that
//! state queries and the journal's configuration frames hold. Rules about orders live in the kernel, not here.

use crate::record;

pub use crate::order_codes::*;

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
        /// Symbol number, from 1; 0 means every symbol, for `TAKE_OVER` and `CANCEL_ALL` only.
        symbol: u32,
        /// Account number, from 1; 0 means every account of the lane, for `CANCEL_ALL` only.
        account: u32,
        /// Sum of `OrderFlag` bits; for `NEW`, `REPLACE` and `CANCEL_ALL`.
        flags: u32 as OrderFlag,
        /// The client's own order id, unique among the account's live orders in the symbol.
        client_order_id: u64,
        /// Limit price in price units (10^-price_decimals of the symbol's currency); a multiple of the symbol's tick; 0 for a market order and a `STOP`.
        price: i64,
        /// `NEW`: order quantity. `REDUCE`: how much to take off. `REPLACE`: the new open quantity. A multiple of the symbol's lot.
        quantity: i64,
        /// Price whose trade triggers a `STOP` or `STOP_LIMIT`, price units; 0 for other types. `REPLACE` of a waiting stop states it anew.
        stop_price: i64,
        /// For `GTD`: the order ends when sequenced time reaches this, nanoseconds since 1970; 0 for other times in force. For `NEW`.
        expires_ns: u64,
        /// For `NEW` of a limit order that may rest: the most of it that the book shows at a time (an iceberg); 0 shows all. A multiple of the lot, and at least a 256th of the quantity.
        display_quantity: u32,
        /// Zero.
        reserved: [u8; 4],
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
        /// Fills of this request as taker; for `TAKE_OVER`, the orders taken over; for `CANCEL_ALL`, the orders cancelled.
        fill_count: u32,
        /// 0 when accepted, else why not; see `RejectCode`.
        code: u16 as RejectCode,
        /// Where the order stands after this request; see `OrderState`.
        state: u8 as OrderState,
        /// Zero.
        reserved0: u8,
        /// Why an accepted order did not rest although it might have: `SELF_TRADE`; 0 otherwise.
        reason: u16 as CancelReason,
        /// Zero.
        reserved1: [u8; 6],
        /// Zero.
        reserved2: [u8; 8],
    }
}

record! {
    /// What happened to an order that this lane entered or took over, by somebody else's request, a trigger, time or an administrator.
    pub struct OrderEvent: 64 {
        /// Event number within the lane, from 1, without gap; for `GAP`, the last number that was dropped.
        number: u64,
        /// Sequence number of the request that caused it; for `GAP`, the first event number that was dropped.
        sequence: u64,
        /// Order id of the resting order.
        order_id: u64,
        /// Client order id of the resting order.
        client_order_id: u64,
        /// Price of the fill or the prevented trade, or of the order that was cancelled or triggered (0 for a `STOP`), in price units.
        price: i64,
        /// Quantity filled, cancelled or triggered.
        quantity: u32,
        /// Quantity of the order that still rests.
        remaining_quantity: u32,
        /// What happened; see `EventKind`.
        kind: u8 as EventKind,
        /// Side of the resting order.
        side: u8 as Side,
        /// Why a `CANCEL` or `TRADE_PREVENTED` happened; see `CancelReason`; 0 otherwise.
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
    pub struct OpenOrder: 72 {
        /// Order id.
        order_id: u64,
        /// Client order id.
        client_order_id: u64,
        /// Limit price, price units; 0 for a `STOP`.
        price: i64,
        /// Stop price of a stop that still waits, price units; 0 for an order in the book.
        stop_price: i64,
        /// When a `GTD` order ends, nanoseconds since 1970; 0 for others.
        expires_ns: u64,
        /// Quantity that rests or waits, hidden quantity included.
        remaining_quantity: u32,
        /// Quantity of it that the book shows; 0 for a waiting stop.
        shown_quantity: u32,
        /// The most that an iceberg shows; 0 for others.
        display_quantity: u32,
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
        /// What it is now: a stop that was triggered is `LIMIT`.
        order_type: u8 as OrderType,
        /// How long it may rest.
        time_in_force: u8 as TimeInForce,
        /// `REDUCE_ONLY`, or 0.
        flags: u8 as OrderFlag,
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
        /// Quantity of the account's resting buy orders and waiting buy stops, hidden quantity included.
        open_buy_quantity: u64,
        /// As `open_buy_quantity`, for sells.
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
        /// Sum of resting quantity that is shown: what icebergs hide does not count.
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
        /// 1 when an administrator added it while the sidecar ran, 0 when it came from the configuration file.
        live: u32,
        /// Zero.
        reserved: [u8; 4],
    }
}

record! {
    /// A range of accounts that exist, with the limits of each; or, with a `symbol`, more limits of such accounts in that symbol
    /// alone. Configuration that the journal records; a later record wins. A limit of 0 is no limit.
    pub struct AccountLimits: 64 {
        /// First account number of the range, from 1.
        account_first: u32,
        /// Last account number of the range.
        account_last: u32,
        /// Largest quantity of one order.
        order_quantity_max: i64,
        /// Largest absolute position in one symbol, resting orders of the order's side counted as filled.
        position_max: i64,
        /// Largest price x quantity of one order. A market order counts at the last trade (before one: the reference price), a `STOP` at its stop price.
        order_notional_max: i64,
        /// Largest sum of price x open quantity over the account's open orders of one side, in all symbols (with `symbol`: in it).
        exposure_max: i64,
        /// Farthest that a limit price may stand from the last trade (before one: the reference price), in basis points.
        price_collar_bps: u32,
        /// Most open orders in all symbols (with `symbol`: in it).
        open_orders_max: u32,
        /// Most `NEW` and `REPLACE` accepted in one second of sequenced time, in all symbols (with `symbol`: in it).
        order_rate_max: u32,
        /// 0; else these limits hold in this symbol only, beside those of the account.
        symbol: u32,
        /// Accounts of one group other than 0 do not trade with each other; with 0 an account is a group by itself. 0 with `symbol`.
        group: u32,
        /// What becomes of a trade within the group; see `SelfTrade`. 0 with `symbol`.
        self_trade: u8 as SelfTrade,
        /// 1 when an administrator set it while the sidecar ran, 0 when it came from the configuration file.
        live: u8,
        /// Zero.
        reserved: [u8; 2],
    }
}

record! {
    /// Sequenced time: the journal's own record, and the only clock that orders know. It never goes back.
    pub struct TimeRecord: 64 {
        /// Nanoseconds since 1970; not below that of the record before.
        time_ns: u64,
        /// 1 when a trading day ends here: `DAY` orders expire.
        ends_day: u32,
        /// Zero.
        reserved0: [u8; 4],
        /// Zero.
        reserved1: [u8; 16],
        /// Zero.
        reserved2: [u8; 32],
    }
}

record! {
    /// What an administrator did: a record of the journal. A field that is 0 restricts nothing.
    pub struct AdminAction: 64 {
        /// What to do; see `AdminOp`.
        action: u8 as AdminOp,
        /// Zero.
        reserved0: [u8; 3],
        /// Symbol number.
        symbol: u32,
        /// Account number; for `CANCEL_ALL`.
        account: u32,
        /// Lane that owns the orders; for `CANCEL_ALL`.
        lane: u32,
        /// User id of the administrator.
        uid: u32,
        /// Process id of the administrator.
        pid: u32,
        /// Zero.
        reserved1: [u8; 8],
        /// Zero.
        reserved2: [u8; 32],
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
    SelfTrade::SCHEMA,
    AdminOp::SCHEMA,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_enum_named_by_a_field_is_sent() {
        use crate::record::Record;
        let schemas = [
            OrderRequest::SCHEMA,
            OrderResult::SCHEMA,
            OrderEvent::SCHEMA,
            OpenOrder::SCHEMA,
            BookLevel::SCHEMA,
            AccountLimits::SCHEMA,
            AdminAction::SCHEMA,
        ];
        for field in schemas.iter().flat_map(|schema| schema.fields) {
            assert!(field.enum_name.is_empty() || ENUMS.iter().any(|e| e.name == field.enum_name), "{}", field.enum_name);
        }
    }

    #[test]
    fn members_ascend_and_stand_in_their_bands() {
        for schema in ENUMS {
            assert!(schema.members.is_sorted_by(|a, b| a.value < b.value), "{}", schema.name);
        }
        assert!(RejectCode::SCHEMA.members.iter().all(|m| (101..600).contains(&m.value)));
    }
}
