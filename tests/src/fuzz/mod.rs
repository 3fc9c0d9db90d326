//! What is done with bytes from outside: one target for each door by which they come in. A target is a function of bytes that
//! panics when the sidecar would have done wrong. Short seeded runs of all of them are in `tests/fuzz.rs`, long ones guided by
//! coverage in `tests/fuzz`; both begin with what `corpus.rs` gives them.

pub mod config;
pub mod control_messages;
pub mod corpus;
pub mod import;
pub mod journal;
pub mod kernels;
pub mod mutate;
pub mod orders;
pub mod requests_header;
pub mod snapshot;

use std::path::PathBuf;
use std::thread::ThreadId;

/// A target.
pub struct Target {
    /// Its name, and that of its corpus' directory.
    pub name: &'static str,
    /// Judges one input.
    pub run: fn(&[u8]),
    /// Inputs that get far.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    control_messages::TARGET,
    requests_header::TARGET,
    orders::TARGET,
    kernels::VECTORS,
    kernels::DIGESTS,
    journal::TARGET,
    snapshot::TARGET,
    config::TARGET,
    import::CSV,
    import::LOBSTER,
];

/// The target of that name; panics when there is none.
#[must_use]
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target's name")
}

/// A directory for the files of one target and thread, made if need be.
fn scratch(target: &str) -> PathBuf {
    let thread: ThreadId = std::thread::current().id();
    let directory = std::env::temp_dir().join(format!("ringlane-fuzz-{target}-{}-{thread:?}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for scratch files");
    directory
}

/// Removes what a run of a target left behind.
pub fn clean(target: &str) {
    let _ = std::fs::remove_dir_all(scratch(target));
}
