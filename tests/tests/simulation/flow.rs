//! What simulated clients send: few symbols, accounts, ids and prices, so that orders of different lanes meet all the time.

use ringlane_layout::orders::{Op, OrderRequest, OrderType, Side, TimeInForce};
use ringlane_tests::order_flow::Random;

/// Symbols that are traded.
pub const SYMBOLS: u32 = 2;
/// Accounts that trade.
pub const ACCOUNTS: u32 = 6;

/// A number of `range`, ends included.
pub fn within(random: &mut Random, first: u64, last: u64) -> u64 {
    first + random.below(last - first + 1)
}

/// True once in `many`.
pub fn one_in(random: &mut Random, many: u64) -> bool {
    random.below(many) == 0
}

/// The next request of a client with these accounts.
pub fn request(random: &mut Random, (first, last): (u32, u32), now_ns: u64) -> OrderRequest {
    let fresh = OrderRequest {
        symbol: within(random, 1, SYMBOLS.into()) as u32,
        account: within(random, first.into(), last.into()) as u32,
        client_order_id: within(random, 1, 30),
        ..OrderRequest::default()
    };
    let side = if one_in(random, 2) { Side::Buy } else { Side::Sell } as u8;
    let (price, quantity) = (within(random, 95, 105) as i64, within(random, 1, 12) as i64);
    let op = |op: Op| OrderRequest { op: op as u8, ..fresh };
    let limit = |kind: OrderType, time_in_force: TimeInForce| OrderRequest {
        side,
        order_type: kind as u8,
        time_in_force: time_in_force as u8,
        price,
        quantity,
        ..op(Op::New)
    };
    match random.below(100) {
        0..50 => limit(OrderType::Limit, TimeInForce::Gtc),
        50..58 => limit(OrderType::Limit, TimeInForce::Ioc),
        58..62 => OrderRequest { price: 0, ..limit(OrderType::Market, TimeInForce::Ioc) },
        62..66 => OrderRequest { expires_ns: now_ns + within(random, 0, 400_000_000), ..limit(OrderType::Limit, TimeInForce::Gtd) },
        66..70 => OrderRequest { price: 0, stop_price: price, ..limit(OrderType::Stop, TimeInForce::Gtc) },
        70..82 => op(Op::Cancel),
        82..86 => OrderRequest { quantity, ..op(Op::Reduce) },
        86..94 => OrderRequest { side, price, quantity, ..op(Op::Replace) },
        94..96 => OrderRequest { client_order_id: 0, ..op(Op::TakeOver) },
        96..97 => OrderRequest { client_order_id: 0, ..op(Op::CancelAll) },
        // Refused: an account that is not the lane's, and a symbol that nobody has.
        97..99 => OrderRequest { account: ACCOUNTS + 1, ..limit(OrderType::Limit, TimeInForce::Gtc) },
        _ => OrderRequest { symbol: SYMBOLS + 1, ..limit(OrderType::Limit, TimeInForce::Gtc) },
    }
}
