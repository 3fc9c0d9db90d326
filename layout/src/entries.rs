//! What a forked child must undo: a fixed table of mappings and descriptors, of atomics alone, because a child may look at it
//! while other threads of its parent held locks. What is done to them never enters here.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Mappings and descriptors that one process can have at a time: two of each a lane, and some a client.
pub const ENTRIES_MAX: usize = 16384;
/// `Row::base` while it is being filled, and after a child closed the descriptor that stood there.
const NOTHING: usize = 1;
/// What is added to a descriptor to make a `Row::base`.
const DESCRIPTOR_BASE: usize = 2;

#[derive(Debug)]
struct Row {
    /// Address of a mapping, or a descriptor; 0 while the row is free.
    base: AtomicUsize,
    /// Size of a mapping, bytes; 0 for a descriptor.
    len: AtomicUsize,
}

static ROWS: [Row; ENTRIES_MAX] = [const { Row { base: AtomicUsize::new(0), len: AtomicUsize::new(0) } }; ENTRIES_MAX];

/// What stands in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    /// Address and size, bytes.
    Mapping(usize, usize),
    /// Its number.
    Descriptor(i32),
}

/// A row of the table; given back on drop, which must come before the unmapping or closing.
#[derive(Debug)]
pub struct Entry(&'static Row);

impl Entry {
    /// Notes a thing. None: the table is full.
    #[must_use]
    pub fn register(thing: Thing) -> Option<Self> {
        let free = |row: &&Row| row.base.compare_exchange(0, NOTHING, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let row = ROWS.iter().find(free)?;
        let (base, len) = match thing {
            Thing::Mapping(base, len) => (base, len),
            Thing::Descriptor(number) => (number as usize + DESCRIPTOR_BASE, 0),
        };
        row.len.store(len, Ordering::Relaxed);
        row.base.store(base, Ordering::Release);
        Some(Self(row))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.base.store(0, Ordering::Release);
    }
}

/// Everything that is noted, each descriptor for the last time: for the child's handler.
pub fn take_over(mut undo: impl FnMut(Thing)) {
    for row in &ROWS {
        let (base, len) = (row.base.load(Ordering::Acquire), row.len.load(Ordering::Relaxed));
        if base > NOTHING && len > 0 {
            undo(Thing::Mapping(base, len));
        } else if base > NOTHING {
            row.base.store(NOTHING, Ordering::Relaxed);
            undo(Thing::Descriptor((base - DESCRIPTOR_BASE) as i32));
        }
    }
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The process in which something was made.
#[derive(Debug, Clone, Copy)]
pub struct Home {
    /// How many forks lie between the first process and that one.
    generation: u64,
    pid: u32,
}

impl Home {
    /// This process.
    #[must_use]
    pub fn here() -> Self {
        Self { generation: GENERATION.load(Ordering::Relaxed), pid: std::process::id() }
    }

    /// Whether this is still that process. In a fork of it, another thread's lock may be held for ever.
    #[inline]
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.generation == GENERATION.load(Ordering::Relaxed)
    }

    /// An error of that process's id, if this is a fork of it.
    #[inline]
    pub fn check<E>(&self, is_fork_of: impl FnOnce(u32) -> E) -> Result<(), E> {
        if self.is_here() { Ok(()) } else { Err(is_fork_of(self.pid)) }
    }
}
