//! `[journal]`: where the recording lies and how it grows.

use std::path::PathBuf;

use ringlane_layout::limits::SPARE_SEGMENTS_MAX;
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
    /// Most bytes of all segments; the oldest ones that a snapshot covers are used again.
    pub retention_bytes: u64,
    /// Segments that are kept ready with all their pages in memory.
    pub spare_segments: usize,
    /// Hours until the disk is full below which the sidecar is degraded.
    pub disk_hours_min: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            directory: None,
            segment_bytes: 256 << 20,
            prefault_bytes: 16 << 20,
            retention_bytes: 32 << 30,
            spare_segments: 0,
            disk_hours_min: 4,
        }
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
        if self.spare_segments > SPARE_SEGMENTS_MAX {
            return Err(Wrong::new("journal.spare_segments", format!("it must be 0 to {SPARE_SEGMENTS_MAX}")));
        }
        // One that is written, one made ahead, one to use again, and the spares.
        let segments_min = 3 + self.spare_segments as u64;
        if self.retention_bytes < segments_min * self.segment_bytes || self.retention_bytes > 1 << 50 {
            let least = segments_min * self.segment_bytes;
            let words = format!("it must be at least {least}, {segments_min} segments of journal.segment_bytes, and at most 1 PiB");
            return Err(Wrong::new("journal.retention_bytes", words));
        }
        if self.disk_hours_min > 10_000 {
            return Err(Wrong::new("journal.disk_hours_min", "it must be 0 to 10000"));
        }
        Ok(())
    }
}
