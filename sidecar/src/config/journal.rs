//! `[journal]`: where the recording lies and how it grows.

use std::path::PathBuf;

use serde::Deserialize;

use super::Wrong;

/// `[journal]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// Directory of the segments; none: nothing is recorded.
    pub directory: Option<PathBuf>,
    /// Size of one segment, bytes.
    pub segment_bytes: u64,
    /// How far ahead of the writer pages are faulted in, bytes.
    pub prefault_bytes: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { directory: None, segment_bytes: 256 << 20, prefault_bytes: 16 << 20 }
    }
}

impl JournalConfig {
    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if !(1 << 20..=1 << 36).contains(&self.segment_bytes) || !self.segment_bytes.is_multiple_of(4096) {
            return Err(Wrong::new("journal.segment_bytes", "it must be 1 MiB to 64 GiB and a multiple of 4096"));
        }
        if self.prefault_bytes > self.segment_bytes {
            return Err(Wrong::new("journal.prefault_bytes", "it must be at most journal.segment_bytes"));
        }
        Ok(())
    }
}
