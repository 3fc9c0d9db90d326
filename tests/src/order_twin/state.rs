//! What the twin can be asked, and its state hash. Nothing here changes it.

use std::collections::BTreeMap;

use ringlane_layout::orders::{BookLevel, Instrument, OpenOrder, Position, Side};

use super::{Live, Twin};

impl Twin {
    /// Orders of a side in their order.
    #[must_use]
    pub fn fifo(&self, symbol: u32, side: Side) -> Vec<OpenOrder> {
        self.queue(symbol, side).into_iter().map(|at| row(&self.live[at])).collect()
    }

    /// As the kernel's `open_orders`.
    #[must_use]
    pub fn open_orders(&self, account: u32) -> (u64, Vec<OpenOrder>) {
        let symbols = 1..=self.instruments.len() as u32;
        let queues = symbols.flat_map(|symbol| [self.fifo(symbol, Side::Buy), self.fifo(symbol, Side::Sell)]);
        let orders = queues.flatten().filter(|order| order.account == account).collect();
        (self.last_ids.get(&account).copied().unwrap_or(0), orders)
    }

    /// As the kernel's `positions`.
    #[must_use]
    pub fn positions(&self, account: u32) -> Vec<Position> {
        (1..=self.instruments.len() as u32).filter_map(|symbol| self.position(account, symbol)).collect()
    }

    fn position(&self, account: u32, symbol: u32) -> Option<Position> {
        let settled = self.settled.get(&(account, symbol)).copied().unwrap_or_default();
        let (buys, sells) = (self.open(account, symbol, Side::Buy), self.open(account, symbol, Side::Sell));
        let is_zero = settled.net == 0 && settled.cash == 0 && buys == 0 && sells == 0;
        (!is_zero).then(|| Position {
            account,
            symbol,
            net_quantity: settled.net as i64,
            open_buy_quantity: buys as u64,
            open_sell_quantity: sells as u64,
            cash_low: settled.cash as u64,
            cash_high: (settled.cash >> 64) as i64,
            ..Position::default()
        })
    }

    /// As the kernel's `book`.
    #[must_use]
    pub fn book(&self, symbol: u32, levels_max: usize) -> Vec<BookLevel> {
        let mut levels = Vec::new();
        for side in [Side::Buy, Side::Sell] {
            let mut by_price: BTreeMap<i64, (u64, u32)> = BTreeMap::new();
            for order in self.fifo(symbol, side) {
                let level = by_price.entry(if side == Side::Buy { -order.price } else { order.price }).or_default();
                level.0 += u64::from(order.remaining_quantity);
                level.1 += 1;
            }
            for (key, (quantity, order_count)) in by_price.into_iter().take(levels_max) {
                levels.push(BookLevel { price: key.abs(), quantity, order_count, side: side as u8, ..BookLevel::default() });
            }
        }
        levels
    }

    /// Resting orders.
    #[must_use]
    pub fn resting(&self) -> usize {
        self.live.len()
    }

    /// The state hash, from the byte order in the kernel's documentation.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        let mut bytes = Vec::new();
        put64(&mut bytes, 2);
        put64(&mut bytes, self.instruments.len() as u64);
        for instrument in &self.instruments {
            self.put_book(&mut bytes, instrument);
        }
        let ranges = self.ranges();
        put64(&mut bytes, ranges.len() as u64);
        for (first, last, (quantity_max, position_max, bps)) in ranges {
            let limit = |limit: i128| if limit == i64::MAX.into() { 0 } else { limit as u64 };
            put32(&mut bytes, first);
            put32(&mut bytes, last);
            put64(&mut bytes, limit(quantity_max));
            put64(&mut bytes, limit(position_max));
            put32(&mut bytes, bps);
        }
        let ids: Vec<_> = self.last_ids.iter().filter(|(_, id)| **id != 0).collect();
        put64(&mut bytes, ids.len() as u64);
        for (account, id) in ids {
            put32(&mut bytes, *account);
            put64(&mut bytes, *id);
        }
        put64(&mut bytes, self.lanes.len() as u64);
        for (lane, (first, last)) in &self.lanes {
            [*lane, *first, *last].into_iter().for_each(|word| put32(&mut bytes, word));
        }
        put64(&mut bytes, self.resting_orders_max as u64);
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }

    fn put_book(&self, bytes: &mut Vec<u8>, instrument: &Instrument) {
        let symbol = instrument.symbol;
        bytes.extend_from_slice(bytemuck::bytes_of(instrument));
        put64(bytes, self.last_prices.get(&symbol).copied().unwrap_or(0) as u64);
        for side in [Side::Buy, Side::Sell] {
            let queue = self.queue(symbol, side);
            put64(bytes, queue.len() as u64);
            for order in queue.into_iter().map(|at| &self.live[at]) {
                put64(bytes, order.order_id);
                put64(bytes, order.client_order_id);
                put64(bytes, order.price as u64);
                for word in [order.open as u32, order.filled as u32, order.account, order.lane] {
                    put32(bytes, word);
                }
            }
        }
        let positions: Vec<Position> = self.limits.keys().filter_map(|account| self.position(*account, symbol)).collect();
        put64(bytes, positions.len() as u64);
        for position in positions {
            put32(bytes, position.account);
            put64(bytes, position.net_quantity as u64);
            put64(bytes, position.open_buy_quantity);
            put64(bytes, position.open_sell_quantity);
            put64(bytes, position.cash_low);
            put64(bytes, position.cash_high as u64);
        }
    }

    fn ranges(&self) -> Vec<(u32, u32, (i128, i128, u32))> {
        let mut ranges: Vec<(u32, u32, (i128, i128, u32))> = Vec::new();
        for (&account, &limits) in &self.limits {
            match ranges.last_mut() {
                Some((_, last, same)) if *last + 1 == account && *same == limits => *last = account,
                _ => ranges.push((account, account, limits)),
            }
        }
        ranges
    }
}

fn row(order: &Live) -> OpenOrder {
    OpenOrder {
        order_id: order.order_id,
        client_order_id: order.client_order_id,
        price: order.price as i64,
        remaining_quantity: order.open as u32,
        filled_quantity: order.filled as u32,
        symbol: order.symbol,
        account: order.account,
        lane: order.lane,
        side: order.side as u8,
        shown_quantity: order.open as u32,
        order_type: 1,
        time_in_force: 1,
        ..OpenOrder::default()
    }
}

fn put64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn put32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_le_bytes());
}
