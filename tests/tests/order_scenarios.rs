//! Scenarios a person can follow: every reject code and every promise of the order kernel's documentation at least once.
//! Each request also goes to the twin, so that both must agree with what is written here.

use std::collections::BTreeSet;

use ringlane_layout::limits::{ACCOUNT_MAX, ORDER_PRICE_MAX, ORDER_QUANTITY_MAX, RESTING_ORDERS_MAX, SYMBOLS_MAX};
use ringlane_layout::orders::{
    AccountLimits, CancelReason, EventKind, Instrument, Op, OrderEvent, OrderFlag, OrderRequest, OrderResult, OrderState, OrderType,
    RejectCode, Side, TimeInForce,
};
use ringlane_sidecar::kernels::orders::{ConfigError, OrderKernel};
use ringlane_tests::order_pair::{Pair, instrument, limit};

use Side::{Buy, Sell};

/// Symbol 1: tick 5, lot 10, reference 1000. Symbol 2: tick and lot 1. Accounts 1-4 without limits, 5 with every limit,
/// 6 that no lane may trade. Lanes 1 and 2 may trade accounts 1-5.
fn pair_of(cap: usize) -> Pair {
    let mut pair = Pair::new(cap);
    pair.add_instrument(&instrument(1, 5, 10, 1000));
    pair.add_instrument(&instrument(2, 1, 1, 0));
    pair.set_accounts(&AccountLimits { account_first: 1, account_last: 6, ..AccountLimits::default() });
    let limits = AccountLimits { order_quantity_max: 100, position_max: 150, price_collar_bps: 1000, ..AccountLimits::default() };
    pair.set_accounts(&AccountLimits { account_first: 5, account_last: 5, ..limits });
    pair.open_lane(1, 1, 5);
    pair.open_lane(2, 1, 5);
    pair
}

fn pair() -> Pair {
    pair_of(1000)
}

fn on(op: Op, account: u32, client_order_id: u64) -> OrderRequest {
    OrderRequest { op: op as u8, symbol: 1, account, client_order_id, ..OrderRequest::default() }
}

fn replace(side: Side, account: u32, client_order_id: u64, price: i64, quantity: i64) -> OrderRequest {
    OrderRequest { op: Op::Replace as u8, order_type: 0, time_in_force: 0, ..limit(side, account, client_order_id, price, quantity) }
}

fn with_tif(time_in_force: TimeInForce, request: OrderRequest) -> OrderRequest {
    OrderRequest { time_in_force: time_in_force as u8, ..request }
}

fn market(side: Side, account: u32, client_order_id: u64, quantity: i64) -> OrderRequest {
    let order = limit(side, account, client_order_id, 0, quantity);
    with_tif(TimeInForce::Ioc, OrderRequest { order_type: OrderType::Market as u8, ..order })
}

/// Sends one request and compares the whole state.
fn one(pair: &mut Pair, lane: u32, request: OrderRequest) -> (OrderResult, Vec<(u32, OrderEvent)>) {
    let (results, events) = pair.send(lane, &[request], 1);
    pair.compare();
    (results[0], events)
}

fn state_of(pair: &mut Pair, request: OrderRequest) -> u8 {
    let (result, _) = one(pair, 1, request);
    assert_eq!(result.code, 0, "{request:?}");
    result.state
}

/// Sells 10 at 1000 and 20 at 1005 (account 1, ids 1 and 2), a bid of 30 at 990 (account 1, id 3).
fn small_book() -> Vec<OrderRequest> {
    vec![limit(Sell, 1, 1, 1000, 10), limit(Sell, 1, 2, 1005, 20), limit(Buy, 1, 3, 990, 30)]
}

fn rejects() -> Vec<(RejectCode, OrderRequest)> {
    use RejectCode::*;
    let good = limit(Buy, 2, 9, 990, 10);
    let post_only = OrderRequest { flags: OrderFlag::POST_ONLY, ..good };
    vec![
        (UnknownOp, OrderRequest { op: 0, ..good }),
        (UnknownOp, OrderRequest { op: 8, reserved: [1; 4], ..good }),
        (UnknownSide, OrderRequest { side: 3, order_type: 9, ..good }),
        (UnknownSide, OrderRequest { side: 0, ..replace(Buy, 1, 3, 990, 10) }),
        (UnknownOrderType, OrderRequest { order_type: 0, time_in_force: 0, ..good }),
        (UnknownTimeInForce, OrderRequest { time_in_force: 6, flags: 8, ..good }),
        (UnknownFlag, OrderRequest { flags: 8, reserved: [1; 4], ..good }),
        (UnknownFlag, OrderRequest { flags: 1 << 31, ..replace(Buy, 1, 3, 990, 10) }),
        (ReservedNotZero, OrderRequest { reserved: std::array::from_fn(|at| u8::from(at == 3)), ..on(Op::Cancel, 1, 1) }),
        (BadCombination, OrderRequest { time_in_force: TimeInForce::Gtc as u8, ..market(Buy, 2, 9, 10) }),
        (BadCombination, OrderRequest { price: 5, ..market(Buy, 2, 9, 10) }),
        (BadCombination, OrderRequest { flags: 1, ..market(Buy, 2, 9, 10) }),
        (BadCombination, with_tif(TimeInForce::Ioc, post_only)),
        (BadCombination, OrderRequest { symbol: 77, ..with_tif(TimeInForce::Fok, post_only) }),
        (UnknownSymbol, OrderRequest { symbol: 3, account: 77, ..good }),
        (UnknownSymbol, OrderRequest { symbol: 0, ..on(Op::Cancel, 1, 1) }),
        (UnknownSymbol, OrderRequest { symbol: u32::MAX, ..on(Op::TakeOver, 1, 1) }),
        (UnknownAccount, OrderRequest { account: 0, ..good }),
        (UnknownAccount, OrderRequest { account: 7, ..good }),
        (UnknownAccount, OrderRequest { account: u32::MAX, ..good }),
        (AccountNotPermitted, OrderRequest { account: 6, quantity: 0, ..good }),
        (QuantityNotPositive, OrderRequest { quantity: 0, price: 0, ..good }),
        (QuantityNotPositive, OrderRequest { quantity: i64::MIN, ..on(Op::Reduce, 1, 1) }),
        (QuantityTooLarge, OrderRequest { quantity: ORDER_QUANTITY_MAX + 1, ..good }),
        (QuantityTooLarge, OrderRequest { quantity: i64::MAX, ..good }),
        (OffLot, OrderRequest { quantity: 15, price: -1, ..good }),
        (PriceNotPositive, OrderRequest { price: 0, ..good }),
        (PriceNotPositive, OrderRequest { price: i64::MIN, ..good }),
        (PriceTooLarge, OrderRequest { price: ORDER_PRICE_MAX + 1, ..good }),
        (OffTick, OrderRequest { price: 991, ..good }),
        (DuplicateOrderId, OrderRequest { account: 1, client_order_id: 3, ..good }),
        (UnknownOrderId, on(Op::Cancel, 1, 4)),
        (UnknownOrderId, on(Op::Cancel, 2, 3)),
        (UnknownOrderId, OrderRequest { symbol: 2, ..on(Op::Cancel, 1, 3) }),
        (OverReduction, OrderRequest { quantity: 40, ..on(Op::Reduce, 1, 3) }),
        (SideMismatch, replace(Sell, 1, 3, 1010, 10)),
        (OrderSizeLimit, OrderRequest { account: 5, quantity: 110, price: 5, ..good }),
        (PriceCollar, OrderRequest { account: 5, price: 895, ..good }),
        (PriceCollar, OrderRequest { account: 5, price: ORDER_PRICE_MAX - 5, ..good }),
        (WouldCross, OrderRequest { price: 1000, ..post_only }),
        (WouldCross, OrderRequest { flags: 1, ..replace(Buy, 1, 3, 1005, 10) }),
        (NotFillable, with_tif(TimeInForce::Fok, OrderRequest { price: 1005, quantity: 40, ..good })),
        (NotFillable, with_tif(TimeInForce::Fok, market(Buy, 2, 9, 40))),
    ]
}

#[test]
fn every_reject_names_its_first_reason_and_changes_nothing() {
    let mut seen = BTreeSet::new();
    for (code, request) in rejects() {
        let mut pair = pair();
        pair.send(1, &small_book(), 3);
        let before = pair.kernel.state_hash();
        let (result, events) = one(&mut pair, 1, request);
        assert_eq!((result.code, result.state, result.order_id), (code as u16, 0, 0), "{code:?}: {request:?}");
        assert_eq!(result.client_order_id, request.client_order_id);
        assert!(events.is_empty());
        assert_eq!(pair.kernel.state_hash(), before, "{code:?} changed something");
        seen.insert(code as u64);
    }
    assert!(seen.len() > 20); // that every code has a scenario is asked in order_tables
}

#[test]
fn the_position_limit_counts_resting_orders_and_lets_an_account_come_back() {
    let mut pair = pair();
    let limited = |side, id, quantity| limit(side, 5, id, if side == Buy { 990 } else { 1000 }, quantity);
    assert_eq!(state_of(&mut pair, limited(Buy, 1, 100)), OrderState::Resting as u8);
    let (result, _) = one(&mut pair, 1, limited(Buy, 2, 60));
    assert_eq!(result.code, RejectCode::PositionLimit as u16);
    assert_eq!(state_of(&mut pair, limited(Buy, 2, 50)), OrderState::Resting as u8);
    // The other side has the whole limit for itself; a replaced order does not count twice.
    assert_eq!(state_of(&mut pair, limited(Sell, 3, 100)), OrderState::Resting as u8);
    assert_eq!(state_of(&mut pair, replace(Buy, 5, 2, 985, 50)), OrderState::Resting as u8);
    assert_eq!(one(&mut pair, 1, replace(Buy, 5, 2, 985, 60)).0.code, RejectCode::PositionLimit as u16);
    // Filled, it is short 100; a lower limit then refuses what leads away, and lets back in what leads home.
    assert_eq!(state_of(&mut pair, limit(Buy, 1, 1, 1000, 100)), OrderState::Filled as u8);
    let tighter = AccountLimits { account_first: 5, account_last: 5, position_max: 20, ..AccountLimits::default() };
    pair.set_accounts(&tighter);
    assert_eq!(one(&mut pair, 1, limited(Sell, 4, 10)).0.code, RejectCode::PositionLimit as u16);
    assert_eq!(state_of(&mut pair, on(Op::Cancel, 5, 1)), OrderState::Cancelled as u8);
    assert_eq!(state_of(&mut pair, limited(Buy, 5, 60)), OrderState::Resting as u8);
}

#[test]
fn a_full_book_refuses_what_may_rest_and_takes_what_cannot() {
    let mut pair = pair_of(3);
    pair.send(1, &small_book(), 3);
    assert_eq!(one(&mut pair, 1, limit(Buy, 2, 9, 1000, 10)).0.code, RejectCode::BookFull as u16, "asked before it trades");
    assert_eq!(state_of(&mut pair, replace(Buy, 1, 3, 985, 40)), OrderState::Resting as u8);
    assert_eq!(state_of(&mut pair, with_tif(TimeInForce::Ioc, limit(Buy, 2, 9, 1000, 10))), OrderState::Filled as u8);
    assert_eq!(state_of(&mut pair, limit(Buy, 2, 9, 980, 10)), OrderState::Resting as u8);
    assert_eq!(OrderKernel::new(usize::MAX).counters().resting, 0, "a cap above {RESTING_ORDERS_MAX} takes no memory");
}

#[test]
fn trades_are_at_the_makers_price_best_first_then_first_come() {
    let mut pair = pair();
    pair.send(1, &[limit(Sell, 1, 1, 1005, 10), limit(Sell, 2, 1, 1000, 20), limit(Sell, 3, 1, 1000, 30)], 3);
    let (result, events) = one(&mut pair, 2, limit(Buy, 4, 1, 1005, 70));
    assert_eq!((result.filled_quantity, result.fill_count, result.remaining_quantity), (60, 3, 10));
    assert_eq!(result.notional, 50 * 1000 + 10 * 1005);
    assert_eq!(result.state, OrderState::Resting as u8);
    let told: Vec<_> = events.iter().map(|(lane, e)| (*lane, e.k, e.order_id, e.price, e.quantity, e.remaining_quantity)).collect();
    assert_eq!(told, [(1, 0, 2, 1000, 20, 0), (1, 1, 3, 1000, 30, 0), (1, 2, 1, 1005, 10, 0)]);
    assert!(events.iter().all(|(_, e)| e.kind == EventKind::Fill as u8 && e.sequence == 4 && e.side == Sell as u8 && e.number == 0));
    let (_, open) = pair.kernel.open_orders(4);
    assert_eq!((open[0].remaining_quantity, open[0].filled_quantity, open[0].lane), (10, 60, 2));
}

#[test]
fn both_sides_settle_and_an_account_may_trade_with_itself() {
    let mut pair = pair();
    pair.send(1, &[limit(Sell, 1, 1, 1000, 30), limit(Buy, 2, 1, 1000, 10), limit(Buy, 1, 2, 1000, 10)], 3);
    pair.compare();
    let maker = pair.kernel.positions(1)[0];
    assert_eq!((maker.net_quantity, maker.open_sell_quantity), (-10, 10));
    assert_eq!((maker.cash_low as i64, maker.cash_high), (10_000, 0));
    let taker = pair.kernel.positions(2)[0];
    assert_eq!((taker.net_quantity, taker.cash_low as i64, taker.cash_high), (10, -10_000, -1));
    assert_eq!(pair.kernel.counters().trades, 2);
}

#[test]
fn the_largest_order_trades_without_loss() {
    let mut pair = pair();
    let all = |side, account| OrderRequest { symbol: 2, ..limit(side, account, 1, ORDER_PRICE_MAX, ORDER_QUANTITY_MAX) };
    pair.send(1, &[all(Sell, 1)], 1);
    let (result, _) = one(&mut pair, 1, all(Buy, 2));
    assert_eq!(result.notional, ORDER_PRICE_MAX * ORDER_QUANTITY_MAX);
    pair.send(1, &[all(Sell, 1), all(Buy, 2), all(Sell, 1), all(Buy, 2)], 4);
    pair.compare();
    assert_eq!(pair.kernel.positions(1)[0].cash_high, 1, "cash is wider than 64 bits");
}

#[test]
fn immediate_orders_never_rest() {
    let mut pair = pair();
    let (result, _) = one(&mut pair, 1, market(Buy, 2, 1, 10));
    assert_eq!((result.code, result.state, result.filled_quantity), (0, OrderState::Cancelled as u8, 0), "nothing to trade with");
    assert_eq!(result.order_id, 1);
    assert!(pair.kernel.positions(2).is_empty());
    pair.send(1, &small_book(), 3);
    let (result, _) = one(&mut pair, 1, with_tif(TimeInForce::Ioc, limit(Buy, 2, 1, 1000, 20)));
    assert_eq!((result.state, result.filled_quantity, result.remaining_quantity), (OrderState::Cancelled as u8, 10, 0));
    let (result, _) = one(&mut pair, 1, with_tif(TimeInForce::Fok, limit(Buy, 2, 1, 1005, 20)));
    assert_eq!((result.state, result.filled_quantity), (OrderState::Filled as u8, 20));
    assert_eq!(state_of(&mut pair, market(Sell, 2, 1, 30)), OrderState::Filled as u8);
    assert_eq!(pair.kernel.counters().resting, 0);
}

#[test]
fn reduce_keeps_priority_and_reducing_all_cancels() {
    let mut pair = pair();
    pair.send(1, &[limit(Sell, 1, 1, 1000, 30), limit(Sell, 2, 1, 1000, 30)], 2);
    let reduce = |quantity| OrderRequest { quantity, ..on(Op::Reduce, 1, 1) };
    let (result, events) = one(&mut pair, 1, reduce(20));
    assert_eq!((result.order_id, result.state, result.remaining_quantity), (1, OrderState::Resting as u8, 10));
    assert!(events.is_empty(), "the owner asked itself");
    assert_eq!(pair.kernel.fifo(1, Sell).next().map(|order| order.order_id), Some(1));
    assert_eq!(state_of(&mut pair, reduce(10)), OrderState::Cancelled as u8);
    assert_eq!(pair.kernel.counters().resting, 1);
}

#[test]
fn replace_keeps_priority_only_in_place() {
    let ids = |pair: &Pair| pair.kernel.fifo(1, Sell).map(|order| order.order_id).collect::<Vec<_>>();
    let mut pair = pair();
    pair.send(1, &[limit(Sell, 1, 1, 1000, 30), limit(Sell, 2, 1, 1000, 30)], 2);
    assert_eq!(state_of(&mut pair, replace(Sell, 1, 1, 1000, 20)), OrderState::Resting as u8);
    assert_eq!(ids(&pair), [1, 2], "smaller at the same price stays");
    state_of(&mut pair, replace(Sell, 1, 1, 1000, 20));
    assert_eq!(ids(&pair), [1, 2], "the same stays");
    state_of(&mut pair, replace(Sell, 1, 1, 1000, 30));
    assert_eq!(ids(&pair), [2, 1], "larger goes behind");
    state_of(&mut pair, replace(Sell, 2, 1, 995, 30));
    state_of(&mut pair, replace(Sell, 2, 1, 1000, 30));
    assert_eq!(ids(&pair), [1, 2], "another price goes behind, and back again too");
}

#[test]
fn a_replace_that_crosses_trades_and_keeps_its_ids() {
    let mut pair = pair();
    pair.send(1, &small_book(), 3);
    let (result, events) = one(&mut pair, 1, replace(Buy, 1, 3, 1000, 40));
    assert_eq!((result.order_id, result.client_order_id, result.filled_quantity, result.remaining_quantity), (3, 3, 10, 30));
    assert_eq!(events.len(), 1);
    let open = pair.kernel.open_orders(1).1;
    assert_eq!((open[0].order_id, open[0].filled_quantity, open[0].price), (3, 10, 1000));
    let (result, _) = one(&mut pair, 1, replace(Buy, 1, 3, 1005, 20));
    assert_eq!((result.state, result.remaining_quantity), (OrderState::Filled as u8, 0));
    assert_eq!(one(&mut pair, 1, on(Op::Cancel, 1, 3)).0.code, RejectCode::UnknownOrderId as u16);
}

#[test]
fn what_an_order_filled_and_what_is_open_stay_one_orders_quantity() {
    let mut pair = pair();
    let big = ORDER_QUANTITY_MAX - ORDER_QUANTITY_MAX % 10;
    pair.send(1, &[limit(Sell, 1, 1, 1000, big), limit(Buy, 2, 1, 1000, 20)], 2);
    assert_eq!(one(&mut pair, 1, replace(Sell, 1, 1, 1000, big)).0.code, RejectCode::QuantityTooLarge as u16);
    assert_eq!(state_of(&mut pair, replace(Sell, 1, 1, 1000, big - 20)), OrderState::Resting as u8);
}

#[test]
fn another_lane_may_act_and_the_owner_is_told() {
    let mut pair = pair();
    pair.send(1, &small_book(), 3);
    let told = |events: &[(u32, OrderEvent)]| -> Vec<_> {
        events.iter().map(|(lane, e)| (*lane, e.kind, e.reason, e.k, e.price, e.quantity, e.remaining_quantity)).collect()
    };
    let (cancel, other) = (EventKind::Cancel as u8, CancelReason::OtherLane as u16);
    let (_, events) = one(&mut pair, 2, OrderRequest { quantity: 10, ..on(Op::Reduce, 1, 2) });
    assert_eq!(told(&events), [(1, cancel, other, 0, 1005, 10, 10)]);
    let (_, events) = one(&mut pair, 2, on(Op::Cancel, 1, 2));
    assert_eq!(told(&events), [(1, cancel, other, 0, 1005, 10, 0)]);
    let (_, events) = one(&mut pair, 2, replace(Buy, 1, 3, 1000, 40));
    assert_eq!(told(&events), [(1, EventKind::Fill as u8, 0, 0, 1000, 10, 0), (1, cancel, other, 1, 1000, 30, 30)], "fills come first");
    let (_, events) = one(&mut pair, 2, replace(Buy, 1, 3, 1000, 10));
    assert_eq!(told(&events), [(1, cancel, other, 0, 1000, 30, 10)]);
    assert_eq!(pair.kernel.open_orders(1).1[0].lane, 1, "the owner stays");
}

#[test]
fn orphans_emit_nothing_use_their_k_and_can_be_taken_over() {
    let mut pair = pair();
    pair.send(1, &[limit(Sell, 1, 1, 1000, 10), limit(Sell, 2, 1, 1000, 10)], 2);
    pair.send(2, &[limit(Sell, 3, 1, 1000, 10), OrderRequest { symbol: 2, ..limit(Sell, 2, 1, 1000, 10) }], 2);
    pair.close_lane(1, false);
    pair.close_lane(1, true);
    pair.compare();
    assert_eq!(pair.kernel.open_orders(1).1[0].lane, 0);
    let (result, _) = one(&mut pair, 2, OrderRequest { symbol: 0, ..on(Op::TakeOver, 2, 5) });
    assert_eq!((result.fill_count, result.order_id, result.code), (1, 0, 0), "its other order has an owner");
    let (result, _) = one(&mut pair, 2, on(Op::TakeOver, 2, 5));
    assert_eq!(result.fill_count, 0);
    let (_, events) = one(&mut pair, 2, limit(Buy, 4, 1, 1000, 30));
    let told: Vec<_> = events.iter().map(|(lane, e)| (*lane, e.k, e.account)).collect();
    assert_eq!(told, [(2, 1, 2), (2, 2, 3)], "k 0 went to nobody");
    let (_, events) = one(&mut pair, 2, with_tif(TimeInForce::Ioc, limit(Buy, 4, 2, 1000, 30)));
    assert!(events.is_empty());
}

#[test]
fn a_closing_lane_cancels_its_own_orders_only() {
    let mut pair = pair();
    pair.send(1, &small_book(), 3);
    pair.send(2, &[limit(Sell, 1, 7, 1000, 10)], 1);
    pair.close_lane(1, true);
    pair.compare();
    assert_eq!(pair.kernel.counters().resting, 1);
    assert_eq!(one(&mut pair, 1, limit(Buy, 1, 9, 990, 10)).0.code, RejectCode::AccountNotPermitted as u16, "a closed lane may do nothing");
    pair.open_lane(1, 1, 5);
    assert_eq!(state_of(&mut pair, limit(Buy, 1, 3, 990, 10)), OrderState::Resting as u8, "the ids are free again");
    pair.open_lane(0, 1, 5);
    assert_eq!(one(&mut pair, 0, limit(Buy, 1, 9, 990, 10)).0.code, RejectCode::AccountNotPermitted as u16, "lane 0 is nobody");
}

#[test]
fn client_order_ids_are_free_across_symbols_and_after_the_order_ended() {
    let mut pair = pair();
    assert_eq!(state_of(&mut pair, limit(Buy, 1, 1, 990, 10)), OrderState::Resting as u8);
    assert_eq!(state_of(&mut pair, OrderRequest { symbol: 2, ..limit(Buy, 1, 1, 990, 10) }), OrderState::Resting as u8);
    assert_eq!(state_of(&mut pair, limit(Buy, 2, 1, 990, 10)), OrderState::Resting as u8);
    state_of(&mut pair, on(Op::Cancel, 1, 1));
    assert_eq!(state_of(&mut pair, limit(Buy, 1, 1, 990, 10)), OrderState::Resting as u8);
    assert_eq!(pair.kernel.open_orders(1).0, 1);
    assert_eq!(pair.kernel.open_orders(1).1.len(), 2);
}

#[test]
fn the_collar_follows_the_last_trade_and_needs_a_reference() {
    let mut pair = pair();
    let near = |id, price| limit(Buy, 5, id, price, 10);
    assert_eq!(state_of(&mut pair, near(1, 900)), OrderState::Resting as u8, "exactly ten percent");
    pair.send(1, &[limit(Sell, 1, 1, 2000, 20), limit(Buy, 2, 1, 2000, 10)], 2);
    assert_eq!(one(&mut pair, 1, near(2, 900)).0.code, RejectCode::PriceCollar as u16);
    assert_eq!(state_of(&mut pair, near(2, 1800)), OrderState::Resting as u8);
    assert_eq!(state_of(&mut pair, market(Buy, 5, 3, 10)), OrderState::Filled as u8, "market orders have no price to hold");
    assert_eq!(state_of(&mut pair, OrderRequest { symbol: 2, ..near(1, ORDER_PRICE_MAX) }), OrderState::Resting as u8, "no reference yet");
}

#[test]
fn fields_that_an_op_does_not_use_are_not_read() {
    let mut pair = pair();
    pair.send(1, &small_book(), 3);
    let noise = OrderRequest { side: 9, order_type: 9, time_in_force: 9, flags: u32::MAX, price: i64::MIN, ..OrderRequest::default() };
    let with = |request: OrderRequest| OrderRequest {
        op: request.op,
        symbol: request.symbol,
        account: request.account,
        client_order_id: request.client_order_id,
        quantity: request.quantity,
        ..noise
    };
    assert_eq!(state_of(&mut pair, with(OrderRequest { quantity: 10, ..on(Op::Reduce, 1, 2) })), OrderState::Resting as u8);
    assert_eq!(state_of(&mut pair, with(OrderRequest { quantity: -5, ..on(Op::Cancel, 1, 2) })), OrderState::Cancelled as u8);
    assert_eq!(one(&mut pair, 1, with(OrderRequest { quantity: -5, ..on(Op::TakeOver, 1, 2) })).0.code, 0);
    let replaced = OrderRequest { order_type: 9, time_in_force: 9, ..replace(Buy, 1, 3, 985, 10) };
    assert_eq!(state_of(&mut pair, replaced), OrderState::Resting as u8);
}

#[test]
fn prices_far_apart_cost_no_more_than_neighbours() {
    let mut pair = Pair::new(10_000);
    pair.add_instrument(&instrument(1, 1, 1, 0));
    pair.set_accounts(&AccountLimits { account_first: 1, account_last: 1, ..AccountLimits::default() });
    pair.open_lane(1, 1, 1);
    // Better and better, worse and worse, and scattered over the whole range: levels are inserted everywhere.
    type PriceOf = fn(u64) -> i64;
    let orders_of: [(Side, PriceOf); 3] = [
        (Buy, |at| 1 + ((at * 0x9e37_79b9) % (1 << 35)) as i64),
        (Sell, |at| (1 << 35) + 5_000_000 * at as i64),
        (Buy, |at| (1 << 34) - 7 * at as i64),
    ];
    for (round, (side, price)) in orders_of.into_iter().enumerate() {
        let id = |at: u64| 1_000 * round as u64 + at;
        let orders: Vec<_> = (1..=700).map(|at| limit(side, 1, id(at), price(at), 1)).collect();
        pair.send(1, &orders, 256);
        pair.compare();
        let cancels: Vec<_> = (1..=350).map(|at| on(Op::Cancel, 1, id(1 + (at * 37) % 700))).collect();
        pair.send(1, &cancels, 256);
        pair.compare();
    }
    let (result, _) = one(&mut pair, 1, market(Sell, 1, 9_999, 10_000));
    assert_eq!(result.fill_count, 700);
}

#[test]
fn wrong_configuration_is_refused_in_words() {
    let good = instrument(1, 1, 1, 0);
    let mut gap = good.name;
    gap[5] = b'x';
    let wrong = [
        (Instrument { symbol: 2, ..good }, ConfigError::SymbolNumber { symbol: 2, expected: 1 }),
        (Instrument { name: [0; 24], ..good }, ConfigError::BadName { symbol: 1 }),
        (Instrument { name: gap, ..good }, ConfigError::BadName { symbol: 1 }),
        (Instrument { name: [0xc3; 24], ..good }, ConfigError::BadName { symbol: 1 }),
        (Instrument { tick: 0, ..good }, ConfigError::BadTick { symbol: 1 }),
        (Instrument { lot: -1, ..good }, ConfigError::BadLot { symbol: 1 }),
        (Instrument { reference_price: -1, ..good }, ConfigError::BadReferencePrice { symbol: 1 }),
        (Instrument { price_decimals: 10, ..good }, ConfigError::TooManyDecimals { symbol: 1 }),
        (Instrument { reserved: [1; 4], ..good }, ConfigError::ReservedNotZero),
    ];
    let mut kernel = OrderKernel::new(10);
    for (record, error) in wrong {
        assert_eq!(kernel.add_instrument(&record), Err(error));
        assert!(error.to_string().len() > 20);
    }
    assert_eq!(kernel.add_instrument(&good), Ok(()));
    assert_eq!(kernel.add_instrument(&Instrument { symbol: 2, ..good }), Err(ConfigError::DuplicateName { symbol: 2 }));
    assert_eq!(kernel.instruments(), [good]);
    let range = |account_first, account_last| AccountLimits { account_first, account_last, ..AccountLimits::default() };
    for (first, last) in [(0, 5), (5, 4), (1, ACCOUNT_MAX + 1)] {
        assert_eq!(kernel.set_accounts(&range(first, last)), Err(ConfigError::AccountRange { first, last }));
    }
    assert_eq!(kernel.set_accounts(&AccountLimits { position_max: -1, ..range(1, 2) }), Err(ConfigError::NegativeLimit { first: 1 }));
    assert_eq!(kernel.set_accounts(&AccountLimits { reserved: [1; 2], ..range(1, 2) }), Err(ConfigError::ReservedNotZero));
    assert_eq!(kernel.set_accounts(&range(1, ACCOUNT_MAX)), Ok(()));
    assert!(SYMBOLS_MAX > 1 && kernel.book(2, 5).is_none() && kernel.book(0, 5).is_none());
}
