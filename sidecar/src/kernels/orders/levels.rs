//! Which prices of one side of a book have orders, in their order. Sorted blocks under a sorted directory: dense and sparse
//! prices cost the same, and nothing is scanned. Orders never enter here, and are not looked for here: only a level that
//! comes or goes is.
//!
//! Levels are ordered by *rank*: the price of a bid, the negated price of an ask. The higher rank is the better price,
//! so the best level is the last one, and most changes move few bytes.

/// Levels in a block.
const BLOCK: usize = 64;

#[derive(Clone)]
struct Block {
    ranks: [i64; BLOCK],
    len: usize,
}

impl Block {
    #[inline]
    fn ranks(&self) -> &[i64] {
        &self.ranks[..self.len.min(BLOCK)]
    }

    fn insert(&mut self, at: usize, rank: i64) {
        self.ranks.copy_within(at..self.len, at + 1);
        self.ranks[at] = rank;
        self.len += 1;
    }

    fn remove(&mut self, at: usize) {
        self.ranks.copy_within(at + 1..self.len, at);
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
struct Spot {
    place: usize,
    at: usize,
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

    /// Where the level of `rank` is, or would be.
    #[inline]
    fn find(&self, rank: i64) -> Spot {
        let place = match self.directory.len() {
            0 | 1 => 0,
            _ => self.directory.partition_point(|place| place.floor <= rank).saturating_sub(1),
        };
        let Some(entry) = self.directory.get(place) else { return Spot { place, at: 0 } };
        let ranks = self.blocks[entry.block as usize].ranks();
        Spot { place, at: ranks.partition_point(|&other| other < rank) }
    }

    /// The rank at `spot`, or else the one that comes next.
    #[inline]
    fn rank_from(&self, spot: Spot) -> Option<i64> {
        let block = &self.blocks[self.directory.get(spot.place)?.block as usize];
        if spot.at < block.len {
            return Some(block.ranks[spot.at]);
        }
        let next = self.directory.get(spot.place + 1)?;
        Some(self.blocks[next.block as usize].ranks[0])
    }

    /// Adds the level of `rank`, which is not there. The rank of the next better one, if there is one.
    pub(super) fn insert(&mut self, rank: i64) -> Option<i64> {
        let mut spot = self.find(rank);
        let better = self.rank_from(spot);
        if self.directory.is_empty() {
            let block = self.take_block();
            self.directory.push(Place { floor: rank, block });
        }
        let mut block = self.directory[spot.place].block;
        if self.blocks[block as usize].len == BLOCK {
            let upper = self.split(spot.place);
            if spot.at > BLOCK / 2 {
                spot.at -= BLOCK / 2;
                block = upper;
            }
        }
        self.blocks[block as usize].insert(spot.at, rank);
        better
    }

    /// Moves the better half of a full block into a new one behind it.
    #[cold]
    fn split(&mut self, place: usize) -> u32 {
        let upper = self.take_block();
        let lower = self.directory[place].block as usize;
        let half = BLOCK / 2;
        let ranks = self.blocks[lower].ranks;
        let block = &mut self.blocks[upper as usize];
        block.ranks[..half].copy_from_slice(&ranks[half..]);
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
        self.blocks.push(Block { ranks: [0; BLOCK], len: 0 });
        self.blocks.len() as u32 - 1
    }

    /// Takes out the level of `rank`, which is there.
    pub(super) fn remove(&mut self, rank: i64) {
        let spot = self.find(rank);
        debug_assert_eq!(self.rank_from(spot), Some(rank), "the level is there");
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
    use std::collections::BTreeSet;

    impl Levels {
        fn has(&self, rank: i64) -> bool {
            self.rank_from(self.find(rank)) == Some(rank)
        }
    }

    #[test]
    fn a_level_that_came_back_as_the_lowest_of_a_full_block_is_found() {
        let mut levels = Levels::default();
        let block = BLOCK as i64;
        for rank in 0..=block {
            levels.insert(rank);
        }
        // The second block begins here. It loses this level, is filled up, and splits when the level comes back.
        let floor = block / 2;
        levels.remove(floor);
        for rank in block + 1..=block + block / 2 {
            levels.insert(rank);
        }
        levels.insert(floor);
        assert!((floor - 1..=floor + 1).all(|rank| levels.has(rank)));
    }

    #[test]
    fn sorted_blocks_agree_with_a_btree() {
        for stride in [1_i64, 1 << 24] {
            let (mut levels, mut twin, mut state) = (Levels::default(), BTreeSet::new(), 7_u64);
            for step in 0..60_000_u32 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let spread = if step < 30_000 { 4096 } else { 64 };
                let rank = ((state >> 33) as i64 % spread - spread / 2) * stride;
                assert_eq!(levels.has(rank), twin.contains(&rank));
                match (twin.contains(&rank), state >> 20 & 3) {
                    (true, 0) => {}
                    (true, _) => {
                        levels.remove(rank);
                        twin.remove(&rank);
                    }
                    (false, 3) => {
                        levels.remove_best();
                        twin.pop_last();
                    }
                    (false, _) => {
                        assert_eq!(levels.insert(rank), twin.range(rank..).next().copied());
                        twin.insert(rank);
                    }
                }
            }
        }
    }
}
