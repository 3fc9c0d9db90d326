//! `[sequencer]` and `[lanes]`: how the sequencer waits and where it runs, and what lanes may cost together.

use serde::Deserialize;

use super::Wrong;

/// `[sequencer]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SequencerConfig {
    /// How long it spins without work before it also yields its core at each turn, microseconds.
    pub spin_us: u64,
    /// How long a lane may be quiet before the sequencer stops polling it, microseconds.
    pub park_after_us: u64,
    /// Core to pin the sequencer to.
    pub cpu: Option<usize>,
    /// Whether the board shows lanes and the times of stages; without, totals only.
    pub counters: bool,
}

impl Default for SequencerConfig {
    fn default() -> Self {
        Self { spin_us: 50, park_after_us: 500, cpu: None, counters: true }
    }
}

/// Longest wait that can be configured, microseconds.
const WAIT_US_MAX: u64 = 60_000_000;

impl SequencerConfig {
    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let waits = [("sequencer.spin_us", self.spin_us), ("sequencer.park_after_us", self.park_after_us)];
        match waits.into_iter().find(|(_, wait_us)| *wait_us > WAIT_US_MAX) {
            Some((path, _)) => Err(Wrong::new(path, format!("it must be 0 to {WAIT_US_MAX} (one minute)"))),
            None => Ok(()),
        }
    }
}

/// `[lanes]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanesConfig {
    /// Most memory that all lanes may hold together, bytes; a lane is charged in full when it opens, and until nobody holds it.
    pub bytes_max: u64,
    /// How long a client may be away after the sidecar was started anew before its lane is closed, milliseconds.
    pub reattach_grace_ms: u64,
}

impl Default for LanesConfig {
    fn default() -> Self {
        Self { bytes_max: 4 << 30, reattach_grace_ms: 10_000 }
    }
}
