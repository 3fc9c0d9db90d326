//! One pass over a recording: frame by frame through a fresh engine, with what each frame put out. Everything that looks at
//! a recording as it was lived through goes through here.

use std::path::{Path, PathBuf};

use ringlane_layout::orders::OrderResult;
use ringlane_layout::record::RecordBytes;

use super::beginning::{Beginning, begin};
use super::place::Place;
use super::tables::EventNumbers;
use crate::engine::{ENGINE_VERSION, Engine};
use crate::journal::{FRAME_HEADER_BYTES, Frame, FrameHeader, FrameKind, JournalEnd, Reader, list_segments};
use crate::kernels::orders::Outgoing;

/// A frame that was applied.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// Its header as it stands in the recording.
    pub header: FrameHeader,
    /// What the records are.
    pub kind: FrameKind,
    /// The records, up to where the walk was told to end.
    pub records: &'a [RecordBytes],
    /// One result an order request; none for other records.
    pub results: &'a [OrderResult],
    /// Events in (sequence, k) order; those of lane 0 are fills of orders that nobody owned.
    pub events: &'a [Outgoing],
    /// The engine behind the frame.
    pub engine: &'a Engine,
}

/// Computed outputs are not the recorded ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// Sequence numbers of the records whose outputs differ, first and last.
    pub sequences: (u64, u64),
    /// Lane of those records.
    pub lane: u32,
    /// Running hash behind them, as computed and as recorded.
    pub hashes: (u64, u64),
}

/// Why a walk cannot go on.
#[derive(Debug)]
pub enum Halt {
    /// The recording is damaged, foreign or of another version.
    Words(String),
    /// The recording is whole, and its outputs differ.
    Outputs(Mismatch),
}

impl From<String> for Halt {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

impl Halt {
    /// As a sentence about the recording at `path`.
    #[must_use]
    pub fn words(&self, path: &Path) -> String {
        match self {
            Self::Words(words) => words.clone(),
            Self::Outputs(Mismatch { sequences: (first, last), hashes: (computed, recorded), .. }) => format!(
                "{}: outputs of sequences {first} to {last} differ from the recorded ones (hash {computed:016x}, recorded {recorded:016x}); \
                 `ringlane replay --verify` says more",
                path.display()
            ),
        }
    }
}

/// A pass over one recording.
pub struct Walk {
    path: PathBuf,
    reader: Reader,
    engine: Engine,
    until: Option<Place>,
    ended: bool,
    /// Where the frame that was applied last begins and ends, and its lane.
    last: Option<((u64, u64), u32)>,
    frames: u64,
    records: u64,
    bytes: u64,
    begun: (u64, bool),
    event_numbers: EventNumbers,
}

impl Walk {
    /// Opens a journal directory, or a segment and what follows it. `until` is the last place that is walked to.
    pub fn open(path: &Path, until: Option<Place>) -> Result<Self, String> {
        Self::open_at(path, None, until)
    }

    /// As `open`, but what lies before `from` need not be seen: a snapshot before it is where the walk may begin.
    pub fn open_at(path: &Path, from: Option<Place>, until: Option<Place>) -> Result<Self, String> {
        let Beginning { engine, reader, snapshot, is_pruned, event_numbers } = begin(path, from)?;
        let begun = (snapshot, is_pruned);
        Ok(Self {
            path: path.to_owned(),
            reader,
            engine,
            until,
            ended: false,
            last: None,
            frames: 0,
            records: 0,
            bytes: 0,
            begun,
            event_numbers,
        })
    }

    /// Sequence number of the snapshot at which the walk began, 0 for none; and whether the recording's beginning was pruned.
    #[must_use]
    pub const fn begun(&self) -> (u64, bool) {
        self.begun
    }

    /// Events that each lane had got before the walk began.
    #[must_use]
    pub fn event_numbers(&self) -> EventNumbers {
        self.event_numbers.clone()
    }

    /// Applies the next frame; none at the end.
    pub fn step(&mut self) -> Result<Option<Step<'_>>, Halt> {
        if self.ended {
            return Ok(None);
        }
        let Some(frame) = self.reader.next_frame()? else {
            self.ended = true;
            return Ok(None);
        };
        let FrameHeader { first_sequence, time_ns, output_hash, lane, .. } = frame.header;
        if frame.engine_version != ENGINE_VERSION {
            return Err(Halt::Words(other_version(&self.path, frame.engine_version)));
        }
        if self.until.is_some_and(|until| until.is_before(first_sequence, time_ns)) {
            self.ended = true;
            return Ok(None);
        }
        let hashes = (self.engine.output_hash(), output_hash);
        if hashes.0 != hashes.1 && first_sequence == self.engine.next_sequence() {
            let (sequences, lane) = self.last.unwrap_or(((first_sequence, first_sequence), lane));
            return Err(Halt::Outputs(Mismatch { sequences, lane, hashes }));
        }
        let count = self.until.map_or(frame.records.len(), |until| until.records_until(first_sequence, time_ns, frame.records.len()));
        self.ended = count < frame.records.len();
        let frame = Frame { records: &frame.records[..count], ..frame };
        let before = self.engine.next_sequence();
        self.engine.try_apply(&frame).map_err(|broken| format!("{}: {}", self.path.display(), broken.words(&frame)))?;
        self.frames += 1;
        self.records += count as u64;
        self.bytes += FRAME_HEADER_BYTES as u64 + u64::from(frame.header.payload_bytes);
        self.last = Some(((before, before + (count as u64).saturating_sub(1)), lane));
        let output = self.engine.outputs(if frame.kind == FrameKind::Orders { count } else { 0 });
        let (results, events) = (output.results, output.events);
        Ok(Some(Step { header: frame.header, kind: frame.kind, records: frame.records, results, events, engine: &self.engine }))
    }

    /// Applies every frame up to the end.
    pub fn run(&mut self) -> Result<(), Halt> {
        while self.step()?.is_some() {}
        self.check_end()
    }

    /// Behind the last step: whether what came of the last frame is what the end mark says, if there is one.
    pub fn check_end(&self) -> Result<(), Halt> {
        let hashes = (self.engine.output_hash(), self.reader.closing_hash().unwrap_or(self.engine.output_hash()));
        match self.last {
            Some((sequences, lane)) if hashes.0 != hashes.1 => Err(Halt::Outputs(Mismatch { sequences, lane, hashes })),
            _ => Ok(()),
        }
    }

    /// The engine as it is behind the last frame that was applied.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The recording's path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Frames, records and bytes of frames applied so far.
    #[must_use]
    pub const fn counts(&self) -> (u64, u64, u64) {
        (self.frames, self.records, self.bytes)
    }

    /// What is wrong with the recording's end, if something is and it was reached.
    #[must_use]
    pub fn torn(&self) -> Option<String> {
        match self.reader.end() {
            Some(JournalEnd::Torn { segment, offset, why }) => {
                Some(format!("ends in a torn frame at offset {offset} of {}: {why}", segment.display()))
            }
            _ => None,
        }
    }

    /// Bytes that the recording's files have: what `counts` comes near to, less what is reserved and not used yet.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        let first = self.reader.segment_header().index;
        let directory = if self.path.is_dir() { Some(self.path.as_path()) } else { self.path.parent() };
        let segments = directory.and_then(|directory| list_segments(directory).ok()).unwrap_or_default();
        let files = segments.iter().filter(|(index, _)| *index >= first);
        files.map(|(_, path)| std::fs::metadata(path).map_or(0, |file| file.len())).sum()
    }
}

fn other_version(path: &Path, version: u32) -> String {
    format!(
        "{}: its results were computed by engine version {version}, and this build has {ENGINE_VERSION}; replay it with the ringlane that \
         wrote it",
        path.display()
    )
}
