//! A seeded flow of orders as a busy host would see it: many symbols and accounts, mid prices that wander, books whose
//! depth stays bounded. The generator watches its own kernel, so that cancels name orders that are live.

use std::collections::HashMap;

use ringlane_layout::market::MarketRecord;
use ringlane_layout::orders::{
    AccountLimits, EventKind, Instrument, Op, OrderFlag, OrderRequest, OrderResult, OrderState, OrderType, Side, TimeInForce,
};
use ringlane_sidecar::kernels::orders::{OrderKernel, Outgoing};

/// Symbols of the flow.
pub const SYMBOLS: u32 = 64;
/// Accounts of the flow.
pub const ACCOUNTS: u32 = 10_000;
/// The lane that sends everything.
pub const LANE: u32 = 1;
/// Most resting orders of a kernel made by `kernel`.
pub const RESTING_ORDERS_MAX: usize = 8_000_000;
const PRICE_START: i64 = 100_000;
const ORDER_QUANTITY_MAX: i64 = 10_000;

/// SplitMix64: small, seeded, the same on every machine.
pub struct Random(u64);

impl Random {
    /// Begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// A kernel with the flow's symbols, accounts and lane, every stage switched on.
///
/// # Panics
/// Never: the records are right.
#[must_use]
pub fn kernel() -> OrderKernel {
    let mut kernel = OrderKernel::new(RESTING_ORDERS_MAX);
    for symbol in 1..=SYMBOLS {
        let mut name = [0; 24];
        let text = format!("FLOW{symbol:02}");
        name[..text.len()].copy_from_slice(text.as_bytes());
        let record = Instrument { symbol, price_decimals: 2, tick: 1, lot: 1, reference_price: PRICE_START, name, ..Instrument::default() };
        kernel.add_instrument(&record).expect("the record is right");
    }
    let limits = AccountLimits {
        account_first: 1,
        account_last: ACCOUNTS,
        order_quantity_max: ORDER_QUANTITY_MAX,
        position_max: 1_000_000,
        price_collar_bps: 1_000,
        ..AccountLimits::default()
    };
    kernel.set_accounts(&limits).expect("the record is right");
    kernel.open_lane(LANE, 1, ACCOUNTS);
    kernel
}

/// A generated flow: `prefill` brings the books to their depth, `orders` is what is measured.
pub struct Flow {
    /// Orders that all rest.
    pub prefill: Vec<OrderRequest>,
    /// The flow itself.
    pub orders: Vec<OrderRequest>,
}

/// What the generator knows of a live order.
#[derive(Clone, Copy)]
struct Live {
    order_id: u64,
    request: OrderRequest,
}

/// Makes requests and watches what became of them.
struct Generator {
    random: Random,
    kernel: OrderKernel,
    mids: Vec<i64>,
    live: Vec<Live>,
    /// Order id to index in `live`.
    places: HashMap<u64, usize>,
    sequence: u64,
    client_order_id: u64,
    resting_target: usize,
    events: Vec<Outgoing>,
}

/// A flow of `count` orders in books of about `resting_target` resting orders together.
#[must_use]
pub fn flow(seed: u64, count: usize, resting_target: usize) -> Flow {
    let mut generator = Generator::new(seed, resting_target);
    let prefill = (0..resting_target).map(|_| generator.prefill()).collect();
    let orders = (0..count).map(|_| generator.step()).collect();
    Flow { prefill, orders }
}

/// A flow of `count` orders that all rest.
#[must_use]
pub fn rest_only(seed: u64, count: usize) -> Flow {
    let mut generator = Generator::new(seed, count);
    let orders = (0..count).map(|_| generator.prefill()).collect();
    Flow { prefill: Vec::new(), orders }
}

impl Generator {
    fn new(seed: u64, resting_target: usize) -> Self {
        Self {
            random: Random::new(seed),
            kernel: kernel(),
            mids: vec![PRICE_START; SYMBOLS as usize],
            live: Vec::new(),
            places: HashMap::new(),
            sequence: 0,
            client_order_id: 0,
            resting_target,
            events: Vec::new(),
        }
    }

    fn side(&mut self) -> Side {
        if self.random.below(2) == 0 { Side::Buy } else { Side::Sell }
    }

    /// Ticks from the mid: most near it, some far.
    fn offset(&mut self) -> i64 {
        let bits = self.random.next_u64();
        let near = 1 + i64::from((bits as u32).trailing_zeros()) * 3 + (bits >> 40) as i64 % 6;
        if bits >> 60 == 0 { near + (bits >> 50) as i64 % 200 } else { near }
    }

    /// A limit order whose price stands `ticks` away from the mid, away from the other side when positive.
    fn limit(&mut self, ticks: i64, quantity: i64) -> OrderRequest {
        self.client_order_id += 1;
        let symbol = 1 + self.random.below(SYMBOLS.into()) as u32;
        let side = self.side();
        let mid = self.mids[symbol as usize - 1];
        OrderRequest {
            op: Op::New as u8,
            side: side as u8,
            order_type: OrderType::Limit as u8,
            time_in_force: TimeInForce::Gtc as u8,
            symbol,
            account: 1 + self.random.below(ACCOUNTS.into()) as u32,
            client_order_id: self.client_order_id,
            price: if side == Side::Buy { mid - ticks } else { mid + ticks },
            quantity,
            ..OrderRequest::default()
        }
    }

    fn quantity(&mut self) -> i64 {
        1 + self.random.below(100) as i64
    }

    fn prefill(&mut self) -> OrderRequest {
        let (ticks, quantity) = (self.offset(), self.quantity());
        let request = self.limit(ticks, quantity);
        self.watch(&request);
        request
    }

    /// The next request of the mix.
    fn step(&mut self) -> OrderRequest {
        let symbol = self.random.below(SYMBOLS.into()) as usize;
        if self.random.below(32) == 0 {
            self.mids[symbol] += if self.random.below(2) == 0 { 1 } else { -1 };
        }
        let mut pick = self.random.below(100);
        if pick < 75 {
            // The depth stays bounded: too many turn adds into cancels, too few the other way.
            let (count, target) = (self.live.len(), self.resting_target);
            pick = if count > target + target / 50 {
                60
            } else if count < target - target / 50 {
                0
            } else {
                pick
            };
        }
        let (offset, quantity) = (self.offset(), self.quantity());
        let request = match pick {
            0..45 => self.limit(offset, quantity),
            45..75 => self.change(Op::Cancel, 0),
            75..80 => self.change(Op::Reduce, 0),
            80..88 => self.change(Op::Replace, offset),
            88..98 => self.marketable(quantity * 2),
            _ => self.wrong(),
        };
        self.watch(&request);
        request
    }

    /// Changes an order that lives; a new one when none does.
    fn change(&mut self, op: Op, offset: i64) -> OrderRequest {
        if self.live.is_empty() {
            return self.limit(1, 1);
        }
        let at = self.random.below(self.live.len() as u64) as usize;
        let old = self.live[at].request;
        let mid = self.mids[old.symbol as usize - 1];
        let fresh = OrderRequest {
            op: op as u8,
            symbol: old.symbol,
            account: old.account,
            client_order_id: old.client_order_id,
            ..OrderRequest::default()
        };
        match op {
            Op::Reduce => OrderRequest { quantity: 1.max(old.quantity / 4), ..fresh },
            Op::Replace => {
                let price = if old.side == Side::Buy as u8 { mid - offset } else { mid + offset };
                OrderRequest { side: old.side, price, quantity: self.quantity(), ..fresh }
            }
            _ => fresh,
        }
    }

    /// Immediate orders that reach into the other side.
    fn marketable(&mut self, quantity: i64) -> OrderRequest {
        let mut request = self.limit(-4, quantity);
        request.time_in_force = match self.random.below(10) {
            0 => TimeInForce::Fok,
            _ => TimeInForce::Ioc,
        } as u8;
        if self.random.below(5) == 0 {
            request.order_type = OrderType::Market as u8;
            request.price = 0;
        }
        request
    }

    /// Requests that must be rejected.
    fn wrong(&mut self) -> OrderRequest {
        let mut request = self.limit(5, 10);
        match self.random.below(6) {
            0 => request.quantity = ORDER_QUANTITY_MAX + 1,
            1 => request.price = PRICE_START * 2,
            2 => request.symbol = SYMBOLS + 1,
            3 => request.account = ACCOUNTS + 1,
            4 => request.op = Op::Cancel as u8,
            _ => {
                request.flags = OrderFlag::POST_ONLY;
                request.time_in_force = TimeInForce::Ioc as u8;
            }
        }
        request
    }

    /// Sends the request to the generator's own kernel and notes what lives.
    fn watch(&mut self, request: &OrderRequest) {
        self.sequence += 1;
        let mut results = [OrderResult::default()];
        self.events.clear();
        self.kernel.process(self.sequence, LANE, std::slice::from_ref(request), &mut results, &mut self.events);
        for Outgoing { event, .. } in std::mem::take(&mut self.events) {
            debug_assert_eq!(event.kind, EventKind::Fill as u8);
            self.set_open(event.order_id, event.remaining_quantity.into());
        }
        let [result] = results;
        if result.code != 0 {
            return;
        }
        if result.order_id == self.sequence {
            if result.state == OrderState::Resting as u8 {
                self.places.insert(self.sequence, self.live.len());
                self.live.push(Live {
                    order_id: self.sequence,
                    request: OrderRequest { quantity: result.remaining_quantity.into(), ..*request },
                });
            }
            return;
        }
        self.set_open(result.order_id, result.remaining_quantity.into());
    }

    /// Notes what an order has open now; nothing takes it off the list.
    fn set_open(&mut self, order_id: u64, open: i64) {
        let Some(&at) = self.places.get(&order_id) else { return };
        self.live[at].request.quantity = open;
        if open == 0 {
            self.places.remove(&order_id);
            self.live.swap_remove(at);
            if let Some(moved) = self.live.get(at) {
                self.places.insert(moved.order_id, at);
            }
        }
    }
}

/// Runs `orders` in batches of `batch` from `first_sequence`: the measured part, and nothing else.
#[inline(never)]
pub fn run_flow(
    kernel: &mut OrderKernel,
    first_sequence: u64,
    orders: &[OrderRequest],
    results: &mut [OrderResult],
    events: &mut Vec<Outgoing>,
) -> u64 {
    let batch = results.len();
    let (mut sequence, mut work) = (first_sequence, 0);
    for requests in orders.chunks(batch) {
        events.clear();
        work += kernel.process(sequence, LANE, requests, &mut results[..requests.len()], events);
        sequence += requests.len() as u64;
    }
    work
}

/// As `run_flow`, and asks after each batch what it changed in watched symbols. Gives how many records were told.
#[inline(never)]
pub fn run_flow_watched(
    kernel: &mut OrderKernel,
    first_sequence: u64,
    orders: &[OrderRequest],
    results: &mut [OrderResult],
    events: &mut Vec<Outgoing>,
) -> u64 {
    let batch = results.len();
    let (mut sequence, mut told, mut records) = (first_sequence, 0, Vec::with_capacity(8 * batch));
    for requests in orders.chunks(batch) {
        events.clear();
        records.clear();
        kernel.process(sequence, LANE, requests, &mut results[..requests.len()], events);
        sequence += requests.len() as u64;
        kernel.market(sequence - 1, Some(requests), events, &mut |record: MarketRecord| records.push(record));
        told += records.len() as u64;
    }
    told
}

/// Time that this thread ran, seconds: what a busy machine takes away does not count. 0 where Linux does not tell.
#[must_use]
pub fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ran_ns: f64 = text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0.0);
    ran_ns / 1e9
}
