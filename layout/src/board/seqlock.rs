//! How a row of the board stays whole: its word 0, the version, is odd while the row's one writer writes it, and another even number
//! behind that. Readers take what they saw between two looks at one even version; nothing of theirs is ever seen by the writer.
//! `layout/tests/loom.rs` tries every interleaving of both.

use crate::primitive::{AtomicU64, Ordering, fence};

/// Has the row's one writer store (Relaxed) words that belong together.
#[inline]
pub fn write(version: &AtomicU64, store: impl FnOnce()) {
    let before = version.load(Ordering::Relaxed);
    version.store(before | 1, Ordering::Relaxed);
    fence(Ordering::Release); // meets the second fence of `read`: who sees one of the words sees an odd version
    store();
    version.store((before | 1) + 1, Ordering::Release); // meets the first fence of `read`
}

/// One attempt to load (Relaxed) words that belong together; none when the writer was among them.
#[inline]
pub fn read<T>(version: &AtomicU64, load: impl FnOnce() -> T) -> Option<T> {
    let before = version.load(Ordering::Relaxed);
    fence(Ordering::Acquire); // meets the last store of `write`
    let words = load();
    fence(Ordering::Acquire); // meets the fence of `write`
    (before.is_multiple_of(2) && version.load(Ordering::Relaxed) == before).then_some(words)
}
