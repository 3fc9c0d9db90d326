//! `[vectors]`: where corpora may be loaded from, and how large they may be together.

use std::path::PathBuf;

use serde::Deserialize;

/// `[vectors]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VectorsConfig {
    /// Directory from which files are loaded, and nowhere else; none: no corpora can be loaded.
    pub corpus_directory: Option<PathBuf>,
    /// Most memory of all corpora together, bytes.
    pub corpus_bytes_max: u64,
}

impl Default for VectorsConfig {
    fn default() -> Self {
        Self { corpus_directory: None, corpus_bytes_max: 8 << 30 }
    }
}
