//! The twin's matching: for each trade the best maker is looked up anew.

use ringlane_layout::orders::{CancelReason, EventKind, Side};

use super::{Case, Done, Live, Twin, Wanted};

impl Twin {
    /// Indices of a side's orders in the book, best price first, first come first.
    pub(super) fn queue(&self, symbol: u32, side: Side) -> Vec<usize> {
        let in_book = |o: &Live| o.symbol == symbol && o.side == side && o.stop.is_none();
        let mut queue: Vec<usize> = (0..self.live.len()).filter(|&at| in_book(&self.live[at])).collect();
        let sign = if side == Side::Buy { -1 } else { 1 };
        queue.sort_by_key(|&at| (sign * self.live[at].price, self.live[at].arrival));
        queue
    }

    /// Indices of a side's waiting stops, first triggered first.
    pub(super) fn waiting(&self, symbol: u32, side: Side) -> Vec<usize> {
        let waits = |o: &Live| o.symbol == symbol && o.side == side && o.stop.is_some();
        let mut waiting: Vec<usize> = (0..self.live.len()).filter(|&at| waits(&self.live[at])).collect();
        let sign = if side == Side::Buy { 1 } else { -1 };
        waiting.sort_by_key(|&at| (sign * self.live[at].stop.unwrap_or(0), self.live[at].order_id));
        waiting
    }

    /// The orders that this one would trade with, if it were large enough, in their order.
    pub(super) fn makers(&self, symbol: u32, wanted: &Wanted) -> Vec<usize> {
        let other = if wanted.side == Side::Buy { Side::Sell } else { Side::Buy };
        let mut queue = self.queue(symbol, other);
        queue.retain(|&at| match (wanted.price, wanted.side) {
            (None, _) => true,
            (Some(price), Side::Buy) => self.live[at].price <= price,
            (Some(price), Side::Sell) => self.live[at].price >= price,
        });
        queue
    }

    /// Trades for `account`; `stop` is the order itself when it was triggered, and its owner is told of each fill.
    pub(super) fn trade(&mut self, case: &mut Case, symbol: u32, account: u32, wanted: &Wanted, mut stop: Option<&mut Live>) -> Done {
        let mut done = Done::default();
        let mut mine = (0, 0);
        while done.filled < wanted.quantity {
            let Some(&at) = self.makers(symbol, wanted).first() else { break };
            let maker = self.live[at].clone();
            let prevention = self.prevention(account, maker.account);
            if prevention != 0 {
                let taken = if prevention == 1 { 0 } else { maker.open };
                let left = Live { open: maker.open - taken, ..maker.clone() };
                case.tell(&left, EventKind::TradePrevented, Some(CancelReason::SelfTrade), taken, maker.price);
                if taken > 0 {
                    self.live.remove(at);
                }
                if prevention == 2 {
                    continue;
                }
                done.prevented = true;
                break;
            }
            let mut quantity = maker.shown.min(wanted.quantity - done.filled);
            if maker.reduce_only {
                quantity = quantity.min(self.reducible(maker.account, symbol, maker.side));
            }
            if quantity == 0 {
                self.live.remove(at);
                case.cancelled(&Live { open: 0, ..maker.clone() }, CancelReason::ReduceOnly, maker.open);
                continue;
            }
            let order = &mut self.live[at];
            order.open -= quantity;
            order.shown -= quantity;
            order.filled += quantity;
            let order = order.clone();
            case.tell(&order, EventKind::Fill, None, quantity, order.price);
            self.settle(order.account, symbol, order.side, quantity, quantity * order.price);
            if order.open == 0 {
                self.live.remove(at);
            } else if order.shown == 0 {
                let again = self.live.remove(at);
                self.rest(again);
            }
            mine = (mine.0 + quantity, mine.1 + quantity * order.price);
            self.last_prices.insert(symbol, order.price);
            done.prices.push(order.price);
            done.fills += 1;
            done.filled += quantity;
            done.notional += quantity * order.price;
            self.counts.2 += 1;
            if let Some(stop) = &mut stop {
                stop.open -= quantity;
                stop.filled += quantity;
                case.tell(stop, EventKind::TakerFill, None, quantity, order.price);
            }
        }
        self.settle(account, symbol, wanted.side, mine.0, mine.1);
        done
    }

    fn settle(&mut self, account: u32, symbol: u32, side: Side, quantity: i128, notional: i128) {
        let settled = self.settled.entry((account, symbol)).or_default();
        let sign = if side == Side::Buy { 1 } else { -1 };
        settled.net += sign * quantity;
        settled.cash -= sign * notional;
    }
}
