//! Scenarios in a table that a trader can review: `tests/scenarios/orders.txt`. Each line is a name, what was given, the order, and
//! what came of it: result, book, events. Every request goes to the kernel and to its twin. Every reject code has a line.
//! `RINGLANE_WRITE=1` writes the outcomes anew, to be read before they are committed.

use std::collections::BTreeSet;

use ringlane_layout::orders::{
    AccountLimits, AdminAction, CancelReason, EventKind, OpenOrder, OrderEvent, OrderRequest, OrderResult, OrderState, RejectCode, Side,
};
use ringlane_layout::record::EnumSchema;
use ringlane_tests::order_pair::{Pair, instrument};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/orders.txt");
const SCENARIOS_MIN: usize = 120;

/// Symbol 1: tick 5, lot 10, reference 1000. Symbol 2: tick and lot 1. Accounts 1 to 6 without limits; lanes 1 and 2 trade 1 to 5.
fn pair() -> Pair {
    let mut pair = Pair::new(8);
    pair.add_instrument(&instrument(1, 5, 10, 1000));
    pair.add_instrument(&instrument(2, 1, 1, 0));
    pair.set_accounts(&AccountLimits { account_first: 1, account_last: 6, ..AccountLimits::default() });
    pair.open_lane(1, 1, 5);
    pair.open_lane(2, 1, 5);
    pair
}

fn name(schema: &EnumSchema, value: u64) -> &'static str {
    schema.members.iter().find(|member| member.value == value).map_or("?", |member| member.name)
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// `ACCOUNT.ID`
fn ids(text: &str, request: &mut OrderRequest) {
    let (account, id) = text.split_once('.').unwrap_or((text, "0"));
    (request.account, request.client_order_id) = (number(account), number(id));
}

/// `QUANTITY@PRICE`, the price perhaps `mkt`.
fn quantity_and_price(text: &str, request: &mut OrderRequest) {
    let (quantity, price) = text.split_once('@').unwrap_or((text, "mkt"));
    request.quantity = number(quantity);
    request.price = if price == "mkt" { 0 } else { number(price) };
    request.order_type = if price == "mkt" { 2 } else { 1 };
}

fn side(text: &str) -> u8 {
    match text {
        "B" => 1,
        "S" => 2,
        other => number(other),
    }
}

/// A request in words, and its lane.
fn request(text: &str) -> (u32, OrderRequest) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (mut lane, mut rest) = (1, 1);
    let mut request = OrderRequest { op: 1, symbol: 1, time_in_force: 1, ..OrderRequest::default() };
    match words[0] {
        "cancel" => (request.op, request.time_in_force) = (2, 0),
        "reduce" => (request.op, request.time_in_force) = (3, 0),
        "replace" => (request.op, request.time_in_force) = (4, 0),
        "takeover" => (request.op, request.time_in_force) = (5, 0),
        "cancelall" => (request.op, request.time_in_force) = (6, 0),
        _ => rest = 0,
    }
    ids(words[rest], &mut request);
    rest += 1;
    if [1, 4].contains(&request.op) {
        request.side = side(words[rest]);
        quantity_and_price(words[rest + 1], &mut request);
        rest += 2;
    } else if request.op == 3 {
        request.quantity = number(words[rest]);
        rest += 1;
    }
    for option in &words[rest..] {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "ioc" => request.time_in_force = 2,
            "fok" => request.time_in_force = 3,
            "day" => request.time_in_force = 4,
            "gtd" => (request.time_in_force, request.expires_ns) = (5, number(value)),
            "post" => request.flags |= 1,
            "reduce" => request.flags |= 2,
            "this" => request.flags |= 4,
            "stop" => {
                request.stop_price = number(value);
                request.order_type += if request.price == 0 { 1 } else { 3 };
            }
            "show" => request.display_quantity = number(value),
            "sym" => request.symbol = number(value),
            "lane" => lane = number(value),
            "op" => request.op = number(value),
            "type" => request.order_type = number(value),
            "tif" => request.time_in_force = number(value),
            "flags" => request.flags = number(value),
            "reserved" => request.reserved[3] = number(value),
            other => panic!("{other:?} is no option"),
        }
    }
    (lane, request)
}

/// What is no request: limits, halts, time, lanes. Gives its events.
fn act(pair: &mut Pair, text: &str) -> Option<Vec<(u32, OrderEvent)>> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let pairs = || words[1..].iter().map(|word| word.split_once('=').map_or((*word, 0), |(key, value)| (key, number::<i64>(value))));
    let get = |key: &str| pairs().find(|(name, _)| *name == key).map_or(0, |(_, value)| value);
    Some(match words[0] {
        "limits" => {
            pair.set_accounts(&AccountLimits {
                account_first: get("account") as u32,
                account_last: get("account") as u32,
                symbol: get("sym") as u32,
                order_quantity_max: get("size"),
                position_max: get("position"),
                order_notional_max: get("notional"),
                exposure_max: get("exposure"),
                price_collar_bps: get("collar") as u32,
                open_orders_max: get("open") as u32,
                order_rate_max: get("rate") as u32,
                group: get("group") as u32,
                self_trade: get("self") as u8,
                ..AccountLimits::default()
            });
            Vec::new()
        }
        "halt" | "resume" | "end" => pair.administer(&AdminAction {
            action: match words[0] {
                "halt" => 1,
                "resume" => 2,
                _ => 3,
            },
            symbol: get("sym") as u32,
            account: get("account") as u32,
            lane: get("lane") as u32,
            ..AdminAction::default()
        }),
        "time" => pair.advance(get("ns") as u64, false),
        "endday" => pair.advance(get("ns") as u64, true),
        "close" => {
            pair.close_lane(get("lane") as u32, get("cancel") != 0);
            Vec::new()
        }
        _ => return None,
    })
}

fn result_words(result: &OrderResult) -> String {
    if result.code != 0 {
        return name(RejectCode::SCHEMA, result.code.into()).to_owned();
    }
    let mut words = name(OrderState::SCHEMA, result.state.into()).to_owned();
    for (label, value) in [("filled", result.filled_quantity), ("left", result.remaining_quantity), ("count", result.fill_count)] {
        if value != 0 {
            words += &format!(" {label} {value}");
        }
    }
    if result.reason != 0 {
        words += &format!(" {}", name(CancelReason::SCHEMA, result.reason.into()));
    }
    words
}

fn order_words(order: &OpenOrder) -> String {
    let side = if order.side == 1 { "B" } else { "S" };
    let mut words = format!("{}.{} {side} {}", order.account, order.client_order_id, order.remaining_quantity);
    if order.stop_price == 0 && order.shown_quantity != order.remaining_quantity {
        words += &format!("({})", order.shown_quantity);
    }
    words += &if order.price == 0 { "@mkt".to_owned() } else { format!("@{}", order.price) };
    if order.stop_price != 0 {
        words += &format!(" stop={}", order.stop_price);
    }
    words
}

fn book_words(pair: &Pair) -> String {
    let mut words = Vec::new();
    for symbol in 1..=2 {
        for side in [Side::Buy, Side::Sell] {
            words.extend(pair.kernel.fifo(symbol, side).chain(pair.kernel.stops(symbol, side)).map(|order| order_words(&order)));
        }
    }
    if words.is_empty() { "empty".to_owned() } else { words.join("; ") }
}

fn event_words((lane, event): &(u32, OrderEvent)) -> String {
    let kind = name(EventKind::SCHEMA, event.kind.into());
    let who = format!("{}.{}", event.account, event.client_order_id);
    let mut words = format!("{kind} {who} {}@{} left {} to lane {lane}", event.quantity, event.price, event.remaining_quantity);
    if event.reason != 0 {
        words += &format!(" {}", name(CancelReason::SCHEMA, event.reason.into()));
    }
    words
}

/// Plays a scenario; gives what came of its last step, and the reject codes that were seen.
fn play(given: &str, order: &str) -> ([String; 3], u16) {
    let mut pair = pair();
    let step = |pair: &mut Pair, text: &str| {
        let outcome = match act(pair, text) {
            Some(events) => (OrderResult::default(), events),
            None => {
                let (lane, request) = request(text);
                let (results, events) = pair.send(lane, &[request], 1);
                (results[0], events)
            }
        };
        pair.compare();
        outcome
    };
    for text in given.split(';').map(str::trim).filter(|text| !text.is_empty()) {
        let (result, _) = step(&mut pair, text);
        assert_eq!(result.code, 0, "what is given is accepted: {text}");
    }
    let before = pair.kernel.state_hash();
    let (result, events) = step(&mut pair, order);
    if result.code != 0 {
        assert_eq!(pair.kernel.state_hash(), before, "a reject changes nothing: {order}");
    }
    let events = events.iter().map(event_words).collect::<Vec<_>>().join("; ");
    let result_text = if result.sequence == 0 { "done".to_owned() } else { result_words(&result) };
    ([result_text, book_words(&pair), if events.is_empty() { "none".to_owned() } else { events }], result.code)
}

#[test]
fn every_line_of_the_table_holds() {
    let text = std::fs::read_to_string(TABLE).expect("the table is there");
    let writes = std::env::var_os("RINGLANE_WRITE").is_some();
    let (mut written, mut codes, mut count, mut wrong) = (String::new(), BTreeSet::new(), 0, Vec::new());
    for line in text.lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            written += &format!("{line}\n");
            continue;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (came, code) = play(cells[1], cells[2]);
        codes.insert(u64::from(code));
        count += 1;
        let expected: Vec<&str> = cells[3..].to_vec();
        if !writes && expected != came {
            wrong.push(format!("{}: expected {expected:?}, came {came:?}", cells[0]));
        }
        written += &format!("{} | {} | {} | {}\n", cells[0], cells[1], cells[2], came.join(" | "));
    }
    if writes {
        std::fs::write(TABLE, written).expect("the table can be written");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= SCENARIOS_MIN, "{count} scenarios; {SCENARIOS_MIN} are the least");
    // VOIDED is given at a start with `--skip`, never by the book.
    codes.insert(RejectCode::Voided as u64);
    let missing: Vec<_> = RejectCode::SCHEMA.members.iter().filter(|member| !codes.contains(&member.value)).map(|m| m.name).collect();
    assert!(missing.is_empty(), "no scenario is rejected with {missing:?}");
}
