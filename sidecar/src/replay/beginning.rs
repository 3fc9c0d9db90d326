//! Where a pass over a recording begins: at its first record, or at a snapshot, when nothing before it is to be seen, or when
//! what came before was pruned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::place::{Place, time_text};
use super::tables::EventNumbers;
use crate::engine::{ENGINE_VERSION, Engine};
use crate::image::restore;
use crate::journal::{FrameKind, Reader, Snapshot, list_snapshots};

/// A recording that is about to be walked.
pub struct Beginning {
    /// The state before the first frame.
    pub engine: Engine,
    /// What gives the frames.
    pub reader: Reader,
    /// Sequence number of the snapshot that was used; 0 for the recording's own beginning.
    pub snapshot: u64,
    /// Whether the recording's own beginning is not there any more.
    pub is_pruned: bool,
    /// Events that each lane had got.
    pub event_numbers: EventNumbers,
}

/// Opens a journal directory, or a segment and what follows it. With `from`, everything from there on will be seen, and what
/// lies before it need not be; without, as much as there is.
pub fn begin(path: &Path, from: Option<Place>) -> Result<Beginning, String> {
    let reader = Reader::open_from(path)?;
    let first = reader.segment_header().first_sequence;
    let is_pruned = first > 1;
    let directory = directory(path);
    let snapshots = list_snapshots(&directory);
    // The newest one that leaves nothing out; where the beginning is gone, the oldest one tells the most.
    let late = from.filter(|_| path.is_dir());
    let fitting =
        snapshots.iter().filter(|(sequence, _)| late.is_some_and(|from| matches!(from, Place::Sequence(from) if *sequence < from)));
    let in_time = snapshots.iter().filter(|_| matches!(late, Some(Place::Time(_))));
    for (sequence, snapshot) in fitting.chain(in_time) {
        match open_snapshot(&directory, snapshot, late) {
            Ok(Some(found)) => return Ok(Beginning { snapshot: *sequence, is_pruned, ..found }),
            Ok(None) => {}
            Err(words) => tracing::warn!("a snapshot cannot be used: {words}"),
        }
    }
    if !is_pruned {
        let mut engine = Engine::new(0);
        engine.orders.tell_orphans();
        return Ok(Beginning { engine, reader, snapshot: 0, is_pruned, event_numbers: EventNumbers::behind(BTreeMap::new(), true) });
    }
    // A segment that was named must be reached; of a directory, whatever is left.
    let wanted = |sequence: u64| path.is_dir() || sequence < first;
    let mut candidates: Vec<&(u64, PathBuf)> = snapshots.iter().filter(|(sequence, _)| wanted(*sequence)).collect();
    if path.is_dir() {
        candidates.reverse();
    }
    for (sequence, snapshot) in candidates {
        match open_snapshot(&directory, snapshot, None) {
            Ok(Some(found)) => return Ok(Beginning { snapshot: *sequence, is_pruned, ..found }),
            Ok(None) => {}
            Err(words) => tracing::warn!("a snapshot cannot be used: {words}"),
        }
    }
    Err(format!(
        "{}: it begins at sequence {first}, and what came before is not there, nor a snapshot of it, so no book can be made and no result \
         computed. {}; name the whole directory, or a segment from the recording's beginning",
        path.display(),
        what_is_there(reader)
    ))
}

/// What can be said of frames without the state before them.
fn what_is_there(mut reader: Reader) -> String {
    let (mut frames, mut records, mut orders, mut last, mut time_ns) = (0_u64, 0, 0, 0, reader.segment_header().created_ns);
    let begun = time_text(time_ns);
    let end = loop {
        match reader.next_frame() {
            Ok(Some(frame)) => {
                let count = frame.records.len() as u64;
                frames += 1;
                records += count;
                orders += if frame.kind == FrameKind::Orders { count } else { 0 };
                (last, time_ns) = (frame.header.first_sequence + count - 1, frame.header.time_ns);
            }
            Ok(None) => break "are whole".to_owned(),
            Err(words) => break format!("are whole, and then: {words}"),
        }
    };
    let ended = time_text(time_ns);
    format!("Its {frames} frames with {records} records, {orders} of them orders, up to sequence {last}, from {begun} to {ended}, {end}")
}

/// The directory in which a recording's snapshots lie.
fn directory(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_owned();
    }
    let parent = path.parent().map(Path::to_owned).unwrap_or_default();
    if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent }
}

/// The state in a snapshot, and what follows it; none when it was made too late.
fn open_snapshot(directory: &Path, path: &Path, from: Option<Place>) -> Result<Option<Beginning>, String> {
    let snapshot = Snapshot::read(path)?;
    let header = snapshot.header;
    if let Some(Place::Time(from_ns)) = from
        && header.created_ns >= from_ns
    {
        return Ok(None);
    }
    if header.engine_version != ENGINE_VERSION {
        return Err(format!("{}: it is of engine version {}, and this build has {ENGINE_VERSION}", path.display(), header.engine_version));
    }
    let mut engine = Engine::new(0);
    let lanes = restore(&mut engine, &snapshot).map_err(|words| format!("{}: {words}", path.display()))?;
    engine.orders.tell_orphans();
    let reader = Reader::open_behind(directory, header.segment_index, header.segment_offset, header.sequence + 1)?;
    let event_numbers = EventNumbers::behind(lanes.iter().map(|lane| (lane.open.lane, lane.events)).collect(), false);
    Ok(Some(Beginning { engine, reader, snapshot: header.sequence, is_pruned: false, event_numbers }))
}
