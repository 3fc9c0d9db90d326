//! Appending frames. The writer never waits: pages and the next segment are made ready by a helper thread.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use ringlane_layout::limits::RECORD_BYTES;
use ringlane_layout::record::RecordBytes;

use super::segment::{Pages, Segment, stand_back};
use super::{FRAME_HEADER_BYTES, FRAMES_OFFSET, FrameHeader, FrameKind, SEGMENT_MAGIC, SegmentHeader, frame_crc, segment_crc};

/// The lock on a journal directory, held for the life of the sidecar: two sidecars never share a journal.
#[derive(Debug)]
pub struct JournalLock {
    _file: Flock<File>,
}

impl JournalLock {
    /// Creates the directory if need be and locks it, or says who holds it. Segments that were never finished are removed.
    pub fn take(directory: &Path) -> Result<Self, String> {
        let say = |error: &dyn std::fmt::Display| format!("cannot use the journal directory {}: {error}", directory.display());
        std::fs::create_dir_all(directory).map_err(|error| say(&error))?;
        let file = File::options().create(true).truncate(false).write(true).open(directory.join("lock")).map_err(|error| say(&error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                let unfinished = |path: &Path| path.to_str().is_some_and(|name| name.ends_with(".ringlane.new"));
                for path in std::fs::read_dir(directory).map_err(|error| say(&error))?.flatten().map(|entry| entry.path()) {
                    if unfinished(&path) {
                        std::fs::remove_file(&path).map_err(|error| say(&error))?;
                    }
                }
                Ok(Self { _file: file })
            }
            Err((_, error)) => Err(say(&format!("another sidecar holds it ({error})"))),
        }
    }
}

/// What a frame says of its records.
#[derive(Debug, Clone, Copy)]
pub struct FrameMeta {
    /// What the records are.
    pub kind: FrameKind,
    /// Lane number, or 0.
    pub lane: u32,
    /// Sequence number of the first record.
    pub first_sequence: u64,
    /// Slot of the first record.
    pub first_slot: u64,
    /// Schema of the records.
    pub schema_hash: u64,
    /// Running hash of all outputs before.
    pub output_hash: u64,
    /// Wall clock, nanoseconds since 1970.
    pub time_ns: u64,
    /// Slots of the lane that wait behind this frame.
    pub waiting_slots: u16,
}

/// What a writer needs beside its directory.
#[derive(Debug, Clone, Copy)]
pub struct WriterConfig {
    /// Size of a segment, bytes.
    pub segment_bytes: u64,
    /// How far ahead of the writer pages are faulted in, bytes.
    pub prefault_bytes: u64,
    /// Core that the helper thread leaves to the sequencer.
    pub avoid_cpu: Option<usize>,
}

/// What every segment of one epoch says alike.
#[derive(Debug, Clone, Copy)]
pub struct Epoch {
    /// How often the journal was opened.
    pub number: u64,
    /// Semantic version of the kernels.
    pub engine_version: u32,
    /// Schema of order requests.
    pub request_schema_hash: u64,
}

/// Pages that the helper faults in at a time, bytes: little enough that nobody on its core waits long for it.
const POPULATE_STEP_BYTES: usize = 1 << 20;

/// The open end of the journal.
#[derive(Debug)]
pub struct Writer {
    segment: Segment,
    /// Where the next frame goes, bytes.
    offset: usize,
    /// Up to where the helper was told to fault pages in, bytes.
    populated: usize,
    /// Whether the next segment was ordered.
    next_ordered: bool,
    prefault_bytes: usize,
    segments: Receiver<Result<Segment, String>>,
    jobs: Sender<Job>,
    helper: JoinHandle<()>,
    epoch: Epoch,
    /// What the checksums of this segment's frames begin with.
    frame_seed: u32,
    /// Bytes appended since this writer was opened.
    bytes: u64,
}

/// Work of the helper thread.
#[derive(Debug)]
enum Job {
    /// Fault in `len` bytes from `offset` on.
    Populate(Pages, usize, usize),
    /// Create the segment of this number.
    Create(u64),
}

impl Writer {
    /// Opens a new segment of number `index` behind what the directory holds.
    pub fn open(directory: &Path, index: u64, config: WriterConfig, epoch: Epoch, start: &FrameMeta) -> Result<Self, String> {
        let WriterConfig { segment_bytes, prefault_bytes, avoid_cpu } = config;
        let (jobs, job_queue) = bounded(64);
        let (made, segments) = bounded(1);
        let path = directory.to_owned();
        let helper = std::thread::Builder::new()
            .name("journal-pages".into())
            .spawn(move || {
                avoid_cpu.into_iter().for_each(leave_core);
                stand_back();
                help(&path, segment_bytes, &job_queue, &made);
            })
            .map_err(|error| format!("cannot start the journal's helper thread: {error}"))?;
        let mut writer = Self {
            segment: Segment::create(directory, index, segment_bytes)?,
            offset: 0,
            populated: 0,
            next_ordered: false,
            prefault_bytes: prefault_bytes as usize,
            segments,
            jobs,
            helper,
            epoch,
            frame_seed: 0,
            bytes: 0,
        };
        writer.begin_segment(start);
        // Ready means ready: what is faulted in ahead is there before the first order.
        writer.segment.pages().populate(0, writer.prefault_bytes);
        writer.populated = writer.prefault_bytes.next_multiple_of(POPULATE_STEP_BYTES).min(writer.segment.len());
        Ok(writer)
    }

    /// Where the next frame goes: number of the segment, and the offset in it, bytes.
    #[must_use]
    pub fn position(&self) -> (u64, u64) {
        (self.segment.index, self.offset as u64)
    }

    /// Bytes appended since this writer was opened.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends one frame: `fill` copies the records straight into the journal, and the copy is what the caller gets back.
    /// An error means that nothing was appended and that the next segment could not be made.
    #[inline]
    pub fn append(&mut self, meta: &FrameMeta, count: usize, fill: impl FnOnce(&mut [RecordBytes])) -> Result<&[RecordBytes], String> {
        let payload_bytes = count * RECORD_BYTES;
        let frame_bytes = FRAME_HEADER_BYTES + payload_bytes;
        // Room for this frame and for the END frame behind it.
        if self.offset + frame_bytes + FRAME_HEADER_BYTES > self.segment.len() {
            self.roll(meta)?;
        }
        let offset = self.offset;
        self.offset += frame_bytes;
        self.bytes += frame_bytes as u64;
        if self.offset + self.prefault_bytes > self.populated + POPULATE_STEP_BYTES {
            self.look_ahead();
        }
        // The lines of the frame that comes next: fresh memory is far away, and a store to it holds up those behind it.
        self.segment.expect_write(offset + frame_bytes);
        self.segment.expect_write(offset + frame_bytes + FRAME_HEADER_BYTES);
        let (head, payload) = self.segment.slice_mut(offset, frame_bytes).split_at_mut(FRAME_HEADER_BYTES);
        let records = bytemuck::cast_slice_mut(payload);
        fill(records);
        head.copy_from_slice(bytemuck::bytes_of(&sealed_header(self.frame_seed, meta, payload)));
        Ok(bytemuck::cast_slice(payload))
    }

    /// Tells the helper how far the writer has come. Out of line: once in 65,536 records.
    #[cold]
    fn look_ahead(&mut self) {
        if self.populated < self.segment.len() {
            // A full queue means that the helper lags; then the writer faults pages in itself.
            let _ = self.jobs.try_send(Job::Populate(self.segment.pages(), self.populated, POPULATE_STEP_BYTES));
            self.populated += POPULATE_STEP_BYTES;
        }
        if !self.next_ordered && self.offset + self.prefault_bytes >= self.segment.len() / 2 {
            self.next_ordered = self.jobs.try_send(Job::Create(self.segment.index + 1)).is_ok();
        }
    }

    /// Goes on in the next segment.
    #[cold]
    fn roll(&mut self, meta: &FrameMeta) -> Result<(), String> {
        let dead = || "the journal's helper thread has ended".to_owned();
        if !self.next_ordered {
            self.jobs.send(Job::Create(self.segment.index + 1)).map_err(|_| dead())?;
        }
        self.next_ordered = false;
        let next = self.segments.recv().map_err(|_| dead())??;
        let end = sealed_header(self.frame_seed, &FrameMeta { kind: FrameKind::End, ..*meta }, &[]);
        self.segment.slice_mut(self.offset, FRAME_HEADER_BYTES).copy_from_slice(bytemuck::bytes_of(&end));
        self.segment = next;
        self.begin_segment(meta);
        Ok(())
    }

    /// Ends the journal cleanly: what was reserved and not used is given back.
    pub fn close(self) {
        drop(self.jobs);
        // Ends the helper's wait to hand over a segment that was made ahead.
        let unused = self.segments.recv();
        if let Err(panic) = self.helper.join() {
            tracing::error!(?panic, "the journal's helper thread panicked");
        }
        if let Ok(Ok(unused)) = unused {
            unused.close(0);
        }
        self.segment.close(self.offset);
    }

    fn begin_segment(&mut self, meta: &FrameMeta) {
        self.frame_seed = RandomState::new().hash_one(self.segment.index) as u32;
        let mut header = SegmentHeader {
            magic: SEGMENT_MAGIC,
            format_version: super::FORMAT_VERSION,
            engine_version: self.epoch.engine_version,
            epoch: self.epoch.number,
            index: self.segment.index,
            first_sequence: meta.first_sequence,
            created_ns: meta.time_ns,
            output_hash: meta.output_hash,
            boot_id: boot_id(),
            request_schema_hash: self.epoch.request_schema_hash,
            frame_seed: self.frame_seed,
            ..SegmentHeader::default()
        };
        header.crc32c = segment_crc(&header);
        let bytes = bytemuck::bytes_of(&header);
        self.segment.slice_mut(0, bytes.len()).copy_from_slice(bytes);
        self.offset = FRAMES_OFFSET;
        self.populated = 0;
        self.look_ahead();
    }
}

fn sealed_header(frame_seed: u32, meta: &FrameMeta, payload: &[u8]) -> FrameHeader {
    let mut header = FrameHeader {
        payload_bytes: payload.len() as u32,
        crc32c: 0,
        first_sequence: meta.first_sequence,
        first_slot: meta.first_slot,
        schema_hash: meta.schema_hash,
        output_hash: meta.output_hash,
        durable_upto: meta.first_sequence.saturating_sub(1),
        time_ns: meta.time_ns,
        lane: meta.lane,
        kind: meta.kind as u8,
        reserved: 0,
        waiting_slots: meta.waiting_slots,
    };
    header.crc32c = frame_crc(frame_seed, &header, payload);
    header
}

fn help(directory: &Path, segment_bytes: u64, jobs: &Receiver<Job>, made: &Sender<Result<Segment, String>>) {
    for job in jobs {
        match job {
            Job::Populate(pages, offset, len) => pages.populate(offset, len),
            Job::Create(index) => {
                let segment = Segment::create(directory, index, segment_bytes);
                if let Ok(segment) = &segment {
                    segment.pages().populate(0, POPULATE_STEP_BYTES);
                }
                if made.send(segment).is_err() {
                    return;
                }
            }
        }
    }
}

/// Lets the calling thread run anywhere but on this core, where there is another one.
fn leave_core(cpu: usize) {
    let here = Pid::from_raw(0);
    let others = sched_getaffinity(here).and_then(|mut set| set.unset(cpu).map(|()| set));
    if let Err(error) = others.and_then(|set| sched_setaffinity(here, &set)) {
        tracing::debug!(%error, cpu, "the journal's helper thread shares the sequencer's core");
    }
}

/// The machine's boot id; zeros where there is none.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    std::array::from_fn(|i| {
        hex.get(2 * i..2 * i + 2).and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).unwrap_or(0)
    })
}
