//! The helper thread that makes segments ready, so that nobody waits for the disk: it reserves or recycles files, faults pages
//! in, keeps the journal under its cap, and says how the disk does. What cannot be had now is tried again until it can.

use std::collections::VecDeque;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use memmap2::MmapRaw;
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;

use super::WriterConfig;
use super::retention::{Kept, disk_bytes, first_may_go, newest_snapshot_sequence, survey};
use super::segment::{Pages, Segment, Spare};
use crate::world;

/// Pages that are faulted in at a time, bytes: little enough that nobody on the helper's core waits long for it.
pub const POPULATE_STEP_BYTES: usize = 1 << 20;
/// How often the helper looks at the disk, and how soon it tries again what failed.
const TICK: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(100);
/// Time over which the rate of writing is levelled, seconds.
const RATE_SECONDS: f64 = 60.0;

/// What the journal's disk is short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Trouble {
    /// Nothing.
    None = 0,
    /// The journal is over its cap, and no snapshot covers its oldest segment.
    OverCap = 1,
    /// The disk is full within the configured hours at the current rate.
    DiskShort = 2,
    /// The next segment cannot be had: intake stops when the current one is full.
    Unwritable = 3,
    /// What was written cannot be made durable: nothing is answered meanwhile.
    Unsynced = 4,
}

/// What the helper says of the disk; anybody may look.
#[derive(Debug, Default)]
pub struct Disk {
    /// Bytes of all segments and spares.
    pub total_bytes: AtomicU64,
    /// Bytes free on the journal's file system.
    pub free_bytes: AtomicU64,
    /// Most bytes that the journal keeps.
    pub cap_bytes: AtomicU64,
    /// Bytes appended since start, as the writer says.
    pub appended_bytes: AtomicU64,
    /// Bytes a second, levelled over a minute.
    pub bytes_per_second: AtomicU64,
    /// Seconds until the disk is full at that rate; `u64::MAX` when the cap comes first or nothing is written.
    pub seconds_left: AtomicU64,
    /// A `Trouble`.
    pub trouble: AtomicU64,
    /// Why a segment could not be had, as errno; 0 when it could.
    pub errno: AtomicU64,
    /// Why frames could not be made durable, as errno; 0 when they could.
    pub sync_errno: AtomicU64,
    /// Segments that were used again.
    pub recycled: AtomicU64,
}

impl Disk {
    /// What it is short of just now, a `Trouble`, and why, errno.
    #[must_use]
    pub fn trouble_now(&self) -> (u64, u64) {
        match self.sync_errno.load(Relaxed) {
            0 => (self.trouble.load(Relaxed), self.errno.load(Relaxed)),
            errno => (Trouble::Unsynced as u64, errno),
        }
    }

    /// Why no segment can be had, or none be made durable, in words; none when both can.
    #[must_use]
    pub fn why_unwritable(&self) -> Option<String> {
        let (_, errno) = self.trouble_now();
        (errno != 0).then(|| Errno::from_raw(errno as i32).desc().to_owned())
    }
}

/// Work of the helper thread.
#[derive(Debug)]
pub enum Job {
    /// Fault in `len` bytes from `offset` on.
    Populate(Pages, usize, usize),
    /// Make the segment of this number.
    Make(u64),
    /// The journal goes on in the segment that was made last, from this sequence number on; the old one is let go of here,
    /// because to unmap it takes its time.
    Rolled(Option<Segment>, u64),
}

/// What the helper owns.
#[derive(Debug)]
pub struct Supply {
    directory: PathBuf,
    config: WriterConfig,
    /// Segments in the directory, ascending: the one that is being written and one made ahead included.
    kept: VecDeque<Kept>,
    spares: Vec<WarmSpare>,
    spare_number: u64,
    disk: Arc<Disk>,
    /// A segment that could not be made yet.
    wanted: Option<u64>,
    looked: Instant,
    appended_bytes: u64,
    rate: Option<f64>,
}

/// A spare file whose pages are being faulted in.
#[derive(Debug)]
struct WarmSpare {
    spare: Spare,
    map: Option<Arc<MmapRaw>>,
    populated: usize,
}

impl Supply {
    /// Looks at what the directory holds.
    pub fn new(directory: &Path, config: WriterConfig, disk: Arc<Disk>) -> Result<Self, String> {
        disk.cap_bytes.store(config.retention_bytes, Relaxed);
        disk.seconds_left.store(u64::MAX, Relaxed);
        let kept = survey(directory)?;
        let directory = directory.to_owned();
        let (spares, looked) = (Vec::new(), world::now());
        Ok(Self { directory, config, kept, spares, spare_number: 0, disk, wanted: None, looked, appended_bytes: 0, rate: None })
    }

    /// Makes segment `index`: a spare, the oldest segment when the cap is reached and it may go, or a new file.
    pub fn make(&mut self, index: u64) -> Result<Segment, Error> {
        let (spare, map) = match self.spares.pop() {
            Some(warm) => (warm.spare, warm.map),
            None => {
                let spare = self.obtain()?;
                let map = self.config.is_mapped.then(|| spare.map()).transpose()?;
                (spare, map)
            }
        };
        let segment = spare.into_segment(&self.directory, index, map)?;
        let bytes = disk_bytes(segment.path());
        self.kept.push_back(Kept { index, first_sequence: 0, path: segment.path().to_owned(), bytes });
        if let Some(pages) = segment.pages() {
            pages.populate(0, POPULATE_STEP_BYTES);
        }
        Ok(segment)
    }

    /// Notes that the segment that was made last is begun.
    pub fn begun(&mut self, first_sequence: u64) {
        if let Some(last) = self.kept.back_mut() {
            last.first_sequence = first_sequence;
        }
    }

    /// One turn of work. False: the writer has let go of its end of `jobs`, and it was the last.
    pub fn turn(&mut self, jobs: &Receiver<Job>, made: &Sender<Segment>) -> bool {
        let pause = match (self.wanted, self.has_cold_spare()) {
            (_, true) => Duration::ZERO,
            (Some(_), _) => RETRY,
            _ => TICK,
        };
        let is_last = match world::take_job(jobs, Some(pause)) {
            Ok(job) => {
                self.take(job);
                false
            }
            Err(RecvTimeoutError::Timeout) => {
                self.warm_up();
                false
            }
            Err(RecvTimeoutError::Disconnected) => true,
        };
        let made = self.wanted.filter(|_| !is_last).and_then(|index| self.try_make(index)).map(|segment| made.send(segment).is_ok());
        if is_last || made == Some(false) {
            self.spares.drain(..).for_each(|warm| warm.spare.remove());
            return false;
        }
        if world::now() - self.looked >= TICK {
            self.look_at_disk();
        }
        true
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Populate(pages, offset, len) => pages.populate(offset, len),
            Job::Make(index) => self.wanted = Some(index),
            Job::Rolled(old, first_sequence) => {
                drop(old);
                self.begun(first_sequence);
            }
        }
    }

    /// Makes the segment that is wanted, or says what is in the way.
    fn try_make(&mut self, index: u64) -> Option<Segment> {
        let errno = match self.make(index) {
            Ok(segment) => {
                self.wanted = None;
                if self.disk.errno.swap(0, Relaxed) != 0 {
                    tracing::info!("the next journal segment could be made after all");
                }
                return Some(segment);
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(Errno::EIO as i32) as u64;
                if self.disk.errno.swap(errno, Relaxed) == 0 {
                    let directory = self.directory.display();
                    tracing::error!(%error, "cannot make the next journal segment in {directory}; free space there, trying again");
                }
                errno
            }
        };
        debug_assert!(errno != 0);
        self.disk.trouble.store(Trouble::Unwritable as u64, Relaxed);
        None
    }

    /// A file of a segment's size: the oldest segment's when the cap is reached, or when there is no room for a new one.
    fn obtain(&mut self) -> Result<Spare, Error> {
        self.spare_number += 1;
        let path = self.directory.join(format!("spare-{}.ringlane.new", self.spare_number));
        let len = self.config.segment_bytes;
        if self.total_bytes() + len > self.config.retention_bytes
            && let Some(spare) = self.recycle(&path)
        {
            return Ok(spare);
        }
        Spare::create(path.clone(), len).or_else(|error| self.recycle(&path).ok_or(error))
    }

    /// Takes the oldest segment's file, if it may go.
    fn recycle(&mut self, path: &Path) -> Option<Spare> {
        let snapshot = newest_snapshot_sequence(&self.directory);
        while first_may_go(&self.kept, snapshot) {
            let old = self.kept.pop_front()?;
            match Spare::recycle(&old.path, path.to_owned(), self.config.segment_bytes) {
                Ok(spare) => {
                    self.disk.recycled.fetch_add(1, Relaxed);
                    return Some(spare);
                }
                Err(error) => {
                    // It could not be made whole again: its blocks are worth more than its name.
                    tracing::warn!(%error, segment = %old.path.display(), "an old journal segment could not be used again");
                    let _ = std::fs::remove_file(path);
                    let _ = std::fs::remove_file(&old.path);
                }
            }
        }
        None
    }

    fn total_bytes(&self) -> u64 {
        self.kept.iter().map(|segment| segment.bytes).sum::<u64>() + self.spares.iter().map(|warm| warm.spare.len()).sum::<u64>()
    }

    fn has_cold_spare(&self) -> bool {
        self.config.is_mapped && self.spares.iter().any(|warm| (warm.populated as u64) < warm.spare.len())
    }

    /// One step of what can wait: pages of spares. One file at a time is made in the look at the disk.
    fn warm_up(&mut self) {
        let cold = self.spares.iter_mut().find(|warm| (warm.populated as u64) < warm.spare.len());
        if let Some(WarmSpare { map: Some(map), populated, .. }) = cold {
            Pages::of(map).populate(*populated, POPULATE_STEP_BYTES);
            *populated += POPULATE_STEP_BYTES;
        }
    }

    /// Makes a spare where one is missing.
    fn refill(&mut self) {
        if self.wanted.is_none() && self.spares.len() < self.config.spare_segments
            && let Ok(spare) = self.obtain()
            // Without its map it would be a file for nothing.
            && let Ok(map) = self.config.is_mapped.then(|| spare.map()).transpose()
        {
            self.spares.push(WarmSpare { spare, map, populated: 0 });
        }
    }

    /// Keeps the cap, refills the spares, and says how the disk does.
    pub fn look_at_disk(&mut self) {
        self.refill();
        let snapshot = newest_snapshot_sequence(&self.directory);
        // What is over the cap by less than a segment is the next one's file.
        while self.total_bytes() > self.config.retention_bytes && first_may_go(&self.kept, snapshot) {
            let Some(old) = self.kept.pop_front() else { break };
            if let Err(error) = std::fs::remove_file(&old.path) {
                tracing::warn!(%error, segment = %old.path.display(), "an old journal segment could not be removed");
            }
        }
        let total = self.total_bytes();
        let free = statvfs(&self.directory).map_or(0, |stat| stat.blocks_available() * stat.fragment_size());
        let rate = self.measure_rate();
        // With snapshots the journal grows up to its cap and then recycles; without one it grows for ever.
        let capped = snapshot.is_some() && free >= self.config.retention_bytes.saturating_sub(total);
        let seconds_left = if capped || rate < 1.0 { u64::MAX } else { (free as f64 / rate) as u64 };
        let trouble = if self.disk.errno.load(Relaxed) != 0 {
            Trouble::Unwritable
        } else if total > self.config.retention_bytes {
            Trouble::OverCap
        } else if seconds_left < self.config.disk_hours_min.saturating_mul(3600) {
            Trouble::DiskShort
        } else {
            Trouble::None
        };
        let disk = &self.disk;
        let words = [(&disk.total_bytes, total), (&disk.free_bytes, free), (&disk.bytes_per_second, rate as u64)];
        words.into_iter().for_each(|(word, value)| word.store(value, Relaxed));
        disk.seconds_left.store(seconds_left, Relaxed);
        let before = disk.trouble.swap(trouble as u64, Relaxed);
        if before != trouble as u64 && matches!(trouble, Trouble::OverCap | Trouble::DiskShort) {
            tracing::warn!(?trouble, total_bytes = total, free_bytes = free, "the journal's disk needs a look");
        }
    }

    /// Bytes a second, levelled; the first measurement counts in full.
    fn measure_rate(&mut self) -> f64 {
        let now = world::now();
        let seconds = (now - self.looked).as_secs_f64();
        self.looked = now;
        let appended = self.disk.appended_bytes.load(Relaxed);
        let now = (appended - self.appended_bytes) as f64 / seconds.max(1e-3);
        self.appended_bytes = appended;
        let before = self.rate.unwrap_or(now);
        let rate = before + (now - before) * (seconds / RATE_SECONDS).min(1.0);
        self.rate = (appended > 0).then_some(rate);
        rate
    }
}
