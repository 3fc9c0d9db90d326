//! Appending frames. The writer never waits: pages and the next segment are made ready by a helper thread.

use std::io::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use ringlane_layout::limits::{LANES_MAX, RECORD_BYTES, SETTLE_NS_MAX};
use ringlane_layout::record::RecordBytes;

use super::commit::{Again, Commit, Ended, Flush, Waker, frames};
use super::segment::{Segment, stand_back};
use super::supply::{Disk, Job, POPULATE_STEP_BYTES, Supply};
use super::voids::VoidRange;
use super::{FRAME_HEADER_BYTES, FRAMES_OFFSET, FrameHeader, FrameKind, SEGMENT_MAGIC, SegmentHeader, frame_crc, segment_crc};
use crate::cores;
use crate::crash;
use crate::world::{self, Helper};

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
    /// Most bytes of all segments; the oldest ones that a snapshot covers are used again.
    pub retention_bytes: u64,
    /// Segments that are kept ready with all their pages in memory.
    pub spare_segments: usize,
    /// Hours until the disk is full below which the journal is in trouble.
    pub disk_hours_min: u64,
    /// Whether segments are written through memory.
    pub is_mapped: bool,
    /// Core that the helper thread leaves to the sequencer.
    pub avoid_cpu: Option<usize>,
    /// Records before this epoch that it makes void.
    pub void: Option<VoidRange>,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            prefault_bytes: 16 << 20,
            retention_bytes: 32 << 30,
            spare_segments: 0,
            disk_hours_min: 4,
            is_mapped: true,
            avoid_cpu: None,
            void: None,
        }
    }
}

/// The journal has no room for the frame now; nothing was appended. It may have room later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full;

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

/// Bytes at the end of a segment that orders leave free: a half for lanes that open, the other for the end of every lane,
/// which finds room also while no next segment can be had.
const ADMIN_BYTES: usize = 2 * LANES_MAX * (FRAME_HEADER_BYTES + RECORD_BYTES);
/// Most jobs that wait for the helper, and how many of them may be pages.
const JOBS_MAX: usize = 64;
const PAGE_JOBS_MAX: usize = JOBS_MAX - 8;

/// The open end of the journal.
#[derive(Debug)]
pub struct Writer {
    segment: Segment,
    /// Where the next frame goes, bytes.
    offset: usize,
    /// Up to where orders may go, bytes.
    orders_end: usize,
    /// Up to where the helper was told to fault pages in, bytes.
    populated: usize,
    /// From where on there is something to tell the helper, bytes.
    look_at: usize,
    /// Whether the next segment was ordered.
    next_ordered: bool,
    prefault_bytes: usize,
    segments: Receiver<Segment>,
    jobs: Sender<Job>,
    helper: Helper,
    epoch: Epoch,
    void: Option<VoidRange>,
    boot_id: [u8; 16],
    /// Bytes appended since this writer was opened.
    bytes: u64,
    disk: Arc<Disk>,
    /// Group commit; none where the process's end is all that is guarded against.
    commit: Option<Commit>,
}

impl Writer {
    /// Opens a new segment of number `index` behind what the directory holds.
    pub fn open(directory: &Path, index: u64, config: WriterConfig, epoch: Epoch, start: &FrameMeta) -> Result<Self, String> {
        Self::open_flushed(directory, index, config, epoch, start, world::sync_data)
    }

    /// The same, where `flush` is what makes a file durable that is not mapped.
    pub(super) fn open_flushed(
        directory: &Path,
        index: u64,
        config: WriterConfig,
        epoch: Epoch,
        start: &FrameMeta,
        flush: Flush,
    ) -> Result<Self, String> {
        let (jobs, job_queue) = bounded(JOBS_MAX);
        let (made, segments) = bounded(1);
        let disk = Arc::new(Disk::default());
        let mut supply = Supply::new(directory, config, Arc::clone(&disk))?;
        let name = super::segment_name(index);
        let say = |error: Error| format!("cannot reserve the journal segment {}: {error}", directory.join(&name).display());
        let segment = supply.make(index).map_err(say)?;
        supply.begun(start.first_sequence);
        supply.look_at_disk();
        let begin = move || {
            config.avoid_cpu.into_iter().for_each(cores::leave);
            stand_back();
        };
        let helper = Helper::start("journal-pages", begin, move || supply.turn(&job_queue, &made))
            .map_err(|error| format!("cannot start the journal's helper thread: {error}"))?;
        let durable = start.first_sequence.saturating_sub(1);
        let commit = (!config.is_mapped).then(|| Commit::start(durable, config.segment_bytes, flush)).transpose()?;
        let mut writer = Self {
            segment,
            offset: 0,
            orders_end: 0,
            populated: 0,
            look_at: 0,
            next_ordered: false,
            prefault_bytes: config.prefault_bytes as usize,
            segments,
            jobs,
            helper,
            epoch,
            void: config.void,
            boot_id: boot_id(),
            bytes: 0,
            disk,
            commit,
        };
        writer.begin_segment(start, false);
        // Ready means ready: what is faulted in ahead is there before the first order.
        writer.segment.pages().into_iter().for_each(|pages| pages.populate(0, writer.prefault_bytes));
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

    /// How the disk does. Tells the helper how far the writer has come.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        self.disk.appended_bytes.store(self.bytes, Ordering::Relaxed);
        &self.disk
    }

    /// Appends one frame: `fill` copies the records straight into the journal, and the copy is what the caller gets back.
    #[inline]
    pub fn append(&mut self, meta: &FrameMeta, count: usize, fill: impl FnOnce(&mut [RecordBytes])) -> Result<&[RecordBytes], Full> {
        let payload_bytes = count * RECORD_BYTES;
        let frame_bytes = FRAME_HEADER_BYTES + payload_bytes;
        if (self.offset + frame_bytes > self.orders_end || self.commit.is_some()) && !self.make_room(meta, count) {
            return Err(Full);
        }
        if self.commit.is_some() {
            return Ok(self.append_private(meta, frame_bytes, fill));
        }
        let offset = self.offset;
        self.offset += frame_bytes;
        self.bytes += frame_bytes as u64;
        if self.offset >= self.look_at {
            self.look_ahead();
        }
        // The lines of the frame that comes next: fresh memory is far away, and a store to it holds up those behind it.
        self.segment.expect_write(offset + frame_bytes + FRAME_HEADER_BYTES);
        let frame_seed = self.segment.frame_seed;
        // With the place of the next header, where an old frame of a recycled file may stand.
        let (head, rest) = self.segment.slice_mut(offset, frame_bytes + FRAME_HEADER_BYTES).split_at_mut(FRAME_HEADER_BYTES);
        let (payload, next) = rest.split_at_mut(payload_bytes);
        let records = bytemuck::cast_slice_mut(payload);
        crash::point("frame.before");
        fill(records);
        crash::point("frame.filled");
        next.fill(0);
        head.copy_from_slice(bytemuck::bytes_of(&sealed_header(frame_seed, meta, meta.first_sequence.saturating_sub(1), payload)));
        crash::point("frame.after");
        Ok(bytemuck::cast_slice(payload))
    }

    /// Appends a frame to what gathers for the next commit.
    fn append_private(&mut self, meta: &FrameMeta, frame_bytes: usize, fill: impl FnOnce(&mut [RecordBytes])) -> &[RecordBytes] {
        let (offset, frame_seed) = (self.offset, self.segment.frame_seed);
        let upto = meta.first_sequence + ((frame_bytes - FRAME_HEADER_BYTES) / RECORD_BYTES) as u64 - 1;
        self.offset += frame_bytes;
        self.bytes += frame_bytes as u64;
        if self.offset >= self.look_at {
            // The pages of a segment that is not mapped are nobody's concern.
            self.look_at = self.order_in_time();
        }
        let durable = self.durable_upto(upto);
        let (head, payload) = self.place(offset, frame_bytes, upto).split_at_mut(FRAME_HEADER_BYTES);
        fill(bytemuck::cast_slice_mut(payload));
        head.copy_from_slice(bytemuck::bytes_of(&sealed_header(frame_seed, meta, durable, payload)));
        bytemuck::cast_slice(payload)
    }

    /// Goes on in the next segment if this frame needs it. False: it is not there yet, and the frame cannot be appended.
    #[cold]
    pub fn make_room(&mut self, meta: &FrameMeta, count: usize) -> bool {
        let frame_bytes = FRAME_HEADER_BYTES + count * RECORD_BYTES;
        let end = self.offset + frame_bytes;
        // The end of a lane is taken also while the disk does not keep up; there are only so many.
        if meta.kind != FrameKind::LaneClose && self.commit.as_ref().is_some_and(|commit| !commit.has_room(frame_bytes)) {
            return false;
        }
        if end <= self.orders_end {
            return true;
        }
        self.order_next();
        let may_roll = self.commit.as_ref().is_none_or(|commit| commit.may_roll(self.segment.index));
        match may_roll.then(|| self.segments.try_recv().ok()).flatten() {
            Some(next) => self.roll(next, meta),
            None => {
                let limit = match meta.kind {
                    // Lanes open while the next segment is late, and end also when none can be had.
                    FrameKind::LaneOpen => self.orders_end.midpoint(self.segment.len()),
                    FrameKind::LaneClose => self.segment.len() - FRAME_HEADER_BYTES,
                    _ => self.orders_end,
                };
                return end <= limit;
            }
        }
        true
    }

    /// The same, and waits for the next segment as long as it is only late. For the time before the first order.
    pub fn wait_for_room(&mut self, meta: &FrameMeta, count: usize) -> Result<(), String> {
        while !self.make_room(meta, count) {
            if let Some(why) = self.disk.why_unwritable() {
                return Err(format!("cannot make the next journal segment: {why}"));
            }
            self.hand_over();
            self.drive(Duration::ZERO);
            world::pause(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Appends a frame of these records, and waits for room.
    pub fn append_waiting(&mut self, meta: &FrameMeta, records: &[RecordBytes]) -> Result<(), String> {
        self.wait_for_room(meta, records.len())?;
        let appended = self.append(meta, records.len(), |place| place.copy_from_slice(records));
        assert!(appended.is_ok(), "there was room");
        Ok(())
    }

    /// The bytes of the journal's open end that are to be written, holding records up to `upto`.
    fn place(&mut self, offset: usize, len: usize, upto: u64) -> &mut [u8] {
        match &mut self.commit {
            Some(commit) => commit.place(&self.segment, offset, len, upto),
            None => self.segment.slice_mut(offset, len),
        }
    }

    /// Who is told when a commit has ended.
    pub fn set_waker(&self, waker: Waker) {
        if let Some(commit) = &self.commit {
            commit.set_waker(waker);
        }
    }

    /// Whether frames are durable only some time after they were appended.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        self.commit.is_some()
    }

    /// Last sequence number that survives what the journal promises to survive, where `appended` is the last one in it.
    #[must_use]
    pub fn durable_upto(&self, appended: u64) -> u64 {
        self.commit.as_ref().map_or(appended, Commit::durable)
    }

    /// Whether everything appended is durable.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.commit.as_ref().is_none_or(Commit::is_settled)
    }

    /// Whether every frame stays where it was appended. Not so while the disk refuses some: they will stand elsewhere.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        self.commit.as_ref().is_none_or(|commit| commit.failed_index().is_none())
    }

    /// Begins to make durable what was appended, unless that is under way for frames before. True: it was begun.
    pub fn hand_over(&mut self) -> bool {
        self.commit.as_mut().is_some_and(Commit::hand_over)
    }

    /// Looks whether a commit has ended, and waits for it so long. What the disk refused goes to another segment.
    pub fn drive(&mut self, longest: Duration) -> Ended {
        let Some(commit) = &mut self.commit else { return Ended::Nothing };
        let ended = if longest.is_zero() { commit.poll() } else { commit.wait(longest) };
        match ended {
            Ended::Nothing => {}
            Ended::Durable(_) => self.disk.sync_errno.store(0, Ordering::Relaxed),
            Ended::Failed => self.disk.sync_errno.store(commit.errno(), Ordering::Relaxed),
        }
        if commit.may_try_again() {
            self.write_again();
        }
        ended
    }

    /// Writes what is not durable to a segment in which nothing failed yet: the open one, where it was not touched, or the
    /// next. Never to the failed one: after a failed sync nobody knows what of it is on the disk.
    #[cold]
    fn write_again(&mut self) {
        let mut old = None;
        if self.commit.as_ref().and_then(Commit::failed_index) == Some(self.segment.index) {
            self.order_next();
            // It is told of errors by who makes it.
            let Ok(next) = self.segments.try_recv() else { return };
            self.next_ordered = false;
            old = Some(std::mem::replace(&mut self.segment, next));
        }
        let Some(Again { first_sequence, output_hash, frames: bytes }) = self.commit.as_mut().and_then(Commit::take_failed) else { return };
        let time_ns = frames(&bytes).next().map_or(0, |(header, _)| header.time_ns);
        let (kind, lane, first_slot, schema_hash, waiting_slots) = (FrameKind::End, 0, 0, 0, 0);
        let meta = FrameMeta { kind, lane, first_sequence, first_slot, schema_hash, output_hash, time_ns, waiting_slots };
        self.begin_segment(&meta, true);
        assert!(self.offset + bytes.len() <= self.segment.len() - FRAME_HEADER_BYTES, "what gathers fits a segment");
        for (mut header, frame) in frames(&bytes) {
            let payload = &frame[FRAME_HEADER_BYTES..];
            header.crc32c = frame_crc(self.segment.frame_seed, &header, payload);
            let upto = header.first_sequence + (payload.len() / RECORD_BYTES) as u64 - 1;
            let place = self.place(self.offset, frame.len(), upto);
            place[..FRAME_HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
            place[FRAME_HEADER_BYTES..].copy_from_slice(payload);
            self.offset += frame.len();
        }
        let _ = self.jobs.send(Job::Rolled(old, first_sequence));
    }

    /// Tells the helper how far the writer has come. Out of line: once in 16,384 records.
    #[cold]
    fn look_ahead(&mut self) {
        let len = self.segment.len();
        if self.populated < len && self.offset + self.prefault_bytes > self.populated {
            // A full queue means that the helper lags; then the writer faults pages in itself.
            if self.jobs.len() < PAGE_JOBS_MAX
                && let Some(pages) = self.segment.pages()
            {
                let _ = self.jobs.try_send(Job::Populate(pages, self.populated, POPULATE_STEP_BYTES));
            }
            self.populated += POPULATE_STEP_BYTES;
        }
        let pages_at = if self.populated < len { (self.populated + 1).saturating_sub(self.prefault_bytes) } else { usize::MAX };
        self.look_at = pages_at.min(self.order_in_time()).max(self.offset + FRAME_HEADER_BYTES);
    }

    /// Orders the next segment when this one is half full; the offset at which to ask again, bytes.
    #[cold]
    fn order_in_time(&mut self) -> usize {
        let half = self.segment.len() / 2;
        if self.offset >= half {
            self.order_next();
        }
        if self.next_ordered { usize::MAX } else { half.max(self.offset + FRAME_HEADER_BYTES) }
    }

    /// Orders the next segment of the helper, unless that was done.
    fn order_next(&mut self) {
        if !self.next_ordered {
            self.next_ordered = self.jobs.try_send(Job::Make(self.segment.index + 1)).is_ok();
        }
    }

    /// Goes on in the next segment.
    #[cold]
    fn roll(&mut self, next: Segment, meta: &FrameMeta) {
        crash::point("roll.before");
        self.mark(FrameKind::End, meta);
        crash::point("roll.marked");
        self.next_ordered = false;
        let old = std::mem::replace(&mut self.segment, next);
        self.begin_segment(meta, false);
        crash::point("roll.after");
        // The helper is alive as long as this end of its queue is, and the queue keeps room for this.
        let _ = self.jobs.send(Job::Rolled(Some(old), meta.first_sequence));
    }

    /// Ends the segment with a frame that has no records.
    fn mark(&mut self, kind: FrameKind, meta: &FrameMeta) {
        let upto = meta.first_sequence.saturating_sub(1);
        let durable = self.durable_upto(upto);
        let meta = FrameMeta { kind, lane: 0, first_slot: 0, schema_hash: 0, ..*meta };
        let mark = sealed_header(self.segment.frame_seed, &meta, durable, &[]);
        self.place(self.offset, FRAME_HEADER_BYTES, upto).copy_from_slice(bytemuck::bytes_of(&mark));
        self.offset += FRAME_HEADER_BYTES;
    }

    /// Ends the journal cleanly, which is marked: `end` says what would have come next. What was reserved and not used is
    /// given back.
    pub fn close(mut self, end: &FrameMeta) {
        // A disk that failed has no clean end.
        if self.is_settled() {
            self.mark(FrameKind::Stop, end);
            self.hand_over();
            self.drive(Duration::from_nanos(SETTLE_NS_MAX));
        }
        if let Some(commit) = self.commit.take() {
            commit.stop();
        }
        drop(self.jobs);
        // Ends the helper's wait to hand over a segment that was made ahead.
        let unused = world::wait_for(&self.segments, None);
        self.helper.join();
        if let Ok(unused) = unused {
            unused.close(0);
        }
        self.segment.close(self.offset);
    }

    fn begin_segment(&mut self, meta: &FrameMeta, holds_again: bool) {
        let mut header = SegmentHeader {
            magic: SEGMENT_MAGIC,
            format_version: super::FORMAT_VERSION,
            engine_version: self.epoch.engine_version,
            epoch: self.epoch.number,
            index: self.segment.index,
            first_sequence: meta.first_sequence,
            created_ns: meta.time_ns,
            output_hash: meta.output_hash,
            boot_id: self.boot_id,
            request_schema_hash: self.epoch.request_schema_hash,
            frame_seed: self.segment.frame_seed,
            holds_again: holds_again.into(),
            void_first: self.void.map_or(0, |void| void.first),
            void_last: self.void.map_or(0, |void| void.last),
            ..SegmentHeader::default()
        };
        header.crc32c = segment_crc(&header);
        crash::point("segment.before");
        let bytes = bytemuck::bytes_of(&header);
        self.place(0, bytes.len(), meta.first_sequence.saturating_sub(1)).copy_from_slice(bytes);
        self.offset = FRAMES_OFFSET;
        // Room for the ends of lanes, and for END.
        self.orders_end = self.segment.len() - ADMIN_BYTES.min(self.segment.len() / 4) - FRAME_HEADER_BYTES;
        self.populated = 0;
        self.look_ahead();
    }
}

fn sealed_header(frame_seed: u32, meta: &FrameMeta, durable_upto: u64, payload: &[u8]) -> FrameHeader {
    let mut header = FrameHeader {
        payload_bytes: payload.len() as u32,
        crc32c: 0,
        first_sequence: meta.first_sequence,
        first_slot: meta.first_slot,
        schema_hash: meta.schema_hash,
        output_hash: meta.output_hash,
        durable_upto,
        time_ns: meta.time_ns,
        lane: meta.lane,
        kind: meta.kind as u8,
        reserved: 0,
        waiting_slots: meta.waiting_slots,
    };
    header.crc32c = frame_crc(frame_seed, &header, payload);
    header
}

/// The machine's boot id; zeros where there is none.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    std::array::from_fn(|i| {
        hex.get(2 * i..2 * i + 2).and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).unwrap_or(0)
    })
}
