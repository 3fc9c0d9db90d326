//! The one place where the GIL is given up. Nothing that is called here may touch a Python object.

use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// Longest time between two looks at pending signals, so that Ctrl-C is never far.
pub const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs `work` without the GIL.
pub fn released<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(work)
}

/// When a sleep that begins now must end to look at signals, or earlier at `deadline`.
pub fn next_look(deadline: Option<Instant>) -> Instant {
    let look = Instant::now() + SIGNAL_CHECK_INTERVAL;
    deadline.map_or(look, |deadline| deadline.min(look))
}
