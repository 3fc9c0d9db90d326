//! The order kernel's naive twin: one list of orders, linear scans, everything recomputed when it is asked. It shares
//! the records with the kernel and nothing else, and is obviously right rather than fast.

use std::collections::{BTreeMap, VecDeque};

use ringlane_layout::orders::{
    AccountLimits, AdminAction, CancelReason, EventKind, Instrument, OpenOrder, OrderEvent, OrderRequest, OrderResult, OrderState,
    RejectCode, Side, TimeRecord,
};

mod checks;
mod risk;
mod state;
mod trade;

const GTC: u8 = 1;
const IOC: u8 = 2;
const FOK: u8 = 3;
const DAY: u8 = 4;

/// A live order. `arrival` orders those of one price.
#[derive(Debug, Clone)]
struct Live {
    order_id: u64,
    client_order_id: u64,
    symbol: u32,
    account: u32,
    side: Side,
    /// 0 for a market order that waits.
    price: i128,
    /// All that is open, of which the book shows `shown`.
    open: i128,
    shown: i128,
    display: i128,
    filled: i128,
    lane: u32,
    arrival: u64,
    is_day: bool,
    expires_ns: u64,
    reduce_only: bool,
    /// The stop price while the order waits.
    stop: Option<i128>,
}

impl Live {
    fn is_market(&self) -> bool {
        self.price == 0
    }

    /// What one of its quantity is worth to limits.
    fn worth(&self) -> i128 {
        if self.is_market() { self.stop.unwrap_or(0) } else { self.price }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Settled {
    net: i128,
    cash: i128,
}

/// What an order asks for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    side: Side,
    /// `None` for a market order.
    price: Option<i128>,
    quantity: i128,
}

/// What an order did as taker.
#[derive(Debug, Default)]
struct Done {
    filled: i128,
    fills: u32,
    notional: i128,
    prices: Vec<i128>,
    prevented: bool,
}

/// One request on its way: its number, its lane, and the events so far.
struct Case<'a> {
    sequence: u64,
    lane: u32,
    k: u32,
    events: &'a mut Events,
}

/// The twin.
#[derive(Clone, Default)]
pub struct Twin {
    resting_orders_max: usize,
    instruments: Vec<Instrument>,
    last_prices: BTreeMap<u32, i128>,
    halted: BTreeMap<u32, bool>,
    live: Vec<Live>,
    settled: BTreeMap<(u32, u32), Settled>,
    /// By symbol (0: the account's own) and account.
    limits: BTreeMap<(u32, u32), AccountLimits>,
    /// By symbol and account: second and orders accepted in it.
    rates: BTreeMap<(u32, u32), (u64, u32)>,
    last_ids: BTreeMap<u32, u64>,
    lanes: BTreeMap<u32, (u32, u32)>,
    now_ns: u64,
    arrivals: u64,
    /// What was open of the order that a REPLACE takes out.
    replaced_open: i128,
    /// Accepted requests, rejected requests, fills.
    pub counts: (u64, u64, u64),
}

type Events = Vec<(u32, OrderEvent)>;

/// A limit of the largest number is none.
fn normal(record: &AccountLimits) -> AccountLimits {
    let wide = |limit: i64| if limit == i64::MAX { 0 } else { limit };
    let narrow = |limit: u32| if limit == u32::MAX { 0 } else { limit };
    AccountLimits {
        order_quantity_max: wide(record.order_quantity_max),
        position_max: wide(record.position_max),
        order_notional_max: wide(record.order_notional_max),
        exposure_max: wide(record.exposure_max),
        open_orders_max: narrow(record.open_orders_max),
        order_rate_max: narrow(record.order_rate_max),
        account_first: 0,
        account_last: 0,
        live: 0,
        ..*record
    }
}

impl Twin {
    /// A twin without symbols and accounts.
    #[must_use]
    pub fn new(resting_orders_max: usize) -> Self {
        Self { resting_orders_max, ..Self::default() }
    }

    /// Adds an instrument that is right.
    pub fn add_instrument(&mut self, instrument: &Instrument) {
        self.instruments.push(*instrument);
    }

    /// Applies a limits record that is right.
    pub fn set_accounts(&mut self, record: &AccountLimits) {
        let limits = normal(record);
        for account in record.account_first..=record.account_last {
            let is_none = limits == AccountLimits { symbol: record.symbol, ..AccountLimits::default() };
            if record.symbol != 0 && is_none {
                self.limits.remove(&(record.symbol, account));
            } else {
                self.limits.insert((record.symbol, account), limits);
            }
        }
    }

    /// Opens a lane.
    pub fn open_lane(&mut self, lane: u32, first: u32, last: u32) {
        if lane != 0 {
            self.lanes.insert(lane, (first, last));
        }
    }

    /// Closes a lane.
    pub fn close_lane(&mut self, lane: u32, cancel_orders: bool) {
        if self.lanes.remove(&lane).is_some() {
            self.live.retain(|order| order.lane != lane || !cancel_orders);
            self.live.iter_mut().filter(|order| order.lane == lane).for_each(|order| order.lane = 0);
        }
    }

    /// Sequenced time advances.
    pub fn advance(&mut self, sequence: u64, time: &TimeRecord, events: &mut Events) {
        self.now_ns = time.time_ns;
        let ends = |o: &Live| (o.expires_ns != 0 && o.expires_ns <= time.time_ns) || (o.is_day && time.ends_day != 0);
        self.end(&mut Case { sequence, lane: 0, k: 0, events }, CancelReason::Expired, ends);
    }

    /// Does what an administrator asks; says how many orders it cancelled.
    pub fn administer(&mut self, sequence: u64, action: &AdminAction, events: &mut Events) -> u32 {
        match action.action {
            3 => {
                let fits = |wanted: u32, number: u32| wanted == 0 || wanted == number;
                let meant = |o: &Live| fits(action.symbol, o.symbol) && fits(action.account, o.account) && fits(action.lane, o.lane);
                return self.end(&mut Case { sequence, lane: 0, k: 0, events }, CancelReason::Administrator, meant);
            }
            halts => {
                for symbol in 1..=self.instruments.len() as u32 {
                    if action.symbol == 0 || action.symbol == symbol {
                        self.halted.insert(symbol, halts == 1);
                    }
                }
            }
        }
        0
    }

    /// Ends orders in the order of their entry, and tells their owners.
    fn end(&mut self, case: &mut Case, reason: CancelReason, ends: impl Fn(&Live) -> bool) -> u32 {
        let mut ending: Vec<Live> = self.live.iter().filter(|order| ends(order)).cloned().collect();
        ending.sort_by_key(|order| order.order_id);
        for order in &ending {
            case.cancelled(&Live { open: 0, ..order.clone() }, reason, order.open);
        }
        self.live.retain(|order| !ends(order));
        ending.len() as u32
    }

    /// One request of one lane.
    pub fn process(&mut self, sequence: u64, lane: u32, request: &OrderRequest, events: &mut Events) -> OrderResult {
        let mut result = OrderResult { sequence, client_order_id: request.client_order_id, ..OrderResult::default() };
        let mut case = Case { sequence, lane, k: 0, events };
        match self.stages(&mut case, request, &mut result) {
            Ok(state) => {
                result.state = state as u8;
                self.counts.0 += 1;
            }
            Err(code) => {
                result.code = code as u16;
                self.counts.1 += 1;
            }
        }
        result
    }

    fn stages(&mut self, case: &mut Case, request: &OrderRequest, result: &mut OrderResult) -> Result<OrderState, RejectCode> {
        checks::structure(request)?;
        self.who_and_where(case.lane, request)?;
        let wanted = self.numbers(request)?;
        match request.op {
            1 => self.new_order(case, request, wanted, result),
            4 => self.replace(case, request, wanted, result),
            5 => {
                let mine =
                    |o: &&mut Live| o.lane == 0 && o.account == request.account && (request.symbol == 0 || o.symbol == request.symbol);
                for order in self.live.iter_mut().filter(mine) {
                    order.lane = case.lane;
                    result.fill_count += 1;
                }
                Ok(OrderState::Resting)
            }
            6 => {
                let (first, last) = self.lanes[&case.lane];
                let lane = case.lane;
                result.fill_count = self.end(case, CancelReason::MassCancel, |o| {
                    (request.symbol == 0 || o.symbol == request.symbol)
                        && (request.account == 0 || o.account == request.account)
                        && (request.flags != 4 || o.lane == lane)
                        && (first..=last).contains(&o.account)
                });
                Ok(OrderState::Cancelled)
            }
            _ => self.cancel_or_reduce(case, request, wanted, result),
        }
    }

    fn find(&self, request: &OrderRequest) -> Option<usize> {
        let ids = (request.symbol, request.account, request.client_order_id);
        self.live.iter().position(|o| (o.symbol, o.account, o.client_order_id) == ids)
    }

    fn new_order(
        &mut self,
        case: &mut Case,
        request: &OrderRequest,
        wanted: Wanted,
        result: &mut OrderResult,
    ) -> Result<OrderState, RejectCode> {
        if self.find(request).is_some() {
            return Err(RejectCode::DuplicateOrderId);
        }
        let is_stop = request.order_type >= 3;
        let may_rest = ![IOC, FOK].contains(&request.time_in_force);
        let worth = if request.order_type == 3 { Some(request.stop_price.into()) } else { wanted.price };
        self.risk(request, &wanted, worth, may_rest, None)?;
        let stops = self.live.iter().filter(|o| o.symbol == request.symbol && o.stop.is_some()).count();
        if (may_rest && self.live.len() >= self.resting_orders_max) || (is_stop && stops >= 1 << 14) {
            return Err(RejectCode::BookFull);
        }
        self.business_rules(request, &wanted, request.flags & 2 != 0)?;
        self.last_ids.insert(request.account, request.client_order_id);
        self.count_rate(request);
        result.order_id = case.sequence;
        let mut order = Live {
            order_id: case.sequence,
            client_order_id: request.client_order_id,
            symbol: request.symbol,
            account: request.account,
            side: wanted.side,
            price: wanted.price.unwrap_or(0),
            open: wanted.quantity,
            shown: 0,
            display: request.display_quantity.into(),
            filled: 0,
            lane: case.lane,
            arrival: 0,
            is_day: request.time_in_force == DAY,
            expires_ns: request.expires_ns,
            reduce_only: request.flags & 2 != 0,
            stop: None,
        };
        if is_stop && !self.triggers(request.symbol, wanted.side, request.stop_price.into()) {
            order.stop = Some(request.stop_price.into());
            self.live.push(order);
            result.remaining_quantity = wanted.quantity as u32;
            return Ok(OrderState::Waiting);
        }
        let rests = may_rest && wanted.price.is_some();
        let state = self.enter(case, order, wanted, rests, result);
        Ok(state)
    }

    /// The order, which is in no list, trades, then rests or ends; then stops follow.
    fn enter(&mut self, case: &mut Case, mut order: Live, wanted: Wanted, rests: bool, result: &mut OrderResult) -> OrderState {
        let done = self.trade(case, order.symbol, order.account, &wanted, None);
        result.fill_count = done.fills;
        result.filled_quantity = done.filled as u32;
        result.notional = done.notional as i64;
        order.open = wanted.quantity - done.filled;
        order.filled += done.filled;
        let state = match order.open {
            0 => OrderState::Filled,
            _ if done.prevented => OrderState::Cancelled,
            _ if rests => OrderState::Resting,
            _ => OrderState::Cancelled,
        };
        if done.prevented {
            result.reason = CancelReason::SelfTrade as u16;
        }
        // An order that was replaced by another lane: its owner hears of it behind the fills.
        if order.order_id != case.sequence {
            let now = Live { open: if state == OrderState::Resting { order.open } else { 0 }, stop: None, ..order.clone() };
            let before = self.replaced_open;
            case.tell_owner(&now, before);
        }
        if state == OrderState::Resting {
            result.remaining_quantity = order.open as u32;
            self.rest(order.clone());
        }
        self.follow(case, order.symbol, &done.prices);
        state
    }

    fn rest(&mut self, mut order: Live) {
        self.arrivals += 1;
        order.arrival = self.arrivals;
        order.shown = if order.display == 0 { order.open } else { order.open.min(order.display) };
        self.live.push(order);
    }

    fn cancel_or_reduce(
        &mut self,
        case: &mut Case,
        request: &OrderRequest,
        wanted: Wanted,
        result: &mut OrderResult,
    ) -> Result<OrderState, RejectCode> {
        let at = self.find(request).ok_or(RejectCode::UnknownOrderId)?;
        let taken = if request.op == 3 { wanted.quantity } else { self.live[at].open };
        if taken > self.live[at].open {
            return Err(RejectCode::OverReduction);
        }
        self.live[at].take_off(taken);
        let order = self.live[at].clone();
        result.order_id = order.order_id;
        result.remaining_quantity = order.open as u32;
        case.tell_owner(&order, taken);
        if order.open > 0 {
            return Ok(if order.stop.is_some() { OrderState::Waiting } else { OrderState::Resting });
        }
        self.live.remove(at);
        Ok(OrderState::Cancelled)
    }

    fn replace(
        &mut self,
        case: &mut Case,
        request: &OrderRequest,
        wanted: Wanted,
        result: &mut OrderResult,
    ) -> Result<OrderState, RejectCode> {
        let at = self.find(request).ok_or(RejectCode::UnknownOrderId)?;
        let old = self.live[at].clone();
        if old.side != wanted.side {
            return Err(RejectCode::SideMismatch);
        }
        let is_stop = request.stop_price != 0;
        if old.stop.is_some() != is_stop || (is_stop && old.is_market() != wanted.price.is_none()) {
            return Err(RejectCode::TypeMismatch);
        }
        if old.filled + wanted.quantity > checks::QUANTITY_MAX {
            return Err(RejectCode::QuantityTooLarge);
        }
        if old.display > 0 && wanted.quantity > 256 * old.display {
            return Err(RejectCode::BadDisplayQuantity);
        }
        let worth = wanted.price.or(is_stop.then_some(request.stop_price.into()));
        self.risk(request, &wanted, worth, true, Some(&old))?;
        self.business_rules(request, &wanted, old.reduce_only)?;
        self.count_rate(request);
        result.order_id = old.order_id;
        let price = wanted.price.unwrap_or(0);
        if !is_stop && price == old.price && wanted.quantity <= old.open {
            self.live[at].take_off(old.open - wanted.quantity);
            result.remaining_quantity = wanted.quantity as u32;
            case.tell_owner(&self.live[at].clone(), old.open);
            return Ok(OrderState::Resting);
        }
        let mut order = Live { price, open: wanted.quantity, ..self.live.remove(at) };
        if is_stop && !self.triggers(request.symbol, wanted.side, request.stop_price.into()) {
            order.stop = Some(request.stop_price.into());
            result.remaining_quantity = wanted.quantity as u32;
            case.tell_owner(&order, old.open);
            self.live.push(order);
            return Ok(OrderState::Waiting);
        }
        order.stop = None;
        self.replaced_open = old.open;
        Ok(self.enter(case, order, wanted, wanted.price.is_some(), result))
    }

    /// Lets the stops follow that trades at these prices trigger, one behind the other.
    fn follow(&mut self, case: &mut Case, symbol: u32, prices: &[i128]) {
        let mut queue = VecDeque::new();
        let mut prices = prices.to_vec();
        loop {
            let reaches =
                |o: &Live, price: i128| o.stop.is_some_and(|stop| if o.side == Side::Buy { price >= stop } else { price <= stop });
            let mut triggered: Vec<Live> =
                self.live.iter().filter(|o| o.symbol == symbol && prices.iter().any(|p| reaches(o, *p))).cloned().collect();
            triggered.sort_by_key(|order| order.order_id);
            for order in triggered {
                // What is triggered already waits in the queue, and still counts as open.
                if !queue.contains(&order.order_id) {
                    queue.push_back(order.order_id);
                }
            }
            let Some(order_id) = queue.pop_front() else { return };
            prices = self.activate(case, order_id);
        }
    }

    /// A triggered stop trades, then rests or ends. Gives the prices of its trades.
    fn activate(&mut self, case: &mut Case, order_id: u64) -> Vec<i128> {
        let at = self.live.iter().position(|order| order.order_id == order_id).expect("a triggered stop lives");
        let mut order = self.live.remove(at);
        case.tell(&order, EventKind::Triggered, None, order.open, order.price);
        order.stop = None;
        if order.reduce_only {
            let quantity = order.open.min(self.reducible(order.account, order.symbol, order.side));
            let less = order.open - quantity;
            order.open = quantity;
            if less > 0 {
                case.cancelled(&order, CancelReason::ReduceOnly, less);
            }
            if quantity == 0 {
                return Vec::new();
            }
        }
        let wanted = Wanted { side: order.side, price: (!order.is_market()).then_some(order.price), quantity: order.open };
        let done = self.trade(case, order.symbol, order.account, &wanted, Some(&mut order));
        if order.open > 0 && (done.prevented || order.is_market()) {
            let reason = if done.prevented { CancelReason::SelfTrade } else { CancelReason::Immediate };
            let left = std::mem::take(&mut order.open);
            case.cancelled(&order, reason, left);
        } else if order.open > 0 {
            self.rest(order);
        }
        done.prices
    }

    /// Whether the last trade triggers such a stop.
    fn triggers(&self, symbol: u32, side: Side, stop: i128) -> bool {
        self.last_prices.get(&symbol).is_some_and(|last| if side == Side::Buy { *last >= stop } else { *last <= stop })
    }
}

impl Live {
    /// Takes quantity off: what is hidden first.
    fn take_off(&mut self, quantity: i128) {
        let hidden = if self.stop.is_some() { 0 } else { self.open - self.shown };
        self.open -= quantity;
        if self.stop.is_none() {
            self.shown -= (quantity - hidden).max(0);
        }
    }
}

impl Case<'_> {
    /// Adds an event and counts it, whether or not the order has an owner.
    fn tell(&mut self, order: &Live, kind: EventKind, reason: Option<CancelReason>, quantity: i128, price: i128) {
        if order.lane != 0 {
            let event = OrderEvent {
                number: 0,
                sequence: self.sequence,
                order_id: order.order_id,
                client_order_id: order.client_order_id,
                price: price as i64,
                quantity: quantity as u32,
                remaining_quantity: order.open as u32,
                kind: kind as u8,
                side: order.side as u8,
                reason: reason.map_or(0, |reason| reason as u16),
                k: self.k,
                symbol: order.symbol,
                account: order.account,
            };
            self.events.push((order.lane, event));
        }
        self.k += 1;
    }

    fn cancelled(&mut self, order: &Live, reason: CancelReason, quantity: i128) {
        self.tell(order, EventKind::Cancel, Some(reason), quantity, order.price);
    }

    fn tell_owner(&mut self, order: &Live, quantity: i128) {
        if order.lane == self.lane {
            self.k += 1;
        } else {
            self.cancelled(order, CancelReason::OtherLane, quantity);
        }
    }
}

fn row(order: &Live) -> OpenOrder {
    let order_type = match (order.stop, order.is_market()) {
        (None, _) => 1,
        (Some(_), true) => 3,
        (Some(_), false) => 4,
    };
    let time_in_force = if order.is_day {
        DAY
    } else if order.expires_ns != 0 {
        5
    } else {
        GTC
    };
    OpenOrder {
        order_id: order.order_id,
        client_order_id: order.client_order_id,
        price: order.price as i64,
        stop_price: order.stop.unwrap_or(0) as i64,
        expires_ns: order.expires_ns,
        remaining_quantity: order.open as u32,
        shown_quantity: if order.stop.is_some() { 0 } else { order.shown as u32 },
        display_quantity: order.display as u32,
        filled_quantity: order.filled as u32,
        symbol: order.symbol,
        account: order.account,
        lane: order.lane,
        side: order.side as u8,
        order_type,
        time_in_force,
        flags: if order.reduce_only { 2 } else { 0 },
    }
}
