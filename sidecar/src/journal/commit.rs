//! Group commit: frames gather in private memory while a thread makes those before them durable, all with one `fdatasync`.
//! No page of such a segment is mapped. What could not be made durable comes back, to be written to another segment.

use std::fs::File;
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytemuck::Zeroable;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use nix::errno::Errno;
use ringlane_layout::limits::{COMMIT_BYTES_MAX, COMMIT_RETRY_NS_MAX, COMMIT_RETRY_NS_MIN, RECORD_BYTES};
use ringlane_layout::record::RecordBytes;

use super::segment::Segment;
use super::{FRAME_HEADER_BYTES, FRAMES_OFFSET, FrameHeader, FrameKind, PAYLOAD_BYTES_MAX, SegmentHeader};
use crate::world::{self, Helper};

/// Called on the commit thread when a commit has ended.
pub type Waker = Box<dyn Fn() + Send + Sync>;
/// How a file becomes durable; a test can let it fail.
pub type Flush = fn(&File) -> Result<(), Error>;

/// Bytes that go to one place of one file.
#[derive(Debug)]
struct Block {
    file: Arc<File>,
    /// Number of the segment, and its size, bytes.
    index: u64,
    len: usize,
    offset: u64,
    /// Aligned as records are, because kernels read them where they stand.
    records: Vec<RecordBytes>,
    /// Last sequence number in it or before it.
    upto: u64,
}

/// What the commit thread gives back.
#[derive(Debug)]
struct Done {
    /// What did not become durable, and why.
    failed: Option<(Vec<Block>, Error)>,
    /// How long the last `fdatasync` took, nanoseconds.
    sync_ns: u64,
}

/// What ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing yet, or nothing was under way.
    Nothing,
    /// All that was handed over is durable; the `fdatasync` took so many nanoseconds.
    Durable(u64),
    /// The disk failed: what was handed over must go to another segment.
    Failed,
}

/// The sequencer's end of group commit.
pub struct Commit {
    filling: Vec<Block>,
    jobs: Sender<Vec<Block>>,
    done: Receiver<Done>,
    /// Number of the first segment that what is under way goes to; none when nothing is.
    under_way: Option<u64>,
    /// What did not become durable, when it may be tried again, and the pause after the next failure.
    failed: Option<(Vec<Block>, Instant)>,
    pause: Duration,
    /// What the disk said when it failed last, errno.
    errno: u64,
    durable: Arc<AtomicU64>,
    waker: Arc<OnceLock<Waker>>,
    thread: Helper,
    /// Most bytes that gather.
    bytes_max: usize,
}

impl Block {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.records)
    }
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commit").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

/// Frames that are to be written again.
pub struct Again {
    /// What the first of them says: sequence number, and hash of the outputs before it.
    pub first_sequence: u64,
    /// See `first_sequence`.
    pub output_hash: u64,
    /// Headers and payloads, one behind the other, sealed for a segment that failed.
    pub frames: Vec<u8>,
}

impl Commit {
    /// Starts the thread. Everything up to `durable` is durable already.
    pub fn start(durable: u64, segment_bytes: u64, flush: Flush) -> Result<Self, String> {
        let (jobs, queue) = bounded::<Vec<Block>>(1);
        let (told, done) = bounded(1);
        let (durable, waker) = (Arc::new(AtomicU64::new(durable)), Arc::new(OnceLock::<Waker>::new()));
        let (watermark, wake) = (Arc::clone(&durable), Arc::clone(&waker));
        let turn = move || {
            let blocks = match world::take_job(&queue, None) {
                Ok(blocks) => blocks,
                Err(error) => return error.is_timeout(),
            };
            let heard = told.send(write(blocks, &watermark, flush)).is_ok();
            wake.get().into_iter().for_each(|wake| wake());
            heard
        };
        let thread =
            Helper::start("journal-sync", || {}, turn).map_err(|error| format!("cannot start the journal's commit thread: {error}"))?;
        let bytes_max = (segment_bytes as usize / 8).clamp(PAYLOAD_BYTES_MAX + FRAME_HEADER_BYTES, COMMIT_BYTES_MAX);
        let pause = Duration::from_nanos(COMMIT_RETRY_NS_MIN);
        Ok(Self { filling: Vec::new(), jobs, done, under_way: None, failed: None, pause, errno: 0, durable, waker, thread, bytes_max })
    }

    /// Who is told when a commit has ended.
    pub fn set_waker(&self, waker: Waker) {
        assert!(self.waker.set(waker).is_ok(), "there is one who waits");
    }

    /// Everything up to this sequence number is durable.
    #[inline]
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Whether nothing waits to become durable.
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.filling.is_empty() && self.under_way.is_none() && self.failed.is_none()
    }

    /// Whether a frame of so many bytes may be added now.
    #[inline]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.failed.is_none() && self.filling.iter().map(|block| block.bytes().len()).sum::<usize>() + bytes <= self.bytes_max
    }

    /// Whether the journal may go on in another segment than `index`: at most two of them are not durable.
    pub fn may_roll(&self, index: u64) -> bool {
        self.failed.is_none() && self.under_way.is_none_or(|first| first == index) && self.filling.iter().all(|block| block.index == index)
    }

    /// Room for `len` bytes at `offset` of a segment, holding records up to `upto`.
    #[inline]
    pub fn place(&mut self, segment: &Segment, offset: usize, len: usize, upto: u64) -> &mut [u8] {
        let follows = self
            .filling
            .last()
            .is_some_and(|block| block.index == segment.index && block.offset + block.bytes().len() as u64 == offset as u64);
        if !follows {
            let (file, index) = (segment.file(), segment.index);
            self.filling.push(Block { file, index, len: segment.len(), offset: offset as u64, records: Vec::new(), upto });
        }
        let block = self.filling.last_mut().expect("there is one");
        block.upto = upto;
        let at = block.records.len();
        block.records.resize(at + len / RECORD_BYTES, RecordBytes::zeroed());
        bytemuck::cast_slice_mut(&mut block.records[at..])
    }

    /// Hands what has gathered over, if the thread is free. True: it was.
    pub fn hand_over(&mut self) -> bool {
        if self.filling.is_empty() || self.under_way.is_some() || self.failed.is_some() {
            return false;
        }
        // What was recycled may hold an old frame behind the last one.
        if let Some(last) = self.filling.last_mut()
            && last.offset as usize + last.bytes().len() + FRAME_HEADER_BYTES <= last.len
        {
            last.records.push(RecordBytes::zeroed());
        }
        self.under_way = self.filling.first().map(|block| block.index);
        let sent = self.jobs.send(std::mem::take(&mut self.filling));
        assert!(sent.is_ok(), "the commit thread lives as long as its queue");
        true
    }

    /// Looks whether a commit has ended.
    #[inline]
    pub fn poll(&mut self) -> Ended {
        if self.under_way.is_none() {
            return Ended::Nothing;
        }
        match self.done.try_recv() {
            Ok(done) => self.take(done),
            Err(TryRecvError::Empty) => Ended::Nothing,
            Err(TryRecvError::Disconnected) => panic!("the commit thread is gone"),
        }
    }

    /// The same, and waits.
    pub fn wait(&mut self, longest: Duration) -> Ended {
        if self.under_way.is_none() {
            // What failed waits for its time, and perhaps for a segment.
            if self.failed.is_some() {
                world::pause(longest);
            }
            return Ended::Nothing;
        }
        match world::wait_for(&self.done, Some(longest)) {
            Ok(done) => self.take(done),
            Err(RecvTimeoutError::Timeout) => Ended::Nothing,
            Err(RecvTimeoutError::Disconnected) => panic!("the commit thread is gone"),
        }
    }

    fn take(&mut self, done: Done) -> Ended {
        self.under_way = None;
        let Some((blocks, error)) = done.failed else {
            self.pause = Duration::from_nanos(COMMIT_RETRY_NS_MIN);
            return Ended::Durable(done.sync_ns);
        };
        let upto = self.durable();
        tracing::error!(%error, durable_upto = upto, "the disk failed under the journal; what is not durable goes to another segment");
        self.failed = Some((blocks, world::now() + self.pause));
        // The first failure is answered soon; a disk that goes on failing is not filled with segments.
        self.errno = errno_of(&error);
        self.pause = (self.pause * 8).min(Duration::from_nanos(COMMIT_RETRY_NS_MAX));
        Ended::Failed
    }

    /// Whether frames wait to be written again, and may be now.
    pub fn may_try_again(&self) -> bool {
        self.failed.as_ref().is_some_and(|(_, at)| world::now() >= *at)
    }

    /// What the disk said when it failed last, errno.
    pub fn errno(&self) -> u64 {
        self.errno
    }

    /// Number of the segment that failed.
    pub fn failed_index(&self) -> Option<u64> {
        self.failed.as_ref().and_then(|(blocks, _)| blocks.first()).map(|block| block.index)
    }

    /// Everything that is not durable, to be written again.
    pub fn take_failed(&mut self) -> Option<Again> {
        let (mut blocks, _) = self.failed.take()?;
        blocks.append(&mut self.filling);
        let mut again = Again { first_sequence: self.durable() + 1, output_hash: 0, frames: Vec::new() };
        let mut is_first = true;
        for block in &blocks {
            if block.offset < FRAMES_OFFSET as u64 {
                let header: SegmentHeader = bytemuck::pod_read_unaligned(&block.bytes()[..size_of::<SegmentHeader>()]);
                if std::mem::take(&mut is_first) {
                    again.output_hash = header.output_hash;
                }
                continue;
            }
            for (header, frame) in frames(block.bytes()) {
                if std::mem::take(&mut is_first) {
                    again.output_hash = header.output_hash;
                }
                if header.kind != FrameKind::End as u8 {
                    again.frames.extend_from_slice(frame);
                }
            }
        }
        Some(again)
    }

    /// Ends the thread.
    pub fn stop(self) {
        drop((self.jobs, self.done));
        self.thread.join();
    }
}

/// The frames in a block that this process made.
pub fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (FrameHeader, &[u8])> {
    std::iter::from_fn(move || {
        let header: FrameHeader = bytemuck::pod_read_unaligned(bytes.get(..FRAME_HEADER_BYTES)?);
        if header.kind == 0 {
            return None; // zeros
        }
        let (frame, rest) = bytes.split_at(FRAME_HEADER_BYTES + header.payload_bytes as usize);
        bytes = rest;
        Some((header, frame))
    })
}

/// Writes blocks in their order. A file is durable before the next is touched, so that no segment stands behind one that
/// does not say so; the watermark follows each.
fn write(mut blocks: Vec<Block>, watermark: &AtomicU64, flush: Flush) -> Done {
    let (mut sync_ns, mut next) = (0, 0);
    while next < blocks.len() {
        let index = blocks[next].index;
        let end = next + blocks[next..].iter().take_while(|block| block.index == index).count();
        let begin = Instant::now();
        let file = &blocks[next].file;
        let written = blocks[next..end].iter().try_for_each(|block| {
            block.file.write_all_at(block.bytes(), block.offset)?;
            // A segment's header is there before any frame: the machine's end never leaves frames without one.
            if block.offset == 0 { flush(&block.file) } else { Ok(()) }
        });
        if let Err(error) = written.and_then(|()| flush(file)) {
            return Done { failed: Some((blocks.split_off(next), error)), sync_ns };
        }
        sync_ns = begin.elapsed().as_nanos() as u64;
        watermark.store(blocks[end - 1].upto, Ordering::Release);
        next = end;
    }
    Done { failed: None, sync_ns }
}

/// Number of an error, for who looks at the board.
fn errno_of(error: &Error) -> u64 {
    error.raw_os_error().unwrap_or(Errno::EIO as i32) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::super::{Epoch, FrameMeta, Reader, Writer, WriterConfig};
    use super::*;

    /// Syncs that are still to fail.
    static FAILURES: AtomicU32 = AtomicU32::new(0);

    fn flush(file: &File) -> Result<(), Error> {
        let fails = FAILURES.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if fails { Err(Error::from_raw_os_error(Errno::EIO as i32)) } else { file.sync_data() }
    }

    fn meta(first_sequence: u64) -> FrameMeta {
        let schema_hash = super::super::schema_hash(FrameKind::Orders).unwrap();
        let (lane, first_slot, output_hash, time_ns) = (1, 0, first_sequence, 1);
        FrameMeta { kind: FrameKind::Orders, lane, first_sequence, first_slot, schema_hash, output_hash, time_ns, waiting_slots: 0 }
    }

    fn settle(writer: &mut Writer) {
        while !writer.is_settled() {
            writer.hand_over();
            writer.drive(Duration::from_millis(1));
        }
    }

    /// Batches of a few hundred records over several segments; now and then one sync fails, or two in a row. Every record is
    /// read back once, in its order, also when the writer ends without a mark.
    #[test]
    fn what_a_disk_refused_stands_in_the_next_segment() {
        for seed in 1..=12_u64 {
            let directory = tempfile::tempdir().unwrap();
            let config = WriterConfig { segment_bytes: 1 << 20, is_mapped: false, ..WriterConfig::default() };
            let epoch = Epoch { number: 1, engine_version: 1, request_schema_hash: super::super::schema_hash(FrameKind::Orders).unwrap() };
            let mut writer = Writer::open_flushed(directory.path(), 1, config, epoch, &meta(1), flush).unwrap();
            let (mut next, mut dice, mut refused, mut last_failure) = (1_u64, seed, 0, 0);
            for turn in 0..300 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let count = 1 + (dice >> 33) as usize % 256;
                // Not before the disk has recovered of the last one: the pauses between failures in a row grow to a minute.
                if (dice >> 50).is_multiple_of(40) && writer.durable_upto(0) >= last_failure {
                    last_failure = next;
                    FAILURES.store(1 + (dice >> 48) as u32 % 2, Ordering::SeqCst);
                }
                let fill = |records: &mut [RecordBytes]| {
                    for (at, record) in records.iter_mut().enumerate() {
                        bytemuck::bytes_of_mut(record)[..8].copy_from_slice(&(next + at as u64).to_le_bytes());
                    }
                };
                let since = Instant::now();
                while !writer.make_room(&meta(next), count) {
                    writer.hand_over();
                    refused += u32::from(writer.drive(Duration::from_millis(1)) == Ended::Failed);
                    assert!(since.elapsed() < Duration::from_secs(20), "seed {seed}, turn {turn}: no room");
                }
                writer.append(&meta(next), count, fill).unwrap();
                next += count as u64;
                assert!(writer.durable_upto(next) < next);
                writer.hand_over();
                refused += u32::from(writer.drive(Duration::ZERO) == Ended::Failed);
            }
            settle(&mut writer);
            assert_eq!(writer.durable_upto(0), next - 1, "seed {seed}");
            if seed % 2 == 0 {
                writer.close(&meta(next));
            } else {
                std::mem::forget(writer);
            }
            let mut reader = Reader::open(directory.path()).unwrap();
            let mut due = 1;
            while let Some(frame) = reader.next_frame().unwrap_or_else(|words| panic!("seed {seed}: {words}")) {
                for record in frame.records {
                    assert_eq!(bytemuck::bytes_of(record)[..8], u64::to_le_bytes(due), "seed {seed}");
                    due += 1;
                }
            }
            assert_eq!((due, reader.is_closed()), (next, seed % 2 == 0), "seed {seed}, {refused} refused");
        }
    }
}
