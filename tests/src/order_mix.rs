//! Random orders of every type in many symbols, for large batches: few accounts, ids and prices, so that they meet.

use ringlane_layout::orders::{
    AccountLimits, AdminAction, AdminOp, Instrument, Op, OrderFlag, OrderRequest, OrderType, SelfTrade, Side, TimeInForce, TimeRecord,
};
use ringlane_sidecar::kernels::orders::OrderKernel;

use crate::order_flow::Random;
use crate::order_pair::instrument;

/// Accounts that exist.
pub const ACCOUNTS: u32 = 40;
/// Lanes that are opened.
pub const LANES: u32 = 3;
/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// A limit over all symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tight {
    /// On what open orders are worth.
    Exposure,
    /// On how many they are.
    OpenOrders,
    /// On how many come in a second.
    Rate,
}

/// Instruments, limits and lanes of a mix.
pub struct World {
    /// Symbols 1 to this one.
    pub symbols: u32,
    /// Most orders that may rest.
    pub resting_orders_max: usize,
    /// Which limit over all symbols is so tight that it is met.
    pub tight: Option<Tight>,
}

impl World {
    /// A kernel in this world, with every symbol watched.
    ///
    /// # Panics
    /// Never: the records are right.
    #[must_use]
    pub fn kernel(&self, hash_seed: u64) -> OrderKernel {
        let mut kernel = OrderKernel::with_hash_seed(self.resting_orders_max, hash_seed);
        kernel.watch_new_symbols();
        for symbol in 1..=self.symbols {
            let record = Instrument { reference_price: 100, ..instrument(symbol, 1, 1, 0) };
            kernel.add_instrument(&record).expect("the record is right");
        }
        self.limits().iter().for_each(|record| kernel.set_accounts(record).expect("the record is right"));
        for lane in 1..=LANES {
            kernel.open_lane(lane, 1, ACCOUNTS);
        }
        kernel
    }

    /// Ten accounts each: without limits; with those of a symbol, in a group; with all, wide or tight; with none, in another group.
    fn limits(&self) -> Vec<AccountLimits> {
        let of = |account_first| AccountLimits { account_first, account_last: account_first + 9, ..AccountLimits::default() };
        let scale = |limit| if self.tight == Some(limit) { 1 } else { 1_000 };
        let all = AccountLimits {
            order_notional_max: 100_000,
            exposure_max: 40_000 * scale(Tight::Exposure),
            open_orders_max: 40 * scale(Tight::OpenOrders) as u32,
            order_rate_max: 100 * scale(Tight::Rate) as u32,
            self_trade: SelfTrade::CancelOldest as u8,
            group: 2,
            ..of(21)
        };
        let narrow = AccountLimits {
            order_quantity_max: 30,
            position_max: 400,
            price_collar_bps: 1_500,
            self_trade: SelfTrade::CancelNewest as u8,
            group: 1,
            ..of(11)
        };
        let mut limits = vec![of(1), narrow, all, AccountLimits { self_trade: SelfTrade::CancelBoth as u8, group: 2, ..of(31) }];
        let in_symbol =
            AccountLimits { symbol: 1, exposure_max: 5_000, open_orders_max: 6, order_rate_max: 30, ..AccountLimits::default() };
        limits.push(AccountLimits { account_first: 5, account_last: 25, ..in_symbol });
        limits.push(AccountLimits { account_first: 8, account_last: 38, symbol: self.symbols, position_max: 100, ..in_symbol });
        limits
    }
}

/// What happens between batches.
pub enum Between {
    /// Time passes.
    Time(TimeRecord),
    /// An administrator does something.
    Admin(AdminAction),
    /// A lane closes and opens anew; whether its orders are cancelled.
    Reopen(u32, bool),
}

/// Makes requests.
pub struct Mix {
    /// Where chance comes from.
    pub random: Random,
    symbols: u32,
    /// What is to come in turn, among other requests; the last one first.
    planned: Vec<OrderRequest>,
}

impl Mix {
    /// For this world.
    #[must_use]
    pub fn new(seed: u64, world: &World) -> Self {
        Self { random: Random::new(seed), symbols: world.symbols, planned: Vec::new() }
    }

    fn number(&mut self, first: u64, last: u64) -> u64 {
        first + self.random.below(last - first + 1)
    }

    /// One in `n`.
    fn rare(&mut self, n: u64) -> bool {
        self.random.below(n) == 0
    }

    /// A batch that names symbols; `barriers`: now and then a mass cancel or a take-over.
    pub fn batch(&mut self, count: usize, barriers: bool) -> Vec<OrderRequest> {
        (0..count).map(|_| if barriers && self.rare(200) { self.barrier() } else { self.request() }).collect()
    }

    fn barrier(&mut self) -> OrderRequest {
        let op = if self.rare(2) { Op::TakeOver } else { Op::CancelAll };
        let symbol = if self.rare(2) { 0 } else { self.number(1, self.symbols.into()) as u32 };
        OrderRequest { op: op as u8, symbol, account: self.number(1, ACCOUNTS.into()) as u32, ..OrderRequest::default() }
    }

    /// A position that comes near zero while an order that reduces it rests: an account takes, offers what it took to reduce,
    /// gives most of it away otherwise, and others take the offer.
    fn plan_position(&mut self) {
        let (symbol, account) = (self.number(1, self.symbols.into()) as u32, self.number(1, ACCOUNTS.into()) as u32);
        let (taken, opens) = (self.number(2, 12) as i64, 1 + self.random.below(2) as u8);
        let is_buy = opens == Side::Buy as u8;
        let closes = Side::Buy as u8 + Side::Sell as u8 - opens;
        let base = OrderRequest {
            op: Op::New as u8,
            order_type: OrderType::Limit as u8,
            time_in_force: TimeInForce::Ioc as u8,
            symbol,
            account,
            ..OrderRequest::default()
        };
        let (far, near) = if is_buy { (106, 101) } else { (94, 99) };
        let offer = OrderRequest {
            side: closes,
            price: near,
            quantity: self.number(1, taken as u64) as i64,
            time_in_force: TimeInForce::Gtc as u8,
            flags: OrderFlag::REDUCE_ONLY,
            ..base
        };
        let other = 1 + account % ACCOUNTS;
        let rests = OrderRequest { account: other, time_in_force: TimeInForce::Gtc as u8, ..base };
        let (gives, takes) = (self.number(1, taken as u64) as i64, self.number(1, 20) as i64);
        let turn = [
            OrderRequest { side: closes, price: near, quantity: taken, ..rests },
            OrderRequest { side: opens, price: far, quantity: taken, ..base },
            offer,
            OrderRequest { side: opens, price: 200 - near, quantity: gives, ..rests },
            OrderRequest { side: closes, price: 200 - far, quantity: gives, ..base },
            OrderRequest { side: opens, price: far, quantity: takes, account: 1 + other % ACCOUNTS, ..base },
        ];
        self.planned = turn.into_iter().rev().collect();
        for request in &mut self.planned {
            request.client_order_id = 13 + self.random.below(12);
        }
    }

    fn request(&mut self) -> OrderRequest {
        if self.planned.is_empty() && self.rare(6) {
            self.plan_position();
        }
        if !self.rare(3)
            && let Some(planned) = self.planned.pop()
        {
            return planned;
        }
        let mut request = OrderRequest {
            op: Op::New as u8,
            side: self.number(1, 2) as u8,
            order_type: OrderType::Limit as u8,
            time_in_force: TimeInForce::Gtc as u8,
            symbol: if self.rare(300) { self.symbols + 1 } else { self.number(1, self.symbols.into()) as u32 },
            account: if self.rare(300) { ACCOUNTS + 1 } else { self.number(1, ACCOUNTS.into()) as u32 },
            client_order_id: self.number(1, 12),
            quantity: self.number(1, 20) as i64,
            ..OrderRequest::default()
        };
        let away = self.number(0, 8) as i64;
        request.price = if request.side == Side::Buy as u8 { 102 - away } else { 98 + away };
        match self.random.below(20) {
            0..12 => self.kind(&mut request),
            12..15 => (request.op, request.quantity, request.price) = (Op::Cancel as u8, 0, 0),
            15 => request.op = Op::Reduce as u8,
            _ => {
                request.op = Op::Replace as u8;
                if self.rare(4) {
                    request.stop_price = 96 + self.number(0, 8) as i64;
                    request.price *= i64::from(!self.rare(2));
                }
            }
        }
        request
    }

    /// Makes a new limit order one of another type, more often than not.
    fn kind(&mut self, request: &mut OrderRequest) {
        let sets_price = |request: &mut OrderRequest, is_market| {
            if is_market {
                request.price = 0;
            }
        };
        match self.random.below(16) {
            0 => request.time_in_force = TimeInForce::Ioc as u8,
            1 => request.time_in_force = TimeInForce::Fok as u8,
            2 => request.flags = OrderFlag::POST_ONLY,
            3 => {
                (request.order_type, request.time_in_force) = (OrderType::Market as u8, TimeInForce::Ioc as u8);
                request.price = 0;
            }
            4 => request.time_in_force = TimeInForce::Day as u8,
            5 => (request.time_in_force, request.expires_ns) = (TimeInForce::Gtd as u8, self.number(1, 60) * SECOND_NS / 4),
            6 | 7 => request.display_quantity = self.number(1, request.quantity as u64) as u32,
            8 | 9 => {
                let is_market = self.rare(2);
                request.order_type = if is_market { OrderType::Stop } else { OrderType::StopLimit } as u8;
                request.stop_price = if request.side == Side::Buy as u8 { 99 } else { 96 } + self.number(0, 5) as i64;
                sets_price(request, is_market);
            }
            10 | 11 => request.flags = OrderFlag::REDUCE_ONLY,
            _ => {}
        }
    }

    /// Something that happens between batches, seldom nothing.
    pub fn between(&mut self, now_ns: u64) -> Option<Between> {
        match self.random.below(4) {
            0 => {
                let ends_day = u8::from(self.rare(4)).into();
                Some(Between::Time(TimeRecord { time_ns: now_ns + self.number(0, SECOND_NS), ends_day, ..TimeRecord::default() }))
            }
            1 => {
                let action = [AdminOp::Halt, AdminOp::Resume, AdminOp::Resume, AdminOp::CancelAll][self.random.below(4) as usize] as u8;
                let symbol = self.number(1, self.symbols.into()) as u32;
                Some(Between::Admin(AdminAction { action, symbol, ..AdminAction::default() }))
            }
            2 => Some(Between::Reopen(self.number(1, LANES.into()) as u32, self.rare(2))),
            _ => None,
        }
    }
}
