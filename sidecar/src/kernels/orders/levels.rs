//! The price levels of one side of a book: which prices have orders, and the last order of each. Sorted blocks under a
//! sorted directory: dense and sparse prices cost the same, and nothing is scanned. Orders themselves never enter here.
//!
//! Levels are ordered by *rank*: the price of a bid, the negated price of an ask. The higher rank is the better price,
//! so the best level is the last one, and most changes move few bytes.

/// Levels in a block.
const BLOCK: usize = 64;

#[derive(Clone)]
struct Block {
    ranks: [i64; BLOCK],
    tails: [u32; BLOCK],
    len: usize,
}

impl Block {
    #[inline]
    fn ranks(&self) -> &[i64] {
        &self.ranks[..self.len.min(BLOCK)]
    }

    fn insert(&mut self, at: usize, rank: i64, tail: u32) {
        self.ranks.copy_within(at..self.len, at + 1);
        self.tails.copy_within(at..self.len, at + 1);
        self.ranks[at] = rank;
        self.tails[at] = tail;
        self.len += 1;
    }

    fn remove(&mut self, at: usize) {
        self.ranks.copy_within(at + 1..self.len, at);
        self.tails.copy_within(at + 1..self.len, at);
        self.len -= 1;
    }
}

/// Where a block stands: the lowest rank it may hold (the first block: anything lower too).
#[derive(Clone, Copy)]
struct Place {
    floor: i64,
    block: u32,
}

/// Where a level is, or would be.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    place: usize,
    at: usize,
    /// Whether the level exists.
    pub(super) exists: bool,
}

/// The levels of one side.
#[derive(Default)]
pub(super) struct Levels {
    directory: Vec<Place>,
    blocks: Vec<Block>,
    unused: Vec<u32>,
}

impl Levels {
    /// Heap that the levels hold, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let places = self.directory.capacity() * size_of::<Place>() + self.unused.capacity() * size_of::<u32>();
        places + self.blocks.capacity() * size_of::<Block>()
    }

    /// Finds the level of `rank`, or the spot where it would be.
    #[inline]
    pub(super) fn find(&self, rank: i64) -> Spot {
        let place = match self.directory.len() {
            0 | 1 => 0,
            _ => self.directory.partition_point(|place| place.floor <= rank).saturating_sub(1),
        };
        let Some(entry) = self.directory.get(place) else { return Spot { place, at: 0, exists: false } };
        let ranks = self.blocks[entry.block as usize].ranks();
        let at = ranks.partition_point(|&other| other < rank);
        Spot { place, at, exists: ranks.get(at) == Some(&rank) }
    }

    /// The last order of the level at `spot`, which exists; else the last order of the next better level, if there is one.
    #[inline]
    pub(super) fn tail(&self, spot: Spot) -> Option<u32> {
        let block = &self.blocks[self.directory.get(spot.place)?.block as usize];
        if spot.at < block.len {
            return Some(block.tails[spot.at]);
        }
        let next = self.directory.get(spot.place + 1)?;
        Some(self.blocks[next.block as usize].tails[0])
    }

    /// Names another last order of the level at `spot`, which exists.
    #[inline]
    pub(super) fn set_tail(&mut self, spot: Spot, tail: u32) {
        self.blocks[self.directory[spot.place].block as usize].tails[spot.at] = tail;
    }

    /// Adds the level `rank` at `spot`, where `find` did not find it.
    pub(super) fn insert(&mut self, mut spot: Spot, rank: i64, tail: u32) {
        if self.directory.is_empty() {
            let block = self.take_block();
            self.directory.push(Place { floor: rank, block });
        }
        let block = self.directory[spot.place].block as usize;
        if self.blocks[block].len == BLOCK {
            let upper = self.split(spot.place);
            if spot.at > BLOCK / 2 {
                spot.at -= BLOCK / 2;
                self.blocks[upper as usize].insert(spot.at, rank, tail);
                return;
            }
        }
        self.blocks[block].insert(spot.at, rank, tail);
    }

    /// Moves the better half of a full block into a new one behind it.
    #[cold]
    fn split(&mut self, place: usize) -> u32 {
        let upper = self.take_block();
        let lower = self.directory[place].block as usize;
        let half = BLOCK / 2;
        let (ranks, tails) = (self.blocks[lower].ranks, self.blocks[lower].tails);
        let block = &mut self.blocks[upper as usize];
        block.ranks[..half].copy_from_slice(&ranks[half..]);
        block.tails[..half].copy_from_slice(&tails[half..]);
        block.len = half;
        self.blocks[lower].len = half;
        // The first block may hold ranks below its floor; the directory stays sorted. A floor never rises: the level that
        // comes next may stand between it and the block's lowest.
        let floor = &mut self.directory[place].floor;
        *floor = ranks[0].min(*floor);
        self.directory.insert(place + 1, Place { floor: ranks[half], block: upper });
        upper
    }

    fn take_block(&mut self) -> u32 {
        if let Some(block) = self.unused.pop() {
            return block;
        }
        self.blocks.push(Block { ranks: [0; BLOCK], tails: [0; BLOCK], len: 0 });
        self.blocks.len() as u32 - 1
    }

    /// Takes out the level at `spot`, which exists.
    pub(super) fn remove(&mut self, spot: Spot) {
        let index = self.directory[spot.place].block;
        let block = &mut self.blocks[index as usize];
        block.remove(spot.at);
        if block.len == 0 {
            self.directory.remove(spot.place);
            self.unused.push(index);
        }
    }

    /// Takes out the best level.
    #[inline]
    pub(super) fn remove_best(&mut self) {
        let Some(place) = self.directory.last() else { return };
        let index = place.block;
        let block = &mut self.blocks[index as usize];
        block.len -= 1;
        if block.len == 0 {
            self.directory.pop();
            self.unused.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_level_that_came_back_as_the_lowest_of_a_full_block_is_found() {
        let mut levels = Levels::default();
        let add = |levels: &mut Levels, rank| levels.insert(levels.find(rank), rank, 1);
        let block = BLOCK as i64;
        (0..=block).for_each(|rank| add(&mut levels, rank));
        // The second block begins here. It loses this level, is filled up, and splits when the level comes back.
        let floor = block / 2;
        levels.remove(levels.find(floor));
        (block + 1..=block + block / 2).for_each(|rank| add(&mut levels, rank));
        add(&mut levels, floor);
        assert!(levels.find(floor).exists);
        assert!(levels.find(floor - 1).exists && levels.find(floor + 1).exists);
    }

    #[test]
    fn sorted_blocks_agree_with_a_btree() {
        for stride in [1_i64, 1 << 24] {
            let (mut levels, mut twin, mut state) = (Levels::default(), BTreeMap::new(), 7_u64);
            for step in 0..60_000_u32 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let spread = if step < 30_000 { 4096 } else { 64 };
                let rank = ((state >> 33) as i64 % spread - spread / 2) * stride;
                let spot = levels.find(rank);
                assert_eq!(spot.exists, twin.contains_key(&rank));
                assert_eq!(levels.tail(spot), twin.range(rank..).next().map(|(_, tail)| *tail));
                match (spot.exists, state >> 20 & 3) {
                    (true, 0) => levels.set_tail(spot, step),
                    (true, _) => {
                        levels.remove(spot);
                        twin.remove(&rank);
                        continue;
                    }
                    (false, 3) => {
                        levels.remove_best();
                        twin.pop_last();
                        continue;
                    }
                    (false, _) => levels.insert(spot, rank, step),
                }
                twin.insert(rank, step);
            }
        }
    }
}
