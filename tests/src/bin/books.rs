//! `books`: runs a regime's flow through one book of the library, on one thread, and prints one JSON line. Every result and
//! event is written out, each to a place of its own; all memory is touched and a tenth of the flow is run before time is taken.

use std::time::Instant;

use clap::Parser;
use ringlane_layout::orders::{OrderEvent, OrderResult};
use ringlane_sidecar::kernels::orders::Outgoing;
use ringlane_tests::book_flow::{FlowOptions, kernel};
use ringlane_tests::order_flow::{LANE, cpu_seconds};

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    flow: FlowOptions,
    /// Requests in one batch.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// A thousand accounts with every limit and self-trade prevention, instead of the book alone.
    #[arg(long)]
    full: bool,
}

fn main() {
    let options = Options::parse();
    let FlowOptions { regime, orders, .. } = options.flow;
    let (flow, warm) = (options.flow.flow(options.full), options.flow.warm());
    let mut kernel = kernel(options.full);
    let count = flow.prefill.len() + flow.orders.len();
    // What is written is there: no page is first touched while time is taken.
    let mut results = vec![std::hint::black_box(OrderResult { sequence: 1, ..OrderResult::default() }); count];
    let event = OrderEvent { number: 1, ..OrderEvent::default() };
    let mut events = vec![std::hint::black_box(Outgoing { lane: 1, event }); 2 * count];
    events.clear();
    let mut done = 0;
    let mut run = |requests: &[ringlane_layout::orders::OrderRequest]| {
        for requests in requests.chunks(options.batch.max(1)) {
            let results = &mut results[done..done + requests.len()];
            kernel.process(done as u64 + 1, LANE, requests, results, &mut events);
            done += requests.len();
        }
    };
    run(&flow.prefill);
    run(&flow.orders[..warm]);
    let (before_s, start) = (cpu_seconds(), Instant::now());
    run(&flow.orders[warm..]);
    let (seconds, cpu_seconds) = (start.elapsed().as_secs_f64(), cpu_seconds() - before_s);
    let counters = kernel.counters();
    println!(
        "{{\"regime\": \"{}\", \"depth\": {}, \"width\": {}, \"orders\": {}, \"seconds\": {seconds:.6}, \"cpu_seconds\": {cpu_seconds:.6}, \
         \"orders_per_s\": {:.0}, \"orders_per_cpu_s\": {:.0}, \"cancelled_share\": {:.4}, \"accepted\": {}, \"rejected\": {}, \
         \"trades\": {}, \"events\": {}, \"resting\": {}, \"state_hash\": \"{:016x}\"}}",
        regime.name,
        regime.depth,
        regime.width,
        orders,
        orders as f64 / seconds,
        orders as f64 / cpu_seconds,
        flow.cancelled as f64 / (flow.cancelled + flow.filled).max(1) as f64,
        counters.accepted,
        counters.rejected,
        counters.trades,
        events.len(),
        counters.resting,
        kernel.state_hash(),
    );
}
