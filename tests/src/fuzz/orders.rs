//! Whatever bytes stand in the slots of order lanes, every one gets an answer that the schema knows, the same in one batch as
//! one by one, and what was not permitted changed nothing.

use ringlane_layout::limits::BATCH_SLOTS_MAX;
use ringlane_layout::orders::{
    AccountLimits, Instrument, Op, OrderRequest, OrderResult, OrderState, OrderType, RejectCode, Side, TimeInForce,
};
use ringlane_layout::record::RecordBytes;
use ringlane_sidecar::engine::Engine;
use ringlane_sidecar::journal::LaneOpen;

use super::Target;
use crate::order_pair::{Pair, instrument, limit};

/// The target.
pub const TARGET: Target = Target { name: "orders", run, seeds };

/// An engine with three symbols, two lanes and a hundred accounts.
fn engine() -> Engine {
    let mut engine = Engine::new(7);
    for symbol in 1..=3 {
        let mut name = [0; 24];
        name[0] = b'A' + symbol as u8;
        let (tick, lot) = (i64::from(symbol), 1 + i64::from(symbol) % 2);
        let instrument = Instrument { symbol, tick, lot, name, ..Instrument::default() };
        engine.add_instrument(&instrument).expect("a right instrument");
    }
    let limits = AccountLimits { account_first: 1, account_last: 100, position_max: 1_000_000, ..AccountLimits::default() };
    engine.set_accounts(&limits).expect("right limits");
    for (lane, account_first, account_last) in [(1, 1, 50), (2, 40, 100)] {
        engine.open_lane(&LaneOpen { lane, account_first, account_last, ..LaneOpen::default() });
    }
    engine
}

fn run(bytes: &[u8]) {
    let records: Vec<RecordBytes> = bytes.chunks_exact(64).take(BATCH_SLOTS_MAX).map(bytemuck::pod_read_unaligned).collect();
    let lane = 1 + u32::from(bytes.last().is_some_and(|byte| *byte % 2 == 1));
    let (mut whole, mut single) = (engine(), engine());
    let together: Vec<OrderResult> = whole.process_orders(lane, &records).results.to_vec();
    for (index, record) in records.iter().enumerate() {
        let before = single.orders.state_hash();
        let result = single.process_orders(lane, std::slice::from_ref(record)).results[0];
        assert_eq!(result, together[index], "alone and in a batch");
        assert!(OrderState::try_from(result.state).is_ok());
        if result.code != 0 {
            assert!(RejectCode::try_from(result.code).is_ok(), "code {}", result.code);
            assert_eq!(single.orders.state_hash(), before, "a rejected request changed the state");
        }
    }
    assert_eq!(whole.orders.state_hash(), single.orders.state_hash());
    assert_eq!(whole.orders.counters(), single.orders.counters());
    beside_its_twin(lane, &records);
}

/// The same through the naive twin: every result, event and the state must be its.
fn beside_its_twin(lane: u32, records: &[RecordBytes]) {
    let requests: Vec<OrderRequest> = records.iter().take(64).map(|record| bytemuck::must_cast(*record)).collect();
    let mut pair = Pair::new(1_000);
    pair.add_instrument(&instrument(1, 1, 1, 0));
    pair.add_instrument(&instrument(2, 5, 10, 100));
    let limits = AccountLimits { account_first: 1, account_last: 50, position_max: 1_000_000, ..AccountLimits::default() };
    pair.set_accounts(&limits);
    pair.open_lane(1, 1, 50);
    pair.open_lane(2, 20, 60);
    pair.send(lane, &requests, 7);
    pair.compare();
}

fn seeds() -> Vec<Vec<u8>> {
    let order = |side, account, id, price, quantity| limit(side, account, id, price, quantity);
    let named = |op: Op, account, id, quantity| OrderRequest {
        op: op as u8,
        symbol: 1,
        account,
        client_order_id: id,
        quantity,
        ..OrderRequest::default()
    };
    let requests = [
        order(Side::Buy, 41, 1, 100, 10),
        order(Side::Sell, 42, 1, 100, 4),
        named(Op::Reduce, 41, 1, 2),
        OrderRequest { price: 101, ..named(Op::Replace, 41, 1, 9) },
        OrderRequest { order_type: OrderType::Stop as u8, stop_price: 99, price: 0, ..order(Side::Sell, 43, 7, 0, 3) },
        OrderRequest { display_quantity: 2, ..order(Side::Sell, 44, 8, 105, 8) },
        OrderRequest { time_in_force: TimeInForce::Ioc as u8, ..order(Side::Buy, 45, 9, 106, 20) },
        named(Op::Cancel, 41, 1, 0),
        named(Op::CancelAll, 0, 0, 0),
    ];
    vec![bytemuck::cast_slice(&requests).to_vec(), bytemuck::bytes_of(&requests[0]).to_vec()]
}
