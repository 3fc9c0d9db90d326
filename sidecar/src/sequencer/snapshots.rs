//! When a snapshot is made, and by whom: the sequencer copies the state between two turns into memory that a helper thread has
//! prepared, and the helper hashes and writes it. Only the copy holds intake up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};

use super::{Sequencer, Wake};
use crate::config::SnapshotsConfig;
use crate::crash;
use crate::engine::ENGINE_VERSION;
use crate::image::Image;
use crate::journal::{SnapshotHeader, SnapshotWriter, clean_snapshots, stand_back};
use crate::kernels::orders::{CopySize, Frozen};
use crate::world::{self, Helper};

/// What everybody may know of the snapshots.
#[derive(Debug, Default)]
pub struct SnapshotNews {
    /// Sequence number of the newest one that is written; 0 for none.
    pub sequence: AtomicU64,
    /// Its size, bytes.
    pub bytes: AtomicU64,
    /// How long it held intake up, nanoseconds.
    pub pause_ns: AtomicU64,
    /// Snapshots that could not be written.
    pub failures: AtomicU64,
}

/// The sequencer's end.
pub(super) struct Snapshots {
    config: SnapshotsConfig,
    epoch: u64,
    jobs: Sender<Job>,
    /// What the helper has done: prepared memory, or written a file (none).
    done: Receiver<Option<Frozen>>,
    helper: Helper,
    /// A job is with the helper.
    busy: bool,
    wanted: bool,
    /// A copy that waits until the journal is durable so far.
    held: Option<(Box<Image>, SnapshotHeader)>,
    /// Sequence number and journal bytes at the last copy.
    last: (u64, u64),
}

enum Job {
    Prepare(CopySize),
    Write(Box<Image>, SnapshotHeader),
}

impl Snapshots {
    /// Starts the helper. `sequence` is where the newest snapshot stands.
    pub(super) fn start(
        config: SnapshotsConfig,
        directory: PathBuf,
        (epoch, sequence): (u64, u64),
        wake: Arc<Wake>,
        news: Arc<SnapshotNews>,
    ) -> Result<Self, String> {
        let (jobs, queue) = bounded::<Job>(1);
        let (told, done) = bounded(1);
        let kept = config.kept;
        news.sequence.store(sequence, Ordering::Relaxed);
        let turn = move || {
            let answer = match world::take_job(&queue, None) {
                Ok(Job::Prepare(size)) => Some(Frozen::prepare(size)),
                Ok(Job::Write(image, header)) => {
                    write(&directory, &image, header, &news);
                    clean_snapshots(&directory, kept);
                    None
                }
                Err(error) => return error.is_timeout(),
            };
            let heard = told.send(answer).is_ok();
            wake.ring();
            heard
        };
        let helper =
            Helper::start("snapshots", stand_back, turn).map_err(|error| format!("cannot start the snapshots' helper thread: {error}"))?;
        Ok(Self { config, epoch, jobs, done, helper, busy: false, wanted: false, held: None, last: (sequence, 0) })
    }

    fn due(&self, sequence: u64, bytes: u64) -> bool {
        let passed = |every: u64, now: u64, last: u64| every != 0 && now.saturating_sub(last) >= every;
        sequence > self.last.0
            && (self.wanted
                || passed(self.config.every_records, sequence, self.last.0)
                || passed(self.config.every_bytes, bytes, self.last.1))
    }
}

/// Writes one snapshot; the journal still has everything when it cannot be written.
fn write(directory: &Path, image: &Image, mut header: SnapshotHeader, news: &SnapshotNews) {
    header.state_hash = image.orders.state_hash();
    header.resting_orders = image.orders.resting();
    let written = SnapshotWriter::create(directory, &header).and_then(|mut writer| {
        image.write(&mut writer)?;
        writer.finish()
    });
    match written {
        Ok(bytes) => {
            news.bytes.store(bytes, Ordering::Relaxed);
            news.pause_ns.store(header.pause_ns, Ordering::Relaxed);
            news.sequence.store(header.sequence, Ordering::Release);
            let (sequence, resting_orders, pause_us) = (header.sequence, header.resting_orders, header.pause_ns / 1000);
            tracing::info!(sequence, bytes, resting_orders, pause_us, "snapshot written");
        }
        Err(words) => {
            news.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!("{words}");
        }
    }
}

impl Sequencer {
    /// A snapshot is wanted as soon as one can be made. Gives the sequence number that it will have at least; none when
    /// nothing is recorded.
    pub(super) fn want_snapshot(&mut self) -> Option<u64> {
        let sequence = self.engine.next_sequence() - 1;
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.wanted = sequence > snapshots.last.0;
        }
        self.step_snapshot();
        self.snapshots.as_ref().map(|_| sequence)
    }

    /// Brings a snapshot on by one step, if one is due: between two turns, when everything taken is published.
    #[cold]
    pub(super) fn step_snapshot(&mut self) {
        let (Some(snapshots), Some(journal)) = (&mut self.snapshots, &self.journal) else { return };
        match snapshots.done.try_recv() {
            Ok(Some(frozen)) if journal.is_steady() => return self.copy_state(frozen),
            // It would name a place in the journal at which its frames do not stay.
            Ok(Some(_)) => (snapshots.busy, snapshots.wanted) = (false, true),
            Ok(None) => snapshots.busy = false,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        if !snapshots.busy && journal.is_steady() && snapshots.due(self.engine.next_sequence() - 1, journal.bytes()) {
            let size = self.engine.orders.copy_size();
            snapshots.busy = snapshots.jobs.try_send(Job::Prepare(size)).is_ok();
        }
    }

    /// The copy itself.
    fn copy_state(&mut self, frozen: Frozen) {
        let lanes = self.lane_images();
        let (Some(snapshots), Some(journal)) = (&mut self.snapshots, &self.journal) else { return };
        crash::point("copy.before");
        let begin = Instant::now();
        let image = Image::of(&self.engine, frozen, lanes);
        let (segment_index, segment_offset) = journal.position();
        let header = SnapshotHeader {
            engine_version: ENGINE_VERSION,
            sequence: image.next_sequence - 1,
            output_hash: image.output_hash,
            segment_index,
            segment_offset,
            epoch: snapshots.epoch,
            created_ns: self.now_ns,
            pause_ns: begin.elapsed().as_nanos() as u64,
            ..SnapshotHeader::default()
        };
        crash::point("copy.after");
        snapshots.last = (header.sequence, journal.bytes());
        snapshots.wanted = false;
        snapshots.busy = true;
        snapshots.held = Some((Box::new(image), header));
        self.send_held_snapshot();
    }

    /// Lets the helper write the copy as soon as the journal is durable so far.
    pub(super) fn send_held_snapshot(&mut self) {
        let (Some(snapshots), Some(journal)) = (&mut self.snapshots, &self.journal) else { return };
        if let Some((image, header)) = snapshots.held.take_if(|(_, header)| journal.durable_upto(header.sequence) >= header.sequence) {
            snapshots.busy = snapshots.jobs.send(Job::Write(image, header)).is_ok();
        }
    }

    /// The disk failed: what stands behind the copy in the journal will stand elsewhere, and another copy is made.
    pub(super) fn forget_held_snapshot(&mut self) {
        if let Some(snapshots) = &mut self.snapshots
            && snapshots.held.take().is_some()
        {
            (snapshots.busy, snapshots.wanted) = (false, true);
        }
    }

    /// At a clean stop: a last snapshot, if anything happened since the one before, and the end of the helper.
    pub(super) fn finish_snapshots(&mut self) {
        let Some(snapshots) = &mut self.snapshots else { return };
        if snapshots.busy && !matches!(world::wait_for(&snapshots.done, None), Ok(Some(_))) {
            snapshots.busy = false;
        }
        if self.engine.next_sequence() - 1 > snapshots.last.0 {
            let frozen = Frozen::prepare(self.engine.orders.copy_size());
            self.copy_state(frozen);
        }
        if let Some(Snapshots { jobs, done, helper, .. }) = self.snapshots.take() {
            drop(jobs);
            while world::wait_for(&done, None).is_ok() {}
            helper.join();
        }
    }
}
