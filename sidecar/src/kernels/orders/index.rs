//! Open addressing from a hash to a u32 slab index: 4 bytes a slot, 26 bits of index and 6 bits of tag, linear probing.
//! The keys stay in the slabs; the caller says whether an index is the one that it looks for. Slot order never shows
//! in a result.

use crate::kernels::prefetch;

const EMPTY: u32 = 0;
const GONE: u32 = 1;
const INDEX_BITS: u32 = 26;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
/// Slots that `peek` looks at before it gives up.
const PEEKS: usize = 4;
const SLOTS_MIN: usize = 16;
const SEED_ACCOUNT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies to 128 bits and folds the halves.
#[inline(always)]
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Hash of an order's key within a book.
#[inline(always)]
pub(super) fn order_hash(seed: u64, account: u32, client_order_id: u64) -> u64 {
    fold(client_order_id ^ seed, u64::from(account).wrapping_mul(SEED_ACCOUNT) ^ seed.rotate_left(29) | 1)
}

/// Hash of a price within a side of a book.
#[inline(always)]
pub(super) fn price_hash(seed: u64, price: i64) -> u64 {
    fold(price as u64 ^ seed, SEED_ACCOUNT)
}

/// Hash of an account within a book.
#[inline(always)]
pub(super) fn account_hash(seed: u64, account: u32) -> u64 {
    fold(u64::from(account) ^ seed, SEED_ACCOUNT)
}

/// The table. It takes no memory until something is put in.
#[derive(Clone)]
pub(super) struct Index {
    slots: Box<[u32]>,
    shift: u32,
    live: u32,
    /// Slots that are not EMPTY.
    taken: u32,
}

/// Tag bits are never all zero, so that no entry looks like EMPTY or GONE.
#[inline(always)]
fn tag(hash: u64) -> u32 {
    ((hash as u32 & 0x3f).max(1)) << INDEX_BITS
}

impl Index {
    pub(super) fn new() -> Self {
        Self { slots: Box::default(), shift: 63, live: 0, taken: 0 }
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        (hash >> self.shift) as usize
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch::line(slot);
        }
    }

    /// What stands in the first slot of `hash`: most likely what is looked for, or nothing.
    #[inline(always)]
    pub(super) fn first(&self, hash: u64) -> u32 {
        self.slots.get(self.home(hash)).map_or(0, |slot| slot & INDEX_MASK)
    }

    /// The first index on the probe path that has the tag of `hash`: what `find` will most likely look at.
    #[inline(always)]
    pub(super) fn peek(&self, hash: u64) -> Option<u32> {
        let mask = self.slots.len().wrapping_sub(1);
        let home = self.home(hash);
        for at in home..home + PEEKS {
            let slot = *self.slots.get(at & mask)?;
            if slot & !INDEX_MASK == tag(hash) {
                return Some(slot & INDEX_MASK);
            }
            if slot == EMPTY {
                return None;
            }
        }
        None
    }

    /// The index under `hash` for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.find_slot(hash, is_it).map(|at| self.slots[at] & INDEX_MASK)
    }

    #[inline]
    fn find_slot(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let (mask, tag) = (self.slots.len() - 1, tag(hash));
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at & mask];
            if slot & !INDEX_MASK == tag && is_it(slot & INDEX_MASK) {
                return Some(at & mask);
            }
            if slot == EMPTY {
                return None;
            }
            at += 1;
        }
    }

    /// Lets the slot of what `is_it` says yes to hold `index` from now on, which has the same hash; what it held.
    #[inline]
    pub(super) fn swap(&mut self, hash: u64, index: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let at = self.find_slot(hash, is_it)?;
        let old = std::mem::replace(&mut self.slots[at], tag(hash) | index);
        Some(old & INDEX_MASK)
    }

    /// Puts `index` under `hash`, where it is not yet. `hash_of` gives the hash of an index that is in the table.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, index: u32, hash_of: impl Fn(u32) -> u64) {
        // At most 13/16 of the slots are taken, so every probe ends.
        if (self.taken as usize + 1) * 16 > self.slots.len() * 13 {
            self.rebuild(hash_of);
        }
        let mask = self.slots.len() - 1;
        let mut at = self.home(hash) & mask;
        while self.slots[at] > GONE {
            at = (at + 1) & mask;
        }
        self.taken += u32::from(self.slots[at] == EMPTY);
        self.slots[at] = tag(hash) | index;
        self.live += 1;
    }

    /// Takes `index` out, which is under `hash`.
    #[inline]
    pub(super) fn remove(&mut self, hash: u64, index: u32) {
        let Some(mut at) = self.find_slot(hash, |other| other == index) else {
            debug_assert!(false, "what is removed is in the table");
            return;
        };
        self.live -= 1;
        let mask = self.slots.len() - 1;
        if self.slots[(at + 1) & mask] != EMPTY {
            self.slots[at] = GONE;
            return;
        }
        // Nothing probes past this slot: it and the gone ones before it become empty again.
        loop {
            self.slots[at] = EMPTY;
            self.taken -= 1;
            at = at.wrapping_sub(1) & mask;
            if self.slots[at] != GONE {
                return;
            }
        }
    }

    /// Doubles the table when it is full of live entries; else only sweeps out the gone ones.
    #[cold]
    #[inline(never)]
    fn rebuild(&mut self, hash_of: impl Fn(u32) -> u64) {
        let live = self.live as usize + 1;
        let mut slot_count = self.slots.len().max(SLOTS_MIN);
        while live * 2 > slot_count {
            slot_count *= 2;
        }
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slot_count].into_boxed_slice());
        self.shift = 64 - slot_count.trailing_zeros();
        self.taken = self.live;
        let mask = slot_count - 1;
        for slot in old.iter().copied().filter(|&slot| slot > GONE) {
            let mut at = self.home(hash_of(slot & INDEX_MASK)) & mask;
            while self.slots[at] != EMPTY {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
        }
    }

    /// Heap that the table holds, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Every index, in no order that may show.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().copied().filter(|&slot| slot > GONE).map(|slot| slot & INDEX_MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_churned_table_finds_what_is_in_it_and_nothing_else() {
        let hash_of = |index: u32| fold(u64::from(index) ^ 77, SEED_ACCOUNT);
        let mut table = Index::new();
        for index in 0..20_000_u32 {
            table.insert(hash_of(index), index, hash_of);
            if index >= 500 {
                table.remove(hash_of(index - 500), index - 500);
            }
        }
        assert!(table.slots.len() <= 1024, "gone slots do not make the table grow");
        for index in 0..20_000_u32 {
            assert_eq!(table.find(hash_of(index), |other| other == index).is_some(), index >= 19_500);
        }
        assert_eq!(table.iter().count(), 500);
    }
}
