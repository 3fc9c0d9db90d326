//! Flows through one book in five regimes, from a still market to a crash: what an engine's book is measured with. Of 100
//! requests 15 are immediate, 20 replace, the others enter and cancel; about 95 of 100 resting orders end cancelled. The
//! generator watches its own kernel, so that what it changes is live.

use std::collections::{BTreeSet, HashMap};

use ringlane_layout::orders::{
    AccountLimits, Instrument, Op, OrderRequest, OrderResult, OrderState, OrderType, SelfTrade, Side, TimeInForce,
};
use ringlane_sidecar::kernels::orders::{OrderKernel, Outgoing};

use crate::order_flow::{LANE, Random};

const PRICE_START: i64 = 1_000_000;

/// How a market moves.
pub struct Regime {
    /// Its name.
    pub name: &'static str,
    /// Orders that rest.
    pub depth: usize,
    /// Ticks from the middle within which orders enter.
    pub width: u64,
    /// Where the middle stands, in ticks from its start, after this many requests.
    drift: fn(usize) -> i64,
    /// Whether the middle wanders a tick up or down besides.
    wanders: bool,
}

/// Up and down by a tick every `slowness` requests, `ticks` to each side.
fn swing(number: usize, slowness: usize, ticks: usize) -> i64 {
    let at = number / slowness % (4 * ticks);
    (if at < 2 * ticks { at } else { 4 * ticks - at }) as i64 - ticks as i64
}

/// The five regimes. None moves faster than its owners can cancel what the middle passes.
pub static REGIMES: [Regime; 5] = [
    Regime { name: "still", depth: 1_000, width: 10, drift: |_| 0, wanders: false },
    Regime { name: "normal", depth: 10_000, width: 50, drift: |_| 0, wanders: true },
    Regime { name: "slow_swing", depth: 10_000, width: 100, drift: |number| swing(number, 400, 60), wanders: false },
    Regime { name: "fast_swing", depth: 5_000, width: 200, drift: |number| swing(number, 100, 50), wanders: false },
    Regime { name: "crash", depth: 20_000, width: 2_000, drift: |number| -(number as i64 / 30), wanders: false },
];

/// What a program is asked that runs one regime's flow.
#[derive(clap::Args)]
pub struct FlowOptions {
    /// still, normal, slow_swing, fast_swing or crash.
    #[arg(long, value_parser = regime)]
    pub regime: &'static Regime,
    /// Requests that are measured; a tenth as many run before them.
    #[arg(long)]
    pub orders: usize,
    /// Seed of the flow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl FlowOptions {
    /// Requests that run before time is taken, behind those that bring the book to its depth.
    #[must_use]
    pub fn warm(&self) -> usize {
        self.orders / 10
    }

    /// The flow: what runs before, and what is measured.
    #[must_use]
    pub fn flow(&self, full: bool) -> BookFlow {
        book_flow(self.regime, full, self.seed, self.warm() + self.orders)
    }
}

fn regime(name: &str) -> Result<&'static Regime, String> {
    let names = || REGIMES.each_ref().map(|regime| regime.name).join(", ");
    REGIMES.iter().find(|regime| regime.name == name).ok_or_else(|| format!("there are {}", names()))
}

/// A kernel with one symbol. `full`: a thousand accounts with every limit and self-trade prevention. Else one account
/// without any: the book alone.
///
/// # Panics
/// Never: the records are right.
#[must_use]
pub fn kernel(full: bool) -> OrderKernel {
    let mut kernel = OrderKernel::new(1 << 20);
    let mut name = [0; 24];
    name[..4].copy_from_slice(b"BOOK");
    let record = Instrument { symbol: 1, tick: 1, lot: 1, reference_price: PRICE_START, name, ..Instrument::default() };
    kernel.add_instrument(&record).expect("the record is right");
    let mut limits = AccountLimits { account_first: 1, account_last: accounts(full), ..AccountLimits::default() };
    if full {
        limits.order_quantity_max = 10_000;
        limits.position_max = 1 << 40;
        limits.order_notional_max = 1 << 50;
        limits.exposure_max = 1 << 60;
        limits.price_collar_bps = 50_000;
        limits.open_orders_max = 1 << 20;
        limits.order_rate_max = 1 << 30;
        limits.self_trade = SelfTrade::CancelNewest as u8;
    }
    kernel.set_accounts(&limits).expect("the record is right");
    kernel.open_lane(LANE, 1, accounts(full));
    kernel
}

fn accounts(full: bool) -> u32 {
    if full { 1_000 } else { 1 }
}

/// A generated flow and what becomes of its orders.
pub struct BookFlow {
    /// Requests that bring the book to its depth.
    pub prefill: Vec<OrderRequest>,
    /// The flow itself.
    pub orders: Vec<OrderRequest>,
    /// Orders that had rested and were cancelled, or filled, during the flow.
    pub cancelled: u64,
    /// See `cancelled`.
    pub filled: u64,
}

/// A flow of `count` requests.
#[must_use]
pub fn book_flow(regime: &Regime, full: bool, seed: u64, count: usize) -> BookFlow {
    let mut generator = Generator {
        random: Random::new(seed),
        kernel: kernel(full),
        accounts: accounts(full).into(),
        width: regime.width,
        mid: PRICE_START,
        live: Vec::new(),
        places: HashMap::new(),
        sides: [BTreeSet::new(), BTreeSet::new()],
        sequence: 0,
        cancelled: 0,
        filled: 0,
    };
    let prefill = (0..regime.depth).map(|_| generator.enter(TimeInForce::Gtc)).collect();
    let mut wandered = 0;
    let mut orders = Vec::with_capacity(count);
    for number in 0..count {
        if regime.wanders && generator.random.below(64) == 0 {
            wandered += if generator.random.below(2) == 0 { 1 } else { -1 };
        }
        generator.mid = PRICE_START + wandered + (regime.drift)(number);
        orders.push(generator.step(regime.depth));
    }
    BookFlow { prefill, orders, cancelled: generator.cancelled, filled: generator.filled }
}

struct Generator {
    random: Random,
    kernel: OrderKernel,
    accounts: u64,
    width: u64,
    mid: i64,
    live: Vec<(u64, OrderRequest)>,
    /// Order id to index in `live`.
    places: HashMap<u64, usize>,
    /// (price, order id) of what is live: bids, asks.
    sides: [BTreeSet<(i64, u64)>; 2],
    sequence: u64,
    cancelled: u64,
    filled: u64,
}

impl Generator {
    fn step(&mut self, depth: usize) -> OrderRequest {
        match self.random.below(100) {
            0..15 => self.enter(TimeInForce::Ioc),
            15..35 if !self.live.is_empty() => self.change(Op::Replace),
            _ if self.live.len() <= depth => self.enter(TimeInForce::Gtc),
            _ => self.change(Op::Cancel),
        }
    }

    /// A new order: one that rests beside the middle, most near it, or an immediate one that may meet the best.
    fn enter(&mut self, time_in_force: TimeInForce) -> OrderRequest {
        let is_ioc = time_in_force == TimeInForce::Ioc;
        let side = if self.random.below(2) == 0 { Side::Buy } else { Side::Sell };
        let away = if is_ioc { -1 - self.random.below(2) as i64 } else { self.away() };
        let request = OrderRequest {
            op: Op::New as u8,
            side: side as u8,
            order_type: OrderType::Limit as u8,
            time_in_force: time_in_force as u8,
            symbol: 1,
            account: 1 + self.random.below(self.accounts) as u32,
            client_order_id: self.sequence + 1,
            price: self.price(side as u8, away),
            quantity: if is_ioc { 1 + self.random.below(15) as i64 } else { 50 + self.random.below(100) as i64 },
            ..OrderRequest::default()
        };
        self.watch(&request);
        request
    }

    /// Ticks from the middle: the smaller of two random numbers, so that most are near.
    fn away(&mut self) -> i64 {
        1 + self.random.below(self.width).min(self.random.below(self.width)) as i64
    }

    fn price(&self, side: u8, away: i64) -> i64 {
        self.mid + if side == Side::Buy as u8 { -away } else { away }
    }

    /// Changes an order that the middle has passed, if there is one, as its owner would; else any.
    fn change(&mut self, op: Op) -> OrderRequest {
        let bid = self.sides[0].last().filter(|(price, _)| *price >= self.mid);
        let ask = self.sides[1].first().filter(|(price, _)| *price <= self.mid);
        let at = match bid.or(ask) {
            Some((_, order_id)) => self.places[order_id],
            None => self.random.below(self.live.len() as u64) as usize,
        };
        let passed = bid.or(ask).is_some();
        let old = self.live[at].1;
        let mut request =
            OrderRequest { op: op as u8, symbol: 1, account: old.account, client_order_id: old.client_order_id, ..OrderRequest::default() };
        if op == Op::Replace {
            request.side = old.side;
            let keeps_price = !passed && self.random.below(2) == 0;
            let away = self.away();
            request.price = if keeps_price { old.price } else { self.price(old.side, away) };
            request.quantity = if keeps_price { 1.max(old.quantity * 3 / 4) } else { 50 + self.random.below(100) as i64 };
        }
        self.watch(&request);
        request
    }

    /// Sends the request to the generator's own kernel and notes what lives.
    fn watch(&mut self, request: &OrderRequest) {
        self.sequence += 1;
        let (mut results, mut events) = ([OrderResult::default()], Vec::new());
        self.kernel.process(self.sequence, LANE, std::slice::from_ref(request), &mut results, &mut events);
        for Outgoing { event, .. } in events {
            self.filled += u64::from(event.remaining_quantity == 0);
            self.set(event.order_id, event.remaining_quantity.into(), None);
        }
        let [result] = results;
        if result.code != 0 {
            return;
        }
        let remaining = i64::from(result.remaining_quantity);
        if request.op == Op::New as u8 {
            if result.state == OrderState::Resting as u8 {
                self.places.insert(self.sequence, self.live.len());
                self.live.push((self.sequence, OrderRequest { quantity: remaining, ..*request }));
                self.sides[usize::from(request.side == Side::Sell as u8)].insert((request.price, self.sequence));
            }
            return;
        }
        self.cancelled += u64::from(result.state == OrderState::Cancelled as u8);
        self.filled += u64::from(result.state == OrderState::Filled as u8);
        self.set(result.order_id, remaining, (request.op == Op::Replace as u8).then_some(request.price));
    }

    /// Notes what an order has open now, and at which price; nothing takes it off the list.
    fn set(&mut self, order_id: u64, open: i64, price: Option<i64>) {
        let Some(&at) = self.places.get(&order_id) else { return };
        let order = &mut self.live[at].1;
        let side = &mut self.sides[usize::from(order.side == Side::Sell as u8)];
        side.remove(&(order.price, order_id));
        order.quantity = open;
        order.price = price.unwrap_or(order.price);
        if open != 0 {
            side.insert((order.price, order_id));
            return;
        }
        self.places.remove(&order_id);
        self.live.swap_remove(at);
        if let Some((moved, _)) = self.live.get(at) {
            self.places.insert(*moved, at);
        }
    }
}
