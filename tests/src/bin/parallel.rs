//! `parallel`: runs one flow of 64 symbols through two kernels of the library, batch by batch: in sequence, and by symbol on
//! several threads. Prints one JSON line. Segments of both alternate, so that a machine that is busy now and then concerns both;
//! memory is touched and a tenth of the flow is run before time is taken. Fails where both do not end the same.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ringlane_layout::orders::{AccountLimits, OrderEvent, OrderRequest, OrderResult, SelfTrade};
use ringlane_sidecar::kernels::orders::{OrderKernel, Outgoing, Parallel, Sequential};
use ringlane_tests::order_flow::{ACCOUNTS, LANE, flow, kernel};

#[derive(Parser)]
struct Options {
    /// Orders that are measured, each way.
    #[arg(long)]
    orders: usize,
    /// Seed of the flow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Orders in one batch.
    #[arg(long, default_value_t = 4096)]
    batch: usize,
    /// Threads, the caller's own among them.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Resting orders in all books together.
    #[arg(long, default_value_t = 100_000)]
    resting: usize,
    /// Every limit and self-trade prevention, instead of size, position and collar alone.
    #[arg(long)]
    full: bool,
}

/// One way: its kernel, what it has taken, and its seconds.
struct Way {
    kernel: OrderKernel,
    parallel: Option<Parallel>,
    results: Vec<OrderResult>,
    events: Vec<Outgoing>,
    sequence: u64,
    seconds: f64,
    matched: u64,
    reasons: [u64; Sequential::ALL.len()],
}

impl Way {
    fn new(options: &Options, parallel: Option<Parallel>) -> Self {
        let mut kernel = kernel();
        if options.full {
            let limits = AccountLimits {
                account_first: 1,
                account_last: ACCOUNTS,
                order_quantity_max: 10_000,
                position_max: 1_000_000,
                price_collar_bps: 1_000,
                order_notional_max: 1 << 50,
                exposure_max: 1 << 60,
                open_orders_max: 1 << 20,
                order_rate_max: 1 << 30,
                self_trade: SelfTrade::CancelNewest as u8,
                ..AccountLimits::default()
            };
            kernel.set_accounts(&limits).expect("the record is right");
        }
        let event = Outgoing { lane: 1, event: OrderEvent { number: 1, ..OrderEvent::default() } };
        let mut events = vec![std::hint::black_box(event); 16 * options.batch];
        events.clear();
        let results = vec![std::hint::black_box(OrderResult { sequence: 1, ..OrderResult::default() }); options.batch];
        Self { kernel, parallel, results, events, sequence: 1, seconds: 0.0, matched: 0, reasons: Default::default() }
    }

    fn run(&mut self, requests: &[OrderRequest]) {
        let start = Instant::now();
        for requests in requests.chunks(self.results.len()) {
            let results = &mut self.results[..requests.len()];
            self.events.clear();
            let numbers = (self.sequence, LANE);
            let refused = match &mut self.parallel {
                Some(parallel) => parallel.process(&mut self.kernel, numbers, requests, results, &mut self.events).err(),
                None => Some(Sequential::Small),
            };
            match refused {
                None => self.matched += 1,
                Some(reason) => {
                    self.kernel.process(self.sequence, LANE, requests, results, &mut self.events);
                    self.reasons[reason as usize] += 1;
                }
            }
            self.sequence += requests.len() as u64;
        }
        self.seconds += start.elapsed().as_secs_f64();
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.batch == 0 || options.orders == 0 {
        eprintln!("batch and orders are at least 1");
        return ExitCode::FAILURE;
    }
    let parallel = match Parallel::new(options.threads, 2) {
        Ok(parallel) => parallel,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let warm = options.orders / 10;
    let flow = flow(options.seed, warm + options.orders, options.resting);
    let mut ways = [Way::new(&options, None), Way::new(&options, Some(parallel))];
    for way in &mut ways {
        way.run(&flow.prefill);
        way.run(&flow.orders[..warm]);
        (way.seconds, way.matched, way.reasons) = (0.0, 0, Default::default());
    }
    for segment in flow.orders[warm..].chunks(options.batch * 32) {
        ways.iter_mut().for_each(|way| way.run(segment));
    }
    let [sequential, parallel] = &ways;
    if sequential.kernel.state_hash() != parallel.kernel.state_hash() {
        eprintln!("both ways do not end the same");
        return ExitCode::FAILURE;
    }
    let rate = |way: &Way| options.orders as f64 / way.seconds;
    println!(
        "{{\"orders\": {}, \"batch\": {}, \"threads\": {}, \"full\": {}, \"sequential_per_s\": {:.0}, \"parallel_per_s\": {:.0}, \
         \"speedup\": {:.4}, \"batches_parallel\": {}, \"batches_sequential\": {}, \"state_hash\": \"{:016x}\"}}",
        options.orders,
        options.batch,
        options.threads,
        options.full,
        rate(sequential),
        rate(parallel),
        rate(parallel) / rate(sequential),
        parallel.matched,
        parallel.reasons.iter().sum::<u64>(),
        parallel.kernel.state_hash(),
    );
    ExitCode::SUCCESS
}
