//! From a hash to a u32 slab index. A bucket is one cache line of twelve entries: eight bits of tag and the index each,
//! so a probe is one line and nearly one compare. An entry that finds its bucket full goes to the next one, and every
//! bucket on the way counts it; a lookup ends at the first bucket that nobody passed. Nothing is ever left behind by a
//! removal, and the number of buckets need not be a power of two, so a table is never emptier than it must be.
//!
//! The keys stay in the slabs; the caller says whether an index is the one that it looks for. The order of slots never
//! shows in a result.

use crate::kernels::prefetch;

/// Entries in a bucket.
const SLOTS: usize = 12;
const SEED_ACCOUNT: u64 = 0x9e37_79b9_7f4a_7c15;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Multiplies to 128 bits and folds the halves.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Hash of an order's key within a book.
#[inline(always)]
pub(super) fn order_hash(seed: u64, account: u32, client_order_id: u64) -> u64 {
    fold(client_order_id ^ seed, u64::from(account).wrapping_mul(SEED_ACCOUNT) ^ seed.rotate_left(29) | 1)
}

/// Hash of an account within a book.
#[inline(always)]
pub(super) fn account_hash(seed: u64, account: u32) -> u64 {
    fold(u64::from(account) ^ seed, SEED_ACCOUNT)
}

/// Tag of a hash; 0 marks an empty slot.
#[inline(always)]
fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// A cache line of entries.
#[derive(Clone)]
#[repr(C, align(64))]
struct Bucket {
    /// Tags of slots 0-7, one byte each.
    tags_low: u64,
    /// Tags of slots 8-11.
    tags_high: u32,
    /// Entries further on whose home is here or before; once at the maximum it stays there until the table is rebuilt.
    passed: u32,
    indices: [u32; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64);
const VACANT: Bucket = Bucket { tags_low: 0, tags_high: 0, passed: 0, indices: [0; SLOTS] };

/// The high bit of every byte of `word` that is zero.
#[inline(always)]
fn zero_bytes(word: u64) -> u64 {
    !(((word & !HIGH_BITS) + !HIGH_BITS) | word) & HIGH_BITS
}

/// Slots as bits: slot s < 8 is bit 8s + 7, slot s >= 8 is bit 8(s - 8) + 6.
#[derive(Clone, Copy)]
struct SlotSet(u64);

impl SlotSet {
    #[inline(always)]
    fn first(self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        Some((bit >> 3) + if bit & 1 == 0 { 8 } else { 0 })
    }

    #[inline(always)]
    fn without_first(self) -> Self {
        Self(self.0 & self.0.wrapping_sub(1))
    }
}

impl Bucket {
    #[inline(always)]
    fn with_tag(&self, tag: u8) -> SlotSet {
        let wanted = LOW_BITS * u64::from(tag);
        let low = zero_bytes(self.tags_low ^ wanted);
        // Only four bytes of this word are slots.
        let high = zero_bytes(u64::from(self.tags_high) ^ wanted) & 0x8080_8080;
        SlotSet(low | high >> 1)
    }

    #[inline(always)]
    fn set_tag(&mut self, slot: usize, tag: u8) {
        let shift = (slot & 7) * 8;
        if slot < 8 {
            self.tags_low = self.tags_low & !(0xff << shift) | u64::from(tag) << shift;
        } else {
            self.tags_high = self.tags_high & !(0xff << shift) | u32::from(tag) << shift;
        }
    }
}

/// The table. It takes no memory until something is put in.
pub(super) struct Index {
    buckets: Box<[Bucket]>,
    live: u32,
}

impl Index {
    pub(super) fn new() -> Self {
        Self { buckets: Box::default(), live: 0 }
    }

    /// The bucket where the search for `hash` begins.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize
    }

    #[inline(always)]
    fn behind(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.home(hash)) {
            prefetch::line(bucket);
        }
    }

    /// An index that `find` will most likely look at.
    #[inline(always)]
    pub(super) fn peek(&self, hash: u64) -> Option<u32> {
        let bucket = self.buckets.get(self.home(hash))?;
        bucket.with_tag(tag(hash)).first().map(|slot| bucket.indices[slot])
    }

    /// The index under `hash` for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.find_slot(hash, is_it).map(|(at, slot)| self.buckets[at].indices[slot])
    }

    #[inline]
    fn find_slot(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<(usize, usize)> {
        let mut at = self.home(hash);
        // A table is never full, but one round is the most that a search can need.
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let mut slots = bucket.with_tag(tag(hash));
            while let Some(slot) = slots.first() {
                if is_it(bucket.indices[slot]) {
                    return Some((at, slot));
                }
                slots = slots.without_first();
            }
            if bucket.passed == 0 {
                return None;
            }
            at = self.behind(at);
        }
        None
    }

    /// Puts `index` under `hash`, where it is not yet. `hash_of` gives the hash of an index that is in the table.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, index: u32, hash_of: impl Fn(u32) -> u64) {
        // At most 5/6 of the slots are taken: ten of twelve.
        if (self.live as usize + 1) * 6 > self.buckets.len() * SLOTS * 5 {
            self.rebuild(hash_of);
        }
        self.live += 1;
        self.place(hash, index);
    }

    #[inline(always)]
    fn place(&mut self, hash: u64, index: u32) {
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(slot) = bucket.with_tag(0).first() {
                bucket.set_tag(slot, tag(hash));
                bucket.indices[slot] = index;
                return;
            }
            bucket.passed = bucket.passed.saturating_add(1);
            at = self.behind(at);
        }
    }

    /// Takes `index` out, which is under `hash`.
    #[inline]
    pub(super) fn remove(&mut self, hash: u64, index: u32) {
        let Some((found, slot)) = self.find_slot(hash, |other| other == index) else {
            debug_assert!(false, "what is removed is in the table");
            return;
        };
        self.live -= 1;
        self.buckets[found].set_tag(slot, 0);
        let mut at = self.home(hash);
        while at != found {
            let passed = &mut self.buckets[at].passed;
            *passed -= u32::from(*passed != u32::MAX);
            at = self.behind(at);
        }
    }

    /// Makes the table half as large again.
    #[cold]
    #[inline(never)]
    fn rebuild(&mut self, hash_of: impl Fn(u32) -> u64) {
        let count = self.buckets.len();
        let buckets = vec![VACANT; (count + count / 2).max(count + 1)].into_boxed_slice();
        let old = std::mem::replace(&mut self.buckets, buckets);
        for index in indices(&old) {
            self.place(hash_of(index), index);
        }
    }

    /// Heap that the table holds, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// Every index, in no order that may show.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        indices(&self.buckets)
    }
}

fn indices(buckets: &[Bucket]) -> impl Iterator<Item = u32> {
    buckets.iter().flat_map(|bucket| {
        let vacant = bucket.with_tag(0);
        (0..SLOTS).filter(move |&slot| !vacant.has(slot)).map(|slot| bucket.indices[slot])
    })
}

impl SlotSet {
    fn has(self, slot: usize) -> bool {
        let bit = if slot < 8 { 8 * slot + 7 } else { 8 * (slot - 8) + 6 };
        self.0 >> bit & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn churn(hash_of: impl Fn(u32) -> u64 + Copy, rounds: u32) -> Index {
        let mut table = Index::new();
        for index in 0..rounds {
            table.insert(hash_of(index), index, hash_of);
            if index >= 500 {
                table.remove(hash_of(index - 500), index - 500);
            }
        }
        for index in 0..rounds {
            assert_eq!(table.find(hash_of(index), |other| other == index).is_some(), index + 500 >= rounds);
        }
        assert_eq!(table.iter().count(), 500);
        table
    }

    #[test]
    fn a_churned_table_finds_what_is_in_it_and_nothing_else() {
        let table = churn(|index| fold(u64::from(index) ^ 77, SEED_ACCOUNT), 20_000);
        assert!(table.heap_bytes() <= 12 * 501, "removed entries do not make the table grow");
    }

    #[test]
    fn hashes_that_all_collide_still_find_their_own() {
        churn(|_| u64::MAX, 2_000);
        churn(|index| u64::from(index & 1) << 63, 2_000);
    }
}
