//! What a report shows, gathered in one pass: intervals of time that double when there are too many, and waits of orders.

use std::collections::{BTreeMap, VecDeque};

use ringlane_layout::orders::{RejectCode, Side};
use serde_json::{Value, json};

use super::place::Place;
use super::tables::trades;
use super::walk::Step;
use crate::board::text_of;
use crate::engine::Engine;
use crate::journal::FrameKind;

/// Most intervals; with one more, each takes in its neighbour.
const BINS_MAX: usize = 400;
/// Width of an interval at first, nanoseconds.
const WIDTH_NS: u64 = 100_000;
/// Symbols that are followed; those beyond have too high a number.
const SYMBOLS_MAX: usize = 256;
/// Symbols that the page shows, those with the most trades first.
const SYMBOLS_SHOWN: usize = 32;
/// Levels a side that count as depth.
const DEPTH_LEVELS: usize = 10;
/// Buckets of waits an octave, and octaves of nanoseconds.
const STEPS: usize = 4;
const OCTAVES: usize = 44;

/// One interval.
#[derive(Debug, Clone, Default)]
struct Bin {
    orders: u64,
    rejected: u64,
    trades: u64,
    frames: u64,
    /// Most slots that waited behind a frame.
    waiting_max: u16,
    symbols: BTreeMap<u32, SymbolBin>,
}

/// One symbol in one interval.
#[derive(Debug, Clone, Copy, Default)]
struct SymbolBin {
    trades: u64,
    quantity: u64,
    price_last: i64,
    price_min: i64,
    price_max: i64,
    /// Best prices and the quantity of the best levels: bids, asks.
    depth: Option<[(i64, u64); 2]>,
}

/// All that a report shows.
pub struct Series {
    from: Option<Place>,
    begin_ns: Option<u64>,
    end_ns: u64,
    width_ns: u64,
    bins: Vec<Bin>,
    rejects: BTreeMap<u16, u64>,
    /// For each lane, cursors up to which slots were submitted, and when that was first seen.
    seen: BTreeMap<u32, VecDeque<(u64, u64)>>,
    waits: Waits,
}

impl Series {
    /// Nothing yet; what lies before `from` will not be shown.
    #[must_use]
    pub fn new(from: Option<Place>) -> Self {
        Self {
            from,
            begin_ns: None,
            end_ns: 0,
            width_ns: WIDTH_NS,
            bins: Vec::new(),
            rejects: BTreeMap::new(),
            seen: BTreeMap::new(),
            waits: Waits::default(),
        }
    }

    /// Takes in one frame.
    pub fn add(&mut self, step: &Step) {
        let header = &step.header;
        let last = header.first_sequence + (step.records.len() as u64).saturating_sub(1);
        if step.kind != FrameKind::Orders || self.from.is_some_and(|from| !from.is_reached(last, header.time_ns)) {
            return;
        }
        let is_new = self.bin_at(header.time_ns);
        self.wait(step);
        let Some(bin) = self.bins.last_mut() else { return };
        bin.frames += 1;
        bin.orders += step.records.len() as u64;
        bin.waiting_max = bin.waiting_max.max(header.waiting_slots);
        for result in step.results.iter().filter(|result| result.code != 0) {
            bin.rejected += 1;
            *self.rejects.entry(result.code).or_default() += 1;
        }
        for trade in trades(step) {
            bin.trades += 1;
            if trade.symbol as usize <= SYMBOLS_MAX {
                bin.symbols.entry(trade.symbol).or_default().trade(trade.price, trade.quantity.into());
            }
        }
        if is_new {
            sample(step.engine, bin);
        }
    }

    /// Makes the last interval that of this time. Clocks that were set back count into the last one. Whether it is new.
    fn bin_at(&mut self, time_ns: u64) -> bool {
        let begin_ns = *self.begin_ns.get_or_insert(time_ns);
        self.end_ns = self.end_ns.max(time_ns);
        let since_ns = time_ns.saturating_sub(begin_ns);
        while since_ns / self.width_ns >= BINS_MAX as u64 {
            self.width_ns *= 2;
            let mut merged: Vec<Bin> = Vec::with_capacity(BINS_MAX);
            for (index, bin) in self.bins.drain(..).enumerate() {
                match merged.last_mut().filter(|_| index % 2 == 1) {
                    Some(last) => last.take_in(bin),
                    None => merged.push(bin),
                }
            }
            self.bins = merged;
        }
        let index = (since_ns / self.width_ns) as usize;
        let is_new = self.bins.len() <= index;
        if is_new {
            self.bins.resize(index + 1, Bin::default());
        }
        is_new
    }

    /// How long each order of the frame stood in its lane after the sidecar had first seen that it was there.
    fn wait(&mut self, step: &Step) {
        let header = &step.header;
        let seen = self.seen.entry(header.lane).or_default();
        let (mut slot, end) = (header.first_slot, header.first_slot + step.records.len() as u64);
        let submitted = end + u64::from(header.waiting_slots);
        if seen.back().is_none_or(|(cursor, _)| *cursor < submitted) {
            seen.push_back((submitted, header.time_ns));
        }
        while slot < end {
            let Some((cursor, since_ns)) = seen.front().copied() else { return };
            if cursor <= slot {
                seen.pop_front();
                continue;
            }
            let count = cursor.min(end) - slot;
            self.waits.add(header.time_ns.saturating_sub(since_ns), count);
            slot += count;
        }
    }

    /// As JSON for the page.
    #[must_use]
    pub fn json(&self, engine: &Engine) -> Value {
        let of = |value: fn(&Bin) -> u64| self.bins.iter().map(value).collect::<Vec<u64>>();
        let mut rejects: Vec<(u64, Value)> = self.rejects.iter().map(|(code, count)| (*count, reject_json(*code, *count))).collect();
        rejects.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        json!({
            "begin_ns": self.begin_ns.unwrap_or(0).to_string(), "end_ns": self.end_ns.to_string(), "width_ns": self.width_ns,
            "orders": of(|bin| bin.orders), "rejected": of(|bin| bin.rejected), "trades": of(|bin| bin.trades),
            "frames": of(|bin| bin.frames), "waiting": of(|bin| bin.waiting_max.into()),
            "rejects": rejects.into_iter().map(|(_, reject)| reject).collect::<Vec<_>>(), "waits": self.waits.json(),
            "symbols": self.symbols_json(engine), "depth_levels": DEPTH_LEVELS,
        })
    }

    fn symbols_json(&self, engine: &Engine) -> Vec<Value> {
        let mut totals: BTreeMap<u32, (u64, bool)> = BTreeMap::new();
        for (symbol, bin) in self.bins.iter().flat_map(|bin| &bin.symbols) {
            let total = totals.entry(*symbol).or_default();
            total.0 += bin.trades;
            total.1 |= bin.depth.is_some_and(|depth| depth != [(0, 0); 2]);
        }
        let mut ranked: Vec<(u32, u64)> = totals.into_iter().filter(|(_, total)| total.0 > 0 || total.1).map(|(s, t)| (s, t.0)).collect();
        ranked.sort_by_key(|(symbol, trades)| (std::cmp::Reverse(*trades), *symbol));
        ranked.truncate(SYMBOLS_SHOWN);
        let instruments = engine.orders.instruments();
        let known = ranked.into_iter().filter_map(|(symbol, trades)| Some((symbol, trades, instruments.get(symbol as usize - 1)?)));
        known
            .map(|(symbol, trades, instrument)| {
                let bins: Vec<Option<&SymbolBin>> = self.bins.iter().map(|bin| bin.symbols.get(&symbol)).collect();
                let traded = |value: fn(&SymbolBin) -> i64| -> Vec<Option<i64>> {
                    bins.iter().map(|bin| bin.filter(|bin| bin.trades > 0).map(value)).collect()
                };
                let depth = |side: Side| -> Vec<Option<u64>> {
                    let slot = usize::from(side == Side::Sell);
                    bins.iter().map(|bin| bin.and_then(|bin| bin.depth).map(|depth| depth[slot].1)).collect()
                };
                json!({
                    "name": text_of(&instrument.name), "decimals": instrument.price_decimals, "trades": trades,
                    "last": traded(|bin| bin.price_last), "low": traded(|bin| bin.price_min), "high": traded(|bin| bin.price_max),
                    "volume": bins.iter().map(|bin| bin.map_or(0, |bin| bin.quantity)).collect::<Vec<u64>>(),
                    "bid_depth": depth(Side::Buy), "ask_depth": depth(Side::Sell),
                })
            })
            .collect()
    }
}

fn reject_json(code: u16, count: u64) -> Value {
    let member = RejectCode::SCHEMA.members.iter().find(|member| member.value == u64::from(code));
    let (name, doc) = member.map_or((code.to_string(), ""), |member| (member.name.to_owned(), member.doc));
    json!({"name": name, "doc": doc, "count": count})
}

/// Notes how deep the books are.
fn sample(engine: &Engine, bin: &mut Bin) {
    for instrument in engine.orders.instruments().iter().take(SYMBOLS_MAX) {
        let levels = engine.orders.book(instrument.symbol, DEPTH_LEVELS).unwrap_or_default();
        if levels.is_empty() && !bin.symbols.contains_key(&instrument.symbol) {
            continue;
        }
        let side = |side: Side| {
            let mut levels = levels.iter().filter(move |level| level.side == side as u8).peekable();
            let best = levels.peek().map_or(0, |level| level.price);
            (best, levels.map(|level| level.quantity).sum())
        };
        bin.symbols.entry(instrument.symbol).or_default().depth = Some([side(Side::Buy), side(Side::Sell)]);
    }
}

impl Bin {
    fn take_in(&mut self, later: Self) {
        self.orders += later.orders;
        self.rejected += later.rejected;
        self.trades += later.trades;
        self.frames += later.frames;
        self.waiting_max = self.waiting_max.max(later.waiting_max);
        for (symbol, later) in later.symbols {
            let mine = self.symbols.entry(symbol).or_default();
            if later.trades > 0 {
                let is_first = mine.trades == 0;
                mine.price_min = if is_first { later.price_min } else { mine.price_min.min(later.price_min) };
                mine.price_max = if is_first { later.price_max } else { mine.price_max.max(later.price_max) };
                mine.price_last = later.price_last;
                mine.trades += later.trades;
                mine.quantity += later.quantity;
            }
            mine.depth = mine.depth.or(later.depth);
        }
    }
}

impl SymbolBin {
    fn trade(&mut self, price: i64, quantity: u64) {
        self.price_min = if self.trades == 0 { price } else { self.price_min.min(price) };
        self.price_max = self.price_max.max(price);
        self.price_last = price;
        self.trades += 1;
        self.quantity += quantity;
    }
}

/// How many orders waited how long: four buckets an octave of nanoseconds.
struct Waits {
    counts: [u64; STEPS * OCTAVES],
    at_once: u64,
    total: u64,
    max_ns: u64,
}

impl Default for Waits {
    fn default() -> Self {
        Self { counts: [0; STEPS * OCTAVES], at_once: 0, total: 0, max_ns: 0 }
    }
}

impl Waits {
    fn add(&mut self, wait_ns: u64, count: u64) {
        self.total += count;
        self.max_ns = self.max_ns.max(wait_ns);
        if wait_ns == 0 {
            self.at_once += count;
            return;
        }
        let octave = wait_ns.ilog2() as usize;
        let step = ((wait_ns as u128 * STEPS as u128) >> octave) as usize - STEPS;
        self.counts[(octave * STEPS + step).min(STEPS * OCTAVES - 1)] += count;
    }

    /// Upper bound of bucket `index`, nanoseconds.
    fn bound_ns(index: usize) -> u64 {
        ((STEPS + index % STEPS + 1) as u64) * (1 << (index / STEPS)) / STEPS as u64
    }

    /// The wait that `share` of the orders stayed within, up to the width of a bucket.
    fn quantile_ns(&self, share: f64) -> u64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut count = self.at_once;
        if count >= wanted {
            return 0;
        }
        for (index, of_bucket) in self.counts.iter().enumerate() {
            count += of_bucket;
            if count >= wanted {
                return Self::bound_ns(index).min(self.max_ns);
            }
        }
        self.max_ns
    }

    fn json(&self) -> Value {
        let shown = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let buckets: Vec<Value> = shown
            .map(|(index, count)| {
                let below = if index == 0 { 0 } else { Self::bound_ns(index - 1) };
                json!([below, Self::bound_ns(index), count])
            })
            .collect();
        let percentiles =
            [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)].map(|(name, share)| json!([name, self.quantile_ns(share)]));
        json!({"total": self.total, "at_once": self.at_once, "max_ns": self.max_ns, "buckets": buckets, "percentiles": percentiles})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_fall_into_the_bucket_that_holds_them() {
        for wait_ns in [1_u64, 2, 3, 4, 5, 7, 8, 9, 1000, 1023, 1024, 1025, 999_999_999, 1 << 40] {
            let mut waits = Waits::default();
            waits.add(wait_ns, 3);
            let index = waits.counts.iter().position(|count| *count == 3).unwrap();
            let below = if index == 0 { 0 } else { Waits::bound_ns(index - 1) };
            assert!(below <= wait_ns && wait_ns <= Waits::bound_ns(index), "{wait_ns}");
            assert_eq!(waits.quantile_ns(0.5), wait_ns, "never above the longest");
        }
        let mut waits = Waits::default();
        waits.add(0, 90);
        waits.add(1000, 9);
        waits.add(1_000_000, 1);
        assert_eq!((waits.quantile_ns(0.9), waits.quantile_ns(1.0)), (0, 1_000_000));
        assert!((1000..=1280).contains(&waits.quantile_ns(0.99)));
    }

    #[test]
    fn intervals_double_and_lose_nothing() {
        let mut series = Series::new(None);
        for n in 0..10_000_u64 {
            series.bin_at(5 + n * WIDTH_NS / 2);
            series.bins.last_mut().unwrap().orders += 1;
        }
        assert!(series.bins.len() <= BINS_MAX && series.bins.len() > BINS_MAX / 2);
        assert_eq!(series.bins.iter().map(|bin| bin.orders).sum::<u64>(), 10_000);
        assert_eq!(series.bins[3].orders, 2 * series.width_ns / WIDTH_NS);
    }
}
