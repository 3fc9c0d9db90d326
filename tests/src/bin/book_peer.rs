//! `book_peer`: a regime's flow, the same as for `books`, through the book of Matchcore, an open engine, on one thread; prints
//! one JSON line. Its commands are made before time is taken. It numbers orders by their request, as the flow does, but from 0.

use std::time::Instant;

use clap::Parser;
use matchcore::{
    AmendCmd, AmendPatch, CancelCmd, Command, CommandKind, CommandMeta, CommandOutcome, CommandReport, LimitOrder, LimitOrderPatch,
    NewOrder, OrderBook, OrderFlags, OrderId, OrderKind, Price, Quantity, QuantityPolicy, SequenceNumber, Side, SubmitCmd, TimeInForce,
    Timestamp,
};
use ringlane_layout::orders::{self, Op, OrderRequest};
use ringlane_tests::book_flow::FlowOptions;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    flow: FlowOptions,
}

fn command(number: u64, request: &OrderRequest) -> Command {
    let price = Price(request.price as u64);
    let quantity = QuantityPolicy::Standard { quantity: Quantity(request.quantity as u64) };
    let order_id = OrderId(request.client_order_id - 1);
    let kind = if request.op == Op::New as u8 {
        let side = if request.side == orders::Side::Buy as u8 { Side::Buy } else { Side::Sell };
        let is_immediate = request.time_in_force == orders::TimeInForce::Ioc as u8;
        let flags = OrderFlags::new(side, false, if is_immediate { TimeInForce::Ioc } else { TimeInForce::Gtc });
        CommandKind::Submit(SubmitCmd { order: NewOrder::Limit(LimitOrder::new(price, quantity, flags)) })
    } else if request.op == Op::Replace as u8 {
        let patch = LimitOrderPatch::new().with_price(price).with_quantity_policy(quantity);
        CommandKind::Amend(AmendCmd { order_id, patch: AmendPatch::Limit(patch) })
    } else {
        CommandKind::Cancel(CancelCmd { order_id, order_kind: OrderKind::Limit })
    };
    Command { meta: CommandMeta { sequence_number: SequenceNumber(number), timestamp: Timestamp(number) }, kind }
}

/// Runs commands; how many trades they made, and how many were rejected.
fn run(book: &mut OrderBook, commands: &[Command]) -> (usize, usize) {
    let (mut trades, mut rejected) = (0, 0);
    for command in commands {
        match std::hint::black_box(book.execute(command)) {
            CommandOutcome::Applied(CommandReport::Submit(effects) | CommandReport::Amend(effects)) => {
                trades += effects.target_order().match_result().map_or(0, |matched| matched.trades().len());
            }
            CommandOutcome::Applied(CommandReport::Cancel) => {}
            CommandOutcome::Rejected(_) => rejected += 1,
        }
    }
    (trades, rejected)
}

fn main() {
    let Options { flow: options } = Options::parse();
    let flow = options.flow(false);
    let requests = flow.prefill.iter().chain(&flow.orders);
    let commands: Vec<Command> = (0..).zip(requests).map(|(number, request)| command(number, request)).collect();
    let mut book = OrderBook::new("BOOK");
    let (before, measured) = commands.split_at(flow.prefill.len() + options.warm());
    let (mut trades, mut rejected) = run(&mut book, before);
    let start = Instant::now();
    let more = run(&mut book, measured);
    let seconds = start.elapsed().as_secs_f64();
    (trades, rejected) = (trades + more.0, rejected + more.1);
    println!(
        "{{\"regime\": \"{}\", \"orders\": {}, \"seconds\": {seconds:.6}, \"orders_per_s\": {:.0}, \"trades\": {trades}, \"rejected\": {rejected}}}",
        options.regime.name,
        options.orders,
        options.orders as f64 / seconds,
    );
}
