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
    /// When the trading day ends and DAY orders expire, hours and minutes of UTC ("21:00"); without, only an administrator ends it.
    pub day_ends_utc: Option<String>,
}

impl Default for SequencerConfig {
    fn default() -> Self {
        Self { spin_us: 50, park_after_us: 500, cpu: None, counters: true, day_ends_utc: None }
    }
}

/// Longest wait that can be configured, microseconds.
const WAIT_US_MAX: u64 = 60_000_000;

impl SequencerConfig {
    /// Seconds of the day at which it ends; none: it does not, or what stands there is no time.
    fn day_end_s(&self) -> Option<u64> {
        let (hours, minutes) = self.day_ends_utc.as_deref()?.split_once(':')?;
        let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)
    }

    /// When the trading day ends next behind `now_ns`, nanoseconds since 1970; the largest number for never.
    #[must_use]
    pub fn next_day_end_ns(&self, now_ns: u64) -> u64 {
        const DAY_NS: u64 = 86_400_000_000_000;
        let Some(second) = self.day_end_s() else { return u64::MAX };
        let today_ns = now_ns / DAY_NS * DAY_NS + second * 1_000_000_000;
        if today_ns > now_ns { today_ns } else { today_ns + DAY_NS }
    }

    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.day_ends_utc.is_some() && self.day_end_s().is_none() {
            return Err(Wrong::new("sequencer.day_ends_utc", "it must be hours and minutes, as in \"21:00\""));
        }
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
