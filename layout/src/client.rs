//! The client's half of a lane, shared by the threads of one process: which slots are whose, what the sidecar is told, and
//! who sleeps for what. How memory is mapped, how a thread sleeps and what stands in a slot never enter here.

use crate::limits::RECORD_BYTES;
use crate::primitive::{AtomicU64, Ordering, lock};
use crate::region::{LaneGeometry, LaneStatus, REQUESTS_MAGIC, RESULTS_MAGIC, RING_OFFSET, requests_word};
use crate::ring::{self, ClientWords, SidecarWords};
use crate::shared::{RecordRing, SharedBytes};
use crate::slots::{Obstacle, Serial, Slots};
use std::collections::BTreeMap;
use std::hint::spin_loop;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub mod border;
mod resume;

use border::Border;
pub use resume::Old;

/// Looks at a cursor between two looks at the clock.
const LOOKS: u32 = 32;

/// A region in memory: header page, record ring, the record ring once more, and what stands behind it in the region. So any
/// run of slots is one contiguous piece.
pub trait Mapping {
    /// The mapped bytes: good for as long as the mapping lives, which every user of them holds.
    fn bytes(&self) -> SharedBytes;
}

/// What a waiter waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// `completed` at least this.
    Completed(u64),
    /// `events_published` at least this.
    Events(u64),
}

impl Goal {
    /// What to say when it was not reached in time.
    #[must_use]
    pub fn late_words(self) -> String {
        match self {
            Self::Completed(target) => format!("slot {} was not completed within the time given", target - 1),
            Self::Events(_) => "no event came within the time given".to_owned(),
        }
    }
}

/// A look at slots, to be given to whoever reads or fills them; [`Client::unpin`] ends one that has a serial.
#[derive(Debug)]
pub struct Look<M> {
    /// The mapping that is looked at.
    pub mapping: Arc<M>,
    /// The slots that the look pins. `None`: it pins nothing, and is only for copies into slots reserved by the same caller.
    pub serial: Option<Serial>,
    /// First slot.
    pub first: u64,
    /// How many slots.
    pub count: u64,
    /// Size of one, bytes.
    pub slot_bytes: u64,
    offset: usize,
}

impl<M: Mapping> Look<M> {
    /// Where the first slot stands in memory; the others follow.
    #[must_use]
    pub fn address(&self) -> usize {
        self.mapping.bytes().address(self.offset) as usize
    }

    /// Copies private bytes to `at` bytes behind the first slot, where nobody else writes; where they end.
    ///
    /// # Errors
    /// When they would pass the last slot; nothing is copied then.
    pub fn write(&self, at: usize, from: &[u8]) -> Result<usize, &'static str> {
        let end = at.checked_add(from.len()).filter(|end| *end as u64 <= self.count * self.slot_bytes);
        let end = end.ok_or("the payloads pass the end of the arena")?;
        self.mapping.bytes().write_bulk(self.offset + at, from);
        Ok(end)
    }
}

/// The request ring, and the slots in it; changed together.
#[derive(Debug)]
struct Desk<M> {
    slots: Slots,
    mapping: Arc<M>,
    /// Counts replacements of `mapping`.
    ring_number: u64,
    /// When the last reservation was opened.
    since: Instant,
}

/// One lane of this process.
#[derive(Debug)]
pub struct Client<M> {
    /// What crossing over costs.
    pub border: Border,
    geometry: LaneGeometry,
    /// For each word of a request record, the bits that belong to a field.
    used_bits: Box<[u64]>,
    requests: SharedBytes,
    results: SharedBytes,
    /// The first mapping of `requests`: its header page and its arena are used for ever, its ring until the first replacement.
    first_mapping: Arc<M>,
    results_mapping: Arc<M>,
    desk: Mutex<Desk<M>>,
    /// Slots came free, or the reservation ended.
    freed: Condvar,
    /// How many sleep for each value of `completed`; the smallest one that is not reached is announced.
    sleepers: Mutex<BTreeMap<u64, u32>>,
    events_read: Mutex<u64>,
    /// A status of this process's own, which counts where the sidecar says nothing: 0, or [`LaneStatus::Closed`].
    left: AtomicU64,
}

impl<M: Mapping> Client<M> {
    /// A fresh lane over its mapped regions, once their headers are found to be `lane`'s with these schema hashes (request,
    /// result). An error says what does not fit.
    pub fn new(
        geometry: LaneGeometry,
        lane: u64,
        hashes: (u64, u64),
        used_bits: Box<[u64]>,
        requests_mapping: M,
        results_mapping: M,
    ) -> Result<Self, String> {
        let (requests, results) = (requests_mapping.bytes(), results_mapping.bytes());
        geometry.check_header(&requests, REQUESTS_MAGIC, lane, hashes.0)?;
        geometry.check_header(&results, RESULTS_MAGIC, lane, hashes.1)?;
        let header = Arc::new(requests_mapping);
        let desk = Desk { slots: Slots::new(geometry.depth_slots), mapping: header.clone(), ring_number: 0, since: Instant::now() };
        Ok(Self {
            border: Border::default(),
            geometry,
            used_bits,
            requests,
            results,
            first_mapping: header,
            results_mapping: Arc::new(results_mapping),
            desk: Mutex::new(desk),
            freed: Condvar::new(),
            sleepers: Mutex::new(BTreeMap::new()),
            events_read: Mutex::new(0),
            left: AtomicU64::new(0),
        })
    }

    #[inline]
    fn mine(&self) -> ClientWords<'_> {
        ClientWords::of(&self.requests)
    }

    #[inline]
    fn peer(&self) -> SidecarWords<'_> {
        SidecarWords::of(&self.results)
    }

    /// Sizes of the lane.
    #[must_use]
    pub const fn geometry(&self) -> LaneGeometry {
        self.geometry
    }

    /// The slots that are done.
    #[inline]
    #[must_use]
    pub fn completed(&self) -> u64 {
        ring::completed(self.peer())
    }

    /// 0 while the lane is open, else what ended it.
    #[inline]
    #[must_use]
    pub fn status(&self) -> u64 {
        match ring::status(self.peer()) {
            0 => self.left.load(Ordering::Relaxed),
            status => status,
        }
    }

    /// The cursors: submitted, completed, released, events published, events read.
    #[must_use]
    pub fn cursors(&self) -> (u64, u64, u64, u64, u64) {
        let completed = self.completed();
        let mut desk = lock(&self.desk);
        desk.slots.advance(completed);
        (desk.slots.submitted, completed, desk.slots.released, ring::events_published(self.peer()), *lock(&self.events_read))
    }

    // ---- slots ----

    /// Submits one record, pinned once: its serial, its slot, and whether the doorbell must be rung.
    #[inline]
    pub fn submit_one(&self, record: &[u8]) -> Result<(Serial, u64, bool), Obstacle> {
        let completed = self.completed();
        let mut desk = lock(&self.desk);
        let (serial, slot) = desk.slots.submit_one(completed)?;
        desk.mapping.bytes().write(self.geometry.request_offset(slot), &record[..RECORD_BYTES]);
        Ok((serial, slot, self.publish(&mut desk.slots)))
    }

    /// Makes all submitted slots visible. True: ring the doorbell.
    #[inline]
    fn publish(&self, slots: &mut Slots) -> bool {
        // Told late, because the sidecar needs it only to see that submitted slots are free, and its cache line is cold.
        if slots.submitted - slots.told > self.geometry.depth_slots / 2 {
            self.tell_released(slots);
        }
        ring::publish(self.mine(), self.peer(), slots.submitted)
    }

    fn tell_released(&self, slots: &mut Slots) {
        if slots.told != slots.released {
            slots.told = slots.released;
            ring::release(self.mine(), slots.told);
        }
    }

    /// Copies the result of a completed slot out.
    #[inline]
    pub fn read_result(&self, slot: u64, into: &mut [u8]) {
        self.results.read(self.geometry.result_offset(slot), &mut into[..RECORD_BYTES]);
    }

    /// Opens a reservation for this thread: its serial, its first slot, and the number of the mapping that it stands in.
    /// `blank` sets its slots to zero.
    pub fn reserve(&self, count: u64, blank: bool) -> Result<(Serial, u64, u64), Obstacle> {
        let completed = self.completed();
        let mut desk = lock(&self.desk);
        let open = desk.slots.reserve(count, completed, thread::current().id())?;
        let (serial, first) = (open.serial, open.first);
        if blank {
            let bytes = (count * self.geometry.request_slot_bytes) as usize;
            desk.mapping.bytes().blank(self.geometry.request_offset(first), bytes);
        }
        desk.since = Instant::now();
        Ok((serial, first, desk.ring_number))
    }

    /// A pinning look at the slots of the open reservation, if it is `serial`'s.
    pub fn look_at_open(&self, serial: Serial) -> Option<Look<M>> {
        let mut desk = lock(&self.desk);
        let mapping = desk.mapping.clone();
        let open = desk.slots.open_as(serial)?;
        open.pins += 1;
        Some(self.look(mapping, open.serial, open.first, open.count))
    }

    /// A look at the whole request ring, twice in a row, that pins nothing.
    pub fn look_at_ring(&self) -> Look<M> {
        let (count, slot_bytes) = (2 * self.geometry.depth_slots, self.geometry.request_slot_bytes);
        Look { mapping: lock(&self.desk).mapping.clone(), serial: None, first: 0, count, slot_bytes, offset: RING_OFFSET }
    }

    /// A look at the payload arena, byte by byte, that pins nothing.
    pub fn look_at_arena(&self) -> Look<M> {
        let (geometry, mapping) = (self.geometry, self.first_mapping.clone());
        let offset = geometry.arena_offset() + geometry.request_ring_bytes();
        Look { mapping, serial: None, first: 0, count: geometry.arena_bytes, slot_bytes: 1, offset }
    }

    const fn look(&self, mapping: Arc<M>, serial: Serial, first: u64, count: u64) -> Look<M> {
        let (slot_bytes, offset) = (self.geometry.request_slot_bytes, self.geometry.request_offset(first));
        Look { mapping, serial: Some(serial), first, count, slot_bytes, offset }
    }

    /// Submits the open reservation, if it is `serial`'s: a pinning look at its results (true only once completed), and
    /// whether the doorbell must be rung.
    pub fn commit(&self, serial: Serial) -> Option<(Look<M>, bool)> {
        let mut desk = lock(&self.desk);
        let open = desk.slots.submit(serial)?;
        let since = desk.since;
        self.scrub(&desk.mapping.bytes(), open.first, open.count);
        self.tell_released(&mut desk.slots);
        let asleep = self.publish(&mut desk.slots);
        if desk.slots.waiters > 0 {
            self.freed.notify_all();
        }
        self.border.filled(open.count, since);
        let (slot_bytes, offset) = (self.geometry.result_slot_bytes, self.geometry.result_offset(open.first));
        let mapping = self.results_mapping.clone();
        Some((Look { mapping, serial: Some(open.serial), first: open.first, count: open.count, slot_bytes, offset }, asleep))
    }

    /// Clears the bits of records that belong to no field: padding of numpy's is not always zero.
    fn scrub(&self, bytes: &SharedBytes, first: u64, count: u64) {
        let (base, slot_bytes) = (self.geometry.request_offset(first), self.geometry.request_slot_bytes as usize);
        for (index, &used) in self.used_bits.iter().enumerate().filter(|&(_, &used)| used != u64::MAX) {
            for slot in 0..count as usize {
                let word = bytes.word(base + slot * slot_bytes + index * 8);
                let value = word.load(Ordering::Relaxed);
                if value & !used != 0 {
                    word.store(value & used, Ordering::Relaxed);
                }
            }
        }
    }

    /// Ends the open reservation, if it is `serial`'s, as if it had never been. When something still looks at its slots, `replace` must give a new
    /// mapping of `requests` and cut the ring of the old one off; if it fails, the reservation stays open.
    pub fn abandon<E>(&self, serial: Serial, replace: impl FnOnce(&M) -> Result<M, E>) -> Result<(), E> {
        let mut desk = lock(&self.desk);
        let Some(open) = desk.slots.open_as(serial) else { return Ok(()) };
        if open.pins > 0 {
            desk.mapping = Arc::new(replace(&desk.mapping)?);
            desk.ring_number += 1;
        }
        desk.slots.open = None;
        self.freed.notify_all();
        Ok(())
    }

    /// One look less at the slots of `serial`.
    #[inline]
    pub fn unpin(&self, serial: Serial) {
        let completed = self.completed();
        let mut desk = lock(&self.desk);
        desk.slots.unpin(serial, completed);
        // Only ever looked at by people, through the board: the line stays in this core's cache.
        self.requests.word(requests_word::LET_GO).store(desk.slots.let_go(), Ordering::Relaxed);
        if desk.slots.waiters > 0 {
            self.freed.notify_all();
        }
    }

    /// Sleeps until a look or a reservation ends, at most for `rest`.
    pub fn wait_freed(&self, rest: Duration) {
        let mut desk = lock(&self.desk);
        desk.slots.waiters += 1;
        let (mut desk, _) = self.freed.wait_timeout(desk, rest).unwrap_or_else(PoisonError::into_inner);
        desk.slots.waiters -= 1;
    }

    /// Whether `target` slots were ever submitted.
    #[must_use]
    pub fn was_submitted(&self, target: u64) -> bool {
        target <= lock(&self.desk).slots.submitted
    }

    /// Takes no more work. What is submitted stays.
    pub fn close(&self) {
        lock(&self.desk).slots.closed = true;
        self.freed.notify_all();
    }

    /// Closes a lane that no sidecar serves any more: whoever waits for it hears that it is closed.
    pub fn leave(&self) {
        self.close();
        self.left.store(LaneStatus::Closed as u64, Ordering::Relaxed);
    }

    /// Whether this process closed the lane.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        lock(&self.desk).slots.closed
    }

    // ---- waiting ----

    /// Whether `goal` is reached.
    #[inline]
    #[must_use]
    pub fn reached(&self, goal: Goal) -> bool {
        match goal {
            Goal::Completed(target) => self.completed() >= target,
            Goal::Events(target) => ring::events_published(self.peer()) >= target,
        }
    }

    /// Looks for `goal` again and again: for `spin` without a pause, then giving up the core between looks, for `whole` in all.
    /// True: it is reached.
    #[inline]
    #[must_use]
    pub fn linger(&self, goal: Goal, spin: Duration, whole: Duration) -> bool {
        let mut begin = None;
        loop {
            for _ in 0..LOOKS {
                if self.reached(goal) {
                    return true;
                }
                spin_loop();
            }
            let spent = begin.get_or_insert_with(Instant::now).elapsed();
            if spent > whole {
                return false;
            }
            if spent > spin {
                thread::yield_now();
            }
        }
    }

    /// The goal of who waits for one event more than was taken.
    #[must_use]
    pub fn next_event(&self) -> Goal {
        Goal::Events(*lock(&self.events_read) + 1)
    }

    /// Notes that somebody is about to sleep for `goal`, until [`Client::withdraw`].
    pub fn enlist(&self, goal: Goal) {
        if let Goal::Completed(target) = goal {
            *lock(&self.sleepers).entry(target).or_default() += 1;
        }
    }

    /// Tells the sidecar what this process sleeps for. True: `goal` is reached or the lane ended, and nobody may sleep for it.
    #[must_use = "when this is true, sleeping could last"]
    pub fn announce(&self, goal: Goal) -> bool {
        let target = match goal {
            Goal::Completed(target) => target,
            Goal::Events(target) => return ring::announce_events_wait(self.mine(), self.peer(), target),
        };
        let sleepers = lock(&self.sleepers);
        // Each turn, a nearer target was reached in between: at most as many turns as there are sleepers.
        while !self.reached(goal) && self.status() == 0 {
            let ahead = sleepers.range(self.completed() + 1..).next();
            let nearest = ahead.map_or(target, |(nearest, _)| target.min(*nearest));
            if !ring::announce_wait(self.mine(), self.peer(), nearest) {
                return false;
            }
        }
        true
    }

    /// The end of [`Client::enlist`].
    pub fn withdraw(&self, goal: Goal) {
        if let Goal::Completed(target) = goal {
            let mut sleepers = lock(&self.sleepers);
            if let Some(count) = sleepers.get_mut(&target) {
                *count -= 1;
                if *count == 0 {
                    sleepers.remove(&target);
                }
            }
            // Others announce anew after each wake-up; nobody left means no more notifications.
            if sleepers.is_empty() {
                self.mine().waiting.store(0, Ordering::Relaxed);
            }
        }
    }

    // ---- events ----

    /// How many events wait. An error says that the sidecar claims more than the ring can hold.
    pub fn events_ahead(&self) -> Result<u64, String> {
        let (capacity, read) = (self.geometry.event_capacity, *lock(&self.events_read));
        let count = ring::events_published(self.peer()).wrapping_sub(read);
        if count <= capacity { Ok(count) } else { Err(format!("the sidecar says that {count} events wait in a ring of {capacity}")) }
    }

    /// Takes events out of their ring, at most as many as `into` holds, which may not be more than the ring; gives their number.
    pub fn take_events(&self, into: &mut [u8]) -> u64 {
        assert!(into.len() <= self.geometry.event_ring_bytes());
        if into.is_empty() {
            return 0;
        }
        let mut read = lock(&self.events_read);
        let ahead = ring::events_published(self.peer()).wrapping_sub(*read);
        let taken = ahead.min((into.len() / RECORD_BYTES) as u64);
        let offset = self.geometry.event_ring_offset() + self.geometry.result_ring_bytes();
        let events = RecordRing::new(self.results, offset, self.geometry.event_capacity);
        events.read(*read, &mut into[..taken as usize * RECORD_BYTES]);
        *read += taken;
        ring::release_events(self.mine(), *read);
        taken
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
