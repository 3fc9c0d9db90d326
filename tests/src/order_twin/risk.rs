//! The twin's risk and business rules: every sum is made anew from the list of orders.

use ringlane_layout::orders::{AccountLimits, OrderRequest, RejectCode, Side};

use super::{FOK, Live, Twin, Wanted};

const SECOND_NS: u64 = 1_000_000_000;

impl Twin {
    /// Every limit of the account, then every one that it has in the symbol. `worth` is the price that notional counts at; none: the last.
    pub(super) fn risk(
        &self,
        request: &OrderRequest,
        wanted: &Wanted,
        worth: Option<i128>,
        may_rest: bool,
        old: Option<&Live>,
    ) -> Result<(), RejectCode> {
        for symbol in [0, request.symbol] {
            if let Some(limits) = self.limits.get(&(symbol, request.account)) {
                self.limits_hold(symbol, limits, request, (wanted, worth, may_rest), old)?;
            }
        }
        Ok(())
    }

    fn limits_hold(
        &self,
        symbol: u32,
        limits: &AccountLimits,
        request: &OrderRequest,
        (wanted, worth, may_rest): (&Wanted, Option<i128>, bool),
        old: Option<&Live>,
    ) -> Result<(), RejectCode> {
        let passes = |value: i128, limit: i128| limit != 0 && value > limit;
        if passes(wanted.quantity, limits.order_quantity_max.into()) {
            return Err(RejectCode::OrderSizeLimit);
        }
        let reference = i128::from(self.instruments[request.symbol as usize - 1].reference_price);
        let reference = self.last_prices.get(&request.symbol).copied().unwrap_or(reference);
        if let Some(price) = wanted.price
            && limits.price_collar_bps != 0
            && reference != 0
            && (price - reference).abs() * 10_000 > reference * i128::from(limits.price_collar_bps)
        {
            return Err(RejectCode::PriceCollar);
        }
        let net = self.settled.get(&(request.account, request.symbol)).map_or(0, |settled| settled.net);
        let change = self.open(request.account, request.symbol, wanted.side) - old.map_or(0, |old| old.open) + wanted.quantity;
        let position = if wanted.side == Side::Buy { net + change } else { -net + change };
        if passes(position, limits.position_max.into()) {
            return Err(RejectCode::PositionLimit);
        }
        let notional = worth.unwrap_or(reference) * wanted.quantity;
        if passes(notional, limits.order_notional_max.into()) {
            return Err(RejectCode::NotionalLimit);
        }
        let mine: Vec<&Live> = self.live.iter().filter(|o| o.account == request.account && (symbol == 0 || o.symbol == symbol)).collect();
        if may_rest {
            let exposure: i128 = mine.iter().filter(|o| o.side == wanted.side).map(|o| o.worth() * o.open).sum();
            let released = old.map_or(0, |old| old.worth() * old.open);
            if passes(exposure - released + notional, limits.exposure_max.into()) {
                return Err(RejectCode::ExposureLimit);
            }
            if old.is_none() && passes(mine.len() as i128 + 1, limits.open_orders_max.into()) {
                return Err(RejectCode::OpenOrdersLimit);
            }
        }
        if passes(i128::from(self.rate(symbol, request.account)) + 1, limits.order_rate_max.into()) {
            return Err(RejectCode::OrderRate);
        }
        Ok(())
    }

    /// Orders of the account accepted in this second.
    pub(super) fn rate(&self, symbol: u32, account: u32) -> u32 {
        let (second, count) = self.rates.get(&(symbol, account)).copied().unwrap_or_default();
        if second == self.now_ns / SECOND_NS { count } else { 0 }
    }

    /// Counts an accepted order, where somebody may ask.
    pub(super) fn count_rate(&mut self, request: &OrderRequest) {
        let account = request.account;
        let symbol_is_limited = self.limits.keys().any(|(symbol, _)| *symbol == request.symbol);
        if self.limits[&(0, account)].order_rate_max != 0 || symbol_is_limited {
            self.rates.insert((0, account), (self.now_ns / SECOND_NS, self.rate(0, account) + 1));
            if self.limits.contains_key(&(request.symbol, account)) {
                let count = self.rate(request.symbol, account) + 1;
                self.rates.insert((request.symbol, account), (self.now_ns / SECOND_NS, count));
            }
        }
    }

    pub(super) fn business_rules(&self, request: &OrderRequest, wanted: &Wanted, reduce_only: bool) -> Result<(), RejectCode> {
        if self.halted.get(&request.symbol) == Some(&true) {
            return Err(RejectCode::SymbolHalted);
        }
        if reduce_only && wanted.quantity > self.reducible(request.account, request.symbol, wanted.side) {
            return Err(RejectCode::NotReducing);
        }
        if request.flags & 1 != 0 && !self.makers(request.symbol, wanted).is_empty() {
            return Err(RejectCode::WouldCross);
        }
        if request.op == 1 && request.time_in_force == FOK && !self.fillable(request, wanted) {
            return Err(RejectCode::NotFillable);
        }
        Ok(())
    }

    /// Whether the makers surely fill the order: none of its own group stands before the last of them.
    fn fillable(&self, request: &OrderRequest, wanted: &Wanted) -> bool {
        let mut left = wanted.quantity;
        for at in self.makers(request.symbol, wanted) {
            let maker = &self.live[at];
            match self.prevention(request.account, maker.account) {
                0 if maker.reduce_only => {}
                0 => left -= maker.open,
                2 => {}
                _ => return false,
            }
            if left <= 0 {
                return true;
            }
        }
        false
    }

    /// What prevents a trade of an order of `taker` with one of `maker`: 0 nothing, else the number of `SelfTrade`.
    pub(super) fn prevention(&self, taker: u32, maker: u32) -> u8 {
        let (mine, other) = (self.limits[&(0, taker)], self.limits[&(0, maker)]);
        let same = taker == maker || (mine.group != 0 && mine.group == other.group);
        if same { mine.self_trade } else { 0 }
    }

    /// How much an order of this side may trade until the position is flat.
    pub(super) fn reducible(&self, account: u32, symbol: u32, side: Side) -> i128 {
        let net = self.settled.get(&(account, symbol)).map_or(0, |settled| settled.net);
        if side == Side::Buy { (-net).max(0) } else { net.max(0) }
    }

    /// Open quantity of the account's orders and waiting stops.
    pub(super) fn open(&self, account: u32, symbol: u32, side: Side) -> i128 {
        self.live.iter().filter(|o| (o.account, o.symbol, o.side) == (account, symbol, side)).map(|o| o.open).sum()
    }
}
