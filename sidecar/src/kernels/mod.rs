//! Pure computation over records: no clock, no I/O, no threads, no shared memory. What decides money or numbers lives here.

pub mod digests;
pub mod door;
pub mod orders;
mod prefetch;
pub mod vectors;
