//! `order_flow`: runs a seeded flow through the order kernel as a library, on one thread, and prints one JSON line.
//! Generation and filling the books come before the measured part, which is `run_flow` alone.

use std::process::ExitCode;
use std::time::Instant;

use ringlane_layout::orders::OrderResult;
use ringlane_tests::order_flow::{cpu_seconds, flow, kernel, rest_only, run_flow, run_flow_watched};

const USAGE: &str = "usage: order_flow --orders N --seed S [--batch B] [--resting R] [--rest-only] [--watched]
  --orders N     orders that are measured
  --seed S       seed of the flow
  --batch B      orders in one batch (256)
  --resting R    resting orders in all books together, entered before the measured part (100000)
  --rest-only    nothing but orders that rest, into empty books
  --watched      with market data of every symbol told after each batch";

struct Options {
    orders: usize,
    seed: u64,
    batch: usize,
    resting: usize,
    rest_only: bool,
    watched: bool,
}

fn options() -> Option<Options> {
    let mut options = Options { orders: 0, seed: 0, batch: 256, resting: 100_000, rest_only: false, watched: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--rest-only" {
            options.rest_only = true;
            continue;
        }
        if name == "--watched" {
            options.watched = true;
            continue;
        }
        let value = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--orders" => options.orders = value as usize,
            "--seed" => options.seed = value,
            "--batch" => options.batch = value as usize,
            "--resting" => options.resting = value as usize,
            _ => return None,
        }
    }
    (options.orders > 0 && options.batch > 0).then_some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let flow =
        if options.rest_only { rest_only(options.seed, options.orders) } else { flow(options.seed, options.orders, options.resting) };
    let mut kernel = kernel();
    let mut results = vec![OrderResult::default(); options.batch];
    let mut events = Vec::with_capacity(64 * options.batch);
    run_prefill(&mut kernel, &flow.prefill, &mut results);
    if options.watched {
        for symbol in 1..=kernel.instrument_count() {
            kernel.watch(symbol);
        }
    }
    let before = kernel.counters();
    let cpu_before = cpu_seconds();
    let start = Instant::now();
    let first = flow.prefill.len() as u64 + 1;
    let told = if options.watched {
        run_flow_watched(&mut kernel, first, &flow.orders, &mut results, &mut events)
    } else {
        run_flow(&mut kernel, first, &flow.orders, &mut results, &mut events);
        0
    };
    let seconds = start.elapsed().as_secs_f64();
    let cpu_seconds = cpu_seconds() - cpu_before;
    let after = kernel.counters();
    println!(
        "{{\"orders\": {}, \"told\": {told}, \"seconds\": {seconds:.6}, \"orders_per_s\": {:.0}, \"cpu_seconds\": {cpu_seconds:.6}, \"accepted\": {}, \"rejected\": {}, \"trades\": {}, \
         \"resting\": {}, \"heap_bytes\": {}, \"state_hash\": \"{:016x}\"}}",
        options.orders,
        options.orders as f64 / seconds,
        after.accepted - before.accepted,
        after.rejected - before.rejected,
        after.trades - before.trades,
        after.resting,
        kernel.heap_bytes(),
        kernel.state_hash(),
    );
    ExitCode::SUCCESS
}

/// Brings the books to their depth. Not `run_flow`, so that a profiler that collects there does not see it.
fn run_prefill(
    kernel: &mut ringlane_sidecar::kernels::orders::OrderKernel,
    prefill: &[ringlane_layout::orders::OrderRequest],
    results: &mut [OrderResult],
) {
    let (mut sequence, mut events) = (1, Vec::new());
    for requests in prefill.chunks(results.len()) {
        events.clear();
        kernel.process(sequence, ringlane_tests::order_flow::LANE, requests, &mut results[..requests.len()], &mut events);
        sequence += requests.len() as u64;
    }
}
