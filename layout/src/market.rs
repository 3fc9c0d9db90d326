//! The market data ring: one writer, the sidecar, and any number of readers that it does not know of. Which records are
//! written, and when they may be seen, is decided elsewhere.
//!
//! ```text
//! +0     magic "RLMKT001"
//! +8     layout version u32, record bytes u32
//! +16    capacity, records: a power of two
//! +24    epoch: another number at every start of the sidecar
//! +32    schema hash of the record
//! +128   written: records that may be read
//! +256   claimed: records that are written or being written; never below `written`
//! +4096  capacity records
//! ```
//!
//! Record `i`, whose `number` is `i + 1`, stands at `4096 + (i mod capacity) x 64` until record `i + capacity` is claimed. A
//! reader copies first and asks then whether what it copied had been claimed anew: it holds nobody up, and what it keeps is true.

use crate::limits::{HOT_WORD_STRIDE_BYTES, LAYOUT_VERSION, MARKET_RECORDS_MAX, MARKET_RECORDS_MIN, PAGE_BYTES, RECORD_BYTES};
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::record::{EnumSchema, Record, RecordSchema};
use crate::shared::{RecordRing, SharedBytes};
use crate::{codes, record};

/// The first word of the region.
pub const MARKET_MAGIC: [u8; 8] = *b"RLMKT001";
const WRITTEN: usize = HOT_WORD_STRIDE_BYTES;
const CLAIMED: usize = 2 * HOT_WORD_STRIDE_BYTES;
/// Where the records begin.
pub const MARKET_RING_OFFSET: usize = PAGE_BYTES;

codes! {
    /// What a record of market data tells.
    pub enum MarketKind: u8 {
        /// Two orders traded: `price`, `quantity`, the taker's `side`; (`sequence`, `k`) is the trade's id.
        Trade ("TRADE") = 1,
        /// The best of both sides changed: bid `price` and `quantity`, `ask_price` and `ask_quantity`; 0 where nothing rests.
        Top ("TOP") = 2,
        /// A price level changed: `quantity` and `order_count` are what it has now, 0 when it is gone.
        Level ("LEVEL") = 3,
        /// The book of the symbol begins anew: forget its levels; those that it has follow. Only in snapshots.
        Clear ("CLEAR") = 4,
        /// Records from number `sequence` to `number` were overwritten before they were read; with `number` 0, the sidecar was started anew,
        /// and numbers begin at 1 again. Never in the ring: a reader says it to its user.
        Gap ("GAP") = 5,
    }
}

record! {
    /// One record of market data.
    pub struct MarketRecord: 64 {
        /// Number of the record, from 1, without gap, in all symbols; in a snapshot, the last number that it includes; for `GAP`, the last one missing.
        number: u64,
        /// Sequence number of the request that traded, or of the last one of the batch after which the level stands so; for `GAP`, the first `number` missing.
        sequence: u64,
        /// Price, price units; for `TOP`, the best bid, 0 for none.
        price: i64,
        /// Quantity traded, or shown at the price: what icebergs hide does not count.
        quantity: u64,
        /// For `TOP`: the best ask, price units, 0 for none.
        ask_price: i64,
        /// For `TOP`: quantity shown there.
        ask_quantity: u64,
        /// For `LEVEL`: orders at the price.
        order_count: u32,
        /// For `TRADE`: index among the events of `sequence`.
        k: u32,
        /// Symbol number.
        symbol: u32,
        /// What it tells; see `MarketKind`.
        kind: u8 as MarketKind,
        /// For `LEVEL`, the side of the book; for `TRADE`, the side of the order that took.
        side: u8 as Side,
        /// 1 on the last record of what one batch changed: books stand between two batches there.
        ends_batch: u8,
        /// Zero.
        reserved: u8,
    }
}

/// Schemas of the market data.
pub const RECORDS: &[&RecordSchema] = &[MarketRecord::SCHEMA];
/// Enums that stand in its fields, beside those of orders.
pub const ENUMS: &[&EnumSchema] = &[MarketKind::SCHEMA];

/// Size of the region, bytes. An error names the range of capacities.
pub fn region_bytes(capacity_records: u64) -> Result<usize, String> {
    if !capacity_records.is_power_of_two() || !(MARKET_RECORDS_MIN..=MARKET_RECORDS_MAX).contains(&capacity_records) {
        return Err(format!("it must be a power of two from {MARKET_RECORDS_MIN} to {MARKET_RECORDS_MAX}, not {capacity_records}"));
    }
    Ok(MARKET_RING_OFFSET + capacity_records as usize * RECORD_BYTES)
}

/// The region's first bytes.
#[must_use]
pub fn header(capacity_records: u64, epoch: u64) -> [u8; 40] {
    let mut header = [0; 40];
    header[..8].copy_from_slice(&MARKET_MAGIC);
    header[8..12].copy_from_slice(&LAYOUT_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&(RECORD_BYTES as u32).to_le_bytes());
    header[16..24].copy_from_slice(&capacity_records.to_le_bytes());
    header[24..32].copy_from_slice(&epoch.to_le_bytes());
    header[32..40].copy_from_slice(&MarketRecord::SCHEMA_HASH.to_le_bytes());
    header
}

/// The two counts of the region: one writer, any number of readers that write nothing.
#[derive(Debug, Clone, Copy)]
pub struct MarketWords<'a> {
    /// Records that may be read.
    pub written: &'a AtomicU64,
    /// Records that are written or being written: at least `written`.
    pub claimed: &'a AtomicU64,
}

impl MarketWords<'_> {
    /// The writer is about to write the records up to `claimed`; whoever copies what stood there can tell.
    #[inline]
    pub fn claim(self, claimed: u64) {
        self.claimed.store(claimed, Ordering::Relaxed);
        fence(Ordering::Release); // meets the fence in `is_whole`: who sees a byte of these records sees the claim
    }

    /// The writer lets everybody read the first `staged` records.
    #[inline]
    pub fn show(self, staged: u64) {
        self.written.store(staged, Ordering::Release); // meets the fence in `shown`
    }

    /// Records that a reader may copy: those before this number, as far as they still stand.
    #[inline]
    #[must_use]
    pub fn shown(self) -> u64 {
        let written = self.written.load(Ordering::Relaxed);
        fence(Ordering::Acquire); // meets the store in `show`
        written
    }

    /// Whether records that were copied from `next` on were whole: none of them was being overwritten by then.
    #[inline]
    #[must_use]
    pub fn is_whole(self, next: u64, capacity: u64) -> bool {
        fence(Ordering::Acquire); // meets the fence in `claim`
        self.claimed.load(Ordering::Relaxed).saturating_sub(next) <= capacity
    }
}

fn words(bytes: &SharedBytes) -> MarketWords<'_> {
    MarketWords { written: bytes.word(WRITTEN), claimed: bytes.word(CLAIMED) }
}

/// The one writer.
#[derive(Debug)]
pub struct MarketWriter {
    bytes: SharedBytes,
    ring: RecordRing,
    capacity: u64,
    /// As in the region; at least `written`.
    claimed: u64,
}

impl MarketWriter {
    /// The writer of a region that was made with `header` and has nothing in it.
    #[must_use]
    pub fn new(bytes: SharedBytes) -> Self {
        let capacity = bytes.word(16).load(Ordering::Relaxed);
        assert!(region_bytes(capacity) == Ok(bytes.len()), "the region has the size that its header says");
        Self { bytes, ring: RecordRing::new(bytes, MARKET_RING_OFFSET, capacity), capacity, claimed: 0 }
    }

    /// Number of the last record that was staged; 0 before the first.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.claimed
    }

    /// Numbers these records and puts them into the ring, where nobody may read them yet.
    #[inline]
    pub fn stage(&mut self, records: &mut [MarketRecord]) {
        assert!(records.len() as u64 <= self.capacity, "records come in pieces that the ring can hold");
        let first = self.claimed;
        self.claimed += records.len() as u64;
        words(&self.bytes).claim(self.claimed);
        for (number, record) in (first + 1..).zip(records.iter_mut()) {
            record.number = number;
        }
        self.ring.write(first, bytemuck::cast_slice(records));
    }

    /// Lets everybody read what was staged.
    #[inline]
    pub fn show(&self) {
        self.show_to(self.claimed);
    }

    /// Records that were staged so far.
    #[inline]
    #[must_use]
    pub fn staged(&self) -> u64 {
        self.claimed
    }

    /// Lets everybody read the first `staged` records.
    #[inline]
    pub fn show_to(&self, staged: u64) {
        words(&self.bytes).show(staged);
    }
}

/// A reader. It writes nothing, so the writer cannot know of it.
#[derive(Debug)]
pub struct MarketReader {
    bytes: SharedBytes,
    ring: RecordRing,
    capacity: u64,
    /// Records that were read or missed.
    next: u64,
}

/// Records that were overwritten before they were read, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarketGap {
    /// The first that is missing.
    pub from: u64,
    /// The last one.
    pub to: u64,
}

impl MarketReader {
    /// A reader of a region, which may be mapped for reading only, that goes on behind the record `number`. An error says
    /// what is wrong with the region.
    pub fn new(bytes: SharedBytes, number: u64) -> Result<Self, String> {
        let mut head = [0; 40];
        bytes.read(0, &mut head);
        let capacity = bytes.word(16).load(Ordering::Relaxed);
        if region_bytes(capacity) != Ok(bytes.len()) || head != header(capacity, bytes.word(24).load(Ordering::Relaxed)) {
            return Err("this is no region of market data of this layout version".into());
        }
        Ok(Self { bytes, ring: RecordRing::new(bytes, MARKET_RING_OFFSET, capacity), capacity, next: number })
    }

    /// Copies out as many records as there are and fit. A gap: the reader was too slow; it goes on behind it, and needs a
    /// snapshot to know what its books are.
    pub fn read(&mut self, into: &mut [MarketRecord]) -> Result<usize, MarketGap> {
        let written = words(&self.bytes).shown();
        let count = written.saturating_sub(self.next).min(into.len() as u64).min(self.capacity) as usize;
        if count == 0 {
            // Nothing was copied, so nothing was overwritten, however far the writer is by now.
            return Ok(0);
        }
        self.ring.read(self.next, bytemuck::cast_slice_mut(&mut into[..count]));
        if !words(&self.bytes).is_whole(self.next, self.capacity) {
            let from = std::mem::replace(&mut self.next, written) + 1;
            return Err(MarketGap { from, to: written });
        }
        self.next += count as u64;
        Ok(count)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn region(capacity: u64) -> SharedBytes {
        let bytes = SharedBytes::leaked(region_bytes(capacity).unwrap());
        bytes.write(0, &header(capacity, 7));
        bytes
    }

    fn marked(number: u64) -> MarketRecord {
        MarketRecord { price: number as i64, quantity: !number, ask_quantity: number, ..MarketRecord::default() }
    }

    #[test]
    fn a_reader_sees_what_is_shown_and_hears_of_gaps_by_number() {
        let bytes = region(MARKET_RECORDS_MIN);
        let (mut writer, mut reader) = (MarketWriter::new(bytes), MarketReader::new(bytes, 0).unwrap());
        let mut into = vec![MarketRecord::default(); 3000];
        writer.stage(&mut [marked(1), marked(2)]);
        assert_eq!(reader.read(&mut into), Ok(0), "staged is not shown");
        writer.show();
        assert_eq!((reader.read(&mut into), into[1].number, into[1].price), (Ok(2), 2, 2));
        for number in 3..3 + MARKET_RECORDS_MIN {
            writer.stage(&mut [marked(number)]);
        }
        // The whole ring is claimed, nothing of it shown: what the reader has not read is still whole.
        assert_eq!(reader.read(&mut into), Ok(0));
        writer.show();
        assert_eq!((reader.read(&mut into), into[0].number), (Ok(MARKET_RECORDS_MIN as usize), 3));
        let last = 2 + 2 * MARKET_RECORDS_MIN + 1;
        for number in 3 + MARKET_RECORDS_MIN..=last {
            writer.stage(&mut [marked(number)]);
            writer.show();
        }
        assert_eq!(reader.read(&mut into), Err(MarketGap { from: 3 + MARKET_RECORDS_MIN, to: last }));
        writer.stage(&mut [marked(last + 1)]);
        writer.show();
        assert_eq!((reader.read(&mut into), into[0].number), (Ok(1), last + 1));
    }

    #[test]
    fn what_a_reader_keeps_is_whole_while_the_writer_runs_over_it() {
        let bytes = region(MARKET_RECORDS_MIN);
        let (mut writer, mut reader) = (MarketWriter::new(bytes), MarketReader::new(bytes, 0).unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // A reader that fails says nothing more.
                let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
                while !done.load(Ordering::Relaxed) && std::time::Instant::now() < until {
                    let first = writer.number() + 1;
                    let mut records: Vec<_> = (first..first + 16).map(marked).collect();
                    writer.stage(&mut records);
                    writer.show();
                    // Behind two rings a breath, in which also a reader that is far slower (a sanitizer's) gets some whole.
                    if first % (2 * MARKET_RECORDS_MIN) <= 16 {
                        std::thread::sleep(std::time::Duration::from_micros(50));
                    }
                }
            });
            let (mut into, mut next, mut gaps, mut read) = ([MarketRecord::default(); 64], 1, 0, 0);
            while read < 10_000 || gaps < 3 {
                match reader.read(&mut into) {
                    Ok(count) => {
                        for record in &into[..count] {
                            assert_eq!(*record, MarketRecord { number: next, ..marked(next) });
                            next += 1;
                        }
                        // A reader that is slow now and then, for longer than the writer's breath.
                        if read / 2_000 != (read + count) / 2_000 {
                            std::thread::sleep(std::time::Duration::from_millis(1));
                        }
                        read += count;
                    }
                    Err(gap) => {
                        assert!(gap.from == next && gap.to >= next);
                        (next, gaps) = (gap.to + 1, gaps + 1);
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn regions_of_odd_sizes_are_refused() {
        assert!(region_bytes(MARKET_RECORDS_MIN + 1).is_err() && region_bytes(MARKET_RECORDS_MAX * 2).is_err());
        assert!(MarketReader::new(SharedBytes::leaked(8192), 0).is_err());
    }
}
