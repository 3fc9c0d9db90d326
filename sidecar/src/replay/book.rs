//! `ringlane book`: books, positions and open orders as they stood at one moment of a recording.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ringlane_layout::orders::{BookLevel, Instrument, OpenOrder, Position, Side};
use ringlane_layout::record::Record;
use serde_json::{Value, json};

use super::columns::record_json;
use super::filter::symbol_number;
use super::place::Place;
use super::progress::Progress;
use super::walk::Walk;
use crate::board::text_of;
use crate::engine::Engine;

/// Options of `ringlane book`.
#[derive(Debug, Args)]
pub struct BookArguments {
    /// Journal directory, or its first segment, which is read with those that follow it.
    recording: PathBuf,
    /// The moment: behind the record of this sequence number, or behind all of this time [default: the end].
    #[arg(long, value_name = "SEQ|TIME")]
    at: Option<Place>,
    /// Only this symbol: its name, or its number [default: every symbol that has orders or positions].
    #[arg(long)]
    symbol: Option<String>,
    /// Most levels a side that the table shows; JSON has them all.
    #[arg(long, default_value_t = 10)]
    levels: usize,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &BookArguments) -> Result<ExitCode, String> {
    let path = &arguments.recording;
    // A snapshot of the very moment will do: nothing of what led to it is shown.
    let behind = arguments.at.map(|at| match at {
        Place::Sequence(at) => Place::Sequence(at + 1),
        time => time,
    });
    let mut walk = Walk::open_at(path, behind, arguments.at)?;
    let progress = Progress::new(&walk);
    while walk.step().map_err(|halt| halt.words(path))?.is_some() {
        progress.show(&walk);
    }
    progress.end();
    let engine = walk.engine();
    let sequence = engine.next_sequence() - 1;
    if let Some(Place::Sequence(at)) = arguments.at
        && at > sequence
    {
        return Err(format!("{}: it ends at sequence {sequence}, before {at}", path.display()));
    }
    if let Some(Place::Sequence(at)) = arguments.at
        && at < walk.begun().0
    {
        return Err(format!("{}: what came before sequence {} was pruned, {at} with it", path.display(), walk.begun().0));
    }
    let instruments = engine.orders.instruments();
    let symbols: Vec<&Instrument> = match &arguments.symbol {
        Some(text) => {
            let number =
                symbol_number(engine, text).ok_or_else(|| format!("{}: there is no symbol {text:?} at {sequence}", path.display()))?;
            vec![&instruments[number as usize - 1]]
        }
        None => instruments.iter().filter(|instrument| is_used(engine, instrument.symbol)).collect(),
    };
    if arguments.json {
        let books: Vec<Value> = symbols.iter().map(|instrument| book_json(engine, instrument)).collect();
        let state_hash = format!("{:016x}", engine.orders.state_hash());
        println!("{:#}", json!({"sequence": sequence, "state_hash": state_hash, "symbols": books, "torn": walk.torn()}));
    } else {
        println!("after sequence {sequence}");
        symbols.iter().for_each(|instrument| print!("{}", book_text(engine, instrument, arguments.levels)));
    }
    walk.torn().iter().for_each(|words| eprintln!("ringlane: {}: {words}", path.display()));
    Ok(if walk.torn().is_some() { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

fn is_used(engine: &Engine, symbol: u32) -> bool {
    let has_orders = [Side::Buy, Side::Sell].into_iter().any(|side| engine.orders.fifo(symbol, side).next().is_some());
    has_orders || !engine.orders.positions_in(symbol).is_empty()
}

/// Open orders of a symbol in price-time order, bids before asks.
fn open_orders(engine: &Engine, symbol: u32) -> Vec<OpenOrder> {
    engine.orders.fifo(symbol, Side::Buy).chain(engine.orders.fifo(symbol, Side::Sell)).collect()
}

fn cash(position: &Position) -> i128 {
    i128::from(position.cash_high) << 64 | i128::from(position.cash_low)
}

fn book_json(engine: &Engine, instrument: &Instrument) -> Value {
    let symbol = instrument.symbol;
    let levels = engine.orders.book(symbol, usize::MAX).unwrap_or_default();
    let side = |side: Side| -> Vec<Value> {
        let rows = levels.iter().filter(|level| level.side == side as u8);
        rows.map(|level| record_json(BookLevel::SCHEMA, bytemuck::bytes_of(level)).into()).collect()
    };
    let orders: Vec<_> =
        open_orders(engine, symbol).iter().map(|order| record_json(OpenOrder::SCHEMA, bytemuck::bytes_of(order))).collect();
    let positions: Vec<_> = engine.orders.positions_in(symbol).iter().map(position_json).collect();
    json!({
        "symbol": symbol, "name": text_of(&instrument.name), "price_decimals": instrument.price_decimals, "bids": side(Side::Buy),
        "asks": side(Side::Sell), "orders": orders, "positions": positions,
    })
}

/// A position with its cash as one number; it is text, because JSON readers may not hold 128 bits.
fn position_json(position: &Position) -> Value {
    let mut row = record_json(Position::SCHEMA, bytemuck::bytes_of(position));
    row.remove("cash_low");
    row.remove("cash_high");
    row.insert("cash".into(), cash(position).to_string().into());
    row.into()
}

/// A whole number of price units as a decimal number.
#[must_use]
pub fn decimal(units: i128, decimals: u32) -> String {
    let digits = format!("{:0>1$}", units.unsigned_abs(), decimals as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals as usize);
    let sign = if units < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// The best levels of a symbol as a table, then its open orders and positions.
#[must_use]
pub fn book_text(engine: &Engine, instrument: &Instrument, levels_max: usize) -> String {
    let symbol = instrument.symbol;
    let price = |units: i64| decimal(units.into(), instrument.price_decimals);
    let mut text = format!("\n{} (symbol {symbol})\n", text_of(&instrument.name));
    text += &levels_text(engine, instrument, levels_max);
    let orders = open_orders(engine, symbol);
    if !orders.is_empty() {
        text += "\n  order id      client id     account  lane  side         price      open    filled\n";
    }
    for order in &orders {
        let side = if order.side == Side::Buy as u8 { "BUY" } else { "SELL" };
        let (id, client, account, lane) = (order.order_id, order.client_order_id, order.account, order.lane);
        let (open, filled) = (order.remaining_quantity, order.filled_quantity);
        text += &format!("  {id:<13} {client:<13} {account:<8} {lane:<5} {side:<4} {:>13} {open:>9} {filled:>9}\n", price(order.price));
    }
    let positions = engine.orders.positions_in(symbol);
    if !positions.is_empty() {
        text += "\n  account   position        open buy       open sell        cash\n";
    }
    for position in &positions {
        let (net, buy, sell) = (position.net_quantity, position.open_buy_quantity, position.open_sell_quantity);
        let cash = decimal(cash(position), instrument.price_decimals);
        text += &format!("  {:<9} {net:<15} {buy:<14} {sell:<16} {cash}\n", position.account);
    }
    text
}

/// The best levels, bids beside asks.
#[must_use]
pub fn levels_text(engine: &Engine, instrument: &Instrument, levels_max: usize) -> String {
    let levels = engine.orders.book(instrument.symbol, levels_max).unwrap_or_default();
    let side = |side: Side| levels.iter().filter(move |level| level.side == side as u8);
    let (bids, asks): (Vec<_>, Vec<_>) = (side(Side::Buy).collect(), side(Side::Sell).collect());
    let price = |level: &&BookLevel| decimal(level.price.into(), instrument.price_decimals);
    let mut text = String::from("  orders     bid size           bid | ask           ask size     orders\n");
    for row in 0..bids.len().max(asks.len()) {
        let bid = bids.get(row).map(|bid| format!("  {:<8} {:>10} {:>13}", bid.order_count, bid.quantity, price(bid)));
        let ask = asks.get(row).map(|ask| format!("{:<13} {:>8} {:>10}", price(ask), ask.quantity, ask.order_count));
        text += &format!("{:<35} | {}\n", bid.unwrap_or_default(), ask.unwrap_or_default());
    }
    if bids.is_empty() && asks.is_empty() {
        text += "  (no orders)\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn price_units_are_shown_as_decimals() {
        let shown = [(1_872_500, 4), (5, 4), (-5, 2), (0, 3), (7, 0), (-120, 1)].map(|(units, decimals)| decimal(units, decimals));
        assert_eq!(shown, ["187.2500", "0.0005", "-0.05", "0.000", "7", "-12.0"]);
    }
}
