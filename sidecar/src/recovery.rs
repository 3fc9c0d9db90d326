//! Recovery: the newest good snapshot and the journal behind it, applied to a fresh engine. What the lanes' clients may ask for
//! when they come back is kept on the way.

use std::collections::HashMap;
use std::path::Path;

use crate::engine::{ENGINE_VERSION, Engine, Output};
use crate::image;
use crate::journal::{Frame, FrameKind, JournalEnd, LaneOpen, Reader, Snapshot, clean_snapshots, list_segments, list_snapshots};
use crate::lanes::Kept;

/// What a journal directory held.
pub struct Recovered {
    /// The engine as the last frame left it.
    pub engine: Engine,
    /// What is kept of the lanes that were open, by number.
    pub lanes: HashMap<u32, Kept>,
    /// How often the journal was opened for writing so far.
    pub epoch: u64,
    /// Number of the next segment.
    pub next_index: u64,
    /// Sequence number of the snapshot that was used; 0 for none.
    pub snapshot: u64,
    /// Records that were replayed behind it.
    pub records: u64,
}

/// Brings an engine up to date with a directory that this process has locked.
pub fn recover(directory: &Path, hash_seed: u64, snapshots_kept: usize, mut progress: impl FnMut(u64)) -> Result<Recovered, String> {
    clean_snapshots(directory, snapshots_kept);
    let segments = list_segments(directory)?;
    let next_index = segments.last().map_or(1, |(index, _)| index + 1);
    let fresh = Recovered { engine: Engine::new(hash_seed), lanes: HashMap::new(), epoch: 0, next_index, snapshot: 0, records: 0 };
    for (sequence, path) in list_snapshots(directory) {
        let read = Snapshot::read(&path).and_then(|snapshot| {
            let mut engine = Engine::new(hash_seed);
            let lanes = image::restore(&mut engine, &snapshot).map_err(|words| format!("{}: {words}", path.display()))?;
            Ok((engine, lanes, snapshot.header))
        });
        match read {
            Ok((engine, lanes, header)) => {
                tracing::info!(sequence, state_hash = format!("{:016x}", header.state_hash), "snapshot loaded");
                let kept = |lane: image::LaneImage| {
                    let mut kept = Kept::new(lane.open.depth_slots, lane.open.events(), lane.slots, lane.events);
                    (kept.results, kept.last_events) = (lane.results.into(), lane.kept_events.into());
                    (lane.open.lane, kept)
                };
                let lanes = lanes.into_iter().map(kept).collect();
                let found = Recovered { engine, lanes, epoch: header.epoch, snapshot: sequence, ..fresh };
                return found.follow(
                    Reader::open_behind(directory, header.segment_index, header.segment_offset, sequence + 1)?,
                    directory,
                    &mut progress,
                );
            }
            Err(words) => tracing::warn!("a snapshot cannot be used, and the one before it is tried: {words}"),
        }
    }
    if segments.is_empty() { Ok(fresh) } else { fresh.follow(Reader::open(directory)?, directory, &mut progress) }
}

impl Recovered {
    /// Applies what follows.
    fn follow(mut self, mut reader: Reader, directory: &Path, progress: &mut impl FnMut(u64)) -> Result<Self, String> {
        let mut frames = 0_u64;
        while let Some(frame) = reader.next_frame()? {
            let version = frame.engine_version;
            if version != ENGINE_VERSION {
                let words = "its results were computed by engine version";
                return Err(format!(
                    "{}: {words} {version}, and this build has {ENGINE_VERSION}; stop it in order with the ringlane that wrote it, which \
                     leaves a snapshot, and start this one then",
                    directory.display()
                ));
            }
            self.engine.apply(&frame).map_err(|words| format!("{}: {words}", directory.display()))?;
            let requests = if frame.kind == FrameKind::Orders { frame.records.len() } else { 0 };
            note(&mut self.lanes, &frame, &self.engine.outputs(requests));
            self.records += frame.records.len() as u64;
            frames += 1;
            if frames.is_multiple_of(4096) {
                progress(self.records);
            }
        }
        if let Some(JournalEnd::Torn { segment, offset, why }) = reader.end() {
            tracing::warn!(segment = %segment.display(), offset, why, "the journal ended in a torn frame, which was never acknowledged");
        }
        self.epoch = self.epoch.max(reader.segment_header().epoch);
        tracing::info!(records = self.records, snapshot = self.snapshot, sequence = self.engine.next_sequence() - 1, "recovered");
        Ok(self)
    }
}

/// Keeps what a frame gave to lanes that are open.
fn note(lanes: &mut HashMap<u32, Kept>, frame: &Frame, output: &Output) {
    match frame.kind {
        FrameKind::LaneOpen => lanes.extend(frame.records.iter().map(|record| {
            let open: LaneOpen = bytemuck::cast(*record);
            (open.lane, Kept::new(open.depth_slots, open.events(), 0, 0))
        })),
        FrameKind::LaneClose => drop(lanes.remove(&frame.header.lane)),
        FrameKind::Orders => {
            if let Some(kept) = lanes.get_mut(&frame.header.lane) {
                kept.add_results(output.results);
            }
        }
        _ => {}
    }
    for outgoing in output.events {
        if let Some(kept) = lanes.get_mut(&outgoing.lane) {
            kept.add_event(outgoing.event);
        }
    }
}
