//! What the twin can be asked, and its state hash. Nothing here changes it.

use std::collections::BTreeMap;

use ringlane_layout::orders::{AccountLimits, BookLevel, Instrument, OpenOrder, Position, Side};

use super::{Twin, row};

impl Twin {
    /// Orders of a side in their order.
    #[must_use]
    pub fn fifo(&self, symbol: u32, side: Side) -> Vec<OpenOrder> {
        self.queue(symbol, side).into_iter().map(|at| row(&self.live[at])).collect()
    }

    /// Waiting stops of a side, first triggered first.
    #[must_use]
    pub fn stops(&self, symbol: u32, side: Side) -> Vec<OpenOrder> {
        self.waiting(symbol, side).into_iter().map(|at| row(&self.live[at])).collect()
    }

    /// As the kernel's `open_orders`.
    #[must_use]
    pub fn open_orders(&self, account: u32) -> (u64, Vec<OpenOrder>) {
        let symbols = 1..=self.instruments.len() as u32;
        let sides = [Side::Buy, Side::Sell];
        let queues = symbols
            .flat_map(|symbol| sides.map(|side| self.fifo(symbol, side)).into_iter().chain(sides.map(|side| self.stops(symbol, side))));
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
                level.0 += u64::from(order.shown_quantity);
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
        put64(&mut bytes, 3);
        put64(&mut bytes, self.now_ns);
        put64(&mut bytes, self.instruments.len() as u64);
        for instrument in &self.instruments {
            self.put_book(&mut bytes, instrument);
        }
        for ranges in [self.ranges(true), self.ranges(false)] {
            put64(&mut bytes, ranges.len() as u64);
            ranges.iter().for_each(|range| bytes.extend_from_slice(bytemuck::bytes_of(range)));
        }
        for of_accounts in [true, false] {
            let rates = self.rates.keys().filter(|(symbol, account)| (*symbol == 0) == of_accounts && self.rate(*symbol, *account) != 0);
            let rates: Vec<_> = rates.collect();
            put64(&mut bytes, rates.len() as u64);
            for (symbol, account) in rates {
                if !of_accounts {
                    put32(&mut bytes, *symbol);
                }
                put32(&mut bytes, *account);
                put32(&mut bytes, self.rate(*symbol, *account));
            }
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
        put64(bytes, u64::from(self.halted.get(&symbol) == Some(&true)));
        let sides = [Side::Buy, Side::Sell];
        for rows in sides.map(|side| self.fifo(symbol, side)).into_iter().chain(sides.map(|side| self.stops(symbol, side))) {
            put64(bytes, rows.len() as u64);
            rows.iter().for_each(|row| bytes.extend_from_slice(bytemuck::bytes_of(row)));
        }
        let positions: Vec<Position> =
            self.limits.keys().filter(|(of, _)| *of == 0).filter_map(|(_, account)| self.position(*account, symbol)).collect();
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

    /// Ranges of equal limits, of accounts or in symbols.
    fn ranges(&self, of_accounts: bool) -> Vec<AccountLimits> {
        let mut ranges: Vec<AccountLimits> = Vec::new();
        for (&(symbol, account), limits) in self.limits.iter().filter(|((symbol, _), _)| (*symbol == 0) == of_accounts) {
            let range = AccountLimits { account_first: account, account_last: account, symbol, ..*limits };
            match ranges.last_mut() {
                Some(last)
                    if last.account_last + 1 == account
                        && *last == (AccountLimits { account_first: last.account_first, account_last: last.account_last, ..range }) =>
                {
                    last.account_last = account
                }
                _ => ranges.push(range),
            }
        }
        ranges
    }
}

fn put64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn put32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_le_bytes());
}
