//! A reader of market data in the plainest Rust: applies each record as its words say, and compares with what books are.

use std::collections::BTreeMap;

use ringlane_layout::market::{MarketKind, MarketRecord};
use ringlane_layout::orders::{BookLevel, OrderRequest, Side};
use ringlane_sidecar::kernels::orders::{OrderKernel, Outgoing};

/// What a reader knows.
#[derive(Default)]
pub struct MarketReader {
    /// Quantity and orders by symbol, side and price.
    levels: BTreeMap<(u32, u8, i64), (u64, u32)>,
    tops: BTreeMap<u32, [(i64, u64); 2]>,
    trades: u64,
}

impl MarketReader {
    /// Takes what the kernel tells of the records before, of which `sequence` is the last.
    pub fn read(&mut self, kernel: &mut OrderKernel, sequence: u64, requests: Option<&[OrderRequest]>, events: &[Outgoing]) {
        kernel.market(sequence, requests, events, &mut |record| self.apply(&record));
    }

    fn apply(&mut self, record: &MarketRecord) {
        let MarketRecord { symbol, side, price, quantity, order_count, .. } = *record;
        match MarketKind::try_from(record.kind) {
            Ok(MarketKind::Trade) => self.trades += 1,
            Ok(MarketKind::Top) => {
                self.tops.insert(symbol, [(price, quantity), (record.ask_price, record.ask_quantity)]);
            }
            Ok(MarketKind::Level) if order_count == 0 => {
                assert_eq!(quantity, 0);
                assert!(self.levels.remove(&(symbol, side, price)).is_some(), "a level that went was there: {record:?}");
            }
            Ok(MarketKind::Level) => {
                let before = self.levels.insert((symbol, side, price), (quantity, order_count));
                assert_ne!(before, Some((quantity, order_count)), "a level is told when it changes: {record:?}");
            }
            kind => panic!("the kernel does not tell {kind:?}"),
        }
    }

    /// Compares with the kernel's own books and counts.
    pub fn compare(&self, kernel: &OrderKernel, symbols: u32) {
        assert_eq!(self.trades, kernel.counters().trades, "every trade was told once");
        for symbol in 1..=symbols {
            let book = kernel.book(symbol, usize::MAX).expect("the symbol is there");
            let level = |side: Side, levels: &BTreeMap<_, _>| -> Vec<BookLevel> {
                let held = levels.range((symbol, side as u8, i64::MIN)..=(symbol, side as u8, i64::MAX));
                let level = |(&(_, side, price), &(quantity, order_count)): (&(u32, u8, i64), &(u64, u32))| BookLevel {
                    price,
                    quantity,
                    order_count,
                    side,
                    ..BookLevel::default()
                };
                held.map(level).collect()
            };
            let mut held: Vec<BookLevel> = level(Side::Buy, &self.levels).into_iter().rev().collect();
            held.extend(level(Side::Sell, &self.levels));
            assert_eq!(held, book, "a reader's book of symbol {symbol}");
            let best = [Side::Buy, Side::Sell].map(|side| {
                let first = book.iter().find(|level| level.side == side as u8);
                first.map_or((0, 0), |level| (level.price, level.quantity))
            });
            assert_eq!(self.tops.get(&symbol).copied().unwrap_or_default(), best, "a reader's best prices of symbol {symbol}");
        }
    }
}
