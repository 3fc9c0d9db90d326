//! Recovery: the newest good snapshot and the journal behind it, applied to a fresh engine. What the lanes' clients may ask for
//! when they come back is kept on the way.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use crate::culprit::Culprit;
use crate::engine::{Broken, ENGINE_VERSION, Engine, Output};
use crate::image;
use crate::journal::{Frame, FrameKind, JournalEnd, LaneOpen, Reader, SnapshotHeader, Tail, VoidRange, clean_snapshots, list_segments};
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
    /// Wall clock of the last record that a lane or the clock gave, nanoseconds since 1970: until then nothing was due that the
    /// journal does not have.
    pub told_ns: u64,
    /// Records that the journal says are void, as far as it was read.
    pub voids: Vec<VoidRange>,
    /// Records that are void from now on, which the journal must say.
    pub skipped: Option<VoidRange>,
    /// Frames that may not be durable.
    pub tail: Tail,
}

/// Why a directory could not be recovered.
enum Failure {
    Words(String),
    /// A record of the frame that begins here crashed the kernel.
    Crash(u64),
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

/// Brings an engine up to date with a directory that this process has locked. `skip` names records that crash the kernel and
/// are made void; whoever opens the journal says so there. An error names the record that crashes the kernel, if one does.
pub fn recover(
    directory: &Path,
    hash_seed: u64,
    snapshots_kept: usize,
    skip: Option<VoidRange>,
    mut progress: impl FnMut(u64),
) -> Result<Recovered, String> {
    clean_snapshots(directory, snapshots_kept);
    let say = |words: String| format!("{}: {words}", directory.display());
    let first = match (attempt(directory, hash_seed, None, &mut progress), skip) {
        (Ok(found), None) => return Ok(found),
        // What a snapshot covers is not replayed, whatever it was.
        (Ok(found), Some(skip)) if found.voids.contains(&skip) || skip.last <= found.snapshot => {
            tracing::warn!(%skip, "nothing is skipped that was not void before; --skip need not be said again");
            return Ok(Recovered { skipped: None, ..found });
        }
        (Ok(_), Some(skip)) => {
            return Err(say(format!("nothing crashes the kernel, so nothing is skipped; start without --skip {skip}")));
        }
        (Err(Failure::Words(words)), _) => return Err(words),
        (Err(Failure::Crash(first)), _) => first,
    };
    let culprit = Culprit::find(directory, hash_seed, first)?;
    match skip {
        Some(skip) if culprit.may_be_skipped(skip) => match attempt(directory, hash_seed, Some(skip), &mut progress) {
            Ok(found) => {
                tracing::warn!(%skip, record = culprit.record, said = culprit.said, "records are made void");
                Ok(Recovered { skipped: Some(skip), ..found })
            }
            Err(Failure::Words(words)) => Err(words),
            Err(Failure::Crash(_)) => {
                let all = VoidRange { first: skip.first, last: culprit.frame.last };
                Err(say(format!("without {skip} another record of that batch crashes the kernel; skip the rest of it: --skip {all}")))
            }
        },
        _ => Err(say(culprit.words(skip))),
    }
}

/// Recovers as the journal says, with these records void too.
fn attempt(directory: &Path, hash_seed: u64, skip: Option<VoidRange>, mut progress: &mut impl FnMut(u64)) -> Result<Recovered, Failure> {
    let segments = list_segments(directory)?;
    let next_index = segments.last().map_or(1, |(index, _)| index + 1);
    let fresh = Recovered {
        engine: Engine::new(hash_seed),
        lanes: HashMap::new(),
        epoch: 0,
        next_index,
        snapshot: 0,
        records: 0,
        told_ns: 0,
        voids: Vec::new(),
        skipped: None,
        tail: Tail::default(),
    };
    if let Some((engine, lanes, header)) = image::load_newest(directory, hash_seed) {
        let SnapshotHeader { sequence, epoch, created_ns: told_ns, segment_index, segment_offset, state_hash, .. } = header;
        tracing::info!(sequence, state_hash = format!("{state_hash:016x}"), "snapshot loaded");
        let kept = |lane: image::LaneImage| {
            let mut kept = Kept::new(lane.open.depth_slots, lane.open.events(), lane.slots, lane.events);
            (kept.results, kept.last_events) = (lane.results.into(), lane.kept_events.into());
            (lane.open.lane, kept)
        };
        let lanes = lanes.into_iter().map(kept).collect();
        let tail = Tail::behind(segment_index);
        let found = Recovered { engine, lanes, epoch, snapshot: sequence, told_ns, tail, ..fresh };
        let reader = Reader::open_behind(directory, segment_index, segment_offset, sequence + 1)?;
        return found.follow(reader, skip, directory, &mut progress);
    }
    if segments.is_empty() { Ok(fresh) } else { fresh.follow(Reader::open(directory)?, skip, directory, &mut progress) }
}

impl Recovered {
    /// Applies what follows.
    fn follow(
        mut self,
        mut reader: Reader,
        skip: Option<VoidRange>,
        directory: &Path,
        progress: &mut impl FnMut(u64),
    ) -> Result<Self, Failure> {
        self.voids = reader.voids().to_vec();
        skip.into_iter().for_each(|skip| reader.take_as_void(skip));
        let (mut frames, begin) = (0_u64, Instant::now());
        while let Some(frame) = reader.next_frame()? {
            let version = frame.engine_version;
            if version != ENGINE_VERSION {
                let words = "its results were computed by engine version";
                return Err(Failure::Words(format!(
                    "{}: {words} {version}, and this build has {ENGINE_VERSION}; stop it in order with the ringlane that wrote it, which \
                     leaves a snapshot, and start this one then",
                    directory.display()
                )));
            }
            match self.engine.try_apply(&frame) {
                Ok(()) => {}
                Err(Broken::Words(words)) => return Err(Failure::Words(format!("{}: {words}", directory.display()))),
                Err(Broken::Crash(_)) => return Err(Failure::Crash(frame.header.first_sequence)),
            }
            let requests = if frame.kind == FrameKind::Orders { frame.records.len() } else { 0 };
            note(&mut self.lanes, &frame, &self.engine.outputs(requests));
            // What is configured at a start stands before what the clock has to say about the time without a sidecar.
            if matches!(frame.kind, FrameKind::Orders | FrameKind::Time) {
                self.told_ns = self.told_ns.max(frame.header.time_ns);
            }
            self.records += frame.records.len() as u64;
            frames += 1;
            let (header, records) = (frame.header, frame.records.len());
            self.tail.note(&header, records, reader.frame_place());
            if frames.is_multiple_of(4096) {
                progress(self.records);
            }
        }
        if let Some(JournalEnd::Torn { segment, offset, why }) = reader.end() {
            tracing::warn!(segment = %segment.display(), offset, why, "the journal ended in a torn frame, which was never acknowledged");
        }
        self.epoch = self.epoch.max(reader.segment_header().epoch);
        let (sequence, took_us) = (self.engine.next_sequence() - 1, begin.elapsed().as_micros() as u64);
        tracing::info!(records = self.records, snapshot = self.snapshot, sequence, took_us, "recovered");
        Ok(self)
    }
}

/// Keeps what a frame gave to lanes that are open.
fn note(lanes: &mut HashMap<u32, Kept>, frame: &Frame, output: &Output) {
    match frame.kind {
        FrameKind::LaneOpen | FrameKind::LaneClose if frame.has_voids() => {}
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
