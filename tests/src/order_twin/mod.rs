//! The order kernel's naive twin: one list of orders, linear scans, everything recomputed when it is asked. It shares
//! the records with the kernel and nothing else, and is obviously right rather than fast.

use std::collections::BTreeMap;

use ringlane_layout::orders::{
    AccountLimits, CancelReason, EventKind, Instrument, Op, OrderEvent, OrderFlag, OrderRequest, OrderResult, OrderState, OrderType,
    RejectCode, Side, TimeInForce,
};

const QUANTITY_MAX: i128 = 134_217_727;
const PRICE_MAX: i128 = 68_719_476_735;

mod state;

/// A live order. `arrival` orders those of one price.
#[derive(Debug, Clone)]
struct Live {
    order_id: u64,
    client_order_id: u64,
    symbol: u32,
    account: u32,
    side: Side,
    price: i128,
    open: i128,
    filled: i128,
    lane: u32,
    arrival: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Settled {
    net: i128,
    cash: i128,
}

/// A checked NEW or REPLACE.
struct Wanted {
    side: Side,
    /// `None` for a market order.
    price: Option<i128>,
    quantity: i128,
}

/// The twin.
#[derive(Default)]
pub struct Twin {
    resting_orders_max: usize,
    instruments: Vec<Instrument>,
    last_prices: BTreeMap<u32, i128>,
    live: Vec<Live>,
    settled: BTreeMap<(u32, u32), Settled>,
    limits: BTreeMap<u32, (i128, i128, u32)>,
    last_ids: BTreeMap<u32, u64>,
    lanes: BTreeMap<u32, (u32, u32)>,
    arrivals: u64,
    /// Accepted requests, rejected requests, fills.
    pub counts: (u64, u64, u64),
}

type Events = Vec<(u32, OrderEvent)>;

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
        let limit = |value: i64| if value == 0 { i64::MAX.into() } else { i128::from(value) };
        for account in record.account_first..=record.account_last {
            let limits = (limit(record.order_quantity_max), limit(record.position_max), record.price_collar_bps);
            self.limits.insert(account, limits);
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

    /// One request of one lane.
    pub fn process(&mut self, sequence: u64, lane: u32, request: &OrderRequest, events: &mut Events) -> OrderResult {
        let mut result = OrderResult { sequence, client_order_id: request.client_order_id, ..OrderResult::default() };
        match self.stages(sequence, lane, request, &mut result, events) {
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

    fn stages(
        &mut self,
        sequence: u64,
        lane: u32,
        request: &OrderRequest,
        result: &mut OrderResult,
        events: &mut Events,
    ) -> Result<OrderState, RejectCode> {
        structure(request)?;
        self.who_and_where(lane, request)?;
        let numbers = self.numbers(request)?;
        match request.op {
            1 => self.new_order(sequence, lane, request, numbers, result, events),
            4 => self.replace(sequence, lane, request, numbers, result, events),
            5 => {
                let mine =
                    |o: &&mut Live| o.lane == 0 && o.account == request.account && (request.symbol == 0 || o.symbol == request.symbol);
                for order in self.live.iter_mut().filter(mine) {
                    order.lane = lane;
                    result.fill_count += 1;
                }
                Ok(OrderState::Resting)
            }
            _ => self.cancel_or_reduce(sequence, lane, request, numbers, result, events),
        }
    }

    fn who_and_where(&self, lane: u32, request: &OrderRequest) -> Result<(), RejectCode> {
        let everywhere = request.symbol == 0 && request.op == Op::TakeOver as u8;
        if !everywhere && !(1..=self.instruments.len()).contains(&(request.symbol as usize)) {
            return Err(RejectCode::UnknownSymbol);
        }
        if !self.limits.contains_key(&request.account) {
            return Err(RejectCode::UnknownAccount);
        }
        match self.lanes.get(&lane) {
            Some(&(first, last)) if (first..=last).contains(&request.account) => Ok(()),
            _ => Err(RejectCode::AccountNotPermitted),
        }
    }

    fn numbers(&self, request: &OrderRequest) -> Result<Wanted, RejectCode> {
        let (quantity, price) = (i128::from(request.quantity), i128::from(request.price));
        let instrument = self.instruments.get((request.symbol as usize).wrapping_sub(1)).copied().unwrap_or_default();
        if [1, 3, 4].contains(&request.op) {
            if quantity <= 0 {
                return Err(RejectCode::QuantityNotPositive);
            }
            if quantity > QUANTITY_MAX {
                return Err(RejectCode::QuantityTooLarge);
            }
            if quantity % i128::from(instrument.lot) != 0 {
                return Err(RejectCode::OffLot);
            }
        }
        let is_market = request.op == 1 && request.order_type == 2;
        if [1, 4].contains(&request.op) && !is_market {
            if price <= 0 {
                return Err(RejectCode::PriceNotPositive);
            }
            if price > PRICE_MAX {
                return Err(RejectCode::PriceTooLarge);
            }
            if price % i128::from(instrument.tick) != 0 {
                return Err(RejectCode::OffTick);
            }
        }
        let side = if request.side == 2 { Side::Sell } else { Side::Buy };
        Ok(Wanted { side, price: (!is_market).then_some(price), quantity })
    }

    fn find(&self, request: &OrderRequest) -> Option<usize> {
        let ids = (request.symbol, request.account, request.client_order_id);
        self.live.iter().position(|o| (o.symbol, o.account, o.client_order_id) == ids)
    }

    fn new_order(
        &mut self,
        sequence: u64,
        lane: u32,
        request: &OrderRequest,
        wanted: Wanted,
        result: &mut OrderResult,
        events: &mut Events,
    ) -> Result<OrderState, RejectCode> {
        if self.find(request).is_some() {
            return Err(RejectCode::DuplicateOrderId);
        }
        self.risk(request, &wanted, 0)?;
        let may_rest = request.time_in_force == TimeInForce::Gtc as u8;
        if may_rest && self.live.len() >= self.resting_orders_max {
            return Err(RejectCode::BookFull);
        }
        let fillable: i128 = self.makers(request.symbol, &wanted).iter().map(|&at| self.live[at].open).sum();
        if request.flags & OrderFlag::POST_ONLY != 0 && fillable > 0 {
            return Err(RejectCode::WouldCross);
        }
        if request.time_in_force == TimeInForce::Fok as u8 && fillable < wanted.quantity {
            return Err(RejectCode::NotFillable);
        }
        self.last_ids.insert(request.account, request.client_order_id);
        result.order_id = sequence;
        self.trade(sequence, request, &wanted, result, events);
        let left = wanted.quantity - i128::from(result.filled_quantity);
        if left == 0 {
            return Ok(OrderState::Filled);
        }
        if !may_rest {
            return Ok(OrderState::Cancelled);
        }
        self.arrivals += 1;
        self.live.push(Live {
            order_id: sequence,
            client_order_id: request.client_order_id,
            symbol: request.symbol,
            account: request.account,
            side: wanted.side,
            price: wanted.price.expect("only limit orders rest"),
            open: left,
            filled: result.filled_quantity.into(),
            lane,
            arrival: self.arrivals,
        });
        result.remaining_quantity = left as u32;
        Ok(OrderState::Resting)
    }

    fn cancel_or_reduce(
        &mut self,
        sequence: u64,
        lane: u32,
        request: &OrderRequest,
        wanted: Wanted,
        result: &mut OrderResult,
        events: &mut Events,
    ) -> Result<OrderState, RejectCode> {
        let at = self.find(request).ok_or(RejectCode::UnknownOrderId)?;
        let taken = if request.op == Op::Reduce as u8 { wanted.quantity } else { self.live[at].open };
        if taken > self.live[at].open {
            return Err(RejectCode::OverReduction);
        }
        self.live[at].open -= taken;
        let order = self.live[at].clone();
        result.order_id = order.order_id;
        result.remaining_quantity = order.open as u32;
        tell_owner(sequence, lane, &order, 0, taken, events);
        if order.open > 0 {
            return Ok(OrderState::Resting);
        }
        self.live.remove(at);
        Ok(OrderState::Cancelled)
    }

    fn replace(
        &mut self,
        sequence: u64,
        lane: u32,
        request: &OrderRequest,
        wanted: Wanted,
        result: &mut OrderResult,
        events: &mut Events,
    ) -> Result<OrderState, RejectCode> {
        let at = self.find(request).ok_or(RejectCode::UnknownOrderId)?;
        let old = self.live[at].clone();
        if old.side != wanted.side {
            return Err(RejectCode::SideMismatch);
        }
        if old.filled + wanted.quantity > QUANTITY_MAX {
            return Err(RejectCode::QuantityTooLarge);
        }
        self.risk(request, &wanted, old.open)?;
        if request.flags & OrderFlag::POST_ONLY != 0 && !self.makers(request.symbol, &wanted).is_empty() {
            return Err(RejectCode::WouldCross);
        }
        let price = wanted.price.expect("a replace has a price");
        let mut order = old.clone();
        order.price = price;
        result.order_id = order.order_id;
        if price != old.price || wanted.quantity > old.open {
            self.arrivals += 1;
            order.arrival = self.arrivals;
            self.live.remove(at);
            self.trade(sequence, request, &wanted, result, events);
            self.live.push(order.clone());
        }
        order.open = wanted.quantity - i128::from(result.filled_quantity);
        order.filled += i128::from(result.filled_quantity);
        result.remaining_quantity = order.open as u32;
        tell_owner(sequence, lane, &order, result.fill_count, old.open, events);
        let at = self.find(request).expect("it was put back");
        if order.open == 0 {
            self.live.remove(at);
            return Ok(OrderState::Filled);
        }
        self.live[at] = order;
        Ok(OrderState::Resting)
    }

    fn risk(&self, request: &OrderRequest, wanted: &Wanted, released: i128) -> Result<(), RejectCode> {
        let (quantity_max, position_max, bps) = self.limits[&request.account];
        if wanted.quantity > quantity_max {
            return Err(RejectCode::OrderSizeLimit);
        }
        let reference = i128::from(self.instruments[request.symbol as usize - 1].reference_price);
        let reference = self.last_prices.get(&request.symbol).copied().unwrap_or(reference);
        if let Some(price) = wanted.price
            && bps != 0
            && reference != 0
            && (price - reference).abs() * 10_000 > reference * i128::from(bps)
        {
            return Err(RejectCode::PriceCollar);
        }
        let settled = self.settled.get(&(request.account, request.symbol)).copied().unwrap_or_default();
        let change = self.open(request.account, request.symbol, wanted.side) - released + wanted.quantity;
        let worst = if wanted.side == Side::Buy { settled.net + change } else { -settled.net + change };
        if worst > position_max { Err(RejectCode::PositionLimit) } else { Ok(()) }
    }

    fn open(&self, account: u32, symbol: u32, side: Side) -> i128 {
        self.live.iter().filter(|o| (o.account, o.symbol, o.side) == (account, symbol, side)).map(|o| o.open).sum()
    }

    /// Indices of a side's orders, best price first, first come first.
    fn queue(&self, symbol: u32, side: Side) -> Vec<usize> {
        let mut queue: Vec<usize> =
            (0..self.live.len()).filter(|&at| self.live[at].symbol == symbol && self.live[at].side == side).collect();
        let sign = if side == Side::Buy { -1 } else { 1 };
        queue.sort_by_key(|&at| (sign * self.live[at].price, self.live[at].arrival));
        queue
    }

    /// The orders that this one would trade with, if it were large enough, in their order.
    fn makers(&self, symbol: u32, wanted: &Wanted) -> Vec<usize> {
        let other = if wanted.side == Side::Buy { Side::Sell } else { Side::Buy };
        let mut queue = self.queue(symbol, other);
        queue.retain(|&at| match (wanted.price, wanted.side) {
            (None, _) => true,
            (Some(price), Side::Buy) => self.live[at].price <= price,
            (Some(price), Side::Sell) => self.live[at].price >= price,
        });
        queue
    }

    fn trade(&mut self, sequence: u64, request: &OrderRequest, wanted: &Wanted, result: &mut OrderResult, events: &mut Events) {
        let mut left = wanted.quantity;
        for at in self.makers(request.symbol, wanted) {
            if left == 0 {
                break;
            }
            let order = &mut self.live[at];
            let quantity = left.min(order.open);
            left -= quantity;
            order.open -= quantity;
            order.filled += quantity;
            let order = order.clone();
            if order.lane != 0 {
                events.push((order.lane, event(sequence, &order, result.fill_count, EventKind::Fill, quantity)));
            }
            self.settle(order.account, order.symbol, order.side, quantity, order.price);
            self.settle(request.account, order.symbol, wanted.side, quantity, order.price);
            self.last_prices.insert(order.symbol, order.price);
            result.fill_count += 1;
            result.filled_quantity += quantity as u32;
            result.notional += (quantity * order.price) as i64;
            self.counts.2 += 1;
        }
        self.live.retain(|order| order.open > 0);
    }

    fn settle(&mut self, account: u32, symbol: u32, side: Side, quantity: i128, price: i128) {
        let settled = self.settled.entry((account, symbol)).or_default();
        let sign = if side == Side::Buy { 1 } else { -1 };
        settled.net += sign * quantity;
        settled.cash -= sign * quantity * price;
    }
}

fn structure(request: &OrderRequest) -> Result<(), RejectCode> {
    let is_new = request.op == Op::New as u8;
    let check = |bad: bool, code: RejectCode| if bad { Err(code) } else { Ok(()) };
    check(!(1..=5).contains(&request.op), RejectCode::UnknownOp)?;
    if is_new || request.op == Op::Replace as u8 {
        check(![1, 2].contains(&request.side), RejectCode::UnknownSide)?;
        check(is_new && ![1, 2].contains(&request.order_type), RejectCode::UnknownOrderType)?;
        check(is_new && ![1, 2, 3].contains(&request.time_in_force), RejectCode::UnknownTimeInForce)?;
        check(request.flags > 1, RejectCode::UnknownFlag)?;
    }
    let later = (request.stop_price, request.expires_ns, request.display_quantity) != (0, 0, 0);
    check(later || request.reserved != [0; 4], RejectCode::ReservedNotZero)?;
    if is_new {
        let (post_only, gtc) = (request.flags == 1, request.time_in_force == TimeInForce::Gtc as u8);
        let market = request.order_type == OrderType::Market as u8;
        check(market && (gtc || request.price != 0 || post_only), RejectCode::BadCombination)?;
        check(post_only && !gtc, RejectCode::BadCombination)?;
    }
    Ok(())
}

fn tell_owner(sequence: u64, lane: u32, order: &Live, k: u32, quantity: i128, events: &mut Events) {
    if order.lane != 0 && order.lane != lane {
        events.push((order.lane, event(sequence, order, k, EventKind::Cancel, quantity)));
    }
}

fn event(sequence: u64, order: &Live, k: u32, kind: EventKind, quantity: i128) -> OrderEvent {
    OrderEvent {
        number: 0,
        sequence,
        order_id: order.order_id,
        client_order_id: order.client_order_id,
        price: order.price as i64,
        quantity: quantity as u32,
        remaining_quantity: order.open as u32,
        kind: kind as u8,
        side: order.side as u8,
        reason: if kind == EventKind::Cancel { CancelReason::OtherLane as u16 } else { 0 },
        k,
        symbol: order.symbol,
        account: order.account,
    }
}
