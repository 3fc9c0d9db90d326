//! `books`: runs a regime's flow through one book of the library, on one thread, and prints one JSON line. Every result and
//! event is written out, each to a place of its own; all memory is touched and a tenth of the flow is run before time is taken.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ringlane_layout::orders::{OrderEvent, OrderResult};
use ringlane_sidecar::kernels::orders::Outgoing;
use ringlane_tests::book_flow::{REGIMES, book_flow, kernel};
use ringlane_tests::order_flow::{LANE, cpu_seconds};

#[derive(Parser)]
struct Options {
    /// still, normal, slow_swing, fast_swing or crash.
    #[arg(long)]
    regime: String,
    /// Requests that are measured.
    #[arg(long)]
    orders: usize,
    /// Seed of the flow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests in one batch.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// A thousand accounts with every limit and self-trade prevention, instead of the book alone.
    #[arg(long)]
    full: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let Some(regime) = REGIMES.iter().find(|regime| regime.name == options.regime) else {
        eprintln!("there is no regime {:?}; there are {:?}", options.regime, REGIMES.map(|regime| regime.name));
        return ExitCode::FAILURE;
    };
    let warm = options.orders / 10;
    let flow = book_flow(regime, options.full, options.seed, warm + options.orders);
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
        options.orders,
        options.orders as f64 / seconds,
        options.orders as f64 / cpu_seconds,
        flow.cancelled as f64 / (flow.cancelled + flow.filled).max(1) as f64,
        counters.accepted,
        counters.rejected,
        counters.trades,
        events.len(),
        counters.resting,
        kernel.state_hash(),
    );
    ExitCode::SUCCESS
}
