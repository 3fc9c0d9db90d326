//! `[snapshots]`: when the state is written beside the journal, so that a start has less to replay.

use serde::Deserialize;

use super::Wrong;

/// `[snapshots]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotsConfig {
    /// Records after which a snapshot is made; 0: only at a clean stop and when it is asked for.
    pub every_records: u64,
    /// Journal bytes after which a snapshot is made; 0: only as above.
    pub every_bytes: u64,
    /// Snapshots that are kept; the newest one that is good is used.
    pub kept: usize,
}

impl Default for SnapshotsConfig {
    fn default() -> Self {
        Self { every_records: 1 << 24, every_bytes: 0, kept: 2 }
    }
}

impl SnapshotsConfig {
    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if (1..=64).contains(&self.kept) { Ok(()) } else { Err(Wrong::new("snapshots.kept", "it must be 1 to 64")) }
    }
}
