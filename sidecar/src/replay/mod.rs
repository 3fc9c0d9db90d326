//! Replay: a recording applied to a fresh engine. Recovery at start and the tools that look at a recording (`ringlane replay`,
//! `book`, `export`, `import`) apply the same frames through the same engine.

mod beginning;
pub mod book;
pub mod columns;
pub mod command;
pub mod export;
pub mod filter;
pub mod import;
mod import_csv;
mod import_lobster;
mod jobs;
mod parquet;
pub mod place;
mod progress;
pub mod report;
pub mod series;
mod sinks;
pub mod tables;
mod verify;
pub mod walk;

use std::path::Path;

use ringlane_layout::orders::AccountLimits;

use crate::engine::{ENGINE_VERSION, Engine};
use crate::journal::{FrameKind, JournalEnd, Reader, SegmentHeader};

/// Where a replay came out.
#[derive(Debug)]
pub struct Replayed {
    /// Frames applied.
    pub frames: u64,
    /// Records applied.
    pub records: u64,
    /// Account limits, in the order in which they were set.
    pub accounts: Vec<AccountLimits>,
    /// How the recording ended.
    pub end: JournalEnd,
    /// Header of the last segment.
    pub segment: SegmentHeader,
}

/// Applies every whole frame of a recording. An error names the recording and says what in it is wrong.
pub fn replay(path: &Path, engine: &mut Engine, mut progress: impl FnMut(u64)) -> Result<Replayed, String> {
    let mut reader = Reader::open(path)?;
    let (mut frames, mut records, mut accounts) = (0, 0, Vec::new());
    while let Some(frame) = reader.next_frame()? {
        let version = frame.engine_version;
        if version != ENGINE_VERSION {
            let words = "its results were computed by engine version";
            return Err(format!(
                "{}: {words} {version}, and this build has {ENGINE_VERSION}; replay it with the ringlane that wrote it",
                path.display()
            ));
        }
        engine.try_apply(&frame).map_err(|broken| format!("{}: {}", path.display(), broken.words(&frame)))?;
        if frame.kind == FrameKind::Accounts {
            accounts.extend(frame.records.iter().map(|record| bytemuck::cast::<_, AccountLimits>(*record)));
        }
        frames += 1;
        records += frame.records.len() as u64;
        if frames % 4096 == 0 {
            progress(records);
        }
    }
    let end = reader.end().cloned().unwrap_or(JournalEnd::Clean);
    Ok(Replayed { frames, records, accounts, end, segment: *reader.segment_header() })
}
