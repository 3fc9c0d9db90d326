//! The outside, where it decides what happens: time, what the disk keeps, and threads that help. The shipped sidecar has the
//! real one and nothing else; with the feature `simulation` a test may put another one in its place, for its own thread.

mod real;
#[cfg(feature = "simulation")]
mod simulated;

#[cfg(not(feature = "simulation"))]
pub use real::*;
#[cfg(feature = "simulation")]
pub use simulated::*;
