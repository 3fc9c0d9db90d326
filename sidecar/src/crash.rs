//! Named places at which a test has the sidecar killed, as by `kill -9`: `RINGLANE_CRASH=NAME:COUNT` dies at the COUNT-th time.
//! `RINGLANE_PANIC=NAME:COUNT`: the thread that comes to that place panics instead, as by a fault of ours.
//! `RINGLANE_POISON=ID`: requests with this client order id crash the kernel. Only the feature `crash-points` compiles them in; the shipped daemon has none of it.

use ringlane_layout::orders::OrderRequest;

/// A place at which the sidecar may be told to die.
#[cfg(not(any(feature = "crash-points", feature = "simulation")))]
#[inline(always)]
pub fn point(_name: &str) {}

/// A place at which the sidecar may be told to die.
#[cfg(all(feature = "simulation", not(feature = "crash-points")))]
pub fn point(name: &str) {
    crate::world::point(name);
}

/// A place at which the sidecar may be told to die.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    static TOLD: OnceLock<Option<(String, u64, bool)>> = OnceLock::new();
    static TIMES: AtomicU64 = AtomicU64::new(0);
    let told = TOLD.get_or_init(|| {
        let (words, panics) =
            ["RINGLANE_CRASH", "RINGLANE_PANIC"].iter().find_map(|name| Some((std::env::var(name).ok()?, *name == "RINGLANE_PANIC")))?;
        let (name, count) = words.split_once(':').unwrap_or((&words, "1"));
        Some((name.to_owned(), count.parse().expect("a place is NAME:COUNT"), panics))
    });
    if let Some((told, count, panics)) = told
        && told == name
        && TIMES.fetch_add(1, Ordering::Relaxed) + 1 == *count
    {
        assert!(!panics, "told to panic here");
        let _ = raise(Signal::SIGKILL);
        unreachable!("nobody outlives SIGKILL");
    }
}

/// The first of these requests that is to crash the kernel.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn poisoned(_requests: &[OrderRequest]) -> Option<usize> {
    None
}

/// The first of these requests that is to crash the kernel.
#[cfg(feature = "crash-points")]
pub fn poisoned(requests: &[OrderRequest]) -> Option<usize> {
    use std::sync::OnceLock;

    static TOLD: OnceLock<Option<u64>> = OnceLock::new();
    let told = TOLD.get_or_init(|| std::env::var("RINGLANE_POISON").ok()?.parse().ok());
    told.and_then(|told| requests.iter().position(|request| request.client_order_id == told))
}
