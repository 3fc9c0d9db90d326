//! Chunked storage with u32 indices. Entries never move and a chunk, once taken, is kept: no growth copies what is there.
//! What an entry means never enters here.

use crate::kernels::prefetch;

/// Entries in a chunk.
const CHUNK: usize = 1024;
const CHUNK_SHIFT: u32 = CHUNK.trailing_zeros();

/// The index that names no entry.
pub(super) const NIL: u32 = u32::MAX;
/// Most entries of a slab: what an `Index` slot can name.
pub(super) const ENTRIES_MAX: usize = 1 << 26;

/// An entry that can stand in a free list while it is unused.
pub(super) trait Entry: Copy + Default {
    /// The next free entry, where this one is free.
    fn free_next(&self) -> u32;
    /// Makes this entry an unused one in front of `next`.
    fn set_free(&mut self, next: u32);
}

/// Entries in chunks of `CHUNK`.
pub(super) struct Slab<T> {
    chunks: Vec<Box<[T; CHUNK]>>,
    free: u32,
    /// Entries that were ever used: indices below it are readable.
    used: u32,
    live: u32,
}

impl<T: Entry> Slab<T> {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), free: NIL, used: 0, live: 0 }
    }

    /// An empty slab that has this many chunks ready, every page of them touched.
    pub(super) fn touched(chunks: usize) -> Self {
        // What the compiler cannot see to be zero is written, and what is written is there.
        let entry = std::hint::black_box(T::default());
        let chunk = || vec![entry; CHUNK].into_boxed_slice().try_into().ok();
        Self { chunks: (0..chunks).filter_map(|_| chunk()).collect(), ..Self::new() }
    }

    /// Chunks of which an entry was ever used.
    pub(super) fn chunks_used(&self) -> usize {
        (self.used as usize).div_ceil(CHUNK)
    }

    /// Makes this slab, which is only read from then on, equal to `other`.
    pub(super) fn copy_from(&mut self, other: &Self) {
        let used = &other.chunks[..other.chunks_used()];
        for (mine, chunk) in self.chunks.iter_mut().zip(used) {
            mine.copy_from_slice(&chunk[..]);
        }
        self.chunks.extend(used.iter().skip(self.chunks.len()).cloned());
        (self.free, self.used, self.live) = (other.free, other.used, other.live);
    }

    /// Entries in use.
    #[inline]
    pub(super) fn live(&self) -> usize {
        self.live as usize
    }

    /// Heap that the slab holds, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>() + self.chunks.capacity() * size_of::<usize>()
    }

    /// Indices `0..used` may be read; unused ones among them went through `Entry::set_free`.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    #[inline(always)]
    pub(super) fn get(&self, at: u32) -> &T {
        &self.chunks[(at >> CHUNK_SHIFT) as usize][at as usize & (CHUNK - 1)]
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, at: u32) -> &mut T {
        &mut self.chunks[(at >> CHUNK_SHIFT) as usize][at as usize & (CHUNK - 1)]
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, at: u32) {
        if let Some(chunk) = self.chunks.get((at >> CHUNK_SHIFT) as usize) {
            prefetch::line(&chunk[at as usize & (CHUNK - 1)]);
        }
    }

    /// Puts `entry` into a free place. The caller has made sure that there are fewer than `ENTRIES_MAX`.
    #[inline]
    pub(super) fn insert(&mut self, entry: T) -> u32 {
        self.live += 1;
        let at = self.free;
        if at != NIL {
            let place = self.get_mut(at);
            let next = place.free_next();
            *place = entry;
            self.free = next;
            return at;
        }
        let at = self.used;
        if at as usize & (CHUNK - 1) == 0 {
            self.grow();
        }
        self.used += 1;
        *self.get_mut(at) = entry;
        at
    }

    #[cold]
    fn grow(&mut self) {
        assert!((self.used as usize) < ENTRIES_MAX, "the caller checks that the slab has room");
        let chunk = vec![T::default(); CHUNK].into_boxed_slice();
        self.chunks.extend(chunk.try_into().ok());
    }

    #[inline]
    pub(super) fn remove(&mut self, at: u32) {
        let next = self.free;
        self.get_mut(at).set_free(next);
        self.free = at;
        self.live -= 1;
    }
}
