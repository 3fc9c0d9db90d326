//! A thread's hand on a lane: takes work, copies what it needs into private memory, runs the kernel over the copy, writes the
//! results, and gives the thread back after about 150 us. A kernel that panics ends its lane here and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytemuck::Zeroable;
use crossbeam::channel::Sender;
use ringlane_layout::limits::{
    JOB_GROUP_BYTES_MAX, JOB_LINGER_NS, JOB_PIECE_BYTES, JOB_RUN_NS, PAYLOADS_A_RUN, SLOT_BYTES_MAX, TILE_BYTES,
};
use ringlane_layout::record::RecordBytes;
use ringlane_layout::region::LaneStatus;

use super::keeper::{Entry, Keeper, Unkept};
use super::pool::Pool;
use super::served::{Claim, Served};
use crate::kernels::door::{ABREAST_MAX, BatchCompute, Compute, Group, GroupCompute, GroupHand, PayloadCompute, Tiles, panic_words};
use crate::lanes::JobLane;

/// Bytes of an arena after which a hand gives its thread back.
const TURN_BYTES: usize = 4 * TILE_BYTES;
/// Looks at a cursor between two looks at the clock.
const LOOKS: u32 = 32;

/// What waits for a thread.
pub enum Hand {
    /// The doorbell of a lane rang.
    Doorbell(Arc<Served>),
    /// A lane is to end.
    Close(Arc<Served>, LaneStatus, Option<Sender<bool>>),
    /// A lane has work, or may have.
    Work(Arc<Served>, Work),
}

/// What a hand holds between its turns.
pub enum Work {
    /// Nothing yet.
    Next,
    /// Payloads that are not all done.
    Payloads(Box<PayloadRun>),
    /// A part in a group.
    Group(GroupRun),
}

/// Private memory of one thread.
pub struct Scratch {
    requests: Box<[RecordBytes]>,
    results: Box<[RecordBytes]>,
    tile: Box<[u8]>,
}

impl Scratch {
    pub fn new() -> Self {
        let records = || vec![RecordBytes::zeroed(); JOB_GROUP_BYTES_MAX / size_of::<RecordBytes>()].into_boxed_slice();
        Self { requests: records(), results: records(), tile: vec![0; TILE_BYTES].into() }
    }
}

const _: () = assert!(JOB_GROUP_BYTES_MAX >= SLOT_BYTES_MAX as usize && JOB_GROUP_BYTES_MAX >= JOB_PIECE_BYTES);

impl Hand {
    /// One turn. What it gives back waits for its next.
    pub fn turn(self, pool: &Arc<Pool>, scratch: &mut Scratch) -> Option<Self> {
        let (served, work) = match self {
            Self::Doorbell(served) => {
                served.rung.store(false, Ordering::SeqCst);
                let mine = served.awake();
                return mine.then_some(Self::Work(served, Work::Next));
            }
            Self::Close(served, status, answer) => {
                let mine = served.close(status, answer);
                return mine.then_some(Self::Work(served, Work::Next));
            }
            Self::Work(served, work) => (served, work),
        };
        let next = match work {
            Work::Next => take(&served, pool, scratch)?,
            Work::Payloads(run) => {
                if served.needs_another(pool.allowed()) {
                    pool.submit(Self::Work(Arc::clone(&served), Work::Next));
                }
                payloads(&served, run, scratch)
            }
            Work::Group(run) => work_on(&served, run, scratch),
        };
        Some(Self::Work(served, next))
    }
}

/// Takes the next work of a lane and does a turn of it. None: this hand has left the lane.
fn take(served: &Arc<Served>, pool: &Arc<Pool>, scratch: &mut Scratch) -> Option<Work> {
    let mut may_linger = !pool.is_busy();
    loop {
        let (claim, more) = served.claim(pool.allowed(), may_linger);
        if more {
            pool.submit(Hand::Work(Arc::clone(served), Work::Next));
        }
        match claim {
            Claim::Run(first, count) => {
                run(served, first, count, scratch);
                return Some(Work::Next);
            }
            Claim::Payloads(run) => return Some(payloads(served, run, scratch)),
            Claim::BeginGroup(first, count) => return Some(begin_group(served, (first, count), pool, scratch)),
            Claim::JoinGroup(open) => return Some(work_on(served, GroupRun::join(open), scratch)),
            Claim::Linger(submitted) => {
                linger(served, submitted, pool);
                may_linger = false;
            }
            Claim::Nothing => return None,
        }
    }
}

/// Looks for more work a short while, for a doorbell costs both sides much more.
fn linger(served: &Served, submitted: u64, pool: &Pool) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_nanos(JOB_LINGER_NS) && !pool.is_busy() {
        for _ in 0..LOOKS {
            if served.lane.is_ahead_of(submitted) {
                return;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}

/// Runs a piece of a kernel. None: it panicked, and its lane ends.
fn guarded<T>(served: &Served, first: u64, compute: impl FnOnce() -> T) -> Option<T> {
    #[cfg(feature = "sentry")]
    crate::reports::serving(ringlane_layout::limits::LANES_MAX + served.row);
    match catch_unwind(AssertUnwindSafe(compute)) {
        Ok(value) => Some(value),
        Err(panic) => {
            let (lane, kernel, words) = (served.lane.number, served.kernel.as_str(), panic_words(&*panic));
            tracing::error!(lane, kernel, first_slot = first, words, "a kernel panicked; its lane ends");
            served.fail(LaneStatus::KernelPanicked);
            None
        }
    }
}

/// Records something, if the lane is recorded. False: it could not be, and the lane ends.
fn kept(served: &Served, keep: impl FnOnce(&Keeper) -> Result<(), Unkept>) -> bool {
    let Some(Err(why)) = served.keeper.as_ref().map(keep) else { return true };
    let status = if matches!(why, Unkept::Stopping) { LaneStatus::ShuttingDown } else { LaneStatus::JournalFailed };
    let (lane, kernel) = (served.lane.number, served.kernel.as_str());
    tracing::error!(lane, kernel, ?why, "a lane could not be recorded; it ends");
    served.fail(status);
    false
}

fn nanoseconds(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

fn run(served: &Served, first: u64, count: usize, scratch: &mut Scratch) {
    let Compute::Batch(compute) = &served.compute else { unreachable!("only batches are claimed as runs") };
    let compute: &dyn BatchCompute = &**compute;
    let (begin, geometry) = (Instant::now(), served.lane.geometry);
    let (request_slot, result_slot) = (geometry.request_slot_bytes as usize, geometry.result_slot_bytes as usize);
    let requests: &mut [u8] = bytemuck::cast_slice_mut(&mut scratch.requests);
    let results: &mut [u8] = bytemuck::cast_slice_mut(&mut scratch.results);
    let together = (JOB_PIECE_BYTES / request_slot.max(result_slot)).max(1);
    let done = guarded(served, first, || {
        for piece in (0..count).step_by(together) {
            let (slot, slots) = (first + piece as u64, together.min(count - piece));
            let (requests, results) = (&mut requests[..slots * request_slot], &mut results[..slots * result_slot]);
            served.lane.copy_requests(slot, requests);
            if !kept(served, |keeper| keeper.asked(slot, slots, requests)) {
                return false;
            }
            results.fill(0); // nothing of another lane
            compute.process(requests, results);
            if !kept(served, |keeper| keeper.answered(slot, slots, results)) {
                return false;
            }
            served.lane.write_results(slot, results);
        }
        true
    });
    if done == Some(true) {
        served.finish(first, count, nanoseconds(begin));
    }
}

/// Payloads of one hand: those that are a tile together, or a few larger ones that are read side by side. A lane keeps such
/// runs and uses them again.
pub struct PayloadRun {
    first: u64,
    requests: Vec<u8>,
    /// Checked places in the arena: offset and length, bytes.
    places: Vec<(u64, u64)>,
    /// Those that are done.
    done: usize,
    /// What reads those that are longer than a tile.
    tiles: Option<Box<dyn Tiles>>,
    /// Bytes of each of those that are read.
    read: u64,
    /// One on its way to the journal.
    entry: Option<Entry>,
    spent_ns: u64,
}

impl PayloadRun {
    pub fn new(slot_bytes: usize) -> Self {
        let (requests, places) = (vec![0; PAYLOADS_A_RUN * slot_bytes], Vec::with_capacity(PAYLOADS_A_RUN));
        Self { first: 0, requests, places, done: 0, tiles: None, read: 0, entry: None, spent_ns: 0 }
    }

    /// Takes as many of the next `count` payloads of a lane as are a tile together, or of those that are larger, `abreast` of
    /// them; at least one.
    pub fn take(
        &mut self,
        lane: &JobLane,
        compute: &dyn PayloadCompute,
        first: u64,
        (count, abreast): (usize, usize),
    ) -> Result<(), LaneStatus> {
        let slot = lane.geometry.request_slot_bytes as usize;
        let requests = &mut self.requests[..count * slot];
        lane.copy_requests(first, requests);
        (self.first, self.done, self.read, self.spent_ns) = (first, 0, 0, 0);
        self.places.clear();
        let is_large = |place: &(u64, u64)| place.1 > TILE_BYTES as u64;
        let mut bytes = 0;
        for request in requests.chunks(slot) {
            let place = compute.place(request);
            lane.check_payload(place)?;
            bytes += place.1;
            let fits = match self.places.first() {
                None => true,
                Some(first) if is_large(first) => is_large(&place) && self.places.len() < abreast,
                Some(_) => bytes <= TILE_BYTES as u64,
            };
            if !fits {
                break;
            }
            self.places.push(place);
        }
        Ok(())
    }

    pub fn count(&self) -> usize {
        self.places.len()
    }
}

fn payloads(served: &Served, mut run: Box<PayloadRun>, scratch: &mut Scratch) -> Work {
    let Compute::Payloads(compute) = &served.compute else { unreachable!("only payloads are claimed as payloads") };
    let (begin, mut left) = (Instant::now(), TURN_BYTES);
    while run.done < run.count() {
        if left == 0 {
            run.spent_ns += nanoseconds(begin);
            return Work::Payloads(run);
        }
        let is_whole = run.read == 0 && run.places[run.done].1 <= TILE_BYTES as u64;
        let turn = if is_whole { together } else { piece };
        match turn(served, &**compute, &mut run, scratch) {
            Some(bytes) => left = left.saturating_sub(bytes),
            None => return Work::Next,
        }
    }
    served.finish(run.first, run.count(), run.spent_ns + nanoseconds(begin));
    served.keep(run);
    Work::Next
}

/// The payloads of a run that are left, which are a tile together. Gives their bytes; none after a panic.
fn together(served: &Served, compute: &dyn PayloadCompute, run: &mut PayloadRun, scratch: &mut Scratch) -> Option<usize> {
    let slot_bytes = (served.lane.geometry.request_slot_bytes as usize, served.lane.geometry.result_slot_bytes as usize);
    let results: &mut [u8] = bytemuck::cast_slice_mut(&mut scratch.results);
    let count = (run.count() - run.done).min(results.len() / slot_bytes.1);
    let (slot, places) = (run.first + run.done as u64, &run.places[run.done..][..count]);
    let requests = &run.requests[run.done * slot_bytes.0..][..count * slot_bytes.0];
    let results = &mut results[..count * slot_bytes.1];
    // Those that stand side by side in the arena are copied as one.
    let mut copied = 0;
    for beside in places.chunk_by(|one, next| one.0 + one.1 == next.0) {
        let bytes = beside.iter().map(|place| place.1 as usize).sum();
        served.lane.copy_payload(beside[0].0, &mut scratch.tile[copied..][..bytes]);
        copied += bytes;
    }
    let (mut payloads, mut rest): ([&[u8]; PAYLOADS_A_RUN], _) = ([&[]; PAYLOADS_A_RUN], &scratch.tile[..copied]);
    for (payload, place) in payloads.iter_mut().zip(places) {
        (*payload, rest) = rest.split_at(place.1 as usize);
    }
    let payloads = &payloads[..count];
    let are_kept = kept(served, |keeper| {
        (slot..).zip(requests.chunks(slot_bytes.0).zip(payloads)).try_for_each(|(slot, (request, payload))| {
            let mut entry = keeper.begin(slot, request, payload.len() as u64)?;
            keeper.add(&mut entry, payload)?;
            keeper.end(entry)
        })
    });
    if !are_kept {
        return None;
    }
    results.fill(0);
    guarded(served, slot, || compute.wholes(requests, payloads, results))?;
    let are_kept =
        kept(served, |keeper| (slot..).zip(results.chunks(slot_bytes.1)).try_for_each(|(slot, result)| keeper.answered(slot, 1, result)));
    if !are_kept {
        return None;
    }
    served.lane.write_results(slot, results);
    run.done += count;
    Some(copied.max(64 * count))
}

/// A tile of payloads that are larger, each a part of it. Gives its bytes; none after a panic.
fn piece(served: &Served, compute: &dyn PayloadCompute, run: &mut PayloadRun, scratch: &mut Scratch) -> Option<usize> {
    let slot_bytes = (served.lane.geometry.request_slot_bytes as usize, served.lane.geometry.result_slot_bytes as usize);
    let (count, read) = (run.count(), run.read);
    let part = TILE_BYTES / count;
    let (mut requests, mut pieces): ([&[u8]; ABREAST_MAX], [&[u8]; ABREAST_MAX]) = ([&[]; ABREAST_MAX], [&[]; ABREAST_MAX]);
    for (number, (tile, place)) in scratch.tile.chunks_mut(part).zip(&run.places).enumerate() {
        let tile = &mut tile[..place.1.saturating_sub(read).min(part as u64) as usize];
        served.lane.copy_payload(place.0 + read.min(place.1), tile);
        (requests[number], pieces[number]) = (&run.requests[number * slot_bytes.0..][..slot_bytes.0], tile);
    }
    let (requests, pieces) = (&requests[..count], &pieces[..count]);
    let ends = |number: usize| !pieces[number].is_empty() && read + pieces[number].len() as u64 == run.places[number].1;
    // Of a lane that is recorded, one is read at a time.
    let entry = &mut run.entry;
    let is_kept = kept(served, |keeper| {
        if read == 0 {
            *entry = Some(keeper.begin(run.first, requests[0], run.places[0].1)?);
        }
        let Some(mut open) = entry.take() else { return Ok(()) };
        keeper.add(&mut open, pieces[0])?;
        if ends(0) {
            return keeper.end(open);
        }
        *entry = Some(open);
        Ok(())
    });
    if !is_kept {
        return None;
    }
    let results: &mut [u8] = &mut bytemuck::cast_slice_mut(&mut scratch.results)[..count * slot_bytes.1];
    results.fill(0);
    let tiles = &mut run.tiles;
    guarded(served, run.first, || {
        let tiles = tiles.get_or_insert_with(|| compute.tiles());
        if read == 0 {
            tiles.begin(requests);
        }
        tiles.tile(pieces);
        for (number, result) in results.chunks_mut(slot_bytes.1).enumerate() {
            if ends(number) {
                tiles.finish(number, result);
            }
        }
    })?;
    for (number, result) in results.chunks(slot_bytes.1).enumerate().filter(|(number, _)| ends(*number)) {
        let slot = run.first + number as u64;
        if !kept(served, |keeper| keeper.answered(slot, 1, result)) {
            return None;
        }
        served.lane.write_results(slot, result);
    }
    let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    run.read += part as u64;
    if run.places.iter().all(|place| place.1 <= run.read) {
        (run.done, run.read) = (count, 0);
    }
    Some(bytes.max(64))
}

/// A group on which hands work.
pub struct OpenGroup {
    group: Arc<dyn Group>,
    first: u64,
    count: usize,
    pieces: usize,
    /// Pieces that were handed out; may pass `pieces`.
    claimed: AtomicUsize,
    /// Hands that joined and did not leave; changed under the lane's lock.
    hands: AtomicUsize,
    /// What a piece costs, nanoseconds, by the last turn of any hand.
    piece_ns: AtomicU32,
    begun: Instant,
}

impl OpenGroup {
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    /// Lets a hand in while there are pieces. Called under the lane's lock.
    pub fn join(&self) -> bool {
        let open = self.claimed.load(Ordering::Relaxed) < self.pieces;
        self.hands.fetch_add(usize::from(open), Ordering::Relaxed);
        open
    }

    /// A hand left; true: it was the last. Called under the lane's lock.
    pub fn left(&self) -> bool {
        self.hands.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// The next pieces of about one turn, fewer towards the end.
    fn claim(&self) -> std::ops::Range<usize> {
        let by_cost = (JOB_RUN_NS / u64::from(self.piece_ns.load(Ordering::Relaxed)).max(1)) as usize;
        let left = self.pieces.saturating_sub(self.claimed.load(Ordering::Relaxed));
        let count = by_cost.min(left.div_ceil(4)).max(1);
        let first = self.claimed.fetch_add(count, Ordering::Relaxed).min(self.pieces);
        first..(first + count).min(self.pieces)
    }
}

/// One hand's part in a group.
pub struct GroupRun {
    open: Arc<OpenGroup>,
    hand: Option<Box<dyn GroupHand>>,
}

impl GroupRun {
    fn join(open: Arc<OpenGroup>) -> Self {
        Self { open, hand: None }
    }
}

fn begin_group(served: &Arc<Served>, (first, count): (u64, usize), pool: &Arc<Pool>, scratch: &mut Scratch) -> Work {
    let Compute::Groups(compute) = &served.compute else { unreachable!("only groups are claimed as groups") };
    let (compute, begun): (&dyn GroupCompute, _) = (&**compute, Instant::now());
    let bytes = count * served.lane.geometry.request_slot_bytes as usize;
    let requests = &mut bytemuck::cast_slice_mut(&mut scratch.requests)[..bytes];
    served.lane.copy_requests(first, requests);
    if !kept(served, |keeper| keeper.asked(first, count, requests)) {
        served.group_over();
        return Work::Next;
    }
    let Some((group, pieces)) = guarded(served, first, || {
        let group = compute.begin(requests);
        let pieces = group.pieces().max(1);
        (group, pieces)
    }) else {
        served.group_over();
        return Work::Next;
    };
    let (claimed, hands, piece_ns) = (AtomicUsize::new(0), AtomicUsize::new(1), AtomicU32::new(JOB_RUN_NS as u32));
    let open = Arc::new(OpenGroup { group, first, count, pieces, claimed, hands, piece_ns, begun });
    for _ in 0..served.group_begun(Arc::clone(&open), pool.allowed()) {
        pool.submit(Hand::Work(Arc::clone(served), Work::Next));
    }
    work_on(served, GroupRun::join(open), scratch)
}

/// A turn of work on a group; who finds no piece left leaves it, and the last one finishes it.
fn work_on(served: &Arc<Served>, mut run: GroupRun, scratch: &mut Scratch) -> Work {
    let open = Arc::clone(&run.open);
    let begin = Instant::now();
    let hand = run.hand.take();
    let joined = guarded(served, open.first, || hand.unwrap_or_else(|| Arc::clone(&open.group).join()));
    let Some(mut hand) = joined else { return leave_group(served, &open, scratch) };
    loop {
        let pieces = open.claim();
        if pieces.is_empty() {
            let _ = guarded(served, open.first, || hand.leave());
            return leave_group(served, &open, scratch);
        }
        let (count, since) = (pieces.len() as u64, Instant::now());
        if guarded(served, open.first, || hand.work(pieces)).is_none() {
            return leave_group(served, &open, scratch);
        }
        open.piece_ns.store((nanoseconds(since) / count).clamp(1, u64::from(u32::MAX)) as u32, Ordering::Relaxed);
        if nanoseconds(begin) >= JOB_RUN_NS {
            return Work::Group(GroupRun { open, hand: Some(hand) });
        }
    }
}

fn leave_group(served: &Served, open: &OpenGroup, scratch: &mut Scratch) -> Work {
    if !served.leave_group(open) {
        return Work::Next;
    }
    let bytes = open.count * served.lane.geometry.result_slot_bytes as usize;
    let results = &mut bytemuck::cast_slice_mut(&mut scratch.results)[..bytes];
    results.fill(0);
    if !served.has_failed()
        && guarded(served, open.first, || open.group.finish(results)).is_some()
        && kept(served, |keeper| keeper.answered(open.first, open.count, results))
    {
        served.lane.write_results(open.first, results);
        served.finish(open.first, open.count, nanoseconds(open.begun));
    }
    served.group_over();
    Work::Next
}
